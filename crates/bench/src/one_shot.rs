//! One command from nothing to the end: `./run.sh --local`, which starts a cluster, hashes and stops
//! it, against tools that have nothing to start.

use crate::contest::{Contest, Goal, Run, Time, Way, measure};
use crate::files::Files;
use crate::peers;
use crate::report::Report;
use crate::sides::other_dir;
use std::path::PathBuf;
use std::process::Command;
use test_kit::{bin, output, repository, text};

const ROUNDS: usize = 15;

/// Numbers of files, with the least ratios of peers' wall time over ours.
const ROWS: [(usize, &[Goal]); 2] = [
    (20_000, &[(Time::Wall, None, 1.8), (Time::Wall, Some("openssl"), 1.8)]),
    (1000, &[(Time::Wall, Some("openssl"), 1.0)]),
];

pub(crate) fn run(report: &mut Report) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    report.note(&peers::versions());
    report.note(&format!("threads that hash: ours {cores}, as run.sh chooses; peers 1"));
    for (files, goals) in ROWS {
        let files = Files::write(files, 4 << 10, "4 KiB");
        let (dir, names) = (files.dir(), &files.names);
        let script: Run<'_> = Box::new(|| {
            let mut command = Command::new(repository("run.sh"));
            // As users have it: the script finds out where the programs are.
            command.env_remove("HASHCLUSTER_BIN_DIR").args(["--local", "sum"]).args(names);
            measure(command.current_dir(dir), &[])
        });
        let name = "by run.sh --local".to_owned();
        let mut ways = vec![Way { name, goals: goals.to_vec(), runs: vec![script] }];
        if let Some(other) = other_dir() {
            let own = bin("hashctl").parent().expect("a file is in a directory").to_owned();
            // The command that the script runs; an earlier one waited for the workers.
            let run = |bin_dir: PathBuf| -> Run<'_> {
                let vm = bin_dir.join("hashcluster-vm");
                let help = output(Command::new(&vm).args(["local", "run", "--help"]));
                let early = text(&help.stdout).contains("--early").then_some("--early");
                Box::new(move || {
                    let mut command = Command::new(&vm);
                    command.args(["local", "run"]).args(early).arg("--");
                    command.arg(bin_dir.join("hashctl")).arg("sum").args(names);
                    measure(command.current_dir(dir), &[])
                })
            };
            let name = "by one shot without run.sh".to_owned();
            ways.push(Way { name, goals: Vec::new(), runs: vec![run(own), run(other)] });
        }
        let what = files.title("sha256");
        Contest { what, rounds: ROUNDS, dir, names, ways, peers: peers::SHA256 }.measure(report);
    }
}
