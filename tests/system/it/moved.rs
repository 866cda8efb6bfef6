//! A built tree that is moved, copied, linked to, or cannot be written to.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use test_kit::{bin, output, repository, text};

const NOBODY: &str = "65534";

/// A tree called `name` with the scripts and, as built, the real programs. The sources are one empty crate.
fn tree(dir: &TempDir, name: &str) -> PathBuf {
    let tree = dir.path().join(name);
    let programs = tree.join("target/any/release");
    for dir in [".cargo", "one/src", "crates/two/src", "bin", "target/any/release"] {
        fs::create_dir_all(tree.join(dir)).unwrap();
    }
    for file in ["Cargo.toml", "Cargo.lock", "one/Cargo.toml", "crates/two/Cargo.toml"] {
        fs::write(tree.join(file), "").unwrap();
    }
    let copied = ["run.sh", "scripts", "qemu", "ports.conf"].map(repository);
    assert!(output(Command::new("cp").arg("-R").args(copied).arg(&tree)).status.success());
    for name in ["hashcluster-controller", "hashcluster-worker", "hashctl", "hashcluster-vm"] {
        fs::copy(bin(name), programs.join(name)).unwrap();
    }
    fs::write(programs.join("sources-seen"), "").unwrap();
    // It must not be asked: the programs are there.
    for name in ["cargo", "cc"] {
        let program = tree.join("bin").join(name);
        fs::write(&program, "#!/bin/sh\necho \"$0 is called\" >&2\nexit 101\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    tree
}

/// A command with the stand-ins of `tree` for cargo and cc in its PATH.
fn command(tree: &Path, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", format!("{}:/usr/bin:/bin", tree.join("bin").display()));
    command.env_remove("CARGO_TARGET_DIR").env_remove("HASHCLUSTER_RUNTIME_DIR").current_dir("/");
    command
}

/// Hashes a file with the programs of `tree`, called as `run_sh`, and looks where those are.
#[track_caller]
fn check(tree: &Path, run_sh: &Path) {
    let mut sum = command(tree, run_sh);
    let sum = output(sum.args(["--local", "1", "sum"]).arg(tree.join("ports.conf")));
    let want = output(Command::new("sha256sum").arg(tree.join("ports.conf")));
    assert_eq!(text(&sum.stdout), text(&want.stdout), "{}", text(&sum.stderr));
    let bin_dir = output(&mut command(tree, &tree.join("scripts/bin-dir.sh")));
    let real = fs::canonicalize(tree).unwrap().join("target/any/release");
    assert_eq!(text(&bin_dir.stdout), format!("{}\n", real.display()), "{}", text(&bin_dir.stderr));
}

#[test]
fn a_moved_copied_or_linked_tree_runs_its_own_programs() {
    let dir = tempfile::tempdir().unwrap();
    let built = tree(&dir, "built");
    check(&built, &built.join("run.sh"));
    let moved = dir.path().join("it's \"moved\" to süd $HOME");
    fs::rename(&built, &moved).unwrap();
    check(&moved, &moved.join("run.sh"));
    let copied = dir.path().join("copied");
    let mut copy = Command::new("cp");
    assert!(output(copy.arg("-a").arg(&moved).arg(&copied)).status.success());
    // Its programs would fail.
    fs::write(moved.join("target/any/release/hashcluster-vm"), "").unwrap();
    check(&copied, &copied.join("run.sh"));
    let link = dir.path().join("link");
    symlink(&copied, &link).unwrap();
    check(&link, &link.join("run.sh"));
    let name = dir.path().join("hashcluster");
    symlink(link.join("run.sh"), &name).unwrap();
    check(&copied, &name);
}

fn by_nobody(tree: &Path, args: &[&str]) -> Output {
    // Root may write anywhere.
    let mut run = match nix::unistd::geteuid().is_root() {
        true => {
            let mut run = command(tree, Path::new("setpriv"));
            run.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
            run.arg(tree.join("run.sh"));
            run
        }
        false => command(tree, &tree.join("run.sh")),
    };
    output(run.args(args).env("XDG_RUNTIME_DIR", "").env("HOME", "/nonexistent"))
}

#[test]
fn a_built_tree_that_cannot_be_written_to_runs_what_was_built() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let tree = tree(&dir, "read only");
    // Sources are newer than the last build, as after a change of branch.
    fs::remove_file(tree.join("target/any/release/sources-seen")).unwrap();
    fs::set_permissions(tree.join("target"), fs::Permissions::from_mode(0o555)).unwrap();
    let args = ["--local", "1", "sum", "/etc/passwd"];
    let sum = by_nobody(&tree, &args);
    let want = output(Command::new("sha256sum").arg("/etc/passwd"));
    let said = text(&sum.stderr);
    assert_eq!(text(&sum.stdout), text(&want.stdout), "{said}");
    assert!(said.contains("using the programs of the last build: ") && !said.contains("called"));
    fs::set_permissions(tree.join("target"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(tree.join("target/any"), tree.join("elsewhere")).unwrap();
    fs::set_permissions(tree.join("target"), fs::Permissions::from_mode(0o555)).unwrap();
    let none = by_nobody(&tree, &args);
    assert_eq!(none.status.code(), Some(3), "{}", text(&none.stderr));
    assert!(text(&none.stderr).contains("CARGO_TARGET_DIR=DIR"), "{}", text(&none.stderr));
    fs::set_permissions(tree.join("target"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_tree_whose_path_contains_a_newline_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tree(&dir, "two\nlines");
    for (script, args) in [
        ("run.sh", &["--local", "1", "status"][..]),
        ("scripts/status.sh", &[]),
        ("scripts/bin-dir.sh", &["--no-build"]),
    ] {
        let refused = output(command(&tree, &tree.join(script)).args(args));
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(3), "{script}: {said}");
        assert!(said.contains("contains a newline: $'"), "{script}: {said}");
        assert!(said.contains("two\\nlines"), "{script}: {said}");
    }
}
