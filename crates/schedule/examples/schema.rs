//! Prints the JSON Schema of schedule files, as `docs/schedule.schema.json` has it.

#![expect(clippy::print_stdout, reason = "a program whose output is a file")]

fn main() {
    print!("{}", schedule::schema());
}
