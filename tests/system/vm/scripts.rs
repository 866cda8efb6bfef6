//! The scripts as users and their cron jobs call them.

use crate::site::{Site, copy_image, seal_image, until, worker_initrd};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use test_kit::{Ended, repository, write_tree};

#[test]
fn a_cluster_that_does_not_run_is_said_to() {
    let site = Site::new(2);
    for (name, args) in [
        ("status.sh", &[][..]),
        ("restart.sh", &["worker1"]),
        ("start.sh", &["worker1"]),
        ("ssh.sh", &["worker1", "true"]),
        ("logs.sh", &["worker1"]),
        ("monitor.sh", &[]),
    ] {
        let ended = site.finish(site.script(name, args));
        assert_eq!(ended.status.code(), Some(3), "{name}: {}", ended.stderr);
        assert!(!ended.stderr.is_empty(), "{name}");
    }
    // It is stopped: that is what was asked for.
    assert!(site.finish(site.script("stop.sh", &[])).status.success());
}

#[track_caller]
fn run(site: &Site, name: &str, args: &[&str]) -> String {
    site.succeed(site.script(name, args)).stdout
}

#[test]
fn vms_are_stopped_started_and_restarted_by_name() {
    let site = Site::up(3);
    for _ in 0..2 {
        run(&site, "stop.sh", &["worker2"]);
        assert_eq!(site.qemu_pid("worker2"), None);
        let status = site.finish(site.script("status.sh", &[]));
        assert_eq!(status.status.code(), Some(1), "a worker is down: {}", status.stderr);
        assert!(status.stdout.contains("stopped"), "{}", status.stdout);
    }
    site.succeed(site.hashctl(&["sum", "ports.conf"]));
    for _ in 0..2 {
        run(&site, "start.sh", &["worker2"]);
        until("worker2", || site.worker("worker2", "items"));
    }
    let before = site.qemu_pid("worker2");
    let controller = site.qemu_pid("controller");
    run(&site, "restart.sh", &["worker2", "controller"]);
    assert_ne!(site.qemu_pid("worker2"), before);
    assert_ne!(site.qemu_pid("controller"), controller);
    let unknown = site.finish(site.script("restart.sh", &["worker9"]));
    assert_eq!(unknown.status.code(), Some(2), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("no VM is called worker9"), "{}", unknown.stderr);

    let status = run(&site, "status.sh", &[]);
    for word in ["controller", "worker1", "worker2", "healthy", "sha256:", "hashcluster-worker run"]
    {
        assert!(status.contains(word), "no {word:?} in {status}");
    }
    let log = run(&site, "logs.sh", &["worker1"]);
    assert!(log.contains("connected to the controller"), "{log}");
    site.succeed(site.script("doctor.sh", &[]));
    let supervisor = run(&site, "logs.sh", &["supervisor", "--since", "1h"]);
    assert!(supervisor.contains("Z hashcluster-vm: stop worker2: asked by pid "), "{supervisor}");
    let report = run(&site, "vm.sh", &["ps", "--json"]);
    assert!(report.contains("\"reason\":\"restart, asked by pid "), "{report}");
    arguments_stay_apart_and_files_are_copied(&site);

    let mut monitor = site.start(site.script("monitor.sh", &["1"]));
    until("a table", || {
        monitor.is_running().then(|| monitor.stdout()).filter(|t| t.contains("WORKER"))
    });
    monitor.interrupt();
    assert!(monitor.end().status.success());
}

