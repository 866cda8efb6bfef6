//! `monitoring/` with Debian's prometheus and prometheus-alertmanager: `cargo xtask monitoring`.
//!
//! Files are checked by the programs that read them, and their rules by those programs' own tests.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod compose;
mod dashboards;
mod live;
mod native;
mod rules;

use std::path::PathBuf;
use std::process::Command;
use test_kit::{output, repository, text};

/// A file or directory below `monitoring/`.
fn monitoring(path: &str) -> PathBuf {
    repository("monitoring").join(path)
}

/// All that `command` prints; it has to succeed.
#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let ended = output(command);
    let printed = format!("{}{}", text(&ended.stdout), text(&ended.stderr));
    assert!(ended.status.success(), "{command:?}: {printed}");
    printed
}
