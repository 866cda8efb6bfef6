//! The scripts beside a cluster whose VMs lie: stand-ins for the programs say what VMs would.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use test_kit::{output, text};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().and_then(Path::parent).unwrap().to_owned()
}

/// A tree with the scripts and programs that answer as a supervisor of one controller VM does.
struct Tree(TempDir);

impl Tree {
    /// `report` is what the VM says over SSH, `stderr` what comes with it.
    fn new(report: &str, stderr: &str) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        let mut copy = Command::new("cp");
        copy.arg("-R").args(["scripts", "qemu", "ports.conf"].map(|name| root().join(name)));
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
        let bin = tree.path("target/any/release");
        fs::create_dir_all(&bin).unwrap();
        let dir = tree.0.path().display();
        let supervisor = format!(
            "#!/bin/sh\ncase \"$1 $2\" in\n\
             'console any') echo {dir}/run/log/any.console.log ;;\n\
             'status --json') echo '{{\"controller\":{{\"uptime_ms\":5000}}}}' ;;\n\
             'status '*) printf 'VM ROLE STATE\\ncontroller controller healthy\\n' ;;\n\
             'ssh '*) cat {dir}/stderr >&2; cat {dir}/report ;;\nesac\n"
        );
        for name in ["hashcluster-controller", "hashcluster-worker", "hashctl", "hashcluster-vm"] {
            fs::write(bin.join(name), &supervisor).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
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
        for script in ["doctor.sh", "status.sh"] {
            let said = tree.run(script);
            let shown = text(&said.stdout) + &text(&said.stderr);
            assert_eq!(fs::read_dir(marker.path()).unwrap().count(), 0, "{shown}");
            assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{7}']), "{shown:?}");
            assert!(!shown.contains("arithmetic") && !shown.contains("too great"), "{shown}");
            if report.contains(GOOD) {
                let memory = if script == "doctor.sh" { "96 of 192" } else { "96 of 192 MiB" };
                assert!(shown.contains(memory), "{script}: {shown}");
            }
        }
    }
}

#[test]
fn a_vm_that_says_too_much_is_cut_off() {
    let tree = Tree::new(&"listens 1.2.3.4:5\n".repeat(1 << 16), "");
    let said = text(&tree.run("status.sh").stdout);
    assert!(said.contains("SSH") && said.len() < 8192, "{said}");
}
