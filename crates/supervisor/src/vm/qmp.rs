//! Presses the power button of a VM through QEMU's machine protocol (QMP): one command a
//! connection, so that nothing has to be kept open.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// QEMU answers at once, if it answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// More lines than QEMU says before it answers.
const LINES_MAX: usize = 64;

/// Asks the guest behind `socket` to power off; it may take its time.
///
/// # Errors
/// As connect(2); `TimedOut` or `InvalidData` if QEMU does not answer, or answers with an error.
pub(crate) fn power_down(socket: &Path) -> io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    let mut answers = BufReader::new(stream.try_clone()?);
    talk(stream, &mut answers)
}

fn talk(mut requests: impl Write, answers: &mut impl BufRead) -> io::Result<()> {
    for command in ["qmp_capabilities", "system_powerdown"] {
        requests.write_all(format!("{{\"execute\":\"{command}\"}}\n").as_bytes())?;
        expect_return(answers)?;
    }
    Ok(())
}

/// Skips the greeting and events until there is an answer.
fn expect_return(answers: &mut impl BufRead) -> io::Result<()> {
    for _ in 0..LINES_MAX {
        let mut line = String::new();
        if answers.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.starts_with("{\"return\"") {
            return Ok(());
        }
        if line.starts_with("{\"error\"") {
            return Err(io::Error::new(io::ErrorKind::InvalidData, line.trim().to_owned()));
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "no answer among QEMU's messages"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greeting_and_events_are_skipped() {
        let said = "{\"QMP\": {}}\n{\"return\": {}}\n{\"timestamp\": {}}\n{\"return\": {}}\n";
        let mut asked = Vec::new();
        talk(&mut asked, &mut said.as_bytes()).unwrap();
        let want = "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"system_powerdown\"}\n";
        assert_eq!(String::from_utf8(asked).unwrap(), want);
    }

    #[test]
    fn an_error_and_an_end_are_told() {
        let talk = |said: &str| talk(Vec::new(), &mut said.as_bytes()).unwrap_err().kind();
        assert_eq!(talk("{\"error\": {\"class\": \"x\"}}\n"), io::ErrorKind::InvalidData);
        assert_eq!(talk("{\"QMP\": {}}\n"), io::ErrorKind::UnexpectedEof);
        assert_eq!(talk(&"{\"event\"}\n".repeat(99)), io::ErrorKind::InvalidData);
    }
}
