//! The scripts beside a cluster whose VMs lie: stand-ins for the programs say what VMs would.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use test_kit::{bin, output, repository, text};

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A tree with the scripts and programs that answer as a supervisor of one controller VM does.
struct Tree(TempDir);

impl Tree {
    /// `report` is what the VM says over SSH, `stderr` what comes with it.
    fn new(report: &str, stderr: &str) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        let mut copy = Command::new("cp");
        copy.arg("-R").args(["scripts", "qemu", "ports.conf"].map(repository));
        assert!(output(copy.arg(tree.0.path())).status.success());
        fs::write(tree.path("report"), report).unwrap();
        fs::write(tree.path("stderr"), stderr).unwrap();
        fs::create_dir(tree.path("run")).unwrap();
        for (name, said) in [
            ("supervisor.pid", format!("{} 1 x\n", std::process::id())),
            ("known_hosts", "hashcluster-controller key\n".to_owned()),
            ("ssh_config", "Host controller\n  Port 2220\nHost *\n".to_owned()),
        ] {
            fs::write(tree.path("run").join(name), said).unwrap();
        }
        let programs = tree.path("target/any/release");
        fs::create_dir_all(&programs).unwrap();
        let dir = tree.0.path().display();
        let supervisor = format!(
            "#!/bin/sh\ncase \"$1 $2\" in\n\
             'run-dir ') echo {dir}/run ;;\n\
             'status --json') echo '{{\"controller\":{{\"uptime_ms\":5000}}}}' ;;\n\
             'ps '*) printf 'VM ROLE STATE\\ncontroller controller healthy\\n' ;;\n\
             'ssh '*) cat {dir}/stderr >&2; cat {dir}/report ;;\n\
             'filter-report ') exec {} filter-report ;;\nesac\n",
            bin("hashcluster-vm").display()
        );
        for name in ["hashcluster-controller", "hashcluster-worker", "hashctl", "hashcluster-vm"] {
            write_program(&programs.join(name), &supervisor);
        }
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, script: &str) -> Output {
        let mut command = Command::new(self.path("scripts").join(script));
        output(command.env("CARGO_TARGET_DIR", self.path("target")).current_dir(&self.0))
    }
}

#[test]
fn every_script_has_help_and_refuses_what_it_does_not_know() {
    let listed = output(Command::new("git").args(["ls-files", "*.sh"]).current_dir(repository("")));
    let listed = text(&listed.stdout);
    assert!(listed.lines().count() > 12, "{listed}");
    for path in listed.lines().map(repository) {
        let run = |option: &str| output(Command::new(&path).arg(option).current_dir("/"));
        let (shown, name) = (path.display(), path.file_name().unwrap().to_str().unwrap());
        for option in ["--help", "-h"] {
            let help = run(option);
            let said = text(&help.stdout);
            assert!(help.status.success() && help.stderr.is_empty(), "{shown} {option}");
            assert!(said.contains("Usage: ") && said.contains(name), "{shown}: {said}");
        }
        let refused = run("--no-such-option");
        assert_eq!(refused.status.code(), Some(2), "{shown}");
        assert!(!refused.stderr.is_empty() && refused.stdout.is_empty(), "{shown}");
    }
}

const GOOD: &str = "service hashcluster-controller run 7\nuptime 9\nclock 1\nmemory 196608 98304\n\
                    space /run 4096 4000\nlistens 10.0.2.15:22\nversion hashcluster-controller 0.1.0\n\
                    image sha256:abc\n";

#[test]
fn what_a_vm_reports_is_never_evaluated_and_moves_no_terminal() {
    let marker = tempfile::tempdir().unwrap();
    let touch = |name: &str| format!("PATH[$(touch {}/{name})]", marker.path().display());
    let report = format!(
        "memory 1000 {0}\nspace / 100 {1}\nclock {2}\nuptime {3}\nmemory 08 09\nmemory 0 0\n\
         service \u{1b}[2J run 1\nversion hashcluster-controller \u{1b}]0;x\u{7}\n",
        touch("memory"),
        touch("space"),
        touch("clock"),
        touch("uptime")
    );
    for report in [report.clone(), format!("{GOOD}{report}"), format!("{report}{GOOD}")] {
        let tree = Tree::new(&report, "\u{1b}[2J\u{9b}A banner\n");
        let said = tree.run("status.sh");
        let shown = text(&said.stdout) + &text(&said.stderr);
        assert_eq!(fs::read_dir(marker.path()).unwrap().count(), 0, "{shown}");
        assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{7}']), "{shown:?}");
        assert!(!shown.contains("arithmetic") && !shown.contains("too great"), "{shown}");
        assert!(!report.contains(GOOD) || shown.contains("96 of 192 MiB"), "{shown}");
    }
}

