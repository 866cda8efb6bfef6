//! A table of a TOML file, read key by key: what is no good is a fault of its line, what nobody
//! asked for is unknown.
//!
//! serde's derive ends at the first error; here reading goes on, so that all are told at once.

use super::super::fault::{Faults, bad_value, listed};
use super::super::kind::Kind;
use super::super::shown::Shown;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and its line, counted from 1.
#[derive(Clone, Debug)]
pub(in super::super) struct Lined<T> {
    pub(in super::super) line: usize,
    pub(in super::super) value: T,
}

/// A table that is being read.
#[derive(Debug)]
pub(super) struct Section<'a> {
    text: &'a str,
    table: &'a DeTable<'a>,
    /// Keys that were asked for.
    known: Vec<&'static str>,
    faults: Vec<(usize, String)>,
}

/// The line of a byte, counted from 1.
pub(super) fn line_of(text: &[u8], at: usize) -> usize {
    1 + text.iter().take(at).filter(|&&byte| byte == b'\n').count()
}

impl<'a> Section<'a> {
    pub(super) fn new(text: &'a str, table: &'a DeTable<'a>) -> Self {
        Self { text, table, known: Vec::new(), faults: Vec::new() }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A string that `parse` makes something of.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        kind: Kind,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<Lined<T>> {
        self.read(key, kind, |value| value.as_str().and_then(parse))
    }

    /// A number within the limits of `kind`, which are limits of `T`.
    pub(super) fn number<T: TryFrom<u64>>(
        &mut self,
        key: &'static str,
        kind: Kind,
    ) -> Option<Lined<T>> {
        self.read(key, kind, |value| {
            let number = value.as_integer()?;
            let number = u64::from_str_radix(number.as_str(), number.radix()).ok()?;
            kind.number(number).and_then(|number| T::try_from(number).ok())
        })
    }

    pub(super) fn bool(&mut self, key: &'static str) -> Option<Lined<bool>> {
        self.read(key, Kind::Bool, DeValue::as_bool)
    }

    /// The value of a program's flag, as the program takes it.
    pub(super) fn flag(&mut self, key: &'static str, kind: Kind) -> Option<Lined<String>> {
        self.read(key, kind, |value| kind.flag_value(value))
    }

    /// Names of datasets, no two of them equal.
    pub(super) fn names(&mut self, key: &'static str) -> Option<Lined<Vec<String>>> {
        self.read(key, Kind::DatasetNames, |value| {
            let mut names = Vec::new();
            for name in value.as_array()? {
                let name = Kind::DatasetName.text(name.get_ref().as_str()?)?;
                if names.iter().any(|known| known == name) {
                    return None;
                }
                names.push(name.to_owned());
            }
            Some(names)
        })
    }

    /// A table below this one.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Section<'a>> {
        let table = self.read(key, Kind::Table, DeValue::as_table)?;
        Some(Section::new(self.text, table.value))
    }

    /// Tables with names of the user's: their lines and names, in the order of their names.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<(usize, &'a str, Section<'a>)> {
        let Some(parent) = self.read(key, Kind::Table, DeValue::as_table) else {
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (name, value) in parent.value {
            let (line, shown) = (self.line(name), name.get_ref());
            match value.get_ref().as_table() {
                Some(table) => tables.push((line, &**shown, Section::new(self.text, table))),
                None => self.refuse(
                    &format!("{key}.{}", Shown::quoted(shown.as_bytes())),
                    Kind::NamedTable(key),
                    value,
                ),
            }
        }
        tables
    }

    /// Hands over the faults, among them every key that was not asked for.
    pub(super) fn finish(self, faults: &mut Faults) {
        for (key, _) in self.table {
            if !self.known.contains(&&**key.get_ref()) {
                let (key, line) = (Shown::quoted(key.get_ref().as_bytes()), self.line(key));
                faults.at(line, format!("unknown key {key}; keys are {}", listed(&self.known)));
            }
        }
        self.faults.into_iter().for_each(|(line, text)| faults.at(line, text));
    }

    fn read<T>(
        &mut self,
        key: &'static str,
        kind: Kind,
        parse: impl FnOnce(&'a DeValue<'a>) -> Option<T>,
    ) -> Option<Lined<T>> {
        self.known.push(key);
        let found = self.table.get(key)?;
        match parse(found.get_ref()) {
            Some(value) => Some(Lined { line: self.line(found), value }),
            None => {
                self.refuse(key, kind, found);
                None
            }
        }
    }

    fn refuse(&mut self, key: &str, kind: Kind, found: &Spanned<DeValue<'_>>) {
        let is_quoted = kind.is_text() && !found.get_ref().is_str();
        let value = shown(found.get_ref());
        let mut text = bad_value(key, &value, kind, is_quoted);
        if found.get_ref().as_str().is_some_and(|inner| kind.is_misquoted(inner)) {
            text += ", without quotes";
        }
        self.faults.push((self.line(found), text));
    }

    fn line<T>(&self, at: &Spanned<T>) -> usize {
        line_of(self.text.as_bytes(), at.span().start)
    }
}

fn shown(value: &DeValue<'_>) -> Shown {
    match value {
        DeValue::String(text) => Shown::quoted(text.as_bytes()),
        DeValue::Integer(number) => Shown::cut(number.to_string()),
        DeValue::Float(number) => Shown::cut(number.to_string()),
        DeValue::Boolean(value) => Shown::plain(value.to_string()),
        DeValue::Datetime(_) => Shown::plain("(a date or time)"),
        DeValue::Array(_) => Shown::plain("(an array)"),
        DeValue::Table(_) => Shown::plain("(a table)"),
    }
}
