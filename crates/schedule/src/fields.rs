//! A map that is read key by key: an unsuitable value is an error at its place, and so is an unknown key.

use crate::error::{LineColumn, ScheduleErrors, shown, suggestion};
use crate::keys::{KeyLevel, ValueKind, keys_of, kind_of};
use crate::template::{Parameters, Template};
use crate::yaml::{Key, YamlNode, YamlValue};
use crate::{ENTRIES_MAX, VALUE_LEN_MAX};

/// A map, and the parameters that its values may name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) place: LineColumn,
    pub(crate) entries: &'a [(Key, YamlNode)],
    pub(crate) parameters: &'a Parameters,
}

/// The entries of `node` if it is a map; else an error that says what to write.
pub(crate) fn map<'a>(
    what: &str,
    hint: &str,
    node: &'a YamlNode,
    errors: &mut ScheduleErrors,
) -> Option<&'a [(Key, YamlNode)]> {
    if let YamlValue::Map(entries) = &node.value {
        return Some(entries);
    }
    errors.at(node.place, format!("{what}: {} is not {hint}", node.kind()));
    None
}

/// The items of a list, or the one item that stands without a list.
pub(crate) fn items(node: &YamlNode) -> &[YamlNode] {
    match &node.value {
        YamlValue::List(items) => items,
        YamlValue::Empty | YamlValue::Scalar(_) | YamlValue::Map(_) => std::slice::from_ref(node),
    }
}

impl<'a> Fields<'a> {
    /// Reports every key that may not stand here.
    pub(crate) fn known(&self, level: KeyLevel, errors: &mut ScheduleErrors) {
        let known: Vec<&str> = keys_of(level).collect();
        self.known_of(&known, errors);
    }

    pub(crate) fn known_of(&self, known: &[&'static str], errors: &mut ScheduleErrors) {
        for (key, _) in self.entries {
            if known.contains(&key.name.as_str()) {
                continue;
            }
            let word = key.name.as_str();
            let text = match suggestion(word, known.iter().copied()) {
                text if !text.is_empty() => text,
                _ if keys_of(KeyLevel::MAX).any(|name| name == word) => " here".into(),
                _ => format!("; keys are {}", known.join(", ")),
            };
            errors.at(key.place, format!("unknown key {}{text}", shown(word)));
        }
    }

    pub(crate) fn node(&self, name: &str) -> Option<&'a YamlNode> {
        self.entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.node(name).is_some()
    }

    /// A scalar with its parameters replaced, which may depend on the run.
    pub(crate) fn template_of(
        &self,
        name: &str,
        kind: ValueKind,
        node: &YamlNode,
        errors: &mut ScheduleErrors,
    ) -> Option<Template> {
        match &node.value {
            YamlValue::Scalar(text) if text.len() <= VALUE_LEN_MAX => {
                Template::new(text, self.parameters)
                    .map_err(|text| errors.at(node.place, format!("{name}: {text}")))
                    .ok()
            }
            YamlValue::Scalar(_) => {
                errors.at(node.place, format!("{name}: longer than {VALUE_LEN_MAX} bytes"));
                None
            }
            YamlValue::Empty | YamlValue::List(_) | YamlValue::Map(_) => {
                errors.at(node.place, format!("{name}: bad value {}; write {kind}", node.kind()));
                None
            }
        }
    }

    /// A scalar that `parse` makes something of.
    pub(crate) fn value_of<T>(
        &self,
        name: &str,
        kind: ValueKind,
        node: &YamlNode,
        parse: impl FnOnce(&str) -> Option<T>,
        errors: &mut ScheduleErrors,
    ) -> Option<T> {
        let text = match self.template_of(name, kind, node, errors)?.into_text() {
            Ok(text) => text,
            Err(builtin) => {
                let text =
                    format!("{name}: ${{{builtin}}} is known only in a run: in paths and labels");
                errors.at(node.place, text);
                return None;
            }
        };
        let value = parse(&text);
        if value.is_none() {
            errors.at(node.place, format!("{name}: bad value {}; write {kind}", shown(&text)));
        }
        value
    }

    /// The value of a key of the table.
    pub(crate) fn value<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(ValueKind, &str) -> Option<T>,
        errors: &mut ScheduleErrors,
    ) -> Option<T> {
        let (node, kind) = (self.node(name)?, kind_of(name));
        self.value_of(name, kind, node, |text| parse(kind, text), errors)
    }

    /// The values of a key whose value is one scalar or a list of them.
    pub(crate) fn values<T>(
        &self,
        name: &'static str,
        mut parse: impl FnMut(&str) -> Option<T>,
        errors: &mut ScheduleErrors,
    ) -> Option<Vec<T>> {
        let node = self.node(name)?;
        let nodes = items(node);
        if nodes.is_empty() || nodes.len() > ENTRIES_MAX {
            errors.at(
                node.place,
                format!("{name}: {} items, 1 to {ENTRIES_MAX} can be", nodes.len()),
            );
            return None;
        }
        let mut values = Vec::new();
        for node in nodes {
            values.push(self.value_of(name, kind_of(name), node, &mut parse, errors));
        }
        values.into_iter().collect()
    }
}
