//! Many 64-byte messages, batched, end to end.

use crate::report::{Report, Target, median};
use ipc_proto::message::{ClientReply, ClientRequest, JobId};
use ipc_proto::{Algorithm, Blob};
use std::time::Instant;
use test_kit::{Cluster, Options, client, cpu_time};

const ROUNDS: usize = 9;
const ITEMS: u64 = 400_000;
const ITEM_LEN: u32 = 64;
const JOB: JobId = JobId(0);

pub(crate) fn run(report: &mut Report) {
    let cluster = Cluster::start(Options::default());
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let cpu_before: f64 = cpu(&cluster);
        let start = Instant::now();
        one_job(&cluster);
        if round > 0 {
            rates.push(ITEMS as f64 / start.elapsed().as_secs_f64() / 1e6);
            costs.push((cpu(&cluster) - cpu_before) * 1e6 / ITEMS as f64);
        }
    }
    report.note(&format!("CPU an item, all processes: {:.2} us", median(costs)));
    report.check(
        "64-byte SHA-256 messages a second, end to end",
        median(rates),
        " million",
        Target::AtLeast(1.0),
    );
}

fn cpu(cluster: &Cluster) -> f64 {
    let pids = cluster.pids().into_iter().chain([std::process::id()]);
    pids.map(|pid| cpu_time(pid).as_secs_f64()).sum()
}

fn one_job(cluster: &Cluster) {
    let mut connection = client(&cluster.client_socket());
    let open =
        ClientRequest::Open { job: JOB, algorithm: Algorithm::Sha256, weight: 1, cross_check: 0 };
    connection.sender.send(&open, &[]).expect("the controller lives");
    let mut window = 0;
    let (mut sent, mut resolved) = (0, 0);
    while resolved < ITEMS {
        while sent < ITEMS && sent + window / 4 <= resolved + window && window > 0 {
            let len = (window / 4).min(ITEMS - sent);
            let lens = vec![ITEM_LEN; usize::try_from(len).expect("a window")];
            let data = Blob(vec![7; lens.len() * 64]);
            let request = ClientRequest::Messages { job: JOB, first: sent, lens, data };
            connection.sender.send(&request, &[]).expect("the controller lives");
            sent += len;
        }
        let (reply, _) = connection.receiver.receive().expect("the controller lives");
        if let ClientReply::Opened { window: opened, .. } = reply {
            window = u64::from(opened.items);
            continue;
        }
        let ClientReply::Results { runs, outputs, failures, .. } = reply else {
            panic!("unexpected {reply:?}");
        };
        assert!(failures.is_empty());
        let items: u64 = runs.iter().map(|run| u64::from(run.len)).sum();
        assert_eq!(outputs.len() as u64, 32 * items);
        resolved += items;
    }
}
