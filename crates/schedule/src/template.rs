//! Parameters in values: `${NAME}`, and `$$` for a dollar sign. Nothing is evaluated.

use crate::VALUE_LEN_MAX;
use crate::error::{shown, suggestion};
use std::collections::BTreeMap;
use std::fmt;

/// Names that are replaced when a run starts; no parameter can have them.
const BUILTINS: [(&str, Builtin); 4] = [
    ("date", Builtin::Date),
    ("yesterday", Builtin::Yesterday),
    ("schedule", Builtin::Schedule),
    ("task", Builtin::Task),
];

/// A value that may depend on the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Builtin(Builtin),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Builtin {
    Date,
    Yesterday,
    Schedule,
    Task,
}

/// Values that are known once a run starts.
#[derive(Clone, Debug)]
pub struct Builtins<'a> {
    /// Day of the due time in the schedule's time zone, as `2026-11-27`.
    pub date: &'a str,
    /// The day before.
    pub yesterday: &'a str,
    /// Name of the schedule.
    pub schedule: &'a str,
    /// Name of the task.
    pub task: &'a str,
}

/// Parameters by name.
pub(crate) type Parameters = BTreeMap<String, String>;

pub(crate) fn is_builtin(name: &str) -> bool {
    BUILTINS.iter().any(|(builtin, _)| *builtin == name)
}

impl Template {
    /// Replaces the parameters in `text`.
    pub(crate) fn new(text: &str, parameters: &Parameters) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let (mut plain, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('$') {
            plain.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                plain.push('$');
                rest = after;
                continue;
            }
            let inside = after.strip_prefix('{').and_then(|after| after.split_once('}'));
            let Some((name, after)) = inside else {
                return Err(format!(
                    "{}: '$' is not followed by {{NAME}}; write $$ for '$'",
                    shown(text)
                ));
            };
            rest = after;
            match BUILTINS.iter().find(|(builtin, _)| *builtin == name) {
                Some((_, builtin)) => {
                    pieces.extend(
                        (!plain.is_empty()).then(|| Piece::Text(std::mem::take(&mut plain))),
                    );
                    pieces.push(Piece::Builtin(*builtin));
                }
                None => plain.push_str(parameters.get(name).ok_or_else(|| {
                    let known = parameters.keys().map(String::as_str);
                    let all = known.chain(BUILTINS.map(|(builtin, _)| builtin));
                    format!("unknown parameter {}{}", shown(name), suggestion(name, all))
                })?),
            }
            if plain.len() > VALUE_LEN_MAX {
                break;
            }
        }
        plain.push_str(rest);
        pieces.extend((!plain.is_empty()).then_some(Piece::Text(plain)));
        let template = Self(pieces);
        match template.to_string().len() > VALUE_LEN_MAX {
            true => Err(format!("longer than {VALUE_LEN_MAX} bytes")),
            false => Ok(template),
        }
    }

    /// The text, if it does not depend on the run.
    pub(crate) fn into_text(self) -> Result<String, &'static str> {
        let mut text = String::new();
        for piece in self.0 {
            match piece {
                Piece::Text(plain) => text.push_str(&plain),
                Piece::Builtin(builtin) => return Err(builtin.name()),
            }
        }
        Ok(text)
    }

    /// Returns true if there is no text at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text in a run.
    #[must_use]
    pub fn render(&self, run: &Builtins<'_>) -> String {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Builtin(Builtin::Date) => run.date.to_owned(),
            Piece::Builtin(Builtin::Yesterday) => run.yesterday.to_owned(),
            Piece::Builtin(Builtin::Schedule) => run.schedule.to_owned(),
            Piece::Builtin(Builtin::Task) => run.task.to_owned(),
        };
        self.0.iter().map(text).collect()
    }
}

impl Builtin {
    fn name(self) -> &'static str {
        BUILTINS.iter().find(|(_, builtin)| *builtin == self).map_or("", |(name, _)| name)
    }
}

/// As it is written in a file.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(&text.replace('$', "$$")),
            Piece::Builtin(builtin) => write!(f, "${{{}}}", builtin.name()),
        })
    }
}
