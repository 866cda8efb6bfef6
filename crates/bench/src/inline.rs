//! Many 64-byte messages, batched, end to end.

use crate::contest::{interleave, median};
use crate::report::{Report, Target};
use std::time::Instant;
use test_kit::{Cluster, MessageJob, Options, cpu_time};

const ROUNDS: usize = 9;
const ITEMS: u64 = 400_000;
const ITEM_LEN: u32 = 64;

pub(crate) fn run(report: &mut Report) {
    let cluster = Cluster::start(Options::default());
    let mut rounds = interleave(
        ROUNDS,
        &mut [Box::new(|| {
            let (cpu_before, start) = (cpu(&cluster), Instant::now());
            one_job(&cluster);
            let rate = ITEMS as f64 / start.elapsed().as_secs_f64() / 1e6;
            (rate, (cpu(&cluster) - cpu_before) * 1e6 / ITEMS as f64)
        })],
    );
    let (rates, costs) = rounds.remove(0).into_iter().unzip();
    report.note(&format!("CPU an item, all processes: {:.2} us", median(costs)));
    let what = "64-byte SHA-256 messages a second, end to end";
    report.check(what, median(rates), " million", Target::AtLeast(1.0));
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
