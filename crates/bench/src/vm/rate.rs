//! Speed of a worker in a VM, against one outside that is run by the same accelerator and
//! has as many threads.
//!
//! In the figure is all of `hashctl sum`. The VM's worker reads the file through a dataset: a
//! snapshot, which after the first round is in the guest's page cache, and a live one, whose bytes
//! come from the host each time. Outside the worker gets the file's descriptor.

use super::outside;
use super::vms::Vms;
use crate::contest::{Run, interleave, median, median_ratio};
use crate::report::Report;
use client::{Address, Client};
use ipc_proto::Algorithm;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use test_kit::{bin, write_file};

const ROUNDS: usize = 7;
const FILE: &str = "data";

/// As large as leaves room in the guest's page cache.
const LEN: u64 = 32 << 20;

/// One file, in two datasets.
#[derive(Debug)]
pub(super) struct Data {
    live: PathBuf,
    snapshot: PathBuf,
    /// The file that describes the datasets to `hashcluster-vm`.
    pub(super) config: String,
}

impl Data {
    /// Writes it below `dir`.
    pub(super) fn write(dir: &Path) -> Self {
        let [live, snapshot] = ["live", "snapshot"].map(|name| dir.join(name));
        fs::create_dir(&live).expect("a new directory");
        fs::create_dir(&snapshot).expect("a new directory");
        write_file(&live.join(FILE), LEN, 1);
        fs::hard_link(live.join(FILE), snapshot.join(FILE)).expect("a new name");
        let text = format!(
            "[datasets.live]\ndir = {live:?}\n[datasets.snapshot]\ndir = {snapshot:?}\n\
             snapshot = true\n"
        );
        let config = dir.join("datasets.toml");
        fs::write(&config, text).expect("room for a file");
        let config = config.to_str().expect("a temporary path is text").to_owned();
        Self { live, snapshot, config }
    }
}

pub(super) fn measure(report: &mut Report, scratch: &Path, vms: &Vms, data: &Data) {
    let outside = outside(scratch, vms, 1, "hashcluster-worker");
    report.note(&format!("kernels, VM: {}", backends(&vms.clients())));
    for (name, cluster) in &outside {
        report.note(&format!("kernels, {name}: {}", backends(&cluster.address())));
    }
    for algorithm in ["sha256", "blake3"] {
        let run = |run_dir: &'_ Path, dir: &'_ Path| -> Run<'_, _> {
            let (run_dir, dir) = (run_dir.to_owned(), dir.to_owned());
            Box::new(move || sum(&run_dir, &dir, algorithm))
        };
        let mut names = vec!["VM, snapshot", "VM, live dataset"];
        let mut runs = vec![run(vms.run_dir(), &data.snapshot), run(vms.run_dir(), &data.live)];
        for (name, cluster) in &outside {
            names.push(name);
            runs.push(run(cluster.dir(), &data.live));
        }
        let (rates, printed): (Vec<Vec<f64>>, Vec<Vec<_>>) =
            interleave(ROUNDS, &mut runs).into_iter().map(|sums| sums.into_iter().unzip()).unzip();
        let want = &printed[0][0];
        assert!(printed.iter().flatten().all(|line| line == want), "{printed:?}");
        for (lane, other) in [0, 1].into_iter().flat_map(|i| (2..names.len()).map(move |j| (i, j)))
        {
            report.note(&format!(
                "{algorithm} of {} MiB, 1 thread, {} over {}: {:.2}x ({:.0} MB/s, {:.0} MB/s)",
                LEN >> 20,
                names[lane],
                names[other],
                median_ratio(&rates[lane], &rates[other]),
                median(rates[lane].clone()),
                median(rates[other].clone()),
            ));
        }
    }
}

/// MB a second, and what `hashctl` prints.
fn sum(runtime_dir: &Path, dir: &Path, algorithm: &str) -> (f64, Vec<u8>) {
    let mut command = Command::new(bin("hashctl"));
    command.args(["sum", "-a", algorithm, FILE]).current_dir(dir);
    command.env("HASHCLUSTER_RUNTIME_DIR", runtime_dir);
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let seconds = start.elapsed().as_secs_f64();
    let output = output.expect("hashctl is built");
    assert!(output.status.success(), "hashctl sum: {}", output.status);
    (LEN as f64 / seconds / 1e6, output.stdout)
}

/// Backends that the worker chose for the measured algorithms.
fn backends(address: &Address) -> String {
    let mut client = Client::connect(address).expect("the controller lives");
    let status = client.status().expect("the controller lives");
    let chosen = status.workers.first().expect("it has a worker").backends.iter();
    let measured = [Algorithm::Sha256, Algorithm::Blake3];
    let chosen = chosen.filter(|backend| measured.contains(&backend.algorithm));
    chosen.map(|b| format!("{:?} {}", b.algorithm, b.backend)).collect::<Vec<_>>().join(", ")
}
