//! Starts that are repeated, doubled, broken off, or those of an ordinary user.

use crate::site::{Site, copy_image, set_up, set_up_value, until};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// An ordinary user who is in the user database: OpenSSH asks for that.
const NOBODY: u32 = 65_534;

#[test]
fn a_second_start_changes_nothing() {
    let site = Site::up(2);
    let before = [site.qemu_pid("controller"), site.qemu_pid("worker1")];
    let again = site.succeed(site.run_sh(&[]));
    assert!(again.stderr.contains("already runs"), "{}", again.stderr);
    assert!(again.stdout.contains("worker1"), "{}", again.stdout);
    assert_eq!(before, [site.qemu_pid("controller"), site.qemu_pid("worker1")]);
    site.succeed(site.script("start.sh", &["--ports", "ports.conf"]));
    // A command finds the cluster, and leaves it.
    let sum = site.finish(site.run_sh(&["sum", "ports.conf"]));
    assert!(sum.status.success() && sum.stdout.ends_with("  ports.conf\n"), "{}", sum.stderr);
    assert_eq!(before, [site.qemu_pid("controller"), site.qemu_pid("worker1")]);
    for (name, mode) in [("", 0o700), ("state/ssh/id_ed25519", 0o600), ("client.token", 0o600)] {
        let found = fs::metadata(site.run(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
    for _ in 0..2 {
        site.succeed(site.script("stop.sh", &[]));
        site.assert_clean();
    }
}

#[test]
fn nobodys_own_files_are_taken_for_a_clusters() {
    let site = Site::new(2);
    fs::create_dir_all(site.path("run/datasets")).unwrap();
    fs::set_permissions(site.path("run"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(site.path("run/datasets/mine"), "x").unwrap();
    fs::write(site.path("run/httpd.pid"), "1").unwrap();
    fs::create_dir_all(site.path("state/images")).unwrap();
    fs::write(site.path("state/images/mine"), "x").unwrap();
    site.succeed(site.script("stop.sh", &[]));
    let up = site.finish(site.run_sh(&["--state-dir", "state"]));
    assert_eq!(up.status.code(), Some(1), "{}", up.stderr);
    assert!(up.stderr.contains("is not a cluster's file"), "{}", up.stderr);
    for path in ["run/datasets/mine", "run/httpd.pid", "state/images/mine"] {
        assert!(site.path(path).exists(), "{path}");
    }
}

#[test]
fn one_state_belongs_to_one_cluster() {
    let site = Site::new(2);
    fs::create_dir(site.path("state")).unwrap();
    let lock = fs::File::create(site.path("state/state.lock")).unwrap();
    lock.lock().unwrap();
    fs::create_dir(site.path("state/hashcluster-images")).unwrap();
    fs::write(site.path("state/hashcluster-images/theirs"), "x").unwrap();
    let up = site.finish(site.run_sh(&["--state-dir", "state"]));
    assert_eq!(up.status.code(), Some(1), "{}", up.stderr);
    assert!(up.stderr.contains("another cluster keeps its state in"), "{}", up.stderr);
    assert!(site.path("state/hashcluster-images/theirs").exists());
    drop(lock);
    fs::remove_dir_all(site.path("state")).unwrap();
    site.assert_clean();
}

#[test]
fn two_starts_do_not_fight() {
    let site = Site::new(2);
    let mut first = site.start(site.run_sh(&[]));
    first.wait_for("controller: booting");
    let second = site.start(site.run_sh(&[]));
    let sum = site.start(site.run_sh(&["sum", "ports.conf"]));
    let status = site.finish(site.script("vm.sh", &["status"]));
    assert!(first.is_running(), "a look waits for nobody: {}{}", status.stdout, status.stderr);
    assert!(status.stdout.contains("booting"), "{}{}", status.stdout, status.stderr);
    let first = first.end();
    assert!(first.status.success(), "{}", first.stderr);
    // The others have waited for the one start, and made none.
    let (second, sum) = (second.end(), sum.end());
    for ended in [&second, &sum] {
        assert!(ended.status.success(), "{}", ended.stderr);
        assert!(!ended.stderr.contains("booting"), "{}", ended.stderr);
    }
    assert!(second.stderr.contains("already runs"), "{}", second.stderr);
    assert!(sum.stdout.ends_with("  ports.conf\n"), "{}", sum.stdout);
    assert_eq!(site.processes("qemu-system").len(), 2);
}

#[test]
fn ctrl_c_at_any_moment_of_a_start_leaves_nothing() {
    let site = Site::new(2);
    set_up();
    let moments: [&dyn Fn() -> bool; 5] = [
        &|| site.run("supervisor.pid").exists(),
        &|| site.run("controller.vsock").exists(),
        &|| site.run("controller.pid").exists(),
        &|| site.run("worker1.vsock").exists(),
        &|| site.run("worker1.pid").exists(),
    ];
    for (i, has_come) in moments.iter().enumerate() {
        for command in [&["sum", "ports.conf"][..], &[]] {
            let mut run = site.start(site.run_sh(command));
            until("the moment", || (has_come() || !run.is_running()).then_some(()));
            run.interrupt();
            let run = run.end();
            assert!(!run.status.success(), "{i} {command:?}: {}", run.stderr);
            assert!(
                run.stderr.contains("interrupted by SIGINT"),
                "{i} {command:?}: {}",
                run.stderr
            );
            site.assert_clean();
        }
    }
    // Nor is anything in the way of the next one.
    site.succeed(site.run_sh(&["sum", "ports.conf"]));
}

#[test]
fn a_user_who_is_not_root_boots_and_hashes_files_in_place() {
    let site = Site::new(2);
    let uid =
        if nix::unistd::geteuid().is_root() { NOBODY } else { nix::unistd::geteuid().as_raw() };
    // All that it needs, where every user may read it.
    let mut options = Vec::new();
    fs::set_permissions(&site.dir, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(site.path("bin")).unwrap();
    for program in ["hashcluster-vm", "hashctl"] {
        fs::copy(test_kit::bin(program), site.path("bin").join(program)).unwrap();
    }
    for option in set_up() {
        let (name, value) = option.split_once('=').unwrap();
        let copy = site.path("bin").join(name.trim_start_matches('-'));
        match Path::new(value) {
            dir if dir.is_dir() => {
                assert_eq!(dir, set_up_value("--image"));
                copy_image(&copy, &["kernel", "initrd", "image.txt"]);
            }
            program if program.is_file() => drop(fs::copy(program, &copy).unwrap()),
            _ => {
                options.push(option.clone());
                continue;
            }
        }
        options.push(format!("{name}={}", copy.display()));
    }
    fs::create_dir(site.path("home")).unwrap();
    std::os::unix::fs::chown(site.path("home"), Some(uid), Some(uid)).unwrap();
    fs::write(site.path("home/file"), "abc").unwrap();
    fs::write(site.path("home/secret"), "of another").unwrap();
    std::os::unix::fs::chown(site.path("home/file"), Some(uid), Some(uid)).unwrap();
    fs::set_permissions(site.path("home/file"), fs::Permissions::from_mode(0o400)).unwrap();

    let mut command = site.command(Path::new("setpriv"));
    if nix::unistd::geteuid().is_root() {
        let uid = uid.to_string();
        // With another group, as users of a desktop have many.
        command.args(["--reuid", &uid, "--regid", &uid, "--groups", &format!("{uid},27")]);
    }
    command.arg(site.path("bin/hashcluster-vm")).args(["run", "--ports", "ports.conf"]);
    command.args(["--runtime-dir", "home/run"]).args(options).arg("--");
    command.arg(site.path("bin/hashctl")).args(["sum", "-v", "--plane", "dataset", "home/file"]);
    command.env("HOME", site.path("home")).env_remove("HASHCLUSTER_CACHE");
    // That of Debian's ordinary users.
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
    let sum = site.succeed(command);
    let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  home/file\n";
    assert_eq!(sum.stdout, want);
    assert!(sum.stderr.contains("1 file by name in dataset paths"), "{}", sum.stderr);
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(site.path("home/run")).unwrap());
    assert_eq!(owner, uid);
    assert!(site.processes("").is_empty());
}
