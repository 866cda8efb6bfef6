//! The doctor beside stand-ins for a cluster of VMs: each fault is injected alone, has to be named, and
//! nothing else that a healthy run does not say. Remedies are typed as they are printed.

mod fakes;
mod watching;

use fakes::{FakeHost, FakeVms, IMAGE, Problem, own};
use ipc_proto::message::{QuarantineStatus, WorkerHealth};
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use test_kit::{output, text};

#[track_caller]
fn assert_only(found: &[Problem], fault: &str, subject: &str, words: &str) {
    let named: Vec<_> = found.iter().map(|it| (it.fault.as_str(), it.subject.as_str())).collect();
    assert_eq!(named, [(fault, subject)], "{found:#?}");
    assert!(found[0].text.contains(words), "no {words:?} in {found:?}");
}

/// A host without a cluster; `inject` breaks something that the remedy, as printed, mends.
#[track_caller]
fn check_mended(fault: &str, subject: &str, inject: impl FnOnce(&mut FakeHost)) {
    let mut host = FakeHost::new();
    let healthy = host.problems(&[]);
    inject(&mut host);
    let found = host.fresh(&healthy, &[]);
    assert_only(&found, fault, subject, "");
    host.run_remedy(&found[0]);
    // What a remedy ends may take a moment.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        for child in &mut host.children {
            let _ = child.try_wait();
        }
        let left = host.fresh(&healthy, &[]);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{left:#?}");
    }
}

#[test]
fn leftovers_of_a_killed_cluster_are_removed_by_the_remedy() {
    check_mended("leftovers", "run directory", |host| {
        host.write("run/supervisor.pid", "999999999 1 x\n");
        drop(UnixListener::bind(host.path("run/worker1.vsock")).unwrap());
        drop(UnixListener::bind(host.path("run/client.sock")).unwrap());
    });
}

#[test]
fn files_that_a_start_would_refuse_are_removed_by_the_remedy() {
    check_mended("foreign-files", "run directory", |host| host.write("run/ssh_config", "mine"));
}

#[test]
fn a_port_that_is_in_use_is_given_back_by_the_remedy() {
    check_mended("port-taken", "ports", |host| {
        let ports = fs::read_to_string(host.path("ports.conf")).unwrap();
        let port = ports.lines().next().unwrap();
        let listener = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
        let mut holder = Command::new("sleep");
        host.child(holder.arg("60").stdin(OwnedFd::from(listener)));
    });
}

#[test]
fn a_state_directory_of_another_cluster_is_given_back_by_the_remedy() {
    check_mended("state-locked", "state directory", |host| {
        let mut holder = Command::new("/usr/bin/flock");
        let holder = holder.arg("-F").arg(host.path("run/state/state.lock")).args(["sleep", "60"]);
        host.child(holder);
        let locked = || {
            let file = fs::File::open(host.path("run/state/state.lock")).ok()?;
            file.try_lock().is_err().then_some(())
        };
        test_kit::until("a locked file", locked);
    });
}

#[test]
fn rights_that_let_others_in_are_taken_by_the_remedy() {
    check_mended("run-dir-exposed", "run directory", |host| host.mode("run", 0o755));
    check_mended("state-exposed", "secrets", |host| host.mode("run/state", 0o770));
    check_mended("state-exposed", "secrets", |host| {
        host.write("run/state/ssh/id_ed25519", "key");
        host.mode("run/state/ssh/id_ed25519", 0o640);
    });
    check_mended("state-foreign", "secrets", |host| {
        symlink("/etc/passwd", host.path("run/state/ssh/id_ed25519")).unwrap();
    });
}

#[test]
fn a_disk_without_a_file_system_is_put_aside_by_the_remedy() {
    check_mended("disk-damaged", "controller's disk", |host| {
        host.write("run/state/controller.ext4", &"\0".repeat(1 << 20));
    });
}

/// A host without a cluster on which `inject` breaks something, with further `args`.
#[track_caller]
fn check_named(fault: &str, subject: &str, words: &str, inject: impl FnOnce(&mut FakeHost)) {
    let mut host = FakeHost::new();
    let healthy = host.problems(&[]);
    inject(&mut host);
    assert_only(&host.fresh(&healthy, &[]), fault, subject, words);
}

