//! Settings that forbid hashing in this process, which reads files with the caller's rights: the
//! environment, a file of the host and one of the user (`docs/hashctl-toml.md`).
//!
//! Each can only forbid: none permits what another one forbids.

use crate::lists::quote::quote;
use crate::say::io_text;
use ipc_socket::Trust;
use serde::Deserialize;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Forbids it unless it is empty or 0.
const ISOLATED_VARIABLE: &str = "HASHCLUSTER_ISOLATED";

/// The file of the host.
const HOST_FILE: &str = "/etc/hashctl.toml";

/// The file of the user, in the directory for such files.
const USER_FILE: &str = "hashctl.toml";

/// Most bytes of such a file.
const FILE_LEN_MAX: u64 = 64 << 10;

/// A setting that forbids hashing in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    Environment,
    File(PathBuf),
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => write!(f, "{ISOLATED_VARIABLE} in the environment"),
            Self::File(path) => write!(f, "{}", quote(path.as_os_str().as_bytes())),
        }
    }
}

/// A file of settings that cannot be used.
#[derive(Debug, Error)]
#[error("{}: {text}", quote(path.as_os_str().as_bytes()))]
pub(crate) struct SettingsError {
    path: PathBuf,
    text: String,
}

impl Isolation {
    /// The first setting that forbids it.
    ///
    /// # Errors
    /// A file cannot be used, so that nobody knows what it says.
    pub(crate) fn find() -> Result<Option<Self>, SettingsError> {
        let variable = |name| env::var_os(name).filter(|value: &OsString| !value.is_empty());
        if variable(ISOLATED_VARIABLE).is_some_and(|value| value != "0") {
            return Ok(Some(Self::Environment));
        }
        let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let user_dir =
            absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
        let user_file = user_dir.map(|dir| dir.join(USER_FILE));
        for path in [Some(HOST_FILE.into()), user_file].into_iter().flatten() {
            match is_isolated(&path) {
                Ok(true) => return Ok(Some(Self::File(path))),
                Ok(false) => {}
                Err(text) => return Err(SettingsError { path, text }),
            }
        }
        Ok(None)
    }
}

/// Keys of a file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsForm {
    #[serde(default)]
    isolated: bool,
}

fn is_isolated(path: &Path) -> Result<bool, String> {
    use io::ErrorKind::{NotADirectory, NotFound};
    let file = match Trust::Unwritten.open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(false),
        // The home is another user's, and so is what may be in it.
        Err(_) if fs::symlink_metadata(path).is_err() => return Ok(false),
        Err(error) => return Err(io_text(&error)),
    };
    let mut text = String::new();
    let len = file.take(FILE_LEN_MAX + 1).read_to_string(&mut text);
    match len.map_err(|error| io_text(&error))? as u64 {
        0..=FILE_LEN_MAX => parse(&text),
        _ => Err(format!("longer than {FILE_LEN_MAX} bytes")),
    }
}

fn parse(text: &str) -> Result<bool, String> {
    let form = toml::from_str(text).map(|SettingsForm { isolated }| isolated);
    form.map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(start).filter(|&byte| byte == b'\n').count();
        format!("line {line}: {}", error.message().lines().collect::<Vec<_>>().join("; "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_key_is_isolated_and_others_are_errors() {
        for (text, want) in [
            ("", Ok(false)),
            ("# a comment\nisolated = true\n", Ok(true)),
            ("isolated = false", Ok(false)),
            ("\nisolate = true", Err("line 2: unknown field `isolate`, expected `isolated`")),
            ("[engine]\nisolated = true", Err("line 1: unknown field `engine`")),
            ("isolated = 1", Err("line 1: invalid type")),
            ("isolated = \"yes\"", Err("line 1: invalid type")),
            ("isolated = true\nisolated = false", Err("line 2: duplicate key")),
            ("isolated true", Err("line 1: ")),
        ] {
            match (parse(text), want) {
                (Ok(got), want) => assert_eq!(Ok(got), want, "{text}"),
                (Err(error), want) => {
                    assert!(error.starts_with(want.unwrap_err()), "{text}: {error}");
                    assert!(!error.contains('\n'), "{error}");
                }
            }
        }
    }

    #[test]
    fn the_document_has_a_file_that_is_one() {
        let document = include_str!("../../docs/hashctl-toml.md");
        let (_, rest) = document.split_once("```toml\n").expect("an example");
        let (example, _) = rest.split_once("```").expect("its end");
        assert_eq!(parse(example), Ok(true));
    }
}
