//! Obstacles to a start: each is reported, and nothing is left behind.

use crate::site::{Site, copy_image, files_below, seal_image, until, worker_initrd};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use test_kit::repository;

/// A start that fails with `code` and says each of `words`.
#[track_caller]
fn assert_refused(site: &Site, command: std::process::Command, code: i32, words: &[&str]) {
    let ended = site.finish(command);
    assert_eq!(ended.status.code(), Some(code), "{}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "no {word:?} in: {}", ended.stderr);
    }
    assert_eq!(ended.stdout, "");
    site.assert_clean();
}

#[test]
fn a_port_that_is_taken() {
    let site = Site::new(2);
    let taken = TcpListener::bind(("127.0.0.1", site.ports[2])).unwrap();
    let ended = site.finish(site.run_sh(&[]));
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    let want = format!("ports.conf:2: port {} is in use", site.ports[2]);
    assert!(ended.stderr.contains(&want), "{}", ended.stderr);
    assert!(!ended.stderr.contains("booting"), "{}", ended.stderr);
    drop(taken);
    site.assert_clean();
}

#[test]
fn qemu_that_is_missing() {
    let site = Site::new(2);
    let words = ["/nowhere/qemu", "qemu/host-packages.sh"];
    assert_refused(&site, site.vm("up", &["--qemu", "/nowhere/qemu"]), 3, &words);

    // Its script says how an ordinary user gets it.
    let path = site.path("path");
    fs::create_dir(&path).unwrap();
    for dir in ["/usr/bin", "/bin"] {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let name = entry.file_name();
            if name != "qemu-system-x86_64" {
                // The second directory may be the first one.
                let _ = symlink(entry.path(), path.join(name));
            }
        }
    }
    fs::set_permissions(&site.dir, fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(repository("qemu/host-packages.sh"), site.path("packages.sh")).unwrap();
    let mut command = site.command(Path::new("setpriv"));
    if nix::unistd::geteuid().is_root() {
        command.args(["--reuid", "54321", "--regid", "54321", "--clear-groups"]);
    }
    command.arg("bash").arg(site.path("packages.sh")).env("PATH", path);
    let install = "sudo apt-get update && sudo apt-get install -y --no-install-recommends qemu-sys";
    assert_refused(&site, command, 3, &["missing: qemu-system-x86_64", install]);
}

#[test]
fn a_kernel_that_is_none() {
    let site = Site::new(2);
    copy_image(&site.path("image"), &["initrd", "image.txt"]);
    site.write("image/kernel", "no kernel at all");
    // Of another image, or damaged: nothing is booted.
    let words = ["image.txt names, sha256:", "damaged or of another image"];
    assert_refused(&site, site.run_sh(&["--image", "image"]), 3, &words);
    seal_image(&site.path("image"));
    assert_refused(&site, site.run_sh(&["--image", "image"]), 3, &["controller", "kernel"]);
    fs::remove_file(site.path("image/kernel")).unwrap();
    let words = ["cannot read", "image/kernel"];
    assert_refused(&site, site.run_sh(&["--image", "image"]), 3, &words);
}

#[test]
fn a_kernel_without_its_root_is_shown_by_its_console() {
    let site = Site::new(2);
    copy_image(&site.path("image"), &["kernel"]);
    site.write("image/initrd", "no initrd at all");
    seal_image(&site.path("image"));
    let words = ["controller", "Kernel panic", "Unable to mount root"];
    assert_refused(&site, site.run_sh(&["--image", "image"]), 3, &words);
}

#[test]
fn more_memory_than_there_is() {
    let site = Site::new(16);
    site.write("cluster.toml", "[defaults]\nmemory = \"64G\"\n");
    let words = ["MiB of memory", "are available", "memory in cluster.toml"];
    assert_refused(&site, site.run_sh(&[]), 3, &words);
}

#[test]
fn a_vm_that_never_becomes_healthy() {
    let site = Site::new(3);
    site.write(
        "cluster.toml",
        "[start]\nstartup_timeout_s = 45\n[vm.worker2]\nhealth = { command = \"false\", interval_s = 1 }\n",
    );
    let words = ["worker2 was not healthy within 45 s: its check", "is up after"];
    assert_refused(&site, site.run_sh(&[]), 3, &words);
}

