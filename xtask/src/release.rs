//! `cargo xtask build`: the release binaries, fully static and stripped.
//!
//! The target is named although it is the host: then `RUSTFLAGS` do not apply to procedural
//! macros, which cannot be static.

use crate::tools::{Failure, cargo, output};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Packages that have one binary each, of the same name.
const PACKAGES: [&str; 4] =
    ["hashcluster-controller", "hashcluster-worker", "hashctl", "hashcluster-vm"];

const STATIC: &str = "-C target-feature=+crt-static";

/// Builds outdated programs, and returns the directory of the binaries.
pub(crate) fn build() -> Result<PathBuf, Failure> {
    let mut command = cargo(&["build", "--release", "--target", &host()?]);
    command.args(PACKAGES.iter().flat_map(|package| ["-p", package]));
    command.arg("--message-format=json-render-diagnostics");
    let flags = env::var("RUSTFLAGS").map_or(STATIC.into(), |flags| format!("{flags} {STATIC}"));
    command.env("RUSTFLAGS", flags);
    let messages = output(&mut command)?;
    let binaries: Vec<PathBuf> = messages.lines().filter_map(executable).collect();
    for package in PACKAGES {
        let is_it = |path: &&PathBuf| path.file_name().is_some_and(|name| name == package);
        match binaries.iter().find(is_it) {
            Some(path) => check(path)?,
            None => return Err(Failure::Wrong(format!("the build produced no binary {package}"))),
        }
    }
    Ok(binaries[0].parent().expect("a file is in a directory").to_owned())
}

/// The triple of this machine.
pub(crate) fn host() -> Result<String, Failure> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let about = output(Command::new(rustc).arg("-vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::Wrong("rustc -vV names no host".into()))
}

/// The path in a message of cargo about an executable.
fn executable(message: &str) -> Option<PathBuf> {
    let (_, rest) = message.split_once(r#""executable":""#)?;
    let (path, _) = rest.split_once('"')?;
    Some(PathBuf::from(path))
}

/// Checks that a binary needs no library of its host and carries no symbols.
fn check(path: &Path) -> Result<(), Failure> {
    let mut readelf = Command::new("readelf");
    let about = output(readelf.args(["--segments", "--sections", "--wide"]).arg(path))?;
    match fault(&about) {
        Some(what) => Err(Failure::Wrong(format!("{} {what}", path.display()))),
        None => Ok(()),
    }
}

/// The fault in the output of `readelf`, in which each row begins with a type or a name.
fn fault(about: &str) -> Option<&'static str> {
    if about.contains(" INTERP ") {
        Some("is not static: it asks for a dynamic loader")
    } else if about.contains(" SYMTAB ") {
        Some("is not stripped: it has a symbol table")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_of_executables_name_one() {
        let of = |text: &str| executable(text);
        let artifact =
            r#"{"reason":"compiler-artifact","executable":"/t/release/hashctl","fresh":true}"#;
        assert_eq!(of(artifact), Some(PathBuf::from("/t/release/hashctl")));
        assert_eq!(of(r#"{"reason":"compiler-artifact","executable":null}"#), None);
        assert_eq!(of(r#"{"reason":"build-finished","success":true}"#), None);
    }

    #[test]
    fn only_a_static_and_stripped_binary_passes() {
        let own = check(&env::current_exe().unwrap()).unwrap_err().to_string();
        assert!(own.contains("is not static"), "{own}");
        let stripped = "  [ 1] .text  PROGBITS  0000\n  LOAD  0x000000 0x0000\n";
        assert_eq!(fault(stripped), None);
        let symbols = fault(&format!("{stripped}  [40] .symtab  SYMTAB  0000\n"));
        assert!(symbols.unwrap().contains("is not stripped"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert!(matches!(check(&script), Err(Failure::Status { .. })), "no binary");
    }
}
