//! Lines on standard error: one each, whatever a name or a peer's text contains.

use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use telemetry::is_harmful;

pub(crate) use overview::errno_text;

/// Goes to the start of a terminal's line and clears it.
const CLEAR: &str = "\r\x1b[K";

/// Set while a line is shown that the next one replaces.
static IS_REPLACEABLE: AtomicBool = AtomicBool::new(false);

/// Name of the program in its messages.
static PROGRAM: OnceLock<String> = OnceLock::new();

/// Sets the name of the program in its messages, which is `hashctl` otherwise.
pub(crate) fn set_program(name: &str) {
    // Once per process.
    let _ = PROGRAM.set(name.to_owned());
}

/// The name of the program in its messages.
pub(crate) fn program() -> &'static str {
    PROGRAM.get().map_or("hashctl", String::as_str)
}

/// Writes `hashctl: TEXT`.
pub(crate) fn say(text: fmt::Arguments<'_>) {
    // Nobody is left to tell when standard error is gone: no panic.
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all((cleared() + &line(&text.to_string())).as_bytes());
}

/// Shows `text` until the next message.
pub(crate) fn replace(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all((cleared() + text).as_bytes());
    IS_REPLACEABLE.store(true, Ordering::Relaxed);
}

/// Writes `text` as it is.
pub(crate) fn raw(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Clears what [`replace`] shows.
pub(crate) fn clear() {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(cleared().as_bytes());
}

/// For who holds standard error.
fn cleared() -> String {
    match IS_REPLACEABLE.swap(false, Ordering::Relaxed) {
        true => CLEAR.to_owned(),
        false => String::new(),
    }
}

fn line(text: &str) -> String {
    let visible = text.chars().map(|c| if is_harmful(c) { ' ' } else { c });
    program().chars().chain(": ".chars()).chain(visible).chain(['\n']).collect()
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
    fn errors_use_the_systems_wording() {
        assert_eq!(errno_text(libc::ENOENT), "No such file or directory");
    }
}
