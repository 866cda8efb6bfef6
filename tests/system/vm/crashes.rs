//! Processes of a running cluster that are killed: what is kept, and who comes back.

use crate::site::{Site, exists, kill, until};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

#[test]
fn a_controller_vm_that_is_killed_comes_back_with_its_state() {
    let site = Site::up(2);
    site.ssh("controller", "echo durable >/var/lib/hashcluster/mark; sync");
    let key = fs::read(site.run("known_hosts")).unwrap();
    let (qemu, worker) = (site.qemu_pid("controller").unwrap(), site.qemu_pid("worker1"));
    // What a guest has said a moment before it is killed need not have arrived.
    until_lives_are_logged(&site, 1);
    let waiting = site.start(site.hashctl(&["status", "--ready", "1", "--timeout-s", "150"]));
    assert!(waiting.end().status.success());
    site.succeed(site.hashctl(&["submit", "--id", "kept", "--inline", "ports.conf"]));
    kill(qemu, "KILL");
    until("another controller VM", || site.qemu_pid("controller").filter(|&pid| pid != qemu));
    // The worker reconnects by itself: its VM is the same.
    site.wait_ready();
    assert_eq!(site.qemu_pid("worker1"), worker);
    assert_eq!(site.ssh("controller", "cat /var/lib/hashcluster/mark"), "durable\n");
    assert_eq!(fs::read(site.run("known_hosts")).unwrap(), key);
    site.succeed(site.hashctl(&["wait", "kept"]));
    let kept = site.finish(site.hashctl(&["result", "kept"]));
    let sum = site.finish(site.hashctl(&["sum", "ports.conf"]));
    assert!(kept.status.success() && sum.status.success(), "{} {}", kept.stderr, sum.stderr);
    assert_eq!(kept.stdout, sum.stdout, "a durable job outlives the VM that took it");
    the_log_of_a_guest_outlives_it(&site);
    a_disk_that_takes_no_writes_is_told(&site);
    site.succeed(site.script("stop.sh", &[]));
    a_damaged_disk_is_told_with_a_command_that_mends_it(&site);
}

/// The controller's VM has had two lives.
fn the_log_of_a_guest_outlives_it(site: &Site) {
    until_lives_are_logged(site, 2);
    let log = site.run("log/controller.syslog.log");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&log).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

/// Waits until so many lives of the controller are in its log.
fn until_lives_are_logged(site: &Site, lives: usize) {
    until("the log of a life", || {
        let text = fs::read_to_string(site.run("log/controller.syslog.log")).ok()?;
        (text.matches("listens on vsock:any:5001").count() == lives).then_some(())
    });
}

/// Health of the controller and its reason, as `ps` says.
fn controller_health(site: &Site) -> (String, String) {
    let mut command = site.command(&test_kit::bin("hashcluster-vm"));
    command.args(["ps", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&site.finish(command).stdout).unwrap();
    let member = &report["members"][0];
    let word = |key: &str| member[key].as_str().unwrap_or_default().to_owned();
    (word("health"), word("reason"))
}

fn a_disk_that_takes_no_writes_is_told(site: &Site) {
    let words = ["read-only", "scripts/stop.sh", "e2fsck -f -y", "controller.ext4"];
    // The kernel does so after an error, although files are open.
    let end = "mount -o remount,rw /var/lib/hashcluster";
    a_trouble_comes_and_goes(site, "echo u >/proc/sysrq-trigger", &words, end);
    site.succeed(site.hashctl(&["submit", "--id", "again", "--inline", "ports.conf", "--wait"]));
    // All that is not kept for root.
    let fill = "cd /var/lib/hashcluster && fallocate -l $(($(stat -f -c %a .) * 4096)) filler";
    let words =
        ["it is full", "scripts/stop.sh", "truncate -s +1G", "resize2fs", "controller.ext4"];
    a_trouble_comes_and_goes(site, fill, &words, "rm /var/lib/hashcluster/filler");
}

/// The guest's word about its disk is in `ps` as soon as it is on the console.
fn a_trouble_comes_and_goes(site: &Site, begin: &str, words: &[&str], end: &str) {
    site.ssh("controller", begin);
    let reason = until("a controller that is unhealthy", || {
        Some(controller_health(site))
            .filter(|(health, _)| health == "unhealthy")
            .map(|(_, why)| why)
    });
    for word in words {
        assert!(reason.contains(word), "{reason}");
    }
    site.ssh("controller", end);
    until("a controller that is healthy", || {
        (controller_health(site).0 == "healthy").then_some(())
    });
}

fn a_damaged_disk_is_told_with_a_command_that_mends_it(site: &Site) {
    let disk = site.run("state/controller.ext4");
    let file = fs::File::options().read(true).write(true).open(&disk).unwrap();
    let mut superblock = [0; 1024];
    file.read_exact_at(&mut superblock, 1024).unwrap();
    file.write_all_at(&[0; 1024], 1024).unwrap();
    let refused = site.finish(site.run_sh(&[]));
    assert!(!refused.status.success(), "{}", refused.stdout);
    assert!(refused.stderr.contains("holds no ext4 file system"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("booting"), "nothing is booted: {}", refused.stderr);
    // What only the guest finds: a superblock that is good, and descriptors of groups that are not.
    file.write_all_at(&superblock, 1024).unwrap();
    file.write_all_at(&[0xff; 4096], 4096).unwrap();
    let started = Instant::now();
    let failed = site.finish(site.run_sh(&[]));
    assert!(!failed.status.success(), "{}", failed.stdout);
    assert!(started.elapsed().as_secs() < 100, "before the time limit of a start");
    for word in ["controller does not start its service", "cannot be mounted", "e2fsck -f -y"] {
        assert!(failed.stderr.contains(word), "no {word:?} in {}", failed.stderr);
    }
    let (_, rest) = failed.stderr.split_once("`e2fsck").unwrap();
    let mut mend = site.command(Path::new("bash"));
    let line = format!("PATH=$PATH:/usr/sbin:/sbin; e2fsck{}", rest.split_once('`').unwrap().0);
    mend.args(["-c", &line]);
    // 1: errors were corrected.
    assert_eq!(site.finish(mend).status.code(), Some(1));
    site.succeed(site.run_sh(&[]));
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
