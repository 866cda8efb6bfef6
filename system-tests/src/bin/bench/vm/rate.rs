//! How fast a worker in a VM hashes, against one outside that is run by the same accelerator and
//! has as many threads.
//!
//! In the figure is all of `hashctl sum`: the VM's worker reads the file through its dataset, from
//! the guest's page cache after the first round; the other gets the file's descriptor.

use super::kept::Scratch;
use super::median_ratio;
use super::outside::{Outside, Runner};
use super::vms::{Accel, Vms};
use crate::report::{Report, median};
use ipc_proto::message::{ClientReply, ClientRequest, Role};
use ipc_proto::{Algorithm, endpoint::Endpoint};
use ipc_socket::Connection;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use system_tests::{bin, client_role, write_file};

const ROUNDS: usize = 7;
const FILE: &str = "data";

/// Half of it would not show that a worker's memory is small; twice would not stay in its cache.
const LEN: u64 = 32 << 20;

struct Lane<'a> {
    name: &'a str,
    runtime_dir: &'a Path,
    rates: Vec<f64>,
}

/// Makes the dataset in `dir`.
pub(super) fn write_data(dir: &Path) -> PathBuf {
    let data = dir.join("data");
    std::fs::create_dir(&data).expect("a new directory");
    write_file(&data.join(FILE), LEN, 1);
    data
}

pub(super) fn measure(report: &mut Report, scratch: &Scratch, vms: &Vms<'_>, data: &Path) {
    let native = Outside::with_worker(scratch, "rate-native", Runner::Native);
    let translated = (vms.accel() == Accel::Tcg)
        .then(|| Outside::with_worker(scratch, "rate-translated", Runner::Translated));
    let backends = [
        ("VM", Some(backends(&vms.client_endpoint(), vms.client_role()))),
        ("translated", translated.as_ref().map(|o| backends(&o.client_endpoint(), client_role()))),
        ("native", Some(backends(&native.client_endpoint(), client_role()))),
    ];
    for (name, backends) in backends {
        if let Some(backends) = backends {
            report.note(&format!("kernels, {name}: {backends}"));
        }
    }
    for algorithm in ["sha256", "blake3"] {
        let mut lanes: Vec<Lane<'_>> = [("VM", Some(vms.run_dir()))]
            .into_iter()
            .chain([("translated", translated.as_ref().map(Outside::dir))])
            .chain([("native", Some(native.dir()))])
            .filter_map(|(name, dir)| Some(Lane { name, runtime_dir: dir?, rates: Vec::new() }))
            .collect();
        for round in 0..=ROUNDS {
            let sums: Vec<(f64, Vec<u8>)> =
                lanes.iter().map(|lane| sum(lane.runtime_dir, data, algorithm)).collect();
            for (lane, (rate, output)) in lanes.iter_mut().zip(&sums) {
                assert_eq!(output, &sums[0].1, "{} gives another digest", lane.name);
                if round > 0 {
                    lane.rates.push(*rate);
                }
            }
        }
        let (vm, others) = lanes.split_first().expect("the VM's is the first");
        for other in others {
            report.note(&format!(
                "{algorithm} of {} MiB, 1 thread, VM over {}: {:.2}x ({:.0} MB/s, {:.0} MB/s)",
                LEN >> 20,
                other.name,
                median_ratio(&vm.rates, &other.rates),
                median(vm.rates.clone()),
                median(other.rates.clone()),
            ));
        }
    }
}

/// MB a second, and what `hashctl` prints.
fn sum(runtime_dir: &Path, data: &Path, algorithm: &str) -> (f64, Vec<u8>) {
    let mut command = Command::new(bin("hashctl"));
    command.args(["sum", "-a", algorithm, FILE]).current_dir(data);
    command.env("HASHCLUSTER_RUNTIME_DIR", runtime_dir);
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let seconds = start.elapsed().as_secs_f64();
    let output = output.expect("hashctl is built");
    assert!(output.status.success(), "hashctl sum: {}", output.status);
    (LEN as f64 / seconds / 1e6, output.stdout)
}

/// What the worker has chosen for the algorithms that are measured.
fn backends(endpoint: &Endpoint, role: Role) -> String {
    let mut asker = Connection::open(endpoint, role).expect("the controller lives");
    asker.sender.send(&ClientRequest::Status, &[]).expect("the controller lives");
    let (reply, _) = asker.receiver.receive().expect("the controller lives");
    let ClientReply::Status(status) = reply else { panic!("not a status: {reply:?}") };
    let chosen = status.workers.first().expect("it has a worker").backends.iter();
    let measured = [Algorithm::Sha256, Algorithm::Blake3];
    let chosen = chosen.filter(|backend| measured.contains(&backend.algorithm));
    chosen.map(|b| format!("{:?} {}", b.algorithm, b.backend)).collect::<Vec<_>>().join(", ")
}
