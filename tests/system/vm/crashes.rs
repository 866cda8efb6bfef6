//! Processes of a running cluster that are killed: what is kept, and who comes back.

use crate::site::{Site, exists, kill, until};
use std::fs;

#[test]
fn a_controller_vm_that_is_killed_comes_back_with_its_state() {
    let site = Site::up(2);
    site.ssh("controller", "echo durable >/var/lib/hashcluster/mark; sync");
    let key = fs::read(site.run("known_hosts")).unwrap();
    let (qemu, worker) = (site.qemu_pid("controller").unwrap(), site.qemu_pid("worker1"));
    let waiting = site.start(site.hashctl(&["status", "--ready", "1", "--timeout-s", "150"]));
    assert!(waiting.end().status.success());
    kill(qemu, "KILL");
    until("another controller VM", || site.qemu_pid("controller").filter(|&pid| pid != qemu));
    // The worker reconnects by itself: its VM is the same.
    site.wait_ready();
    assert_eq!(site.qemu_pid("worker1"), worker);
    assert_eq!(site.ssh("controller", "cat /var/lib/hashcluster/mark"), "durable\n");
    assert_eq!(fs::read(site.run("known_hosts")).unwrap(), key);
    site.succeed(site.hashctl(&["sum", "ports.conf"]));
}

#[test]
fn a_vm_whose_daemon_is_killed_is_started_anew() {
    let site = Site::new(2);
    fs::create_dir(site.path("data")).unwrap();
    fs::write(site.path("data/file"), "abc").unwrap();
    site.succeed(site.run_sh(&["--dataset", "files=data"]));
    for daemon in ["vhost-device-vsock", "virtiofsd"] {
        let qemu = site.qemu_pid("worker1").unwrap();
        let victims = site.processes(daemon);
        let victim = victims
            .iter()
            .find(|(_, line)| line.contains("worker1.") && !line.contains("qemu-system"));
        kill(victim.unwrap_or_else(|| panic!("no {daemon}: {victims:?}")).0, "KILL");
        until("another VM", || site.qemu_pid("worker1").filter(|&pid| pid != qemu));
        assert!(!exists(qemu), "a VM without its {daemon}");
        site.wait_ready();
        let sum = site.finish(site.hashctl(&["sum", "-v", "--plane", "dataset", "data/file"]));
        assert!(sum.stdout.starts_with("ba7816bf"), "{}", sum.stderr);
        assert!(sum.stderr.contains("by name in dataset files"), "{}", sum.stderr);
    }
}

#[test]
fn a_supervisor_that_is_killed_takes_its_vms_with_it() {
    let site = Site::up(2);
    let text = fs::read_to_string(site.run("supervisor.pid")).unwrap();
    let pid = text.split_whitespace().next().unwrap().parse().unwrap();
    kill(pid, "KILL");
    until("the end of all processes", || site.processes("").is_empty().then_some(()));
    let status = site.finish(site.script("status.sh", &[]));
    assert_eq!(status.status.code(), Some(3), "{}", status.stdout);
    // What it left is no obstacle, neither for a start nor for a stop.
    site.succeed(site.run_sh(&[]));
    let text = fs::read_to_string(site.run("supervisor.pid")).unwrap();
    kill(text.split_whitespace().next().unwrap().parse().unwrap(), "KILL");
    until("the end of all processes", || site.processes("").is_empty().then_some(()));
    site.succeed(site.script("stop.sh", &[]));
    site.assert_clean();
}
