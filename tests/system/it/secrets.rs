//! Tokens of a running cluster are in their files, and nowhere else.

use std::fs;
use std::io::ErrorKind;
use test_kit::{Cluster, Options, output, text, write_secret};

const TOKENS: [&str; 3] = ["client-7f3a9c", "w0-51d2e8", "w1-b60c44"];

#[test]
fn no_token_is_in_an_argument_an_environment_or_a_log_and_no_process_dumps_core() {
    let secrets = tempfile::tempdir().unwrap();
    let path = |name: &str| secrets.path().join(name);
    let [client, w0, w1] = TOKENS;
    write_secret(&path("client"), client);
    write_secret(&path("workers"), format!("w0 {w0}\nw1 {w1}\n"));
    write_secret(&path("w0"), w0);
    let worker_token: &str = path("w0").display().to_string().leak();
    let cluster = Cluster::start(Options {
        controller_args: vec![
            format!("--client-token-file={}", path("client").display()),
            format!("--worker-tokens={}", path("workers").display()),
        ],
        worker_args: vec!["--token-file", worker_token],
        ..Options::default()
    });
    fs::write(path("file"), "abc").unwrap();
    let ours = output(
        cluster.hashctl().arg("--token-file").arg(path("client")).arg("sum").arg(path("file")),
    );
    assert!(ours.status.success(), "{}", text(&ours.stderr));
    let has_secret = |bytes: &[u8]| TOKENS.iter().any(|token| text(bytes).contains(token));
    for pid in cluster.pids() {
        for part in ["cmdline", "environ", "comm", "limits"] {
            let shown = match fs::read(format!("/proc/{pid}/{part}")) {
                Ok(shown) => String::from_utf8_lossy(&shown).into_owned(),
                // A process in its sandbox shows its environment to root alone.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => continue,
                Err(error) => panic!("{part} of {pid}: {error}"),
            };
            assert!(!has_secret(shown.as_bytes()), "{part} of {pid}: {shown}");
            if part == "limits" {
                let core = shown.lines().find(|line| line.starts_with("Max core file size"));
                let words: Vec<&str> = core.unwrap().split_whitespace().collect();
                assert_eq!(words[4..6], ["0", "0"], "{pid} may dump core");
            }
        }
    }
    let logs = cluster.logs();
    assert!(logs.contains("w0") && !has_secret(logs.as_bytes()), "{logs}");
}

#[test]
fn a_token_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "secret").unwrap();
    for (program, option) in [
        ("hashcluster-controller", "--client-token-file"),
        ("hashcluster-controller", "--worker-tokens"),
        ("hashcluster-worker", "--token-file"),
        ("hashctl", "--token-file"),
    ] {
        let mut command = std::process::Command::new(test_kit::bin(program));
        command.env("HASHCLUSTER_RUNTIME_DIR", dir.path()).arg(option).arg(&token);
        if program == "hashctl" {
            command.arg("status");
        }
        let ours = output(&mut command);
        let said = text(&ours.stderr);
        let want = format!("chmod g-w,o= {}", token.display());
        assert!(!ours.status.success() && said.contains(&want), "{program} {option}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
}