fn arguments_stay_apart_and_files_are_copied(site: &Site) {
    let odd = "a b;'\n\"$HOME\"";
    let shown = run(site, "vm.sh", &["exec", "worker1", "--", "printf", "%s|", odd, "", "-n"]);
    assert_eq!(shown, format!("{odd}||-n|"));
    let failed = site.finish(site.script("vm.sh", &["exec", "worker1", "sh", "-c", "exit 42"]));
    assert_eq!(failed.status.code(), Some(42), "{}", failed.stderr);
    let tree = site.run("a tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("x"), "content").unwrap();
    let tree = tree.to_str().unwrap();
    run(site, "vm.sh", &["cp", tree, "worker1:/tmp/b"]);
    let back = site.run("back");
    run(site, "vm.sh", &["cp", "worker1:/tmp/b", back.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(back.join("x")).unwrap(), "content");
    for dir in [tree, back.to_str().unwrap()] {
        fs::remove_dir_all(dir).unwrap();
    }
}

/// The doctor has failed checks, each with a remedy below it, that say each of `words`.
#[track_caller]
fn assert_fails(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stdout);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let failed: Vec<_> = lines.windows(2).filter(|pair| pair[0].starts_with("FAIL")).collect();
    assert!(failed.iter().all(|pair| pair[1].starts_with("      -> ")), "{}", ended.stdout);
    for word in words {
        let has_word = failed.iter().any(|pair| pair.concat().contains(word));
        assert!(has_word, "no {word:?} in {}", ended.stdout);
    }
}

#[test]
fn the_doctor_names_what_is_wrong_and_what_to_do() {
    let site = Site::new(2);
    // Nobody is to mend what the doctor is to find.
    site.write("cluster.toml", "[defaults]\nhealth = { retries = 100 }\n");
    site.succeed(site.run_sh(&[]));
    site.succeed(site.script("doctor.sh", &[]));
    site.ssh("worker1", "sv stop /run/service/hashcluster-worker");
    let ill = site.finish(site.script("doctor.sh", &["--quiet"]));
    assert_fails(&ill, &["worker1: service hashcluster-worker is down"]);
    // That it is not connected follows.
    assert_eq!(ill.stdout.matches("FAIL").count(), 1, "{}", ill.stdout);
    let remedy = ill.stdout.lines().find(|line| line.contains("sv start")).unwrap();
    let remedy = remedy.trim_start_matches([' ', '-', '>']);
    let mut shell = site.command(Path::new("sh"));
    shell.args(["-c", remedy]);
    site.succeed(shell);
    until("a worker that is back", || site.worker("worker1", "items"));
    let key = site.run("state/ssh/id_ed25519");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let ill = site.finish(site.script("doctor.sh", &[]));
    assert_fails(&ill, &["id_ed25519 has mode 0644", "chmod go="]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    site.succeed(site.script("doctor.sh", &[]));
    run(&site, "stop.sh", &[]);
    site.succeed(site.script("doctor.sh", &["--ports", "ports.conf"]));
}

#[test]
fn a_stop_ends_what_is_under_way() {
    let site = Site::up(2);
    let before = site.qemu_pid("worker1");
    let mut restart = site.start(site.script("restart.sh", &["worker1"]));
    until("another worker1", || site.qemu_pid("worker1").filter(|&pid| Some(pid) != before));
    assert!(restart.is_running(), "it waits for worker1 to be healthy");
    site.succeed(site.script("stop.sh", &[]));
    assert!(!restart.end().status.success(), "it was not done");
    site.assert_clean();
}

#[test]
fn two_builds_of_the_image_are_equal() {
    let site = Site::new(2);
    let bin_dir = test_kit::bin("hashctl").parent().unwrap().to_owned();
    for (name, umask) in [("first", "022"), ("second", "077")] {
        let mut command = site.command(Path::new("bash"));
        let build = format!("umask {umask}; exec \"$0\" {name} \"$1\"");
        command.args(["-c", &build]).arg(repository("qemu/dev-image.sh")).arg(&bin_dir);
        site.succeed(command);
    }
    for name in ["first", "second"] {
        let mut script = site.command(Path::new("python3"));
        script.arg(repository("xtask/release/image_sbom.py")).arg(repository("")).arg(name);
        script.arg(&bin_dir).args(["x86_64-unknown-linux-gnu", "hashcluster-controller"]);
        script.arg("hashcluster-worker");
        site.succeed(script);
    }
    let sbom = fs::read_to_string(site.path("first/image.cdx.json")).unwrap();
    for part in ["pkg:deb/debian/busybox-static@", "pkg:deb/debian/linux-image-", "pkg:cargo/sha2@"]
    {
        assert!(sbom.contains(part), "{part}");
    }
    for name in ["first", "second"] {
        let mut disk = site.command(&repository("qemu/disk-image.sh"));
        disk.args(["1", name]).arg(&bin_dir).arg(format!("{name}/disk"));
        site.succeed(disk);
    }
    let files = [
        "kernel",
        "vmlinux",
        "initrd.controller",
        "initrd.worker",
        "image.txt",
        "image.cdx.json",
        "disk/root.erofs",
        "disk/boot.efi",
        "disk/disk.img",
    ];
    for file in files {
        let read = |name| fs::read(site.path(name).join(file)).unwrap();
        assert!(read("first") == read("second"), "{file}");
    }
    // The controller has a database.
    for (role, packed_max, unpacked_max) in
        [("controller", 7_000_000, 14_000_000), ("worker", 6_000_000, 12_000_000)]
    {
        let initrd = format!("first/initrd.{role}");
        assert!(fs::metadata(site.path(&initrd)).unwrap().len() <= packed_max);
        let mut command = site.command(Path::new("bash"));
        command.args(["-c", "lz4 -dc \"$0\" | wc -c", &initrd]);
        let unpacked: u64 = site.finish(command).stdout.trim().parse().unwrap();
        assert!(unpacked <= unpacked_max, "{unpacked}");
    }
}

/// A copy of the image with another digest; `change` makes it another one.
fn image(site: &Site, name: &str, change: impl FnOnce(&Path)) -> (PathBuf, String) {
    let dir = site.path(name);
    copy_image(&dir, &["kernel", "initrd"]);
    // The kernel takes zeros after an archive for padding.
    let initrd = fs::File::options().append(true).open(worker_initrd(&dir)).unwrap();
    initrd.set_len(initrd.metadata().unwrap().len() + 512).unwrap();
    change(&dir);
    let digest = seal_image(&dir);
    (dir, digest)
}

/// The lines of a deployment, during which no lease is lost and no file fails.
fn deploy_while_a_client_hashes(site: &Site, image: &Path) -> String {
    let image = image.to_str().unwrap();
    let client = site.start(site.hash_again_and_again("data", "deployed"));
    let lost = || {
        let metric = |name: &str| site.metric(0, name);
        let names =
            ["requeues_total{reason=\"expired\"}", "requeues_total{reason=\"disconnected\"}"];
        let [expired, disconnected] = names.map(metric);
        Some((metric("leases_total")?, expired? + disconnected? + metric("retries_total")?))
    };
    let before = until("leases", || lost().filter(|(leases, _)| *leases > 0.0));
    let mut deploy = site.start(site.script("deploy.sh", &["--image", image]));
    until("progress", || deploy.stdout().contains("worker1: restarts with ").then_some(()));
    // The answer comes step by step, and nobody else begins one meanwhile.
    assert!(deploy.is_running());
    let second = site.finish(site.script("vm.sh", &["deploy", image]));
    assert_eq!(second.status.code(), Some(1), "{}", second.stderr);
    let says = "another change of this cluster is under way (deploy); try again";
    assert!(second.stderr.contains(says), "{}", second.stderr);
    // The counters of the controller end with it, which restarts last.
    let mut after = before;
    while deploy.is_running() && !deploy.stdout().contains("controller: runs ") {
        after = lost().filter(|(leases, _)| *leases >= after.0).unwrap_or(after);
        thread::sleep(Duration::from_millis(50));
    }
    assert!(after.0 > before.0, "it hashed on: {before:?} {after:?}");
    assert_eq!(after.1, 0.0, "leases that were lost");
    let log = run(site, "logs.sh", &["controller"]);
    assert!(log.contains("worker worker1 is drained, and may be stopped"), "{log}");
    let deploy = deploy.end();
    assert!(deploy.status.success(), "{}", deploy.stderr);
    fs::write(site.path("deployed"), "").unwrap();
    let client = client.end();
    assert!(client.status.success(), "{}", client.stderr);
    deploy.stdout
}

#[test]
fn a_deployment_reaches_every_vm_or_none() {
    let site = Site::new(2);
    // By name: a stream does not outlast its controller.
    write_tree(&site.path("data"), 40, 1 << 20);
    site.succeed(site.run_sh(&["--dataset", "files=data"]));
    let images = || {
        let mut shown: Vec<String> = ["controller", "worker1"]
            .map(|name| {
                site.ssh(name, "cat /sys/firmware/qemu_fw_cfg/by_name/opt/hashcluster/image/raw")
            })
            .into();
        shown.dedup();
        shown
    };
    let first = images();
    assert_eq!(first.len(), 1);
    let (good, digest) = image(&site, "good", |_| {});
    let deploy = deploy_while_a_client_hashes(&site, &good);
    let (restarts, runs) = (format!("restarts with {digest}"), format!("runs {digest}"));
    let want = ["worker1", "controller"];
    let want = want.map(|name| format!("{name}: {restarts}\n{name}: {runs}\n"));
    assert_eq!(deploy, want.concat());
    assert_eq!(images(), [digest.as_str()]);
    let initrd = fs::read(worker_initrd(&good)).unwrap();
    fs::write(worker_initrd(&good), &initrd[1..]).unwrap();
    let deploy = site.finish(site.script("deploy.sh", &["--image", good.to_str().unwrap()]));
    assert_eq!(deploy.status.code(), Some(1), "{}", deploy.stderr);
    assert!(deploy.stderr.contains("damaged or of another image"), "{}", deploy.stderr);
    fs::write(worker_initrd(&good), &initrd).unwrap();
    site.succeed(site.hashctl(&["sum", "ports.conf"]));

    let (broken, _) = image(&site, "broken", |dir| fs::write(dir.join("kernel"), "none").unwrap());
    let deploy = site.finish(site.script("deploy.sh", &["--image", broken.to_str().unwrap()]));
    assert_eq!(deploy.status.code(), Some(1), "{}", deploy.stderr);
    assert!(deploy.stdout.contains(&format!("worker1: back to {digest}")), "{}", deploy.stdout);
    assert_eq!(images(), [digest.as_str()]);

    // The last one to take it does not: the first returns as well.
    let (half, _) = image(&site, "half", |dir| {
        if dir.join("initrd.controller").exists() {
            fs::write(dir.join("initrd.controller"), "none").unwrap();
        } else {
            fs::write(dir.join("kernel"), "none").unwrap();
        }
    });
    let deploy = site.finish(site.script("deploy.sh", &["--image", half.to_str().unwrap()]));
    assert_eq!(deploy.status.code(), Some(1), "{}", deploy.stderr);
    assert!(deploy.stderr.contains("did not take the new image"), "{}", deploy.stderr);
    assert!(deploy.stdout.ends_with(&format!("worker1: back to {digest}\n")), "{}", deploy.stdout);
    assert_eq!(images(), [digest.as_str()]);
    site.succeed(site.hashctl(&["sum", "ports.conf"]));
    let again = run(&site, "deploy.sh", &["--image", good.to_str().unwrap()]);
    assert_eq!(again.matches("already").count(), 2, "{again}");
}
