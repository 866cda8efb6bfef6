//! The program `hashcluster-vm`.

use std::process::ExitCode;

fn main() -> ExitCode {
    hashcluster_vm::run()
}
