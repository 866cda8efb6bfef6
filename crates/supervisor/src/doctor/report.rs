//! Prints results as they come: lines for a person, or JSON.

use super::diagnosis::{CheckResult, Severity};
use serde_json::json;
use std::io::{self, Write};

/// Version of the lines of `--json`; it grows when a field changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;

/// Characters of a text that are shown at most.
const TEXT_LEN_MAX: usize = 2000;

/// The doctor's answer.
#[derive(Debug)]
pub(super) struct DoctorReport {
    json: bool,
    quiet: bool,
    failures: usize,
    warnings: usize,
    /// Why stdout cannot be written; nothing is printed after it.
    error: Option<io::Error>,
}

impl DoctorReport {
    pub(super) const fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, failures: 0, warnings: 0, error: None }
    }

    pub(super) fn add(&mut self, results: impl IntoIterator<Item = CheckResult>) {
        for result in results {
            match result.severity() {
                Severity::Ok if self.quiet => continue,
                Severity::Ok => {}
                Severity::Warning => self.warnings += 1,
                Severity::Failure => self.failures += 1,
            }
            let text = if self.json { in_json(&result) } else { for_a_person(&result) };
            self.print(&text);
        }
    }

    /// Prints the counts; true if no check failed.
    pub(super) fn end(mut self) -> io::Result<bool> {
        let Self { failures, warnings, .. } = self;
        if !self.json && !self.quiet {
            self.print(&format!("\n{failures} failed, {warnings} to look at\n"));
        }
        match self.error {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(failures == 0),
        }
    }

    fn print(&mut self, text: &str) {
        if self.error.is_none() {
            self.error = io::stdout().lock().write_all(text.as_bytes()).err();
        }
    }
}

fn in_json(result: &CheckResult) -> String {
    let remedy = result.remedy.as_ref();
    let line = json!({
        "version": SCHEMA_VERSION,
        "level": result.severity().name(),
        "fault": result.diagnosis.map(|diagnosis| diagnosis.name()),
        "subject": plain(&result.subject),
        "text": plain(&result.text),
        "command": remedy.and_then(|remedy| remedy.command.clone()),
        "remedy": remedy.map(|remedy| plain(&remedy.text)).filter(|text| !text.is_empty()),
    });
    format!("{line}\n")
}

fn for_a_person(result: &CheckResult) -> String {
    let level = match result.severity() {
        Severity::Ok => "ok  ",
        Severity::Warning => "warn",
        Severity::Failure => "FAIL",
    };
    let mut lines = format!("{level}  {}: {}\n", plain(&result.subject), plain(&result.text));
    if let Some(remedy) = &result.remedy {
        let note = plain(&remedy.text);
        let line = match &remedy.command {
            Some(command) if note.is_empty() => command.clone(),
            Some(command) => format!("{command}  # {note}"),
            None => note,
        };
        lines += &format!("      -> {line}\n");
    }
    lines
}

/// A text on one line, of limited length, that moves no terminal.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == TEXT_LEN_MAX {
            plain.push('…');
            break;
        }
        match c {
            '"' | '\'' | '\\' => plain.push(c),
            _ => plain.extend(c.escape_debug()),
        }
    }
    plain
}

/// The same of bytes that somebody else chose.
pub(super) fn plain_bytes(bytes: &[u8]) -> String {
    plain(String::from_utf8_lossy(bytes).trim())
}

#[cfg(test)]
mod tests {
    use super::super::diagnosis::Diagnosis;
    use super::super::remedy::Remedy;
    use super::*;

    #[test]
    fn words_of_others_stay_on_their_line_and_move_no_terminal() {
        let text = "a\nok    forged\u{1b}[2J\u{202e}\u{9b}";
        let result = Diagnosis::ConfigInvalid.of("files", text, Remedy::run("true").note(text));
        for line in [for_a_person(&result), in_json(&result)] {
            let odd = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
            assert!(!line.contains(odd), "{line:?}");
            let lines = line.lines().count();
            assert!(!line.lines().any(|line| line.starts_with("ok ")), "{line}");
            assert!(lines <= 2, "{line}");
        }
        assert_eq!(plain(&"x".repeat(3000)).chars().count(), TEXT_LEN_MAX + 1);
    }

    #[test]
    fn a_note_is_a_comment_to_a_shell() {
        let result = Diagnosis::Leftovers.of("x", "y", Remedy::run("true").note("why; false"));
        assert_eq!(for_a_person(&result), "warn  x: y\n      -> true  # why; false\n");
    }
}
