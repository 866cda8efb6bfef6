//! Questions to programs of the host, bounded in time and in what is read of their answers.

use std::env;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::report::plain_bytes;
use crate::supervise::is_executable;

/// Bytes that are read of an answer; a program that writes more is ended.
const ANSWER_LEN_MAX: u64 = 64 << 10;

/// Exit status of timeout(1) when the limit expired.
const TIMED_OUT: i32 = 124;

/// Directories of programs for administrators, which `$PATH` of others may lack.
const ADMIN_DIRS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Answer of a program.
#[derive(Debug)]
pub(super) struct ProgramAnswer {
    pub(super) status: Option<i32>,
    pub(super) stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl ProgramAnswer {
    pub(super) fn succeeded(&self) -> bool {
        self.status == Some(0)
    }

    pub(super) fn timed_out(&self) -> bool {
        self.status == Some(TIMED_OUT)
    }

    /// The last line of its messages, or else of what it printed.
    pub(super) fn last_words(&self) -> String {
        let last = |bytes: &[u8]| {
            let mut lines = bytes.split(|&byte| byte == b'\n').map(plain_bytes);
            lines.rfind(|line| !line.is_empty())
        };
        last(&self.stderr).or_else(|| last(&self.stdout)).unwrap_or_default()
    }
}

/// Runs `program` with `input` to its end, or until `limit`.
///
/// # Errors
/// It cannot be started.
pub(super) fn ask<A: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = A>,
    input: &[u8],
    limit: Duration,
) -> io::Result<ProgramAnswer> {
    let mut command = Command::new("timeout");
    command.args(["-k", "1", &limit.as_secs_f64().to_string()]).arg(program).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().expect("it is piped");
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = thread::scope(|scope| {
        // A program need not read what it is given.
        scope.spawn(move || stdin.write_all(input));
        let stderr = scope.spawn(move || read(stderr));
        (read(stdout), stderr.join().unwrap_or_default())
    });
    let status = child.wait()?.code();
    Ok(ProgramAnswer { status, stdout, stderr })
}

/// The beginning of a stream; closing it ends a program that goes on writing.
fn read(stream: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // What came before an error is all that there is.
        let _ = stream.take(ANSWER_LEN_MAX).read_to_end(&mut bytes);
    }
    bytes
}

/// The program of this name in `$PATH`, or where those for administrators are.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = env::split_paths(&path).chain(ADMIN_DIRS.map(PathBuf::from)).collect();
    dirs.iter().map(|dir| dir.join(name)).find(|path| is_executable(path))
}

/// The first line of what a program says of its version; an error in words if it does not.
pub(super) fn version(program: &Path, option: &str) -> Result<String, String> {
    let limit = Duration::from_secs(3);
    let answer = ask(program, [option], b"", limit).map_err(|error| error.to_string())?;
    if !answer.succeeded() {
        let words = answer.last_words();
        return Err(match answer.timed_out() {
            true => format!("no answer within {} s", limit.as_secs()),
            false => words,
        });
    }
    let said = [answer.stdout, answer.stderr].concat();
    Ok(plain_bytes(said.split(|&byte| byte == b'\n').next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn an_answer_is_bounded_in_time_and_length() {
        let start = Instant::now();
        let limit = Duration::from_millis(200);
        let late = ask("sleep", ["60"], b"", limit).unwrap();
        assert!(late.timed_out() && !late.succeeded());
        let endless = ask("yes", [""; 0], b"", Duration::from_secs(20)).unwrap();
        assert_eq!(endless.stdout.len() as u64, ANSWER_LEN_MAX);
        assert!(start.elapsed() < Duration::from_secs(10));
        let echo = ask("cat", [""; 0], b"words\nlast\n", Duration::from_secs(20)).unwrap();
        assert_eq!((echo.last_words().as_str(), echo.succeeded()), ("last", true));
        assert!(ask("cat", ["/no/such"], b"", Duration::from_secs(20)).unwrap().status == Some(1));
    }
}
