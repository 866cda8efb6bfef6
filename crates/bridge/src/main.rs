//! The program `hashcluster-bridge`.

use std::process::ExitCode;

fn main() -> ExitCode {
    hashcluster_bridge::program::run()
}
