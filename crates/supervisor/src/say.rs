//! Answers to a command for a person, on stderr; log events are in `cluster::log`. A stderr that is closed
//! or full ends nothing: the processes in our care matter more than the message.

use std::fmt;
use std::io::{self, Write};

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
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
