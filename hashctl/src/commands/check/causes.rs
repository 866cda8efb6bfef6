//! Causes of wrong digests, by the states beside the lists.
//!
//! A state is read at the first wrong digest of its list, so a check in which everything matches does
//! not need it.

use crate::engine::reorder::Item;
use crate::lists::quote::quote;
use crate::say::{io_text, say};
use crate::state::StateTable;
use crate::trees::found::look_at;
use crate::trees::manifests::state_path;
use schedule::Cause;
use std::error::Error;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// States of one list after the other.
#[derive(Debug, Default)]
pub(super) struct Causes {
    /// The directory that lists are named from.
    start: PathBuf,
    state: Option<PathBuf>,
    /// Set once it was looked for.
    table: Option<Option<StateTable>>,
}

impl Causes {
    pub(super) fn new(start: PathBuf) -> Self {
        Self { start, state: None, table: None }
    }

    /// The list that follows.
    pub(super) fn select(&mut self, list: &[u8]) {
        self.state = Some(self.start.join(state_path(OsStr::from_bytes(list))));
        self.table = None;
    }

    /// The cause of a wrong digest.
    pub(super) fn of(&mut self, item: &Item<'_>) -> Cause {
        let Some(path) = &self.state else { return Cause::Unknown };
        let table = self.table.get_or_insert_with(|| {
            let file = match File::open(path) {
                Ok(file) => file,
                Err(error) => {
                    if error.kind() != io::ErrorKind::NotFound {
                        say(format_args!(
                            "{}: {}",
                            quote(path.as_os_str().as_bytes()),
                            io_text(&error)
                        ));
                    }
                    return None;
                }
            };
            let read = StateTable::read(file);
            if let Err(error) = &read {
                let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                say(format_args!("{}: {error}{cause}", quote(path.as_os_str().as_bytes())));
            }
            read.ok()
        });
        let Some(table) = table else { return Cause::Unknown };
        let seen = table.find(item.label.name, item.label.function, item.label.want);
        // Looked at now, not before it was read: it may have been written to since.
        seen.zip(look_at(item.label.name)).map_or(Cause::Unknown, |(seen, now)| seen.cause(&now))
    }
}
