//! A cluster without VMs that is changed while it runs, and a client that hashes all the while.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use test_kit::{DEADLINE, Running, bin, output, repository, text, until, write_tree};

fn start(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(repository("run.sh"));
    command.args(["--runtime-dir", "run", "--config", "cluster.toml", "--local"]).args(args);
    command.current_dir(dir);
    command
}

/// Leases so far, and those that were lost.
fn leases(dir: &Path) -> (f64, f64) {
    let mut stream = UnixStream::connect(dir.join("run/controller.http")).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let value = |name: &str| -> f64 {
        let name = format!("hashcluster_controller_{name} ");
        page.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
    };
    let lost = [
        "requeues_total{reason=\"expired\"}",
        "requeues_total{reason=\"disconnected\"}",
        "retries_total",
    ];
    (value("leases_total"), lost.into_iter().map(value).sum())
}

#[test]
fn a_local_cluster_takes_other_settings_while_a_client_hashes() {
    let dir = tempfile::tempdir().unwrap();
    let write = |text: &str| fs::write(dir.path().join("cluster.toml"), text).unwrap();
    write("[defaults]\nreading = 'auto'\n");
    write_tree(&dir.path().join("data"), 200, 1 << 20);
    let mut up = Running::start(&mut start(dir.path(), &["2"]), DEADLINE);
    up.wait_for("are ready in");

    let line = "want=$(find data -type f -exec sha256sum {} + | sort -k 2); n=0; while [ ! -e done ]; do n=$((n + 1)); \
                got=$(\"$0\" sum -r data | sort -k 2) || exit 1; [ \"$got\" = \"$want\" ] || exit 2; \
                done; echo $n";
    let mut client = Command::new("bash");
    client.args(["-c", line]).arg(bin("hashctl")).current_dir(&dir);
    client.env("HASHCLUSTER_RUNTIME_DIR", dir.path().join("run"));
    let client = Running::start(&mut client, DEADLINE);
    let before = until("leases", || Some(leases(dir.path())).filter(|(leases, _)| *leases > 0.0));

    write("[defaults]\nreading = 'plain'\n");
    let changed = output(&mut start(dir.path(), &["3"]));
    let want = "~ w1: --reading plain; restarts\n~ w2: --reading plain; restarts\n+ w3\n\
                w3: healthy\nw1: healthy\nw2: healthy\n";
    assert!(
        text(&changed.stdout).starts_with(want),
        "{}{}",
        text(&changed.stdout),
        text(&changed.stderr)
    );
    let mut status = Command::new(bin("hashctl"));
    status.args(["status", "--json"]).env("HASHCLUSTER_RUNTIME_DIR", dir.path().join("run"));
    let status: serde_json::Value = serde_json::from_slice(&output(&mut status).stdout).unwrap();
    let workers = status["workers"].as_array().unwrap();
    assert!(workers.iter().all(|worker| worker["reading"] == "plain"), "{status}");
    assert_eq!(workers.len(), 3, "{status}");
    assert!(
        workers.iter().all(|worker| worker["health"] == "ready"),
        "none stays drained: {status}"
    );
    let after =
        until("more leases", || Some(leases(dir.path())).filter(|(leases, _)| *leases > before.0));
    assert_eq!(after.1, 0.0, "leases that were lost");

    fs::write(dir.path().join("done"), "").unwrap();
    let client = client.end();
    assert!(client.status.success(), "{}{}", client.status, client.stderr);
    let mut stop = Command::new(repository("scripts/stop.sh"));
    assert!(output(stop.args(["--runtime-dir", "run"]).current_dir(&dir)).status.success());
    assert!(up.end().status.success());
}

#[test]
fn a_local_cluster_has_datasets_for_jobs_that_outlive_their_client() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["one", "two"] {
        fs::create_dir(path(name)).unwrap();
        fs::write(path(name).join("file"), name).unwrap();
    }
    fs::write(path("cluster.toml"), "[datasets.one]\ndir = 'one'\n").unwrap();
    let mut up = Running::start(&mut start(dir.path(), &["2"]), DEADLINE);
    up.wait_for("are ready in");
    let hashctl = |args: &[&str]| {
        let mut command = Command::new(bin("hashctl"));
        command.args(args).current_dir(&dir).env("HASHCLUSTER_RUNTIME_DIR", path("run"));
        output(&mut command)
    };
    let submit = |name: &str| {
        let submitted = hashctl(&["submit", "--wait", "--json", name]);
        assert!(submitted.status.success(), "{submitted:?}");
        let job: serde_json::Value = serde_json::from_slice(&submitted.stdout).unwrap();
        text(&hashctl(&["result", job["job"].as_str().unwrap()]).stdout)
    };
    // SHA-256 of "one" and "two".
    let one = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed  one/file\n";
    let two = "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3  two/file\n";
    assert_eq!(submit("one"), one);

    let changed = output(&mut start(dir.path(), &["2", "--dataset", "two=two"]));
    let lines = text(&changed.stdout);
    let mount = format!("two={}", path("two").canonicalize().unwrap().display());
    for want in [
        format!("~ w1: --dataset {mount}; restarts\n"),
        "~ controller: --dataset two; restarts last, clients lose their connections\n".to_owned(),
    ] {
        assert!(lines.contains(&want), "{lines}{}", text(&changed.stderr));
    }
    assert_eq!((submit("one"), submit("two")), (one.to_owned(), two.to_owned()));

    fs::write(path("cluster.toml"), "").unwrap();
    let changed = text(&output(&mut start(dir.path(), &["2"])).stdout);
    let gone = format!("no --dataset one={}", path("one").canonicalize().unwrap().display());
    assert!(changed.contains(&gone), "{changed}");
    let refused = hashctl(&["submit", "one"]);
    assert!(text(&refused.stderr).contains("in no dataset"), "{refused:?}");
    assert_eq!(submit("two"), two);

    let mut own = start(dir.path(), &["2", "--dataset", "all=."]);
    let refused = text(&output(&mut own).stderr);
    assert!(
        refused.contains("dataset all: ") && refused.contains("the run directory"),
        "{refused}"
    );
    let mut stop = Command::new(repository("scripts/stop.sh"));
    assert!(output(stop.args(["--runtime-dir", "run"]).current_dir(&dir)).status.success());
    assert!(up.end().status.success());
}
