//! The same image with different kernels, in turns: time from the command to a cluster that is ready, memory
//! in use, size.

use super::free_ports;
use crate::tools::{Failure, output, root, run, target_dir};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 3;

/// Bytes that the VMs hash.
const FILE_LEN: usize = 1 << 20;

/// The figures of one round.
#[derive(Clone, Copy, Debug)]
struct Round {
    ready: Duration,
    /// In KiB: what a worker's kernel, services and files leave less free.
    used_kib: u64,
}

/// Boots a controller and a worker from each image in turn, and prints a row for each.
pub(super) fn kernels(bin_dir: &Path, images: &[(&str, &Path)]) -> Result<(), Failure> {
    let dir = target_dir()?.join(format!("compare-kernels-{}", std::process::id()));
    let result = rounds(bin_dir, images, &dir);
    // A round that failed leaves a cluster, whose files these are.
    let _ = stop(&dir);
    let _ = fs::remove_dir_all(&dir);
    let rounds = result?;
    println!("kernel        size      ready   memory in use   ({ROUNDS} rounds in turns, medians)");
    for ((name, image), mut rounds) in images.iter().zip(rounds) {
        let path = image.join("kernel");
        let len = fs::metadata(&path).map_err(wrong(&path))?.len();
        rounds.sort_unstable_by_key(|round| round.ready);
        let ready = rounds[ROUNDS / 2].ready.as_secs_f64();
        rounds.sort_unstable_by_key(|round| round.used_kib);
        let used = rounds[ROUNDS / 2].used_kib / 1024;
        println!("{name:12} {:5} KiB {ready:6.2} s {used:11} MiB", len / 1024);
    }
    Ok(())
}

fn rounds(
    bin_dir: &Path,
    images: &[(&str, &Path)],
    dir: &Path,
) -> Result<Vec<Vec<Round>>, Failure> {
    fs::create_dir_all(dir).map_err(wrong(dir))?;
    let file = dir.join("file");
    fs::write(&file, vec![7; FILE_LEN]).map_err(wrong(&file))?;
    let mut found = vec![Vec::new(); images.len()];
    for round in 1..=ROUNDS {
        for (rounds, (name, image)) in found.iter_mut().zip(images) {
            println!("round {round}: {name} kernel");
            rounds.push(one_round(bin_dir, image, dir, &file)?);
        }
    }
    Ok(found)
}

fn one_round(bin_dir: &Path, image: &Path, dir: &Path, file: &Path) -> Result<Round, Failure> {
    let ports = dir.join("ports.conf");
    let text: String = free_ports(2)?.iter().map(|port| format!("{port}\n")).collect();
    fs::write(&ports, text).map_err(wrong(&ports))?;
    let start = Instant::now();
    let mut up = Command::new(root().join("run.sh"));
    up.arg("--ports").arg(&ports).arg("--runtime-dir").arg(dir.join("run"));
    run(up.arg("--image").arg(image).current_dir(dir).stdout(Stdio::null()))?;
    let ready = start.elapsed();
    let sum = |program: &Path, args: &[&str]| {
        let mut command = of_cluster(program, dir);
        output(command.args(args).arg(file))
    };
    let digest = sum(&bin_dir.join("hashctl"), &["sum"])?;
    if digest != sum(Path::new("sha256sum"), &[])? {
        return Err(Failure::Wrong(format!("{}: a wrong digest: {digest}", image.display())));
    }
    let mut ssh = of_cluster(&root().join("scripts/ssh.sh"), dir);
    let meminfo = output(ssh.args(["worker1", "cat /proc/meminfo"]))?;
    let kib = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        number.ok_or_else(|| Failure::Wrong(format!("no number {key} in /proc/meminfo")))
    };
    // Memory that the kernel itself takes at its start is in no total: it is a loss of what a VM is given.
    let used_kib = (MEMORY_MIB * 1024).saturating_sub(kib("MemAvailable:")?);
    stop(dir)?;
    Ok(Round { ready, used_kib })
}

/// Memory of a VM by default.
const MEMORY_MIB: u64 = 192;

fn stop(dir: &Path) -> Result<(), Failure> {
    let mut stop = of_cluster(&root().join("scripts/stop.sh"), dir);
    run(stop.stdout(Stdio::null()))
}

/// A command that finds the cluster.
fn of_cluster(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("HASHCLUSTER_RUNTIME_DIR", dir.join("run")).current_dir(dir);
    command
}

fn wrong(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    let path = PathBuf::from(path);
    move |error| Failure::Wrong(format!("{}: {error}", path.display()))
}
