//! Many 64-byte messages, batched, end to end.

use crate::report::{Report, Target, median};
use std::time::Instant;
use test_kit::{Cluster, MessageJob, Options, cpu_time};

const ROUNDS: usize = 9;
const ITEMS: u64 = 400_000;
const ITEM_LEN: u32 = 64;

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
    let mut job = MessageJob::on(cluster);
    let frame = job.window(ITEM_LEN) / 4;
    let (mut sent, mut resolved) = (0, 0);
    while resolved < ITEMS {
        let count = frame.min(ITEMS - sent);
        if count > 0 && job.fits(count, ITEM_LEN) {
            job.send(count, ITEM_LEN);
            sent += count;
        } else {
            resolved = job.receive();
        }
    }
}
