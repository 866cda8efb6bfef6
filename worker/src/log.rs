//! Lines for the operator, on standard error.

use std::fmt;
use std::io::{self, Write};

/// Prefix of every line.
const PREFIX: &str = "hashcluster-worker: ";

/// Writes one line. Control characters become spaces: a peer's words cannot forge a second line.
pub fn line(text: fmt::Arguments<'_>) {
    let line = one_line(&text.to_string());
    // Nobody is left to tell when standard error is gone.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

fn one_line(text: &str) -> String {
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    PREFIX.chars().chain(visible).chain(['\n']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_words_stay_on_their_line() {
        let line = one_line("refused: no\nhashcluster-worker: all is well\r\u{1b}[2J");
        assert_eq!(line, "hashcluster-worker: refused: no hashcluster-worker: all is well  [2J\n");
    }
}