#[test]
fn what_a_start_would_fail_of_is_named() {
    check_named("config-invalid", "files", "ports.conf:1: ", |host| {
        host.write("ports.conf", "22x\n2221\n");
    });
    check_named("config-invalid", "files", "unknown key", |host| {
        host.write("cluster.toml", "[defaults]\nmemmory = \"1G\"\n");
    });
    check_named("dataset-unusable", "datasets", "is missing", |host| {
        host.write("cluster.toml", "[datasets.a]\ndir = \"gone\"\n");
    });
    check_named("memory-short", "memory", "the VMs may take ", |host| {
        host.write("cluster.toml", "[defaults]\nmemory = \"64G\"\n");
    });
    check_named("program-missing", "host programs", "lz4 is missing", |host| {
        fs::remove_file(host.path("bin/lz4")).unwrap();
    });
    check_named("daemon-missing", "virtiofsd", "not built yet", |host| {
        fs::remove_file(host.path("bin/virtiofsd")).unwrap();
    });
    check_named("daemon-broken", "virtiofsd", "no such library", |host| {
        host.program("virtiofsd", "echo no such library >&2; exit 127");
    });
    check_named("image-missing", "image", "none in ", |host| {
        fs::remove_file(host.path("image/image.txt")).unwrap();
        fs::remove_file(host.path("image/kernel")).unwrap();
    });
    check_named("image-damaged", "image", "does not hold what its image.txt names", |host| {
        host.write("image/initrd", "j");
    });
    check_named("image-damaged", "image", "initrd", |host| {
        fs::remove_file(host.path("image/initrd")).unwrap();
    });
    check_named("run-dir-unusable", "run directory", "is no directory", |host| {
        fs::rename(host.path("run"), host.path("moved")).unwrap();
        symlink(host.path("moved"), host.path("run")).unwrap();
    });
}

#[test]
fn a_low_limit_of_open_files_is_named() {
    let host = FakeHost::new();
    let (ports, run) = (host.path("ports.conf"), host.path("run"));
    let mut shell = host.command("/bin/sh");
    shell.args(["-c", "ulimit -n 1000; exec \"$@\"", "sh"]).arg(own());
    shell.args(["doctor", "--json", "--ports"]);
    let said = text(&output(shell.arg(ports).arg("--runtime-dir").arg(run)).stdout);
    assert!(said.contains("\"few-descriptors\""), "{said}");
}

#[test]
fn a_clock_before_the_build_is_named() {
    let host = FakeHost::new();
    let program = host.path("hashcluster-vm");
    fs::copy(own(), &program).unwrap();
    let doctor = |program: &Path| {
        let mut command = host.command(program.to_str().unwrap());
        command.args(["doctor", "--json", "--root", "/no/tree", "--runtime-dir"]);
        text(&output(command.arg(host.path("run"))).stdout)
    };
    assert!(!doctor(&program).contains("clock-behind"));
    let future = SystemTime::now() + Duration::from_secs(86_400);
    fs::File::open(&program).unwrap().set_modified(future).unwrap();
    let said = doctor(&program);
    assert!(said.contains("\"clock-behind\""), "{said}");
    // Its companions are not beside this copy.
    assert!(said.contains("\"own-program-missing\""), "{said}");
}

#[test]
fn datasets_of_the_command_line_and_relative_paths_are_no_faults() {
    let host = FakeHost::new();
    let healthy = host.problems(&[]);
    host.write("cluster.toml", "[vm.worker1]\ndatasets = [\"d\"]\n");
    assert_only(&host.fresh(&healthy, &[]), "config-invalid", "files", "dataset");
    let dataset = format!("d={}", host.path("image").display());
    assert_eq!(host.fresh(&healthy, &["--dataset", &dataset]), []);
    let mut relative = host.doctor(&["--json", "--quiet", "--ports", "ports.conf"]);
    relative.args(["--dataset", "d=image"]).current_dir(&host.dir);
    let said = text(&output(&mut relative).stdout);
    assert!(!said.contains("config-invalid") && !said.contains("dataset"), "{said}");
}

type Inject = fn(&FakeVms);

