//! One empty task there and back, against a raw ping-pong and a hand-over through Redis.
//!
//! A ping-pong of two processes takes three times as long when they run on two cores as when the
//! scheduler happens to put both on one, and it changes its mind within a run. So the client is
//! kept on the first core and the raw ping-pong's other end on the second; the daemons are placed
//! by the scheduler. The ping-pong on one core is shown beside it, without a target.

use crate::contest::{interleave, median, median_ratio, quantile};
use crate::report::{Report, Target};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use test_kit::{Cluster, MessageJob, Options, until};

const ROUNDS: usize = 40;
const BLOCK: usize = 250;

pub(crate) fn run(report: &mut Report) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let cluster = Cluster::start(Options::default());
    let mut ours = MessageJob::on(&cluster);
    let mut redis = Redis::start(dir.path());
    let (mut raw, mut raw_here) = (Raw::start(1), Raw::start(0));
    let everywhere = sched_getaffinity(OWN).expect("our own affinity");
    let mut here = CpuSet::new();
    here.set(0).expect("the number of a core");
    sched_setaffinity(OWN, &here).expect("the first core");
    let p50s = interleave(
        ROUNDS,
        &mut [
            Box::new(|| quantile(BLOCK, 50, || raw.ping())),
            Box::new(|| quantile(BLOCK, 50, || ours.round_trip())),
            Box::new(|| quantile(BLOCK, 50, || redis.ping())),
            Box::new(|| quantile(BLOCK, 50, || raw_here.ping())),
        ],
    );
    sched_setaffinity(OWN, &everywhere).expect("our own affinity");
    let middle = |i: usize| median(p50s[i].clone());
    report.note(&format!(
        "p50 of {ROUNDS} interleaved blocks of {BLOCK}: raw on two cores {:.1} us, raw on one core \
         {:.1} us, one task {:.1} us, redis {:.1} us",
        middle(0),
        middle(3),
        middle(1),
        middle(2)
    ));
    for (rival, what, most) in [(0, "a raw ping-pong", 2.0), (2, "a Redis hand-over", 1.0)] {
        let ratio = median_ratio(&p50s[1], &p50s[rival]);
        let what = format!("one empty task over {what}, p50");
        report.check(&what, ratio, "x", Target::AtMost(most));
    }
}

const OWN: Pid = Pid::from_raw(0);

struct Raw {
    stream: UnixStream,
    child: Child,
}

impl Raw {
    /// Starts the other end on `core`: cat(1), which writes what it reads.
    fn start(core: usize) -> Self {
        let (stream, theirs) = UnixStream::pair().expect("two sockets");
        let stdin = OwnedFd::from(theirs.try_clone().expect("room for a descriptor"));
        let mut cat = Command::new("taskset");
        cat.args(["--cpu-list", &core.to_string(), "cat"])
            .stdin(stdin)
            .stdout(OwnedFd::from(theirs));
        Self { stream, child: cat.spawn().expect("util-linux is installed") }
    }

    fn ping(&mut self) {
        let mut bytes = [0; 64];
        self.stream.write_all(&bytes).expect("the child lives");
        self.stream.read_exact(&mut bytes).expect("the child lives");
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // It ends by itself when the stream does.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Redis {
    server: Child,
    worker: Child,
    stream: BufReader<UnixStream>,
}

impl Redis {
    fn start(dir: &Path) -> Self {
        let path = dir.join("redis.sock");
        let text = path.to_str().expect("a temporary path is text");
        let server = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", text])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let stream = until("redis-server to listen", || UnixStream::connect(&path).ok());
        let own = std::env::current_exe().expect("our own path");
        let worker = Command::new(own).arg("redis-worker").arg(&path).spawn().expect("ourselves");
        Self { server, worker, stream: BufReader::new(stream) }
    }

    fn ping(&mut self) {
        command(&mut self.stream, &["RPUSH", "tasks", "x"]);
        command(&mut self.stream, &["BLPOP", "results", "0"]);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        for child in [&mut self.worker, &mut self.server] {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Takes tasks out of Redis and puts results back.
pub(crate) fn redis_worker(path: &str) {
    let mut stream = BufReader::new(UnixStream::connect(path).expect("redis listens"));
    loop {
        command(&mut stream, &["BLPOP", "tasks", "0"]);
        command(&mut stream, &["RPUSH", "results", "x"]);
    }
}

/// One command and its reply (RESP2): an integer, or an array of bulk strings.
fn command(stream: &mut BufReader<UnixStream>, words: &[&str]) {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    if stream.get_mut().write_all(text.as_bytes()).is_err() {
        std::process::exit(0);
    }
    let mut line = String::new();
    if stream.read_line(&mut line).unwrap_or(0) == 0 {
        std::process::exit(0);
    }
    let strings = line.strip_prefix('*').map_or(0, |count| count.trim().parse().unwrap_or(0));
    for _ in 0..2 * strings {
        line.clear();
        stream.read_line(&mut line).expect("redis answers in full");
    }
}
