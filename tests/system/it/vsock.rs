//! A controller that listens on vsock. Connections into VMs have tests of their own.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use test_kit::{DEADLINE, Running, bin, output, text, until, write_secret};

fn controller(dir: &Path, ports: [u32; 2], token_file: &Path) -> Command {
    let mut command = Command::new(bin("hashcluster-controller"));
    command.args(["--client-socket", &format!("vsock:any:{}", ports[0])]);
    command.args(["--worker-socket", &format!("vsock:any:{}", ports[1])]);
    command.arg("--client-token-file").arg(token_file).args(["--ready-fd", "1"]);
    command.current_dir(dir).stdin(Stdio::null());
    command
}

/// Where the kernel has no vsock, that is what has to be said.
#[test]
fn a_controller_listens_on_vsock_or_says_that_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    write_secret(&token, "secret\n");
    let first = 0x10_0000 + 2 * std::process::id();
    let ports = [first, first + 1];
    let mut running = Running::start(&mut controller(dir.path(), ports, &token), DEADLINE);
    until("a word of the controller", || {
        (running.stdout() == "ready\n" || !running.is_running()).then_some(())
    });
    if running.stdout().is_empty() {
        let ended = running.end();
        assert_eq!(ended.status.code(), Some(1));
        let want = format!("vsock:any:{first}: Address family not supp");
        assert!(ended.stderr.contains(&want), "{}", ended.stderr);
        return;
    }
    let second = output(&mut controller(dir.path(), ports, &token));
    assert_eq!(second.status.code(), Some(1));
    let want = format!("vsock:any:{first}: another controller listens here; stop it first");
    assert!(text(&second.stderr).contains(&want), "{}", text(&second.stderr));
    let names = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["token"], "neither sockets nor locks");
}

#[test]
fn a_controller_does_not_start_with_a_token_or_an_endpoint_that_makes_no_sense() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    for (content, want) in [
        (None, "No such file or directory"),
        (Some(String::new()), "no token in it"),
        (Some("\n".to_owned()), "no token in it"),
        (Some("x".repeat(65)), "a token has at most 64 bytes"),
    ] {
        if let Some(content) = &content {
            write_secret(&token, content);
        }
        let ours = output(&mut controller(dir.path(), [5001, 5000], &token));
        let said = text(&ours.stderr);
        assert_eq!((ours.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.contains(&format!("{}: {want}", token.display())), "{said}");
    }
    let listen = ["--client-socket", "vsock-unix:/x:5001"];
    let ours = output(Command::new(bin("hashcluster-controller")).args(listen));
    assert_eq!(ours.status.code(), Some(2));
    assert!(text(&ours.stderr).contains("vsock-unix is only for connecting"));
    let ours = output(
        Command::new(bin("hashcluster-controller"))
            .arg("--runtime-dir")
            .arg(dir.path())
            .env("HASHCLUSTER_IMAGE", "x".repeat(65)),
    );
    assert_eq!(ours.status.code(), Some(1));
    assert!(text(&ours.stderr).contains("HASHCLUSTER_IMAGE is longer than 64 bytes"));
}
