//! Ways into a VM for a person: SSH and the console log.

use super::layout::{Layout, SSH_CONFIG};
use crate::cluster::Error;
use crate::run_dir;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Prints where the console log of a VM is, whether it runs or not.
pub(crate) fn console(asked: Option<&Path>, name: &str) -> Result<ExitCode, Error> {
    let path = Layout::new(&run_dir::or_default(asked), None).console(name);
    writeln!(io::stdout().lock(), "{}", path.display()).map_err(Error::step("write to stdout"))?;
    Ok(ExitCode::SUCCESS)
}

/// Becomes `ssh` to a VM.
pub(crate) fn ssh(asked: Option<&Path>, name: &str, args: &[OsString]) -> Error {
    let run_path = run_dir::or_default(asked);
    let config = Layout::new(&run_path, None).file(SSH_CONFIG);
    let Ok(text) = fs::read_to_string(&config) else {
        return Error::NotRunning { run_dir: run_path };
    };
    // Else it would be looked for in the network.
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Host ")).collect();
    if name == "*" || !names.contains(&name) {
        let names = names.into_iter().filter(|name| *name != "*").collect::<Vec<_>>().join(", ");
        return Error::NoSuchMember { name: name.to_owned(), names };
    }
    let mut command = Command::new("ssh");
    command.arg("-F").arg(config).arg("--").arg(name).args(args);
    Error::step("run ssh")(command.exec())
}
