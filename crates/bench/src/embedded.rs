//! `hashctl` hashing in its own process, without a cluster, against the tools that people use.
//!
//! CPU time is that of one hashing thread, wall time that of one per processor.

use crate::contest::{Contest, Goal, Run, Time, Way, measure, median, us};
use crate::files::Files;
use crate::peers::{self, Peer};
use crate::report::{Report, Target};
use nix::sys::resource::{Resource, setrlimit};
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::tempdir;
use test_kit::{bin, run_timed};

const ROUNDS: usize = 15;
const TREE_ROUNDS: usize = 5;
const ONE_ROUNDS: usize = 101;

/// Limit of the stack of what is measured, in bytes.
const STACK_LEN: u64 = 32 << 20;

/// A tree that every machine has.
const TREE: &str = "/usr";

/// Two processes of the GNU tool, 64 files each time.
const XARGS: Peer = ("sha256sum by xargs -P2", &[]);

const fn cpu(least: f64) -> Goal {
    (Time::Cpu, None, least)
}

const fn wall(least: f64) -> Goal {
    (Time::Wall, None, least)
}

pub(crate) fn run(report: &mut Report) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // A quarter of it is for the names on a command line: more than 2 MiB for the most of them.
    setrlimit(Resource::RLIMIT_STACK, STACK_LEN, STACK_LEN).expect("a limit for the peers");
    report.note(&peers::versions());
    report.note(&format!("threads that hash: ours 1 and, for wall time, {cores}; peers 1"));
    let small = Files::write(20_000, 4 << 10, "4 KiB");
    compare(report, &small, "sha256", peers::SHA256, &[cpu(2.0)], &[wall(3.0)]);
    compare(report, &small, "sha512", peers::SHA512, &[cpu(2.2)], &[]);
    compare(report, &small, "blake3", peers::BLAKE3, &[cpu(1.8)], &[]);
    against_xargs(report, &small);
    drop(small);
    let tiny = Files::write(100_000, 200, "200 B");
    compare(report, &tiny, "sha256", peers::SHA256, &[cpu(2.0)], &[]);
    compare(report, &tiny, "blake3", peers::BLAKE3, &[cpu(2.0)], &[]);
    drop(tiny);
    let middle = Files::write(2000, 256 << 10, "256 KiB");
    compare(report, &middle, "sha256", peers::SHA256, &[cpu(2.0)], &[]);
    drop(middle);
    let large = Files::write(1, 2 << 30, "2 GiB");
    let all: &[Peer] = &[("b3sum", &[])];
    compare(report, &large, "blake3", all, &[], &[wall(1.2)]);
    drop(large);
    tree(report);
    few(report);
}

/// `hashctl` with so many threads.
fn hashctl(threads: Option<&str>, algorithm: &str) -> Command {
    let mut command = Command::new(bin("hashctl"));
    command.args(["--embedded", "sum", "-a", algorithm]);
    if let Some(threads) = threads {
        command.args(["--threads", threads]);
    }
    command
}

fn compare(
    report: &mut Report,
    files: &Files,
    algorithm: &str,
    peers: &[Peer],
    one: &[Goal],
    all: &[Goal],
) {
    let (dir, names) = (files.dir(), &files.names);
    let way = |name: &str, threads: Option<&'static str>, goals: &[Goal]| {
        let run: Run<'_> = Box::new(move || {
            measure(hashctl(threads, algorithm).args(names).current_dir(dir), &[])
        });
        Way { name: name.to_owned(), goals: goals.to_vec(), runs: vec![run] }
    };
    let ways = vec![way("by one thread", Some("1"), one), way("by all", None, all)];
    let rounds = if names.len() == 1 { TREE_ROUNDS } else { ROUNDS };
    let what = files.title(algorithm);
    Contest { what, rounds, dir, names, ways, peers }.measure(report);
}

