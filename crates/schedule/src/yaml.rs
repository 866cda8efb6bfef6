//! YAML text as a tree with places, without anything that makes it larger than the text.
//!
//! Refused: aliases and anchors, tags, keys that are no scalars, equal keys, several documents, and
//! more depth than [`DEPTH_MAX`]. Scalars stay text: `22:00`, `no` and `0777` mean what they say.

use crate::error::{LineColumn, ScheduleErrors, shown};
use crate::{DEPTH_MAX, FILE_LEN_MAX};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};
use std::collections::HashSet;

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct YamlNode {
    pub(crate) place: LineColumn,
    pub(crate) value: YamlValue,
}

#[derive(Clone, Debug)]
pub(crate) enum YamlValue {
    /// Nothing between a key and the next one.
    Empty,
    Scalar(String),
    List(Vec<YamlNode>),
    Map(Vec<(Key, YamlNode)>),
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) place: LineColumn,
    pub(crate) name: String,
}

impl YamlNode {
    /// The value's kind, for messages.
    pub(crate) fn kind(&self) -> String {
        match &self.value {
            YamlValue::Empty => "nothing".into(),
            YamlValue::Scalar(text) => shown(text),
            YamlValue::List(_) => "a list".into(),
            YamlValue::Map(_) => "a map".into(),
        }
    }
}

/// Reads a whole file.
///
/// # Errors
/// The first error: behind it, a parser only guesses.
pub(crate) fn tree(bytes: &[u8]) -> Result<YamlNode, ScheduleErrors> {
    let start = LineColumn { line: 1, column: 1 };
    if bytes.len() > FILE_LEN_MAX {
        return Err(one(start, format!("longer than {FILE_LEN_MAX} bytes")));
    }
    let text = str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
        one(LineColumn { line, column: 1 }, "is not UTF-8 text")
    })?;
    let mut tree = Tree::default();
    for event in Parser::new_from_str(text.trim_start_matches('\u{feff}')) {
        let (event, span) = event.map_err(|error| unreadable(text, &error))?;
        tree.take(event, place(&span.start))?;
    }
    tree.root.ok_or_else(|| one(start, "is empty; docs/schedules.md has examples"))
}

/// Collections that are open, the outermost first, and the whole once it is there.
#[derive(Debug, Default)]
struct Tree {
    open: Vec<Open>,
    root: Option<YamlNode>,
    documents: usize,
}

#[derive(Debug)]
struct Open {
    place: LineColumn,
    value: OpenValue,
}

#[derive(Debug)]
enum OpenValue {
    List(Vec<YamlNode>),
    Map { entries: Vec<(Key, YamlNode)>, key: Option<Key>, seen: HashSet<String> },
}

impl Tree {
    fn take(&mut self, event: Event<'_>, place: LineColumn) -> Result<(), ScheduleErrors> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                let is_first = self.documents == 1;
                if is_first {
                    Ok(())
                } else {
                    Err(one(place, "a second document; use one file each"))
                }
            }
            Event::Alias(_) => Err(one(place, NO_ALIASES)),
            Event::Scalar(text, style, anchor, tag) => {
                plain(anchor, tag.as_deref(), place)?;
                let value = match (style, text) {
                    (ScalarStyle::Plain, text) if text.is_empty() => YamlValue::Empty,
                    (_, text) => YamlValue::Scalar(text.into_owned()),
                };
                self.add(YamlNode { place, value })
            }
            Event::SequenceStart(anchor, tag) => {
                plain(anchor, tag.as_deref(), place)?;
                self.open(place, OpenValue::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                plain(anchor, tag.as_deref(), place)?;
                let (entries, seen) = (Vec::new(), HashSet::new());
                self.open(place, OpenValue::Map { entries, key: None, seen })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { place, value }) = self.open.pop() else { return Ok(()) };
                let value = match value {
                    OpenValue::List(items) => YamlValue::List(items),
                    OpenValue::Map { entries, .. } => YamlValue::Map(entries),
                };
                self.add(YamlNode { place, value })
            }
        }
    }

    fn open(&mut self, place: LineColumn, value: OpenValue) -> Result<(), ScheduleErrors> {
        if matches!(self.open.last(), Some(Open { value: OpenValue::Map { key: None, .. }, .. })) {
            return Err(one(place, "a key is a word, not a list or map"));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(one(place, format!("nested deeper than {DEPTH_MAX}")));
        }
        self.open.push(Open { place, value });
        Ok(())
    }

    fn add(&mut self, node: YamlNode) -> Result<(), ScheduleErrors> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.value {
            OpenValue::List(items) => items.push(node),
            OpenValue::Map { entries, key, seen } => match key.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    let YamlValue::Scalar(name) = node.value else {
                        return Err(one(node.place, "a key is a word, not a list or map"));
                    };
                    if !seen.insert(name.clone()) {
                        return Err(one(
                            node.place,
                            format!("key {} is there twice", shown(&name)),
                        ));
                    }
                    *key = Some(Key { place: node.place, name });
                }
            },
        }
        Ok(())
    }
}

const NO_ALIASES: &str = "aliases (*NAME) are not supported; quote a value that begins with '*', what repeats can stand \
     once at a higher level, or in parameters";

/// Refuses anchors and tags.
fn plain(anchor: usize, tag: Option<&Tag>, place: LineColumn) -> Result<(), ScheduleErrors> {
    if anchor != 0 {
        let text = "anchors (&NAME) are not supported; quote a value that begins with '&'";
        return Err(one(place, text));
    }
    match tag {
        Some(tag) => Err(one(place, format!("tags ({tag}) are not supported"))),
        None => Ok(()),
    }
}

fn unreadable(text: &str, error: &ScanError) -> ScheduleErrors {
    let place = place(error.marker());
    let line = text.lines().nth(place.line - 1).unwrap_or_default();
    let rest = line.chars().skip(place.column - 1).collect::<String>();
    let info = error.info();
    if rest.starts_with('*') {
        return one(place, NO_ALIASES);
    }
    if info.contains("recursion limit") {
        return one(place, format!("nested deeper than {DEPTH_MAX}"));
    }
    let before: String = line.chars().take(place.column - 1).collect();
    let hint = match () {
        () if before.trim().is_empty() && line.starts_with('\t') => "; indent by spaces, not tabs",
        () if info.contains("mapping values are not allowed") => {
            "; check the indentation, and quote a value with ': ' in it"
        }
        () => "",
    };
    one(place, format!("{info}{hint}").replace(char::is_control, " "))
}

fn place(marker: &Marker) -> LineColumn {
    LineColumn { line: marker.line(), column: marker.col() + 1 }
}

fn one(place: LineColumn, text: impl Into<String>) -> ScheduleErrors {
    let mut errors = ScheduleErrors::default();
    errors.at(place, text);
    errors
}
