//! Boots of this build and of another one in turn: each with its own scripts, guest's root and image, from
//! nothing to a cluster that is ready, as `./run.sh` does it.

use super::host::Host;
use super::vms::Vms;
use crate::contest::{Run, interleave, median};
use crate::report::{Report, Target};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use test_kit::bin;

/// Rounds, unless this variable has another number.
const ROUNDS: usize = 5;
const ROUNDS_VARIABLE: &str = "HASHCLUSTER_BENCH_ROUNDS";

/// Numbers of VMs, and the longest time until they are ready, in seconds without KVM.
const CLUSTERS: [(usize, f64); 2] = [(2, 5.5), (3, 7.0)];

/// Resident memory of a worker's VM of 192 MiB, in MiB: its processes' proportional shares.
const WORKER_MIB_MAX: f64 = 220.0;

/// Seconds for the preparation, to the command, to the health of the slowest VM; MiB of worker1.
type Boot = [f64; 4];

/// A build with its tree.
struct Build {
    name: &'static str,
    bin_dir: PathBuf,
    setup: PathBuf,
    cache: PathBuf,
}

pub(super) fn measure(report: &mut Report, scratch: &Path, other_dir: &Path) {
    let cache = cache_dir();
    let own_dir = bin("hashcluster-vm").parent().expect("a program's path").to_owned();
    let builds = [
        Build::new("this build", own_dir, cache.clone()),
        Build::new("the other one", other_dir.to_owned(), other_cache(other_dir, &cache)),
    ];
    let rounds = std::env::var(ROUNDS_VARIABLE).ok().and_then(|text| text.parse().ok());
    for (vms, seconds_max) in CLUSTERS {
        let runs = builds.iter().map(|build| -> Run<'_, Boot> {
            let name = format!("{vms}-{}", build.name.replace(' ', "-"));
            // The first round makes the keys, the disk and the image.
            Box::new(move || build.boot(scratch, &name, vms))
        });
        let mut runs: Vec<Run<'_, Boot>> = runs.collect();
        let boots = interleave(rounds.unwrap_or(ROUNDS), &mut runs);
        let of = |i: usize, what: usize| -> Vec<f64> {
            boots[i].iter().map(|boot: &Boot| boot[what]).collect()
        };
        for (i, build) in builds.iter().enumerate() {
            let [prepared, ready, healthy, mib] = [0, 1, 2, 3].map(|what| median(of(i, what)));
            report.note(&format!(
                "{vms} VMs, {}: ready after {ready:.2} s, {prepared:.2} s of them before \
                 hashcluster-vm; the slowest VM healthy {healthy:.2} s after its QEMU's start; \
                 worker1 takes {mib:.0} MiB",
                build.name
            ));
        }
        let what = format!("{vms} VMs, ready after");
        report.check(&what, median(of(0, 1)), " s", Target::AtMost(seconds_max));
        report.compare(&what, &of(1, 1), &of(0, 1));
        let mib = median(of(0, 3));
        report.check("memory of worker1's VM", mib, " MiB", Target::AtMost(WORKER_MIB_MAX));
    }
}

impl Build {
    /// The build whose programs are in `bin_dir`, below the `target` directory of its tree.
    fn new(name: &'static str, bin_dir: PathBuf, cache: PathBuf) -> Self {
        let is_root = |dir: &&Path| dir.join("qemu/setup.sh").is_file();
        let root = bin_dir.ancestors().find(is_root).unwrap_or_else(|| {
            panic!("no qemu/setup.sh above {}: it is in no tree of ours", bin_dir.display())
        });
        let setup = root.join("qemu/setup.sh");
        Self { name, setup, bin_dir, cache }
    }

    fn boot(&self, scratch: &Path, name: &str, vms: usize) -> Boot {
        let start = Instant::now();
        let mut setup = Command::new(&self.setup);
        // That of its own tree, whatever HASHCLUSTER_IMAGE names.
        setup.args(["--image", "dev"]).arg(&self.bin_dir).env("HASHCLUSTER_CACHE", &self.cache);
        let output = setup.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.expect("a script of the tree");
        assert!(output.status.success(), "{setup:?}: {}", output.status);
        let prepared = start.elapsed().as_secs_f64();
        let options = String::from_utf8(output.stdout).expect("it prints text");
        let host = Host::of(&options, self.bin_dir.join("hashcluster-vm"));
        let cluster = Vms::start(&host, scratch, name, vms, &[]);
        let healthy = cluster.healthy_after.values().copied().fold(0.0, f64::max);
        [prepared, prepared + cluster.ready_after, healthy, worker_mib(cluster.run_dir())]
    }
}

/// The cache of this build's images and of the daemons.
fn cache_dir() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    variable("HASHCLUSTER_CACHE").map_or_else(
        || {
            let home = || PathBuf::from(variable("HOME").expect("a home")).join(".cache");
            variable("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("hashcluster")
        },
        PathBuf::from,
    )
}

/// A cache for the other build, which may make its image in another way: in its target directory, with
/// the same daemons and packages.
fn other_cache(bin_dir: &Path, own: &Path) -> PathBuf {
    let cache = bin_dir.join("bench-cache");
    fs::create_dir_all(cache.join("dev-image")).expect("a place beside the programs");
    for shared in ["tools", "dev-image/packages"] {
        match symlink(own.join(shared), cache.join(shared)) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                panic!("{}: {error}", cache.join(shared).display())
            }
            _ => {}
        }
    }
    cache
}

/// Memory of the processes of worker1's VM in MiB: pages that several share count once.
fn worker_mib(run_dir: &Path) -> f64 {
    let pidfile = fs::read_to_string(run_dir.join("worker1.pid")).expect("QEMU's pidfile");
    let mark = format!("{}/worker1.", run_dir.display());
    let mut kib = 0.0;
    for entry in fs::read_dir("/proc").expect("procfs").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let is_qemu = entry.file_name().to_str() == Some(pidfile.trim());
        if is_qemu || String::from_utf8_lossy(&line).contains(&mark) {
            let text = fs::read_to_string(entry.path().join("smaps_rollup")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
            let size = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<f64>().ok());
            kib += size.unwrap_or_default();
        }
    }
    kib / 1024.0
}
