//! `hashctl backup` and `hashctl restore`: the journal of a controller in a file, and the way back.

use crate::args::RestoreArgs;
use crate::cli::print;
use crate::commands::jobs::{JobSession, nonsense};
use crate::config::Config;
use crate::exit::Exit;
use crate::lists::quote::quote;
use crate::replace::Replacement;
use crate::say::{io_text, say};
use ipc_proto::message::{ServiceReply, ServiceRequest};
use std::env;
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program that restores.
const CONTROLLER: &str = "hashcluster-controller";

/// Writes a backup of a running controller to `path`.
pub(crate) fn backup(config: &Config, path: &Path) -> Exit {
    match write_backup(config, path) {
        Ok(len) => {
            let name = quote(path.as_os_str().as_bytes());
            print(config.stdio, &format!("{name} has the backup, of {len} bytes\n"))
        }
        Err(exit) => exit,
    }
}

fn write_backup(config: &Config, path: &Path) -> Result<u64, Exit> {
    let failed = |error: io::Error| {
        say(format_args!("{}: {}", quote(path.as_os_str().as_bytes()), io_text(&error)));
        Exit::Failure
    };
    let mut session = JobSession::new(config);
    let mut len = 0;
    // Made once there is something to write: what is refused leaves no trace.
    let mut file: Option<Replacement> = None;
    loop {
        let reply = session.ask(&ServiceRequest::Backup { from: len })?;
        let ServiceReply::Backup { from, bytes, is_last } = reply else { return Err(nonsense()) };
        if from != len {
            return Err(nonsense());
        }
        let to = match &mut file {
            Some(file) => file,
            none => none.insert(create(path).map_err(failed)?),
        };
        to.write_all(&bytes).map_err(failed)?;
        len += bytes.len() as u64;
        if is_last {
            break;
        }
    }
    file.map_or(Ok(()), Replacement::commit).map_err(failed)?;
    Ok(len)
}

/// A new file for its owner alone: the names of all users' files are in it.
fn create(path: &Path) -> io::Result<Replacement> {
    let new = Replacement::new(path)?;
    new.file().set_permissions(Permissions::from_mode(0o600))?;
    Ok(new)
}

/// Becomes the controller that restores the backup.
pub(crate) fn restore(args: &RestoreArgs) -> Exit {
    let mut command = Command::new(controller());
    command.arg("--state-dir").arg(&args.state_dir).arg("--restore-from").arg(&args.file);
    if args.replace {
        command.arg("--replace");
    }
    let error = command.exec();
    say(format_args!("{CONTROLLER}: {}", io_text(&error)));
    Exit::Failure
}

/// The program beside this one, or else that of the path.
fn controller() -> PathBuf {
    let beside = env::current_exe().ok().map(|own| own.with_file_name(CONTROLLER));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| CONTROLLER.into())
}
