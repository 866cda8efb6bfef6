//! Trouble beside the load: workers are killed, stopped and ended, files hang, others flood.

use crate::flood::{ALLOWED, STRANGER};
use crate::{Run, add};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::env;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use test_kit::{Cluster, HungFile, Random};

/// Workers that signals go to; the others end only if a file hangs in them. So no item is lost on as
/// many distinct workers as let it fail.
const VICTIMS: usize = 2;

/// Pause between two kinds of trouble, in milliseconds.
const PAUSE_MS: u64 = 1_500;

/// Time that a client waits for a file that hangs, and longest time that a worker is stopped.
const HUNG_MS: u64 = 1_000;
const STOPPED_MS: u64 = 7_000;

/// The trouble of one run.
pub(crate) struct Trouble<'a> {
    run: &'a Run,
    random: Random,
    floods: Vec<Child>,
    hung: Option<(HungFile, Option<Child>, Instant)>,
    /// A worker that is stopped, and until when.
    stopped: Option<(u32, Instant)>,
}

impl<'a> Trouble<'a> {
    pub(crate) fn new(run: &'a Run, random: Random) -> Self {
        Self { run, random, floods: Vec::new(), hung: None, stopped: None }
    }

    /// Waits a little, then makes trouble of some kind.
    pub(crate) fn make(&mut self, cluster: &mut Cluster) {
        thread::sleep(Duration::from_millis(self.random.below(PAUSE_MS)));
        replace_ended(cluster);
        self.go_on(cluster);
        match self.random.below(8) {
            // One in a file that hangs may not end before the file does.
            0..3 if self.hung.is_none() => {
                cluster.replace_worker(self.random.index(VICTIMS));
                add(&self.run.tally.kills, 1);
            }
            3 => {
                let victim = self.random.index(VICTIMS);
                signal(cluster.workers[victim].id(), Signal::SIGTERM);
                add(&self.run.tally.kills, 1);
            }
            4 if self.stopped.is_none() => {
                let pid = cluster.workers[self.random.index(VICTIMS)].id();
                signal(pid, Signal::SIGSTOP);
                let pause = Duration::from_millis(self.random.below(STOPPED_MS));
                self.stopped = Some((pid, Instant::now() + pause));
                add(&self.run.tally.kills, 1);
            }
            5 if self.hung.is_none() && self.random.chance(30) => {
                let file = HungFile::new();
                let mut sum = cluster.hashctl();
                let sum = sum.arg("sum").arg(file.path());
                let sum = sum.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
                let until = Instant::now() + Duration::from_millis(HUNG_MS);
                self.hung = Some((file, Some(sum.expect("hashctl starts")), until));
                add(&self.run.tally.hung, 1);
            }
            6 if self.floods.len() < 2 => {
                let uid = self.random.one_of(&[ALLOWED, STRANGER]).to_string();
                let program = env::current_exe().expect("a running program has a path");
                let mut flood = Command::new(program);
                let flood = flood.args(["flood", &uid]).arg(cluster.dir()).spawn();
                self.floods.push(flood.expect("the flood starts"));
            }
            7 => self.floods.drain(..).for_each(end),
            _ => {}
        }
    }

    /// Ends what has lasted long enough.
    fn go_on(&mut self, cluster: &Cluster) {
        let now = Instant::now();
        if let Some((pid, _)) = self.stopped.take_if(|(_, until)| *until <= now) {
            resume(pid, cluster);
        }
        if let Some((_, sum, until)) = &mut self.hung
            && *until <= now
        {
            match sum.take() {
                // Then the worker still has a while to be noticed with it.
                Some(sum) => {
                    end(sum);
                    *until = now + Duration::from_millis(10 * HUNG_MS);
                }
                None => self.hung = None,
            }
        }
    }

    /// Ends all of it.
    pub(crate) fn end(mut self, cluster: &mut Cluster) {
        self.floods.drain(..).for_each(end);
        if let Some((pid, _)) = self.stopped.take() {
            resume(pid, cluster);
        }
        if let Some((_, sum, _)) = self.hung.take() {
            sum.into_iter().for_each(end);
        }
        replace_ended(cluster);
    }
}

/// Starts workers again that have ended, as their supervisor would.
pub(crate) fn replace_ended(cluster: &mut Cluster) {
    for number in 0..cluster.workers.len() {
        if cluster.workers[number].try_wait().expect("our own child").is_some() {
            cluster.replace_worker(number);
        }
    }
}

/// Resumes a stopped worker, unless it was replaced meanwhile.
fn resume(pid: u32, cluster: &Cluster) {
    if cluster.pids().contains(&pid) {
        signal(pid, Signal::SIGCONT);
    }
}

fn signal(pid: u32, signal: Signal) {
    // It may have ended by itself.
    let _ = kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), signal);
}

fn end(mut child: Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}
