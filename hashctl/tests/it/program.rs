//! Starting `hashctl` and other programs, with a deadline.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use test_kit::DEADLINE;

/// Output and exit status of a program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// `hashctl`, told where the controller is.
pub(crate) fn hashctl(socket: &Path) -> Command {
    let mut command = hashctl_alone();
    command.arg("--connect").arg(socket);
    command
}

/// `hashctl` without a word about a controller.
pub(crate) fn hashctl_alone() -> Command {
    let mut command = piped(test_kit::program("hashctl"));
    command.env_clear().env("LC_ALL", "C.UTF-8");
    command
}

/// `program` with nothing on its standard input, and its output to be read.
fn piped(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts `command`.
pub(crate) fn start(command: &mut Command) -> Child {
    command.spawn().expect("started")
}

/// Waits for `child`, and kills it when it takes too long.
#[track_caller]
pub(crate) fn finish(child: Child) -> Outcome {
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(DEADLINE) {
        Ok(output) => outcome(&output.expect("waited for")),
        Err(_) => {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            panic!("still running after {DEADLINE:?}");
        }
    }
}

/// Runs `command` to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Outcome {
    finish(start(command))
}

/// Runs `command` with `input` on its standard input, through a pipe.
#[track_caller]
pub(crate) fn run_with(command: &mut Command, input: Vec<u8>) -> Outcome {
    let mut child = start(command.stdin(Stdio::piped()));
    let mut stdin = child.stdin.take().unwrap();
    thread::spawn(move || {
        // A program that does not read it all breaks the pipe, and says why in its outcome.
        let _ = stdin.write_all(&input);
    });
    finish(child)
}

/// A GNU tool in `dir`.
pub(crate) fn tool(name: &str, dir: &Path) -> Command {
    let mut command = piped(name);
    command.current_dir(dir).env("LC_ALL", "C.UTF-8");
    command
}

/// `sh -c SCRIPT`, in which `"$0"` is `hashctl` and `"$@"` are its arguments.
pub(crate) fn shell(script: &str, socket: &Path, args: &[impl AsRef<OsStr>]) -> Command {
    let mut command = piped("sh");
    command.args(["-c", script, test_kit::program("hashctl"), "--connect"]).arg(socket).args(args);
    command
}

fn outcome(output: &Output) -> Outcome {
    let code = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(0));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Outcome { code, stdout: output.stdout.clone(), stderr }
}
