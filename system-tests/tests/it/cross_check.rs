//! Cross-checks with real workers, and one that lies.

use crate::support::{output, text};
use ipc_proto::Blob;
use ipc_proto::endpoint::{Endpoint, WORKER_SOCKET};
use ipc_proto::message::{WorkerHealth, WorkerReply, WorkerRequest};
use ipc_socket::Connection;
use std::path::Path;
use std::process::Command;
use std::thread::{self, JoinHandle};
use system_tests::{Cluster, Options, worker_role, write_file, write_tree};

/// Digests of everything below `dir`, as the usual tools print them.
fn oracle(tool: &str, dir: &Path) -> String {
    let script =
        format!("cd \"$1\" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 {tool}");
    text(&output(Command::new("sh").args(["-c", &script, "sh"]).arg(dir)).stdout)
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// A worker that gives a wrong digest for everything, until the controller is gone.
fn liar(cluster: &Cluster) -> JoinHandle<()> {
    let endpoint = Endpoint::Unix(cluster.dir().join(WORKER_SOCKET));
    let mut worker = Connection::open(&endpoint, worker_role("liar")).unwrap();
    worker.sender.send(&WorkerReply::Credit { batches: 4 }, &[]).unwrap();
    cluster.wait_ready(3);
    thread::spawn(move || {
        while let Ok((request, _)) = worker.receiver.receive::<WorkerRequest>() {
            let reply = match request {
                WorkerRequest::Assign { lease, attempt, work, .. } => {
                    let outputs = Blob(vec![0xee; 32 * work.items_len()]);
                    let (credit, busy_us, failures) = (1, 100, vec![]);
                    WorkerReply::Done { lease, attempt, credit, busy_us, outputs, failures }
                }
                WorkerRequest::Revoke { .. }
                | WorkerRequest::Heartbeat
                | WorkerRequest::Shutdown => WorkerReply::Heartbeat,
            };
            if worker.sender.send(&reply, &[]).is_err() {
                return;
            }
        }
    })
}

#[test]
fn a_worker_that_lies_is_found_and_no_digest_of_it_comes_out_where_everything_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let _ = write_tree(dir.path(), 400, 3000);
    let cluster = Cluster::start(Options::default());
    let liar = liar(&cluster);
    let sum = output(
        cluster.hashctl().args(["sum", "-r", "--cross-check", "1/1", "."]).current_dir(dir.path()),
    );
    assert_eq!(sorted(&text(&sum.stdout)), sorted(&oracle("sha256sum", dir.path())));
    assert_eq!((sum.status.code(), text(&sum.stderr)), (Some(0), String::new()));
    let status = cluster.status();
    let worker = status.workers.iter().find(|worker| worker.name == "liar").unwrap();
    assert_eq!(worker.health, WorkerHealth::Quarantined);
    let healthy = status.workers.iter().filter(|worker| worker.health == WorkerHealth::Ready);
    assert_eq!(healthy.count(), 2, "who was lied about is not blamed");
    assert!(status.counters.items_contradicted > 0);
    drop(cluster);
    liar.join().unwrap();
}

#[test]
fn a_cross_check_of_everything_agrees_whatever_the_algorithm_and_the_length() {
    let dir = tempfile::tempdir().unwrap();
    for len in 0..150 {
        write_file(&dir.path().join(len.to_string()), len * len, len);
    }
    write_file(&dir.path().join("large"), (24 << 20) + 77, 5);
    let options = Options { cross_check: Some("1/1"), ..Options::default() };
    let cluster = Cluster::start(options);
    for (algorithm, tool) in [("sha256", "sha256sum"), ("sha512", "sha512sum"), ("blake3", "b3sum")]
    {
        let args = ["sum", "-r", "-a", algorithm, "."];
        let sum = output(cluster.hashctl().args(args).current_dir(dir.path()));
        let want = oracle(tool, dir.path());
        assert_eq!(sorted(&text(&sum.stdout)), sorted(&want), "{}", text(&sum.stderr));
        assert_eq!(sum.status.code(), Some(0));
    }
    let counters = cluster.status().counters;
    assert!(counters.items_checked >= 3 * 151, "{counters:?}");
    assert_eq!((counters.items_contradicted, counters.workers_quarantined), (0, 0));
}
