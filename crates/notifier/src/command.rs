//! One run of a command that the operator permits.

use crate::{COMMAND_TIMEOUT, DeliveryFailure, TEXT_LEN_MAX};
use ipc_socket::Trust;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Search path of a command, whose environment is otherwise empty.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Time to read what a command that has ended said.
const SAID_GRACE: Duration = Duration::from_millis(500);

/// Gives `body` to the command `name`; done if it exits with 0.
pub(crate) async fn run(
    dir: Option<&Path>,
    name: &str,
    args: &[String],
    body: &str,
) -> Result<(), DeliveryFailure> {
    let program = program(dir, name)?;
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| DeliveryFailure::passing(format!("command '{name}': {error}")))?;
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let ended = tokio::time::timeout(COMMAND_TIMEOUT, talk(&mut child, body)).await;
    let failure = match ended {
        Ok(Ok((status, _))) if status.success() => return Ok(()),
        Ok(Ok((status, said))) => {
            let said = String::from_utf8_lossy(&said);
            let said = said.trim();
            let colon = if said.is_empty() { "" } else { ": " };
            format!("command '{name}': {status}{colon}{said}")
        }
        Ok(Err(error)) => format!("command '{name}': {error}"),
        Err(_) => {
            // With all that it started; what is gone already needs no signal.
            let _ = group.map(|group| killpg(group, Signal::SIGKILL));
            format!("command '{name}': not done after {} s", COMMAND_TIMEOUT.as_secs())
        }
    };
    Err(DeliveryFailure::passing(failure))
}

/// Writes the body, and reads the beginning of what the command says on standard error.
async fn talk(child: &mut Child, body: &str) -> std::io::Result<(ExitStatus, Vec<u8>)> {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A command need not read it.
            let _ = stdin.write_all(body.as_bytes()).await;
        }
    };
    let read = async {
        let mut said = Vec::new();
        if let Some(stderr) = stderr {
            let mut stderr = stderr.take(TEXT_LEN_MAX as u64);
            let _ = stderr.read_to_end(&mut said).await;
            // The rest goes nowhere, but is taken: a full pipe would hold the command up.
            let _ = tokio::io::copy(&mut stderr.into_inner(), &mut tokio::io::sink()).await;
        }
        said
    };
    let mut both = pin!(async { tokio::join!(write, read).1 });
    tokio::select! {
        said = &mut both => Ok((child.wait().await?, said)),
        status = child.wait() => {
            // What a command leaves in the background may hold its standard error open.
            let said = tokio::time::timeout(SAID_GRACE, both).await;
            Ok((status?, said.unwrap_or_default()))
        }
    }
}

/// The program, which nobody but its owner, we or root, can have written.
fn program(dir: Option<&Path>, name: &str) -> Result<PathBuf, DeliveryFailure> {
    let Some(dir) = dir else {
        let text = "the controller starts no commands; see its --notify-commands";
        return Err(DeliveryFailure::lasting(text));
    };
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(DeliveryFailure::lasting(format!("'{name}' is not a name of a command")));
    }
    let path = dir.join(name);
    let wrong =
        |error: std::io::Error| DeliveryFailure::passing(format!("command '{name}': {error}"));
    let file = Trust::Unwritten.open(&path).map_err(wrong)?;
    if !file.metadata().map_err(wrong)?.is_file() {
        return Err(DeliveryFailure::lasting(format!("command '{name}': not a file")));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    /// Time passes as soon as nothing else happens.
    #[tokio::test(start_paused = true)]
    async fn a_command_that_does_not_end_is_killed_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hang");
        fs::write(&path, "#!/bin/sh\nsleep 1000 & echo $! >\"$1\"; wait\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let pid_file = dir.path().join("pid");
        let args = [pid_file.to_str().unwrap().to_owned()];
        let failure = run(Some(dir.path()), "hang", &args, "{}").await.unwrap_err();
        assert_eq!(failure.text, "command 'hang': not done after 60 s");
        // It may have been killed before it started anything.
        let Ok(pid) = fs::read_to_string(&pid_file).unwrap_or_default().trim().parse::<u32>()
        else {
            return;
        };
        let has_ended = || match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        };
        while !has_ended() {
            std::thread::yield_now();
        }
    }
}
