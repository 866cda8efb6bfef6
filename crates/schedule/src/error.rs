//! Errors of a file: each has its line, its column and its reason.

use std::fmt;

/// Errors that are reported at most. Reading ends there: a file with more is of another kind.
pub(crate) const REPORTED_MAX: usize = 100;

/// Longest part of a file that a message repeats, in characters.
const SHOWN_MAX: usize = 60;

/// A position in a file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineColumn {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// One error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleError {
    /// Where it is.
    pub place: LineColumn,
    /// The reason, in one line.
    pub text: String,
}

/// All errors of a file, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduleErrors(pub(crate) Vec<ScheduleError>);

impl ScheduleErrors {
    /// The errors, at least one, in the order of the file.
    #[must_use]
    pub fn all(&self) -> &[ScheduleError] {
        &self.0
    }

    pub(crate) fn at(&mut self, place: LineColumn, text: impl Into<String>) {
        if !self.is_full() {
            self.0.push(ScheduleError { place, text: text.into() });
        }
    }

    /// Returns true if no further error is reported.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= REPORTED_MAX
    }

    /// `value`, unless there are errors.
    pub(crate) fn unless<T>(mut self, value: T) -> Result<T, Self> {
        self.0.sort_by_key(|error| error.place);
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.place.line, self.place.column, self.text)
    }
}

impl fmt::Display for ScheduleErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if i == 0 { "" } else { "\n" })?;
        }
        if self.is_full() { write!(f, "\nand maybe more") } else { Ok(()) }
    }
}

impl std::error::Error for ScheduleErrors {}

/// Text of the file as a message shows it: quoted, in one line, not too long.
pub(crate) fn shown(text: &str) -> String {
    let short: String = text.chars().take(SHOWN_MAX).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("'{}'{dots}", short.replace(char::is_control, " "))
}

/// ` (did you mean 'x'?)` if one of `known` is close to `word`, else nothing.
pub(crate) fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    if word.len() > crate::NAME_LEN_MAX {
        return String::new();
    }
    let distance = |name: &&str| strsim::damerau_levenshtein(word, name);
    match known.into_iter().map(|name| (distance(&name), name)).min() {
        Some((distance, name)) if distance <= 1 + word.len() / 4 => {
            format!(" (did you mean '{name}'?)")
        }
        _ => String::new(),
    }
}
