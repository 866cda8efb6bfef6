//! Files of 1 GiB, page cache warm: BLAKE3 of all cores' workers against b3sum with as many threads, and
//! SHA-256 of two files on one core.

use crate::contest::{Run, Series, interleave, measure_on, median, median_ratio};
use crate::peers::{self, Peer};
use crate::report::{Report, Target};
use crate::sides::Sides;
use std::path::Path;
use tempfile::TempDir;
use test_kit::{Cluster, Options, write_file};

const LEN: u64 = 1 << 30;
const BLAKE3_ROUNDS: usize = 9;
const SHA256_ROUNDS: usize = 7;
const NAMES: [&str; 2] = ["one", "two"];

/// b3sum with as many threads as the cluster of [`run`] has workers.
const B3SUM: Peer = ("b3sum", &["--num-threads", "2"]);

fn files() -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (name, seed) in NAMES.into_iter().zip(1..) {
        write_file(&dir.path().join(name), LEN, seed);
    }
    dir
}

/// BLAKE3 of one file and of two, by two workers with one thread each.
pub(crate) fn run(report: &mut Report) {
    let dir = files();
    report.note(&peers::versions());
    report.note("threads that hash: ours 2, peers 2");
    let clusters = Sides::start(&Options { workers: 2, threads: 1, ..Options::default() });
    for names in [&NAMES[..], &NAMES[..1]] {
        let mut runs: Vec<Run<'_>> =
            clusters.iter().map(|cluster| ours(cluster, "blake3", dir.path(), names)).collect();
        runs.push(Box::new(|| peers::run(B3SUM, dir.path(), names)));
        let series = interleave(BLAKE3_ROUNDS, &mut runs);
        let (ours, theirs) = (&series[0], &series[series.len() - 1]);
        let what = format!("{} file(s) of 1 GiB, BLAKE3, 2 threads", names.len());
        report.note(&format!("{what}: ours {}, b3sum {}", ms(ours), ms(theirs)));
        let cpu = median_ratio(&theirs.cpu, &ours.cpu);
        report.note(&format!("{what}: CPU of b3sum over ours {cpu:.2}x"));
        let wall = median_ratio(&theirs.wall, &ours.wall);
        report.check(&format!("{what}, wall of b3sum over ours"), wall, "x", Target::AtLeast(0.95));
        if series.len() > 2 {
            report.compare_series(&what, &series[1], ours);
        }
    }
}

/// SHA-256 of two files by one worker with one thread.
pub(crate) fn run_pair(report: &mut Report) {
    let files = files();
    let dir = files.path();
    report.note("threads that hash: ours 1, peers 1");
    let clusters = Sides::start(&Options { workers: 1, threads: 1, ..Options::default() });
    let mut runs: Vec<Run<'_>> =
        clusters.iter().map(|cluster| ours(cluster, "sha256", dir, &NAMES)).collect();
    runs.push(ours(&clusters.ours, "sha256", dir, &NAMES[..1]));
    let own = runs.len();
    for &peer in peers::SHA256 {
        runs.push(Box::new(move || peers::run(peer, dir, &NAMES)));
    }
    let series = interleave(SHA256_ROUNDS, &mut runs);
    let (ours, theirs) = series.split_at(own);
    let what = "2 files of 1 GiB, SHA-256, on one core";
    let twice = 2.0 * median(ours[own - 1].cpu.clone()) / 1e3;
    report.note(&format!("{what}: ours {}, twice one alone {twice:.0} ms CPU", ms(&ours[0])));
    for ((program, _), series) in peers::SHA256.iter().zip(theirs) {
        report.note(&format!("{what}: {program} {}", ms(series)));
    }
    let (cpu, _) = peers::best_over(&ours[0], theirs);
    let row = format!("{what}, CPU of the best peer over ours");
    report.check(&row, cpu, "x", Target::AtLeast(1.8));
    if own > 2 {
        report.compare_series(what, &ours[1], &ours[0]);
    }
}

fn ours<'a>(
    cluster: &'a Cluster,
    algorithm: &'a str,
    dir: &'a Path,
    names: &'a [&'a str],
) -> Run<'a> {
    Box::new(move || {
        let mut command = cluster.hashctl();
        measure_on(cluster, command.args(["sum", "-a", algorithm]).args(names).current_dir(dir))
    })
}

fn ms(series: &Series) -> String {
    let ms = |times: &[f64]| median(times.to_vec()) / 1e3;
    format!("{:.0} ms CPU, {:.0} ms wall", ms(&series.cpu), ms(&series.wall))
}
