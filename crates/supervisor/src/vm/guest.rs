//! Ways into a VM for a person, over SSH: a shell, a command whose arguments stay apart, and copies of files.
//!
//! Bytes from a VM are untrusted: a copy from it is unpacked in a directory of its own, of which only what
//! was asked for is taken, and nothing but files, directories and links.

use super::layout::{Layout, SSH_CONFIG};
use crate::cluster::{Error, require_vm};
use crate::run_dir;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

/// Becomes `ssh` to a VM, with a shell or a command line for one.
pub(crate) fn ssh(asked: Option<&Path>, name: &str, args: &[OsString]) -> Error {
    match ssh_to(asked, name) {
        Ok(mut command) => Error::step("run ssh")(command.arg("--").arg(name).args(args).exec()),
        Err(error) => error,
    }
}

/// Becomes `ssh` that runs `command` in a VM as it is, without a shell's interpretation.
pub(crate) fn exec(asked: Option<&Path>, name: &str, tty: bool, command: &[OsString]) -> Error {
    match ssh_to(asked, name) {
        Ok(mut ssh) => {
            ssh.args(tty.then_some("-t")).arg("--").arg(name).arg(quoted(command));
            Error::step("run ssh")(ssh.exec())
        }
        Err(error) => error,
    }
}

/// `ssh` for a VM that runs, without its name yet.
fn ssh_to(asked: Option<&Path>, name: &str) -> Result<Command, Error> {
    let run_path = run_dir::or_default(asked);
    // Any other name would be looked for in the network.
    require_vm(&run_path, name)?;
    Ok(ssh_in(&run_path))
}

/// `ssh` with the configuration of the cluster in `run_dir`.
pub(crate) fn ssh_in(run_dir: &Path) -> Command {
    let mut command = Command::new("ssh");
    command.arg("-F").arg(Layout::new(run_dir, None).file(SSH_CONFIG));
    command
}

/// A command line for a POSIX shell that runs exactly `words`.
fn quoted(words: &[OsString]) -> OsString {
    let mut line = Vec::new();
    for word in words {
        if !line.is_empty() {
            line.push(b' ');
        }
        line.push(b'\'');
        for &byte in word.as_bytes() {
            match byte {
                b'\'' => line.extend(br"'\''"),
                byte => line.push(byte),
            }
        }
        line.push(b'\'');
    }
    OsStr::from_bytes(&line).to_owned()
}

/// One end of a copy.
#[derive(Debug, PartialEq, Eq)]
enum End<'a> {
    Guest { name: &'a str, path: &'a Path },
    Host(&'a Path),
}

impl<'a> End<'a> {
    /// `NAME:PATH`, or a path of this host; one with a colon in it begins with `./` or `/`.
    fn of(text: &'a OsStr) -> Self {
        let bytes = text.as_bytes();
        let at = bytes.iter().position(|&byte| byte == b':' || byte == b'/');
        let colon = at.filter(|&at| at > 0 && bytes[at] == b':');
        match colon.and_then(|at| Some((str::from_utf8(&bytes[..at]).ok()?, &bytes[at + 1..]))) {
            Some((name, b"")) => Self::Guest { name, path: Path::new(".") },
            Some((name, path)) => Self::Guest { name, path: Path::new(OsStr::from_bytes(path)) },
            None => Self::Host(Path::new(text)),
        }
    }
}

/// Copies a file or a directory into a VM or out of one.
pub(crate) fn cp(asked: Option<&Path>, from: &OsStr, to: &OsStr) -> Result<ExitCode, Error> {
    match (End::of(from), End::of(to)) {
        (End::Host(from), End::Guest { name, path }) => put(asked, from, name, path),
        (End::Guest { name, path }, End::Host(to)) => get(asked, name, path, to),
        _ => Err(Error::Usage(
            "cp copies between this host and a VM: one of FROM and TO is NAME:PATH".to_owned(),
        )),
    }
}

