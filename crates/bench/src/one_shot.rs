//! One command from nothing to the end: `./run.sh --local`, which starts a cluster, hashes and stops
//! it, against tools that have nothing to start.

use crate::contest::{Run, interleave, measure, median, median_ratio};
use crate::peers;
use crate::report::{Report, Target};
use crate::sides::other_dir;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use test_kit::{bin, write_tree};

const ROUNDS: usize = 15;

/// Numbers of files, with the least ratio of the best peer's wall time over ours, and of openssl's.
const ROWS: [(usize, Option<f64>, f64); 2] = [(20_000, Some(1.8), 1.8), (1000, None, 1.0)];

pub(crate) fn run(report: &mut Report) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    report.note(&peers::versions());
    report.note(&format!("threads that hash: ours {cores}, as run.sh chooses; peers 1"));
    for (files, best_goal, openssl_goal) in ROWS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let names: Vec<OsString> = write_tree(dir.path(), files, 4 << 10)
            .iter()
            .map(|path| path.strip_prefix(dir.path()).expect("below it").as_os_str().to_owned())
            .collect();
        let mut runs: Vec<Run<'_>> = vec![Box::new(|| {
            let mut command = Command::new(root().join("run.sh"));
            // As users have it: the script finds out where the programs are.
            command.env_remove("HASHCLUSTER_BIN_DIR").args(["--local", "sum"]).args(&names);
            measure(command.current_dir(dir.path()), &[])
        })];
        let bin_dir = bin("hashctl").parent().expect("a file is in a directory").to_owned();
        for bin_dir in other_dir().iter().flat_map(|other| [bin_dir.clone(), other.clone()]) {
            let (dir, names) = (dir.path(), &names);
            runs.push(Box::new(move || measure(local_run(&bin_dir, names).current_dir(dir), &[])));
        }
        let own = runs.len();
        for &peer in peers::SHA256 {
            let (dir, names) = (dir.path(), &names);
            runs.push(Box::new(move || peers::run(peer, dir, names)));
        }
        let series = interleave(ROUNDS, &mut runs);
        let (ours, theirs) = series.split_at(own);
        let what = format!("run.sh --local, sha256 of {files} files of 4 KiB");
        for ((program, _), series) in peers::SHA256.iter().zip(theirs) {
            report.note(&format!("{what}: {program} {:.1} ms wall", ms(&series.wall)));
        }
        report.note(&format!("{what}: ours {:.1} ms wall", ms(&ours[0].wall)));
        if let Some(least) = best_goal {
            let (_, wall) = peers::best_over(&ours[0], theirs);
            let row = format!("{what}, wall of the best peer over ours");
            report.check(&row, wall, "x", Target::AtLeast(least));
        }
        let is_openssl = |&(program, _): &peers::Peer| program == "openssl";
        let openssl = peers::SHA256.iter().position(is_openssl).expect("it is a peer");
        let wall = median_ratio(&theirs[openssl].wall, &ours[0].wall);
        let row = format!("{what}, wall of openssl over ours");
        report.check(&row, wall, "x", Target::AtLeast(openssl_goal));
        if let [_, same, other] = ours {
            let what = format!("one shot without run.sh, sha256 of {files} files of 4 KiB");
            report.compare_series(&what, other, same);
        }
    }
}

/// The command that `run.sh --local sum` becomes.
fn local_run(bin_dir: &Path, names: &[OsString]) -> Command {
    let mut command = Command::new(bin_dir.join("hashcluster-vm"));
    command.args(["local", "run", "--"]).arg(bin_dir.join("hashctl")).arg("sum").args(names);
    command
}

fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).expect("this crate is two levels deep").to_owned()
}

fn ms(times: &[f64]) -> f64 {
    median(times.to_vec()) / 1e3
}