/// Fault, subject, words, and how it is made.
const FAULTS: &[(&str, &str, &str, Inject)] = &[
    ("service-down", "worker1", "hashcluster-worker is down", |vms| {
        vms.guest("worker1", "hashcluster-worker run", "hashcluster-worker down");
        vms.unhealthy(1, "the controller does not know it");
        vms.controller(|status| status.workers.clear());
    }),
    ("worker-missing", "worker1", "not connected", |vms| {
        vms.unhealthy(1, "the controller does not know it");
        vms.controller(|status| status.workers.clear());
    }),
    ("worker-suspended", "worker1", "missed too many deadlines", |vms| {
        vms.unhealthy(1, "the controller gives it no more work");
        vms.controller(|status| status.workers[0].health = WorkerHealth::Suspended);
    }),
    ("worker-quarantined", "worker1", "wrong\\ndigest", |vms| {
        vms.unhealthy(1, "the controller gives it no more work");
        vms.controller(|status| {
            status.workers[0].health = WorkerHealth::Quarantined;
            let (worker, reason) = ("worker1".into(), "wrong\ndigest".into());
            status.quarantined =
                vec![QuarantineStatus { worker, reason, ..QuarantineStatus::default() }];
        });
    }),
    ("version-mismatch", "versions", "worker1 0.0.9", |vms| {
        vms.controller(|status| status.workers[0].software = "0.0.9".into());
    }),
    ("image-mismatch", "images", "sha256:other", |vms| {
        vms.guest("worker1", IMAGE, "sha256:other");
    }),
    ("member-stopped", "worker1", "stopped", |vms| {
        vms.set("/members/1/phase", json!("stopped"));
        vms.set("/members/1/health", json!("unknown"));
        vms.set("/members/1/pid", Value::Null);
        vms.controller(|status| status.workers.clear());
    }),
    ("member-restarting", "controller", "QEMU exited with status 1", |vms| {
        // Workers cannot be healthy without it, and nobody answers.
        vms.set("/members/0/phase", json!("restarting"));
        vms.set("/members/0/pid", Value::Null);
        vms.unhealthy(0, "QEMU exited with status 1");
        vms.unhealthy(1, "the controller does not know it");
        *vms.status.lock().unwrap() = None;
    }),
    ("member-unhealthy", "worker1", "its check exited with status 3", |vms| {
        vms.unhealthy(1, "its check exited with status 3");
    }),
    ("flapping", "worker1", "killed by SIGKILL", |vms| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let restart = json!({ "time": now, "reason": "killed by SIGKILL" });
        vms.set("/members/1/restarts/last", json!([restart, restart, restart]));
    }),
    ("controller-silent", "controller", "does not answer", |vms| {
        *vms.status.lock().unwrap() = None;
    }),
    ("ssh-silent", "worker1", "No such file", |vms| {
        fs::remove_file(vms.host.path("guests/worker1")).unwrap();
    }),
    ("guest-full", "worker1", "/run: 98 % in use", |vms| {
        vms.guest("worker1", "space /run 100 90", "space /run 100 2");
    }),
    ("guest-clock", "worker1", "from the host's", |vms| vms.guest("worker1", "clock 1", "clock 2")),
    ("disk-read-only", "controller", "read-only", |vms| {
        vms.guest("controller", "hashcluster rw", "hashcluster ro");
    }),
    ("logged-errors", "controller", "log: 3 errors", |vms| {
        vms.guest("controller", "trouble 0", "trouble 3");
    }),
    ("metrics-silent", "worker1", "do not answer at unix:", |vms| {
        vms.set("/members/1/http", json!(format!("unix:{}", vms.host.path("gone").display())));
    }),
    ("drift", "files", "worker2 is missing", |vms| {
        vms.set("/drift", json!(["ports.conf: worker2 is missing"]));
    }),
    ("dataset-unusable", "datasets", "dataset a", |vms| {
        let set = json!({ "name": "a", "dir": "/a", "plane": "live", "state": "is gone" });
        vms.set("/datasets", json!([set]));
    }),
    ("busy", "supervisor", "deploy /image", |vms| vms.set("/command", json!("deploy /image"))),
];

#[test]
fn each_fault_of_a_cluster_is_named_with_a_remedy_and_nothing_else_is() {
    let vms = FakeVms::new();
    let healthy = vms.host.problems(&[]);
    let said: Vec<&str> = healthy.iter().map(|problem| problem.fault.as_str()).collect();
    // What depends on the host that runs the test.
    let of_host = ["root-user", "own-program-missing", "kvm-", "namespaces-", "memory-", "space-"];
    assert!(
        said.iter().all(|fault| of_host.iter().any(|it| fault.starts_with(it))),
        "{healthy:#?}"
    );
    for (fault, subject, words, inject) in FAULTS {
        inject(&vms);
        assert_only(&vms.host.fresh(&healthy, &[]), fault, subject, words);
        vms.heal();
    }
    assert_eq!(vms.host.fresh(&healthy, &[]), []);
}