/// Unpacks standard input in the guest: into `$1` if that is a directory, else as `$1`.
const UNPACK: &str = r#"
if [ -d "$1" ]; then tar -C "$1" -x -f -; exit; fi
case $1 in */) echo "$1: no such directory" >&2; exit 1 ;; esac
d=$(dirname "$1") && t=$(mktemp -d "$d/.cp.XXXXXX") || exit
tar -C "$t" -x -f - && mv "$t/$2" "$1"
s=$?; rm -rf "$t"; exit $s"#;

/// Packs `$1` in the guest under its own name.
const PACK: &str = r#"
cd -P "$(dirname "$1")" && tar -c -f - -- "$(basename "$1")""#;

fn put(asked: Option<&Path>, from: &Path, name: &str, to: &Path) -> Result<ExitCode, Error> {
    let from = fs::canonicalize(from).map_err(Error::step(format!("read {}", from.display())))?;
    let (Some(parent), Some(base)) = (from.parent(), from.file_name()) else {
        return Err(Error::Usage("cp does not copy /".to_owned()));
    };
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(parent).args(["-c", "-f", "-", "--"]).arg(base);
    let mut ssh = ssh_to(asked, name)?;
    ssh.arg("--").arg(name).arg(script(UNPACK, &[to.as_os_str(), base]));
    piped(&mut tar, &mut ssh)
}

fn get(asked: Option<&Path>, name: &str, from: &Path, to: &Path) -> Result<ExitCode, Error> {
    let base = from
        .file_name()
        .ok_or_else(|| Error::Usage(format!("cp: {} does not end with a name", from.display())))?;
    // Into a directory under its name, as cp(1) does.
    let target = if to.is_dir() { to.join(base) } else { to.to_owned() };
    let parent = match target.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(Error::Usage(format!("cp: {} is a directory", to.display()))),
    };
    let mut ssh = ssh_to(asked, name)?;
    ssh.arg("--").arg(name).arg(script(PACK, &[from.as_os_str()]));
    let template = parent.join(".hashcluster-cp.XXXXXX");
    let made = nix::unistd::mkdtemp(&template).map_err(io::Error::from);
    let fresh = made.map_err(Error::step(format!("write to {}", parent.display())))?;
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&fresh).args(["-x", "-f", "-", "--no-same-owner", "--no-same-permissions"]);
    let result = piped(&mut ssh, tar.arg("--").arg(base)).and_then(|code| {
        let found = fresh.join(base);
        if code == ExitCode::SUCCESS {
            check(&found)?;
            fs::rename(&found, &target).map_err(Error::write(&target))?;
        }
        Ok(code)
    });
    fs::remove_dir_all(&fresh).map_err(Error::step(format!("remove {}", fresh.display())))?;
    result
}

/// A shell's command line that runs `text` with `args`.
fn script(text: &str, args: &[&OsStr]) -> OsString {
    let words = [OsStr::new("sh"), OsStr::new("-c"), OsStr::new(text), OsStr::new("sh")];
    quoted(&words.iter().chain(args).map(|&word| word.to_owned()).collect::<Vec<_>>())
}