#[test]
fn the_doctor_says_where_no_program_is_built_and_how_to_build_one() {
    let tree = Tree::new("", "");
    fs::remove_file(tree.path("target/any/release/hashctl")).unwrap();
    for (args, want) in [
        (&[][..], "FAIL  programs: none is built for this host\n      -> cargo xtask build\n"),
        (&["--json"], "\"command\":\"cargo xtask build\""),
    ] {
        let mut command = Command::new(tree.path("scripts/doctor.sh"));
        command.args(args).env("CARGO_TARGET_DIR", tree.path("target"));
        let said = output(command.current_dir(tree.0.path().canonicalize().unwrap()));
        assert_eq!(said.status.code(), Some(1));
        assert!(text(&said.stdout).contains(want), "{}", text(&said.stdout));
    }
}

#[test]
fn a_vm_that_says_too_much_is_cut_off() {
    let tree = Tree::new(&"listens 1.2.3.4:5\n".repeat(1 << 16), "");
    let said = text(&tree.run("status.sh").stdout);
    assert!(said.contains("SSH") && said.len() < 8192, "{said}");
}

#[test]
fn cargo_is_asked_only_when_a_source_is_newer_or_a_program_is_missing() {
    let tree = tempfile::tempdir().unwrap();
    let path = |name: &str| tree.path().join(name);
    let mut copy = Command::new("cp");
    copy.args(["-R".into(), repository("scripts"), tree.path().to_owned()]);
    assert!(output(&mut copy).status.success());
    for dir in [".cargo", "crates/engine/src", "worker/src", "worker/tests", "bin"] {
        fs::create_dir_all(path(dir)).unwrap();
    }
    for file in [
        "Cargo.toml",
        "Cargo.lock",
        "worker/Cargo.toml",
        "worker/src/main.rs",
        "worker/src/old.rs",
        "crates/engine/Cargo.toml",
        "ports.conf",
    ] {
        fs::write(path(file), "").unwrap();
    }
    // What a build leaves, and where it says that it is.
    let cargo = "#!/bin/sh\necho asked >>asked; : >seen; sleep 0.02; dir=$PWD/target/here/release; mkdir -p $dir\n\
                 for name in hashcluster-controller hashcluster-worker hashctl hashcluster-vm; do\n\
                 [ -x $dir/$name ] || { echo '#!/bin/sh' >$dir/$name; chmod +x $dir/$name; }\ndone\n\
                 [ ! -e edit ] || { rm edit; touch worker/src/main.rs; }\nmv seen $dir/sources-seen; echo noise; echo $dir\n";
    write_program(&path("bin/cargo"), cargo);
    write_program(&path("bin/cc"), "#!/bin/sh\n");
    let asks = |what: &str, want: usize| {
        let mut script = Command::new(path("scripts/bin-dir.sh"));
        script.env("PATH", format!("{}:/usr/bin:/bin", path("bin").display()));
        let found = output(script.env_remove("CARGO_TARGET_DIR").current_dir("/"));
        let want_dir = tree.path().canonicalize().unwrap().join("target/here/release");
        assert_eq!(text(&found.stdout).trim_end(), want_dir.to_str().unwrap(), "{what}");
        let asked = fs::read_to_string(path("asked")).unwrap_or_default().lines().count();
        let _ = fs::remove_file(path("asked"));
        assert_eq!(asked, want, "{what}: {}", text(&found.stderr));
    };
    let touch = |name: &str| {
        let file = fs::File::open(path(name)).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(1)).unwrap();
    };
    let age = |name: &str| fs::File::open(path(name)).unwrap().set_modified(SystemTime::UNIX_EPOCH);
    asks("a fresh clone", 1);
    asks("nothing changed", 0);
    touch("ports.conf");
    touch("worker/tests");
    asks("no source changed", 0);
    let sources = ["worker/src/main.rs", "crates/engine/Cargo.toml", "crates/engine/src"];
    for name in sources.into_iter().chain([".cargo", "Cargo.lock", "Cargo.toml"]) {
        touch(name);
        asks(name, 1);
        age(name).unwrap();
        asks("the build was after it", 0);
    }
    fs::remove_file(path("worker/src/old.rs")).unwrap();
    asks("a source was removed", 1);
    asks("nothing changed", 0);
    fs::remove_file(path("target/here/release/hashctl")).unwrap();
    asks("a program was removed", 1);
    fs::write(path("edit"), "").unwrap();
    touch(".cargo");
    asks("a source that is edited during the build", 1);
    age(".cargo").unwrap();
    asks("is newer than what was built", 1);
    asks("nothing changed", 0);
}
