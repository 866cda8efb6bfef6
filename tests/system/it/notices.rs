//! Notices of runs from a real controller, in its sandbox, to a webhook and a command.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use test_kit::{Cluster, Options, output, text, until};

fn start(dir: &Path) -> Cluster {
    let data = dir.join("data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("file"), "content").unwrap();
    fs::create_dir_all(dir.join("commands")).unwrap();
    fs::create_dir_all(dir.join("secrets")).unwrap();
    let option = |name, path| format!("--{name}={}", dir.join(path).display());
    Cluster::start(Options {
        datasets: vec![("d", data)],
        controller_args: vec![
            option("state-dir", "state"),
            option("notify-commands", "commands"),
            option("notify-secrets", "secrets"),
        ],
        ..Options::default()
    })
}

fn schedule(cluster: &Cluster, args: &[&str]) {
    let output = output(cluster.hashctl().arg("schedule").args(args));
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
}

/// A request that the next connection brings, which gets this status.
fn request(listener: &UnixListener, status: &str) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = Vec::new();
    // The body is the end of the request.
    while !request.ends_with(b"}") {
        let mut piece = [0; 4096];
        let len = stream.read(&mut piece).unwrap();
        assert!(len > 0, "{}", text(&request));
        request.extend_from_slice(&piece[..len]);
    }
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").unwrap();
    text(&request)
}

#[test]
fn the_end_of_a_run_reaches_a_webhook_and_a_command_also_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = start(dir.path());
    let command = dir.path().join("commands/keep");
    fs::write(&command, "#!/bin/sh\ncat >\"$1.new\" && mv \"$1.new\" \"$1\"\n").unwrap();
    fs::set_permissions(&command, Permissions::from_mode(0o755)).unwrap();
    let secret = dir.path().join("secrets/ops");
    test_kit::write_secret(&secret, "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz");
    let (hook, kept) = (dir.path().join("hook"), dir.path().join("kept"));
    let file = dir.path().join("s.yaml");
    let url = format!("unix:{}:/runs", hook.display());
    let kept_text = kept.display();
    let notify = format!(
        "[{{on: success, command: [keep, {kept_text}]}}, {{on: success, url: '{url}', secret: ops}}]"
    );
    fs::write(&file, format!("dataset: d\nschedules: {{s: {{kind: sum, notify: {notify}}}}}\n"))
        .unwrap();
    schedule(&cluster, &["apply", file.to_str().unwrap()]);
    schedule(&cluster, &["run", "--wait", "s"]);
    let said: serde_json::Value =
        until("the command", || serde_json::from_slice(&fs::read(&kept).ok()?).ok());
    assert_eq!((&said["schedule"], &said["outcome"]), (&"s".into(), &"succeeded".into()));
    // Nobody listened: the controller is killed before the next attempt, and the next one has the notice still.
    until("a failed attempt", || cluster.logs().contains("the next attempt is in").then_some(()));
    cluster.controller.kill().unwrap();
    cluster.controller.wait().unwrap();
    let listener = UnixListener::bind(&hook).unwrap();
    cluster.restart_controller();
    let first = request(&listener, "503 Service Unavailable");
    let second = request(&listener, "200 OK");
    for request in [&first, &second] {
        assert!(request.starts_with("POST /runs HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nwebhook-id: s/1/1/1\r\n"), "{request}");
        assert!(request.contains("\r\nwebhook-signature: v1,"), "{request}");
        assert!(request.contains("\"occasions\":[\"success\"]"), "{request}");
    }
    until("its delivery", || cluster.logs().contains("notice s/1/1/1 is delivered").then_some(()));
}

#[test]
fn the_process_that_delivers_ends_with_a_controller_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = start(dir.path());
    let children = |pid: u32| {
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default()
    };
    let notifier = children(cluster.controller.id()).trim().to_owned();
    assert!(!notifier.is_empty());
    cluster.controller.kill().unwrap();
    cluster.controller.wait().unwrap();
    until("its end", || (!Path::new("/proc").join(&notifier).exists()).then_some(()));
    cluster.restart_controller();
}