/// Runs two programs, the output of the first being the input of the second.
fn piped(first: &mut Command, second: &mut Command) -> Result<ExitCode, Error> {
    let started = |command: &mut Command| {
        let name = command.get_program().display().to_string();
        command.spawn().map_err(Error::step(format!("run {name}")))
    };
    let mut from = started(first.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let output = from.stdout.take().expect("it is piped");
    let into = started(second.stdin(output));
    let ended = |mut child: Child| child.wait().map_err(Error::step("wait"));
    let (second, first) = (into.and_then(ended), ended(from)?);
    // The first may have ended because the second did.
    let second = second?;
    let is_cause = first.signal().is_none() && !first.success();
    Ok(status(if is_cause || second.success() { first } else { second }))
}

fn status(status: ExitStatus) -> ExitCode {
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// An error if a copy from a VM holds more than files, directories and symbolic links.
fn check(path: &Path) -> Result<(), Error> {
    let mut left: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        let read = |error| Error::step(format!("read {}", path.display()))(error);
        let kind = fs::symlink_metadata(&path).map_err(read)?.file_type();
        if kind.is_dir() {
            for entry in fs::read_dir(&path).map_err(read)? {
                left.push(entry.map_err(read)?.path());
            }
        } else if !kind.is_file() && !kind.is_symlink() {
            let text = "the copy has a device, socket or FIFO in it and is not kept";
            return Err(Error::Refused(text.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_runs_exactly_the_words_that_were_given() {
        let odd =
            ["a b", "", "'", "\"$HOME\"", "x\ny", ";", "$(false)", "-n", "\\", "*", "é", "''"];
        let odd = odd.map(OsString::from).into_iter();
        let words: Vec<OsString> = odd.chain([OsStr::from_bytes(b"\xff'").to_owned()]).collect();
        let print = [OsString::from("printf"), "%s\\0".into()];
        let line = quoted(&print.into_iter().chain(words.clone()).collect::<Vec<_>>());
        let shown = Command::new("sh").arg("-c").arg(line).output().unwrap();
        let found: Vec<&[u8]> = shown.stdout.split(|&byte| byte == 0).collect();
        let want: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).chain([&b""[..]]).collect();
        assert_eq!(found, want);
    }

    #[test]
    fn an_end_is_in_a_vm_if_a_name_and_a_colon_are_before_any_slash() {
        let guest = |name, path| End::Guest { name, path: Path::new(path) };
        for (text, want) in [
            ("worker1:/etc/passwd", guest("worker1", "/etc/passwd")),
            ("worker1:a:b", guest("worker1", "a:b")),
            ("worker1:", guest("worker1", ".")),
            ("./a:b", End::Host(Path::new("./a:b"))),
            ("/a:b", End::Host(Path::new("/a:b"))),
            (":a", End::Host(Path::new(":a"))),
            ("plain", End::Host(Path::new("plain"))),
        ] {
            assert_eq!(End::of(OsStr::new(text)), want, "{text}");
        }
    }

    /// Runs one of the scripts for the guest as `sh -c SCRIPT sh ARGS…` with `tar` before or behind it.
    fn shell(text: &str, args: &[&OsStr]) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script(text, args));
        command
    }

    #[test]
    fn a_copy_goes_into_a_directory_or_gets_the_name_that_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("from/tree/sub")).unwrap();
        fs::create_dir(path("to")).unwrap();
        fs::write(path("from/tree/sub/odd 'name"), "x").unwrap();
        let copy = |to: &Path| {
            let tree = path("from/tree");
            let unpack = [to.as_os_str(), OsStr::new("tree")];
            piped(&mut shell(PACK, &[tree.as_os_str()]), &mut shell(UNPACK, &unpack)).unwrap()
        };
        for (to, want) in [("to", "to/tree/sub/odd 'name"), ("to/new", "to/new/sub/odd 'name")] {
            assert_eq!(copy(&path(to)), ExitCode::SUCCESS);
            assert_eq!(fs::read_to_string(path(want)).unwrap(), "x");
        }
        for to in ["gone/new", "gone/"] {
            assert_ne!(copy(&path(to)), ExitCode::SUCCESS, "{to}");
        }
        let left = fs::read_dir(path("to")).unwrap().count();
        assert_eq!(left, 2, "no temporary directory stays");
        assert_ne!(
            piped(
                &mut shell(PACK, &[path("gone").as_os_str()]),
                Command::new("cat").stdout(Stdio::null())
            )
            .unwrap(),
            ExitCode::SUCCESS
        );
    }

    #[test]
    fn a_copy_with_a_special_file_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        assert!(check(dir.path()).is_ok());
        nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(check(dir.path()).is_err());
    }
}