/// A copy of the image in which the script `text` stands in place of the worker.
fn image_with_worker(site: &Site, text: &str) {
    copy_image(&site.path("image"), &["kernel", "initrd", "image.txt"]);
    fs::create_dir_all(site.path("more/usr/bin")).unwrap();
    site.write("more/usr/bin/hashcluster-worker", text);
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(site.path("more/usr/bin/hashcluster-worker"), mode).unwrap();
    // The kernel unpacks one archive after the other, each at a multiple of four, after zeros that end
    // a compressed one; a later file replaces an earlier one.
    let mut command = site.command(Path::new("bash"));
    let append = "truncate -s +4 \"$0\" && truncate -s %4 \"$0\" && cd more && echo usr/bin/hashcluster-worker | cpio -o -H newc >>\"$0\"";
    command.args(["-c", append]).arg(worker_initrd(&site.path("image")));
    site.succeed(command);
    seal_image(&site.path("image"));
}

#[test]
fn a_service_that_keeps_failing_is_not_waited_for() {
    let site = Site::new(2);
    image_with_worker(&site, "#!/bin/sh\necho no luck today >&2\nexit 7\n");
    let words = ["worker1 has a service that keeps failing", "with status 7", "no luck today"];
    assert_refused(&site, site.run_sh(&["--image", "image"]), 3, &words);
}

/// A QEMU whose KVM never comes back; everything else is the real one's.
fn write_hanging_qemu(site: &Site) {
    site.write(
        "qemu",
        "#!/bin/sh\ncase \"$*\" in *'-accel kvm'*) exec sleep 600 ;; esac\nexec qemu-system-x86_64 \"$@\"\n",
    );
    fs::set_permissions(site.path("qemu"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_accelerator_that_opens_and_hangs() {
    let site = Site::new(2);
    write_hanging_qemu(&site);
    let qemu = site.path("qemu");
    let mut command = site.vm("run", &["--accel", "auto", "--qemu", qemu.to_str().unwrap(), "--"]);
    command.arg(test_kit::bin("hashctl")).arg("version");
    command.env("HASHCLUSTER_CACHE", site.path("cache"));
    let ended = site.succeed(command);
    // Where there is no KVM at all, the probe has nothing to find out, and says so.
    let has_kvm = fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    let found = if has_kvm { "opens but runs no guest" } else { "no access to /dev/kvm" };
    assert!(ended.stderr.contains(found), "{}", ended.stderr);
    assert!(ended.stdout.contains("image sha256:"), "{}", ended.stdout);
    site.assert_clean();
}

#[test]
fn ctrl_c_while_an_accelerator_hangs_leaves_nothing() {
    let site = Site::new(2);
    write_hanging_qemu(&site);
    let qemu = site.path("qemu");
    let mut command = site.vm("up", &["--accel", "auto", "--qemu", qemu.to_str().unwrap()]);
    command.env("HASHCLUSTER_CACHE", site.path("cache"));
    let run = site.start(command);
    // Without KVM nothing is probed, and any other moment is as good.
    let has_kvm = fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    let word = if has_kvm { "sleep" } else { "hashcluster-vm" };
    until("the moment", || (!site.processes(word).is_empty()).then_some(()));
    run.interrupt();
    let ended = run.end();
    assert_eq!(ended.status.code(), Some(4), "{}", ended.stderr);
    site.assert_clean();
}

#[test]
fn a_disk_that_is_full() {
    let site = Site::new(2);
    fs::create_dir(site.path("small")).unwrap();
    let start = site.vm("up", &[]);
    let mut words = vec![start.get_program().to_owned()];
    words.extend(start.get_args().map(std::ffi::OsStr::to_owned));
    let mut command = site.command(Path::new("unshare"));
    let mount = "mount -t tmpfs -o size=2m,mode=0700 small small && exec \"$@\"";
    command.args(["--mount", "--map-root-user", "bash", "-c", mount, "bash"]).args(words);
    command.args(["--runtime-dir", "small/run"]);
    // The option came twice: the last one would be refused.
    let args: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
    let first = args.iter().position(|arg| arg == "--runtime-dir").unwrap();
    let mut command = site.command(Path::new("unshare"));
    command.args(&args[..first]).args(&args[first + 2..]);
    assert_refused(&site, command, 1, &["No space left on device", "small/run"]);
    assert!(files_below(&site.path("small")).is_empty());
}
