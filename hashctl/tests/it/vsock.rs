//! A controller in a VM, behind the socket of a vsock device: found, reached, and not reached.

use crate::engine::Engine;
use crate::fake::{DESCRIPTORS, Fake};
use crate::oracle::line;
use crate::program::{Outcome, hashctl_alone, run};
use ipc_proto::Algorithm;
use ipc_proto::limits::DIAL_TIMEOUT;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;
use tempfile::{TempDir, tempdir};

/// A runtime directory on the host: the device, how to reach it, and perhaps a token.
fn runtime_dir(device: &Path, token: Option<&str>) -> TempDir {
    let dir = tempdir().unwrap();
    symlink(device, dir.path().join("controller.vsock")).unwrap();
    fs::write(dir.path().join("client.endpoint"), "vsock-unix:controller.vsock:5001\n").unwrap();
    if let Some(token) = token {
        test_kit::write_secret(&dir.path().join("client.token"), token);
    }
    dir
}

fn connect(device: &Path) -> String {
    format!("vsock-unix:{}:5001", device.display())
}

#[test]
fn a_controller_in_a_vm_is_found_with_its_token_and_files_go_inline() {
    let fake = Fake::start(|peer| {
        peer.lead_to(5001);
        // Also a controller that offers descriptors is sent none this way.
        let token = peer.welcome_from("", DESCRIPTORS);
        (token, Engine::default().play(peer))
    });
    let dir = runtime_dir(fake.socket(), Some("secret\n"));
    let file = dir.path().join("f");
    fs::write(&file, "abc").unwrap();
    let ours =
        run(hashctl_alone().arg("--runtime-dir").arg(dir.path()).args(["-v", "sum"]).arg(&file));
    let name = file.to_str().unwrap();
    assert_eq!((ours.code, ours.out()), (0, line(Algorithm::Sha256, b"abc", name)));
    let device = dir.path().join("controller.vsock");
    assert!(ours.stderr.contains(&format!("at {}; files go inline", connect(&device))));
    let (token, report) = fake.join();
    assert_eq!(token, b"secret");
    assert_eq!((report.files, report.items), (0, 1));
}

#[test]
fn the_arguments_name_device_and_token_as_well() {
    let dir = tempdir().unwrap();
    let token_file = dir.path().join("token");
    test_kit::write_secret(&token_file, "other");
    let dir = runtime_dir(Path::new("/nowhere"), Some("secret"));
    for in_dir in [false, true] {
        let fake = Fake::start(|peer| {
            peer.lead_to(5001);
            peer.welcome_from("", DESCRIPTORS)
        });
        let mut command = hashctl_alone();
        if in_dir {
            fs::remove_file(dir.path().join("controller.vsock")).unwrap();
            symlink(fake.socket(), dir.path().join("controller.vsock")).unwrap();
            command.env("HASHCLUSTER_RUNTIME_DIR", dir.path());
        } else {
            command.arg("--connect").arg(connect(fake.socket()));
        }
        let ours = run(command.arg("version").arg("--token-file").arg(&token_file));
        assert!(ours.out().contains("controller 9.8.7 at vsock-unix:"), "{ours:?}");
        assert_eq!(fake.join(), b"other");
    }
}

#[test]
fn a_client_without_a_token_sends_an_empty_one() {
    let fake = Fake::start(|peer| {
        peer.lead_to(5001);
        peer.welcome_from("", DESCRIPTORS)
    });
    let dir = runtime_dir(fake.socket(), None);
    let ours = run(hashctl_alone().arg("--runtime-dir").arg(dir.path()).arg("version"));
    assert_eq!(ours.code, 0);
    assert_eq!(fake.join(), b"");
}

/// `hashctl status` against a device that answers the dial with `bytes`, and then nothing.
fn status_of(bytes: &'static [u8]) -> Outcome {
    let fake = Fake::start(move |peer| peer.babble(bytes));
    run(hashctl_alone().arg("--connect").arg(connect(fake.socket())).arg("status"))
}

#[test]
fn a_device_that_leads_nowhere_is_one_line_and_3_in_time() {
    for (bytes, want) in [
        (&b""[..], "(the VM does not answer in 2 seconds)"),
        (b"HTTP/1.1 400\n", "(not a vsock device: it answered \"HTTP/1.1 400\\n\")"),
        (&[b'x'; 1000], "(not a vsock device: it answered \"xxx"),
    ] {
        let start = Instant::now();
        let ours = status_of(bytes);
        assert!(start.elapsed() < 3 * DIAL_TIMEOUT, "{:?}", start.elapsed());
        assert_eq!((ours.code, ours.stderr.lines().count()), (3, 1), "{}", ours.stderr);
        assert!(ours.stderr.starts_with("hashctl: no controller at vsock-unix:/"));
        assert!(ours.stderr.contains(want), "{}", ours.stderr);
        assert!(
            ours.stderr.ends_with("start its VM with ./run.sh, or name another with --connect\n")
        );
    }
    let fake = Fake::start(|_| ());
    let dir = runtime_dir(fake.socket(), None);
    let ours = run(hashctl_alone().arg("--runtime-dir").arg(dir.path()).arg("status"));
    assert_eq!(ours.code, 3);
    assert!(ours.stderr.contains("(the VM is not up, or no program in it listens on this port)"));
}

#[test]
fn a_cluster_that_is_gone_is_3_and_files_that_make_no_sense_are_named() {
    let dir = runtime_dir(Path::new("/nowhere/x.vsock"), None);
    let status = || run(hashctl_alone().arg("--runtime-dir").arg(dir.path()).arg("status"));
    let ours = status();
    let device = connect(&dir.path().join("controller.vsock"));
    let want = format!("hashctl: no controller at {device} (No such file or directory); ");
    assert_eq!(ours.code, 3);
    assert!(ours.stderr.starts_with(&want), "{}", ours.stderr);

    let endpoint = dir.path().join("client.endpoint");
    fs::write(&endpoint, "vsock-unix:controller.vsock\n").unwrap();
    let ours = status();
    let want =
        format!("hashctl: {}: no port; it stands last, behind a colon\n", endpoint.display());
    assert_eq!((ours.code, ours.stderr), (3, want));

    for (token, want) in [("/nowhere/t", "No such file or directory"), ("/dev/null", "no token")] {
        let ours = run(hashctl_alone().args(["--token-file", token, "status"]));
        assert_eq!(ours.code, 2);
        assert!(ours.stderr.starts_with(&format!("hashctl: {token}: {want}")), "{}", ours.stderr);
    }
}

#[test]
fn a_listen_only_endpoint_is_a_usage_error() {
    for (endpoint, want) in [
        ("vsock:any:5001", "any CID is only for listening"),
        ("vsock:2", "no port"),
        ("vsock-unix:/x:0", "port \"0\" is not a number from 1 to"),
        ("vsock-unix:@x:1", "abstract sockets are not taken"),
        ("tcp:x:1", "unknown kind of endpoint"),
    ] {
        let ours = run(hashctl_alone().args(["--connect", endpoint, "status"]));
        assert_eq!(ours.code, 2, "{endpoint}");
        assert!(ours.stderr.contains(want), "{endpoint}: {}", ours.stderr);
    }
}