#[test]
fn remedies_for_files_and_processes_of_a_cluster_work_as_printed() {
    let vms = FakeVms::new();
    let healthy = vms.host.problems(&[]);
    let check = |fault: &str, subject: &str, inject: &dyn Fn()| {
        inject();
        let found = vms.host.fresh(&healthy, &[]);
        assert_only(&found, fault, subject, "");
        vms.host.run_remedy(&found[0]);
        assert_eq!(vms.host.fresh(&healthy, &[]), [], "after {found:?}");
    };
    let suspend = || {
        let kill = format!("kill -STOP {}", vms.pids[1]);
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        vms.unhealthy(1, "timed out");
    };
    // Its supervisor would see it healthy again at once.
    check("process-suspended", "worker1", &|| {
        suspend();
        vms.heal();
    });
    check("socket-unusable", "worker1", &|| vms.host.mode("run/worker1.qmp", 0o100));
    check("pidfile-wrong", "worker1", &|| vms.host.write("run/worker1.pid", "1\n"));
    check("state-exposed", "secrets", &|| {
        vms.host.write("run/client.token", "token");
        vms.host.mode("run/client.token", 0o644);
    });
}

#[test]
fn a_key_that_ssh_does_not_take_is_the_only_fault() {
    let vms = FakeVms::new();
    let healthy = vms.host.problems(&[]);
    vms.host.mode("run/state/ssh/id_ed25519", 0o644);
    vms.host.program("ssh", "[ \"$1\" = -V ] || { echo Permission denied >&2; exit 255; }");
    let found = vms.host.fresh(&healthy, &[]);
    assert_only(&found, "state-exposed", "secrets", "id_ed25519");
}

#[test]
fn a_vm_is_not_restarted_where_what_it_boots_from_is_gone() {
    let vms = FakeVms::new();
    let healthy = vms.host.problems(&[]);
    fs::remove_file(vms.host.path("run/state/controller.ext4")).unwrap();
    vms.guest("controller", "hashcluster-controller run", "hashcluster-controller down");
    vms.unhealthy(1, "the controller does not know it");
    vms.unhealthy(0, "no answer");
    *vms.status.lock().unwrap() = None;
    let found = vms.host.fresh(&healthy, &[]);
    let named: Vec<&str> = found.iter().map(|problem| problem.fault.as_str()).collect();
    assert_eq!(named, ["service-down", "state-lost"], "{found:#?}");
    let lost = found[1].command.as_deref().unwrap_or_default();
    assert!(lost.contains(" stop ") && lost.contains(" up "), "{lost}");
    assert!(
        found.iter().all(|it| !it.command.as_deref().unwrap_or_default().contains(" restart "))
    );
}

#[test]
fn a_supervisor_that_does_not_answer_is_the_only_fault() {
    let vms = FakeVms::new();
    let healthy = vms.host.problems(&[]);
    fs::remove_file(vms.host.path("run/control.sock")).unwrap();
    let found = vms.host.fresh(&healthy, &[]);
    assert_only(&found, "supervisor-silent", "supervisor", "control.sock");
    let _mute = UnixListener::bind(vms.host.path("run/control.sock")).unwrap();
    let found = vms.host.fresh(&healthy, &[]);
    assert_only(&found, "supervisor-silent", "supervisor", "does not answer");
}

#[test]
fn words_of_a_vm_are_not_evaluated_and_move_no_terminal() {
    let vms = FakeVms::new();
    let marker = vms.host.path("marker");
    let hostile = format!("PATH[$(touch {})]", marker.display());
    vms.guest(
        "worker1",
        "memory 1000 500",
        &format!("memory 1000 {hostile}\nservice \u{1b}[2J run 1"),
    );
    vms.set("/members/0/reason", json!("\u{1b}[2J\nok    forged"));
    vms.set("/members/0/health", json!("unhealthy"));
    vms.host.program("ssh", "cat >/dev/null; printf '\\033[2J\\233A banner\\n' >&2; exit 255");
    let ports = vms.host.path("ports.conf");
    let said = output(vms.host.doctor(&[]).arg("--ports").arg(ports));
    let shown = text(&said.stdout) + &text(&said.stderr);
    assert!(!shown.contains(['\u{1b}', '\u{9b}']) && !marker.exists(), "{shown:?}");
    assert!(!shown.lines().any(|line| line == "ok    forged"), "{shown}");
    assert!(shown.contains("SSH: ") && shown.contains("FAIL"), "{shown}");
}

#[test]
fn a_cluster_on_which_nobody_answers_is_examined_in_time() {
    let vms = FakeVms::new();
    vms.host.program("ssh", "[ \"$1\" = -V ] || exec /bin/sleep 60");
    // A controller whose connections nobody takes.
    fs::remove_file(vms.host.path("run/answer.sock")).unwrap();
    let _deaf = UnixListener::bind(vms.host.path("run/answer.sock")).unwrap();
    let found = vms.host.problems(&[]);
    let silent = found.iter().filter(|problem| problem.fault == "ssh-silent").count();
    assert_eq!(silent, 2, "{found:#?}");
}
