//! Lines on standard error: one each, whatever a name or a peer's text contains.

use std::fmt;
use std::io::{self, Write};

/// Writes `hashctl: TEXT`.
pub(crate) fn say(text: fmt::Arguments<'_>) {
    // Nobody is left to tell when standard error is gone: no panic.
    let _ = io::stderr().lock().write_all(line(&text.to_string()).as_bytes());
}

fn line(text: &str) -> String {
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    "hashctl: ".chars().chain(visible).chain(['\n']).collect()
}

/// The system's words for an error number, without the number.
pub(crate) fn errno_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let suffix = format!(" (os error {errno})");
    text.strip_suffix(&suffix).map(str::to_owned).unwrap_or(text)
}

/// The system's words for an error.
pub(crate) fn io_text(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), errno_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_words_stay_on_their_line() {
        assert_eq!(line("no\nhashctl: OK\u{1b}[2J"), "hashctl: no hashctl: OK [2J\n");
    }

    #[test]
    fn an_error_is_said_in_the_systems_words() {
        assert_eq!(errno_text(libc::ENOENT), "No such file or directory");
    }
}
