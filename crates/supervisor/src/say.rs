//! Answers to a command for a person, on stderr; log events are in `cluster::log`. A stderr that is closed
//! or full ends nothing: the processes in our care matter more than the message.

use std::borrow::Cow;
use std::env;
use std::fmt;
use std::io::{self, Write};

/// Set by an installed copy of `run.sh`: the name that it was called by.
const CALLED_VARIABLE: &str = "HASHCLUSTER_CALLED";

/// Says one line, with our name before it.
pub(crate) fn say(text: impl fmt::Display) {
    write(&format!("hashcluster-vm: {text}\n"));
}

/// Says lines that begin with the name of a file, so that editors find the place.
pub(crate) fn lines(text: impl fmt::Display) {
    write(&format!("{text}\n"));
}

/// Says lines of a block that [`say`] began.
pub(crate) fn indented(text: impl fmt::Display) {
    let lines: String = text.to_string().lines().map(|line| format!("    {line}\n")).collect();
    write(&lines);
}

fn write(text: &str) {
    let called = env::var(CALLED_VARIABLE).ok().filter(|name| !name.is_empty());
    let text = called.map_or(Cow::Borrowed(text), |name| Cow::Owned(as_called(text, &name)));
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// `text`, with the commands of a source tree as an installed copy has them: `./run.sh` and
/// `scripts/WORD.sh` are `name` and `name WORD`, where no path stands before them.
fn as_called(text: &str, name: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("./run.sh").into_iter().chain(rest.find("scripts/")).min() {
        let (before, found) = rest.split_at(at);
        shown += before;
        let is_path = before.ends_with(|c: char| c == '/' || c.is_alphanumeric());
        let word = found.strip_prefix("scripts/").and_then(|tail| tail.split_once(".sh"));
        let word = word.filter(|(word, _)| word.bytes().all(|byte| byte.is_ascii_lowercase()));
        match (found.strip_prefix("./run.sh"), word) {
            (Some(tail), _) if !is_path => {
                shown += name;
                rest = tail;
            }
            (None, Some((word, tail))) if !is_path => {
                shown += &format!("{name} {word}");
                rest = tail;
            }
            _ => {
                shown += &found[..1];
                rest = &found[1..];
            }
        }
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installed_copy_names_the_command_that_was_typed() {
        for (text, want) in [
            ("no cluster runs; ./run.sh starts one", "no cluster runs; hashcluster starts one"),
            ("`./run.sh logs w1`", "`hashcluster logs w1`"),
            ("scripts/stop.sh, then ./run.sh\n", "hashcluster stop, then hashcluster\n"),
            ("/opt/scripts/stop.sh", "/opt/scripts/stop.sh"),
            ("/a/./run.sh", "/a/./run.sh"),
            ("see scripts/ and é./run.sh", "see scripts/ and é./run.sh"),
            ("scripts/../x.sh", "scripts/../x.sh"),
        ] {
            assert_eq!(as_called(text, "hashcluster"), want);
        }
    }
}
