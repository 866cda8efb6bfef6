//! Mistyped and half-right command lines of `run.sh`: each is answered with what to type next, and none
//! builds or boots anything.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use test_kit::{bin, output, repository, text};

/// A tree whose set-up for VMs fails, and leaves a file behind.
struct Trap(TempDir);

impl Trap {
    fn new() -> Self {
        let trap = Self(tempfile::tempdir().unwrap());
        let mut copy = Command::new("cp");
        copy.arg("-R").args(["run.sh", "scripts", "ports.conf"].map(repository));
        assert!(output(copy.arg(trap.0.path())).status.success());
        let programs = trap.path("target/any/release");
        fs::create_dir_all(&programs).unwrap();
        for name in ["hashcluster-controller", "hashcluster-worker", "hashctl", "hashcluster-vm"] {
            symlink(bin(name), programs.join(name)).unwrap();
        }
        // Sources, and a build that is newer.
        for dir in [".cargo", "worker/src", "crates/engine/src"] {
            fs::create_dir_all(trap.path(dir)).unwrap();
        }
        for file in ["Cargo.lock", "Cargo.toml", "worker/Cargo.toml", "crates/engine/Cargo.toml"] {
            fs::write(trap.path(file), "").unwrap();
        }
        fs::write(programs.join("sources-seen"), "").unwrap();
        fs::create_dir(trap.path("qemu")).unwrap();
        fs::create_dir(trap.path("fake")).unwrap();
        let booted = trap.path("booted").display().to_string();
        let script = format!("#!/bin/sh\necho \"$0\" >>'{booted}'\nexit 9\n");
        for name in ["qemu/setup.sh", "fake/qemu-system-x86_64", "fake/cargo"] {
            fs::write(trap.path(name), &script).unwrap();
            fs::set_permissions(trap.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::create_dir(trap.path("home")).unwrap();
        fs::create_dir(trap.path("docs")).unwrap();
        fs::write(trap.path("docs/a.iso"), "x").unwrap();
        trap
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, args: &str) -> Output {
        let mut command = Command::new(self.path("run.sh"));
        command.args(args.split(' ').filter(|arg| !arg.is_empty())).current_dir(self.path("docs"));
        for name in ["HASHCLUSTER_RUNTIME_DIR", "HASHCLUSTER_CACHE", "XDG_CACHE_HOME"] {
            command.env_remove(name);
        }
        command.env("HASHCLUSTER_RUNTIME_DIR", self.path("run")).env("HOME", self.path("home"));
        command.env("CARGO_TARGET_DIR", self.path("target"));
        command.env("PATH", format!("{}:/usr/bin:/bin", self.path("fake").display()));
        output(&mut command)
    }
}

#[track_caller]
fn check(trap: &Trap, args: &str, status: i32, says: &str) {
    let found = trap.run(args);
    let said = text(&found.stdout) + &text(&found.stderr);
    assert_eq!(found.status.code(), Some(status), "./run.sh {args}: {said}");
    assert!(said.contains(says), "./run.sh {args}: {said}");
    let booted = fs::read_to_string(trap.path("booted")).unwrap_or_default();
    assert_eq!(booted, "", "./run.sh {args}");
}

#[test]
fn a_mistyped_or_half_right_command_boots_nothing_and_names_the_next_one() {
    let trap = Trap::new();
    for (args, status, says) in [
        // Nothing runs.
        ("status", 3, "no cluster runs in"),
        ("release worker1", 3, "./run.sh starts one"),
        ("ps", 3, "./run.sh starts one"),
        ("down", 0, "nothing runs in"),
        ("stop worker1", 3, "./run.sh starts one"),
        ("start worker1", 3, "./run.sh starts one"),
        ("restart worker1", 3, "./run.sh starts one"),
        ("exec worker1 -- ls", 3, "./run.sh starts one"),
        ("cp a.iso worker1:/tmp", 3, "./run.sh starts one"),
        ("ssh worker1", 3, "./run.sh starts one"),
        ("logs", 3, "./run.sh starts a cluster"),
        ("top", 3, "./run.sh starts one"),
        ("deploy", 3, "./run.sh starts one"),
        ("--local status", 3, "./run.sh starts one"),
        ("version", 0, "hashctl "),
        ("--version", 0, "hashctl "),
        // Typos.
        ("smu a.iso", 2, "did you mean ./run.sh sum?"),
        ("chekc list", 2, "did you mean ./run.sh check?"),
        ("statsu", 2, "did you mean ./run.sh status?"),
        ("--local smu a.iso", 2, "did you mean ./run.sh sum?"),
        ("sum --rcursive .", 2, "'--recursive'"),
        ("sum -a sha265 a.iso", 2, "sha256"),
        ("sum gone.iso", 1, "hashctl: gone.iso: No such file or directory"),
        ("check gone.list", 1, "hashctl: gone.list: No such file or directory"),
        ("--acel kvm", 2, "did you mean --accel?"),
        ("stop --al", 2, "'--all'"),
        // Words for something else.
        ("sha256 a.iso", 2, "./run.sh sum PATH"),
        ("verify list", 2, "./run.sh check LIST"),
        ("ls", 2, "./run.sh ps"),
        ("jobs", 3, "no cluster runs"),
        ("kill", 2, "./run.sh down"),
        ("shell worker1", 2, "./run.sh ssh NAME"),
        // Half of a command.
        ("a.iso", 2, "to hash it: ./run.sh sum a.iso"),
        (".", 2, "to hash it: ./run.sh sum -r ."),
        ("-r .", 2, "./run.sh sum -r"),
        ("--ports", 2, "--ports needs a value"),
        ("restart", 2, "restart needs a NAME"),
        ("ssh", 2, "<NAME>"),
        ("exec worker1", 2, "<COMMAND>"),
        ("cp a.iso b.iso", 2, "NAME:PATH"),
        ("nonsense", 2, "./run.sh --help"),
        // Help.
        ("help", 0, "Usage: ./run.sh"),
        ("--help", 0, "logs"),
        ("--local --help", 0, "Usage: ./run.sh"),
        ("help sum", 0, "--recursive"),
        ("sum --help", 0, "--recursive"),
        ("status --help", 0, "--ready"),
    ] {
        check(&trap, args, status, says);
    }
    // The trap works.
    let booted = trap.run("sum a.iso");
    assert_eq!(booted.status.code(), Some(9), "{}", text(&booted.stderr));
    let setup = Path::new("qemu").join("setup.sh");
    assert!(fs::read_to_string(trap.path("booted")).unwrap().contains(setup.to_str().unwrap()));
}

#[test]
fn every_command_of_hashctl_is_one_of_run_sh() {
    let help = text(&output(Command::new(bin("hashctl")).arg("--help")).stdout);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let commands: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() > 8, "{commands:?}");
    let programs = help.lines().skip_while(|line| !line.starts_with("Programs: ")).nth(1).unwrap();
    let trap = Trap::new();
    for command in commands.into_iter().chain(programs.trim().split(", ")) {
        let found = trap.run(&format!("{command} --help"));
        assert!(found.status.success(), "{command}: {}", text(&found.stderr));
    }
}
