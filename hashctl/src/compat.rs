//! Personalities: programs that hashctl stands for, called by their names or as its first argument.

mod b3sum;
mod gnu;
mod reread;

use crate::config::Stdio;
use crate::exit::Exit;
use crate::isolation::Isolation;
use crate::lists::quote::quote;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

/// An invocation of a personality.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// The name that its messages start with: as it was typed.
    pub(crate) program: OsString,
    /// The tool that is meant.
    pub(crate) tool: &'static str,
    /// Arguments behind the name.
    pub(crate) args: Vec<OsString>,
    pub(crate) stdio: Stdio,
}

/// Tools that one function stands for.
struct Personality {
    names: &'static [&'static str],
    /// Does what a call asks for, and returns the exit status.
    run: fn(Invocation) -> u8,
}

const PERSONALITIES: &[Personality] = &[
    Personality { names: &gnu::NAMES, run: gnu::run },
    Personality { names: &b3sum::NAMES, run: b3sum::run },
];

/// Names of all personalities.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PERSONALITIES.iter().flat_map(|personality| personality.names).copied()
}

/// Runs the personality that `args` name, if they name one: the exit status.
pub(crate) fn run(args: &[OsString], stdio: Stdio) -> Option<u8> {
    let called_by = |position: usize| {
        let program = args.get(position)?;
        let name = if position == 0 { base_name(program) } else { program.as_bytes() };
        let find = |personality: &Personality| {
            let tool = personality.names.iter().find(|tool| tool.as_bytes() == name)?;
            Some((*tool, personality.run))
        };
        let (tool, run) = PERSONALITIES.iter().find_map(find)?;
        let args = args[position + 1..].to_vec();
        if let Some(why) = why_forbidden() {
            // Nobody is left to tell when standard error is gone.
            let _ = writeln!(io::stderr(), "{}: {why}", quote(program.as_bytes()));
            return Some(Exit::Failure.code());
        }
        Some(run(Invocation { program: program.clone(), tool, args, stdio }))
    };
    called_by(0).or_else(|| called_by(1))
}

/// Personalities hash in this process only: why they may not.
fn why_forbidden() -> Option<String> {
    match Isolation::find() {
        Ok(None) => None,
        Ok(Some(isolation)) => Some(format!(
            "hashing in this process is forbidden by {isolation}; use hashctl sum or check with a cluster"
        )),
        Err(error) => Some(error.to_string()),
    }
}

fn base_name(path: &OsStr) -> &[u8] {
    path.as_bytes().rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_called_by_its_last_part() {
        for (path, want) in [("sha256sum", "sha256sum"), ("/a/b", "b"), ("a/", ""), ("", "")] {
            assert_eq!(base_name(OsStr::new(path)), want.as_bytes(), "{path}");
        }
    }

    #[test]
    fn other_names_are_no_personality() {
        for name in [&b"sum"[..], b"sha256", b"SHA256SUM", b"cksum", b""] {
            assert!(names().all(|tool| tool.as_bytes() != name));
        }
    }
}