/// The way in which people use two processors today.
fn against_xargs(report: &mut Report, files: &Files) {
    let list = tempdir().expect("a temporary directory");
    let path = list.path().join("names");
    fs::write(&path, joined(&files.names)).expect("written");
    let mut ratios = Vec::new();
    for round in 0..=ROUNDS {
        let theirs = xargs(&path, files.dir(), &["-P2", "-n64"], &["sha256sum"]).wall;
        let ours =
            measure(hashctl(None, "sha256").args(&files.names).current_dir(files.dir()), &[]);
        // The first round is not counted.
        if round > 0 {
            ratios.push(theirs / ours.wall);
        }
    }
    let row = format!("{}, wall of {} over ours by all", files.title("sha256"), XARGS.0);
    report.check(&row, median(ratios), "x", Target::AtLeast(1.0));
}

fn joined(names: &[OsString]) -> Vec<u8> {
    names.iter().flat_map(|name| [name.as_encoded_bytes(), b"\0"].concat()).collect()
}

fn xargs(list: &Path, dir: &Path, options: &[&str], program: &[&str]) -> crate::contest::Cost {
    let mut command = Command::new("xargs");
    command.arg("-0").args(options).args(program).current_dir(dir);
    let list = File::open(list).expect("just written");
    let spent = run_timed(command.stdin(list).stdout(Stdio::null()).stderr(Stdio::null()));
    crate::contest::Cost { cpu: us(spent.cpu), wall: us(spent.wall) }
}

/// A real tree, which `find` lists for the peers.
fn tree(report: &mut Report) {
    let list = tempdir().expect("a temporary directory");
    let path = list.path().join("names");
    let mut find = Command::new("find");
    let output = find.args([TREE, "-xdev", "-type", "f", "-readable", "-print0"]).output();
    let names = output.expect("find runs").stdout;
    let files = names.iter().filter(|&&byte| byte == 0).count();
    fs::write(&path, names).expect("written");
    let tree = |threads| {
        let mut command = hashctl(threads, "sha256");
        command.args(["-r", TREE]).stderr(Stdio::null()).stdin(Stdio::null());
        let spent = run_timed(command.stdout(Stdio::null()));
        crate::contest::Cost { cpu: us(spent.cpu), wall: us(spent.wall) }
    };
    let (mut cpu, mut wall) = (Vec::new(), Vec::new());
    for round in 0..=TREE_ROUNDS {
        let theirs = [&["openssl", "dgst", "-sha256"][..], &["sha256sum"]]
            .map(|program| xargs(&path, Path::new("/"), &[], program));
        let (one, all) = (tree(Some("1")), tree(None));
        let least = |time: fn(&crate::contest::Cost) -> f64| {
            theirs.iter().map(time).fold(f64::INFINITY, f64::min)
        };
        if round > 0 {
            cpu.push(least(|cost| cost.cpu) / one.cpu);
            wall.push(least(|cost| cost.wall) / all.wall);
        }
    }
    let what = format!("sha256 of {files} files below {TREE}");
    let row = |time: &str| format!("{what}, {time} of the best of openssl and sha256sum over ours");
    report.check(&row("CPU"), median(cpu), "x", Target::AtLeast(1.6));
    report.check(&row("wall"), median(wall), "x", Target::AtLeast(3.0));
}

/// Few files: what starting costs.
fn few(report: &mut Report) {
    for count in [1, 10, 100, 1000] {
        let files = Files::write(count, 4 << 10, "4 KiB");
        let (mut differences, mut ratios) = (Vec::new(), Vec::new());
        for round in 0..=ONE_ROUNDS {
            let theirs = peers::run(("sha256sum", &[]), files.dir(), &files.names);
            let mut command = hashctl(None, "sha256");
            let ours = measure(command.args(&files.names).current_dir(files.dir()), &[]);
            if round > 0 {
                differences.push((ours.wall - theirs.wall) / 1000.0);
                ratios.push(theirs.wall / ours.wall);
            }
        }
        let what = files.title("sha256");
        if count == 1 {
            let row = format!("{what}, our wall less that of sha256sum");
            report.check(&row, median(differences), " ms", Target::AtMost(1.0));
        } else {
            let row = format!("{what}, wall of sha256sum over ours");
            report.check(&row, median(ratios), "x", Target::AtLeast(1.0));
        }
    }
}
