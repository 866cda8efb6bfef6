//! The command `hashctl`.

mod stdio;

use std::process::ExitCode;

fn main() -> ExitCode {
    hashctl::cli::run(std::env::args_os(), stdio::at_start())
}
