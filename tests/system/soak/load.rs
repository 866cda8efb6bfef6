//! Honest clients: mixed jobs, each compared with what other programs say.

use crate::{Run, add};
use client::{Address, Client, Event, JobOptions};
use ipc_proto::Algorithm;
use ipc_proto::message::Stamp;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use test_kit::{Ended, Random, Running, bin, output, text, write_file, write_tree};

/// Clients that do one job after the other.
const CLIENTS: usize = 4;

const SMALL_FILES: usize = 2_000;
const SMALL_LEN: u64 = 3_000;
const LARGE_LEN: u64 = (192 << 20) + 12_345;
const STREAM_LEN_MAX: usize = 8 << 20;

/// The longest that one job may take, on a machine with other work.
const JOB_LIMIT: Duration = Duration::from_secs(300);

/// Pause between two files of the bystander.
const BYSTANDER_PAUSE: Duration = Duration::from_millis(20);

/// Files with their digests.
pub(crate) struct Data {
    dir: TempDir,
    small: Vec<PathBuf>,
    /// A line of sha256sum for each of these.
    lines: Vec<String>,
    large: PathBuf,
    large_lines: [(&'static str, String); 2],
}

impl Data {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut small = write_tree(dir.path(), SMALL_FILES, SMALL_LEN);
        for (i, len) in [0, 1, 70_000, 300_000, 5 << 20, 16 << 20].into_iter().enumerate() {
            let path = dir.path().join(format!("other{i}"));
            write_file(&path, len, len);
            small.push(path);
        }
        let large = dir.path().join("large");
        write_file(&large, LARGE_LEN, 7);
        let said = |program: &str, paths: &[PathBuf]| {
            text(&output(Command::new(program).args(paths)).stdout)
        };
        let lines: Vec<String> =
            said("sha256sum", &small).split_inclusive('\n').map(str::to_owned).collect();
        assert_eq!(lines.len(), small.len());
        fs::write(dir.path().join("manifest"), lines.concat()).expect("room for a manifest");
        let one = std::slice::from_ref(&large);
        let large_lines = [("sha256", said("sha256sum", one)), ("blake3", said("b3sum", one))];
        Self { small, lines, large, large_lines, dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// The clients of one run.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) run: &'a Run,
    pub(crate) data: &'a Data,
    pub(crate) address: &'a Address,
    pub(crate) runtime_dir: &'a Path,
}

impl<'a> Load<'a> {
    /// Does every kind of job once.
    pub(crate) fn all_once(&self) {
        let mut random = Random::new(1);
        for kind in 0..KINDS {
            self.job(kind, &mut random).unwrap_or_else(|fault| panic!("{fault}"));
        }
    }

    /// Starts all clients.
    pub(crate) fn start<'s>(self, scope: &'s Scope<'s, '_>, random: &mut Random)
    where
        'a: 's,
    {
        for _ in 0..CLIENTS {
            let mut random = Random::new(random.next_u64());
            scope.spawn(move || {
                while !self.run.is_over() {
                    let kind = random.below(KINDS);
                    self.note(self.job(kind, &mut random));
                }
            });
        }
        scope.spawn(move || {
            while !self.run.is_over() {
                let start = Instant::now();
                self.note(self.one_file());
                self.run.latencies.lock().expect("nobody panics with it").push(start.elapsed());
                thread::sleep(BYSTANDER_PAUSE);
            }
        });
    }

    fn note(&self, outcome: Result<u64, String>) {
        match outcome {
            Ok(digests) => {
                add(&self.run.tally.digests, digests);
                add(&self.run.tally.jobs, 1);
            }
            Err(fault) => self.run.fault(fault),
        }
    }

    /// A job of `kind`; the number of digests that were as they should be.
    fn job(&self, kind: u64, random: &mut Random) -> Result<u64, String> {
        match kind {
            0..3 => self.small_files(random),
            3 => self.manifest(),
            4 => self.stream(random),
            5 => self.large_file(random),
            _ => {
                self.leave(random);
                Ok(0)
            }
        }
    }

    fn small_files(&self, random: &mut Random) -> Result<u64, String> {
        let first = random.index(self.data.small.len());
        let range = first..first + 1 + random.index(self.data.small.len() - first);
        let plane = random.one_of(&["auto", "descriptors", "dataset", "inline"]);
        let cross_check = random.one_of(&["1/1000000", "1/10"]);
        let mut sum = self.hashctl(&["--plane", plane, "sum", "--cross-check", cross_check]);
        let ended = Running::start(sum.args(&self.data.small[range.clone()]), JOB_LIMIT).end();
        same(&format!("{} files by {plane}", range.len()), &ended, &self.data.lines[range].concat())
    }

    fn manifest(&self) -> Result<u64, String> {
        let mut check = self.hashctl(&["check", "--quiet"]);
        let ended = Running::start(check.arg(self.data.dir().join("manifest")), JOB_LIMIT).end();
        same("a manifest", &ended, "").map(|_| self.data.lines.len() as u64)
    }

    fn stream(&self, random: &mut Random) -> Result<u64, String> {
        let len = random.index(STREAM_LEN_MAX);
        let bytes = random.bytes(len);
        let hex: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        let (reader, mut writer) = std::io::pipe().map_err(|error| error.to_string())?;
        let mut sum = self.hashctl(&["sum"]);
        let running = Running::start(sum.stdin(reader), JOB_LIMIT);
        drop(sum);
        for piece in bytes.chunks(1 + random.index(1 << 20)) {
            if let Err(error) = writer.write_all(piece) {
                return Err(format!("a stream: {error}: {:?}", running.end()));
            }
        }
        drop(writer);
        same("a stream", &running.end(), &format!("{hex}  -\n"))
    }

    fn large_file(&self, random: &mut Random) -> Result<u64, String> {
        let (algorithm, line) = random.one_of(&self.data.large_lines);
        let mut sum = self.hashctl(&["sum", "-a", algorithm]);
        let ended = Running::start(sum.arg(&self.data.large), JOB_LIMIT).end();
        same(&format!("a large file by {algorithm}"), &ended, &line)
    }

    /// Leaves in the middle of a job.
    fn leave(&self, random: &mut Random) {
        let mut sum = self.hashctl(&["sum"]);
        sum.arg(&self.data.large).args(&self.data.small);
        let running = Running::start(&mut sum, JOB_LIMIT);
        thread::sleep(Duration::from_millis(random.below(300)));
        // Killed.
        drop(running);
        add(&self.run.tally.left, 1);
    }

    /// One file by a connection of its own.
    fn one_file(&self) -> Result<u64, String> {
        let path = &self.data.small[0];
        let want = &self.data.lines[0][..64];
        let file = File::open(path).map_err(|error| error.to_string())?;
        let about = file.metadata().map_err(|error| error.to_string())?;
        let ns = |s: i64, ns: i64| s * 1_000_000_000 + ns;
        let stamp = Stamp {
            size: about.size(),
            mtime_ns: ns(about.mtime(), about.mtime_nsec()),
            ctime_ns: ns(about.ctime(), about.ctime_nsec()),
        };
        let connected = Client::connect(self.address);
        let client = connected.map_err(|error| format!("bystander: {error}"))?;
        let wrong = |error: client::ClientError| format!("bystander: {error}");
        client.set_timeout(Some(JOB_LIMIT)).map_err(wrong)?;
        let (submitter, mut replies) = client.split();
        let mut job = submitter.open(Algorithm::Sha256, JobOptions::default()).map_err(wrong)?;
        let mut is_sent = false;
        loop {
            match replies.receive().map_err(wrong)? {
                None => return Err(format!("bystander: nothing within {JOB_LIMIT:?}")),
                Some(Event::Results(results)) => {
                    let outcome = results.iter().next().map(|(_, outcome)| outcome.map(hex));
                    return match outcome {
                        Some(Ok(got)) if got == want => Ok(1),
                        other => Err(format!("bystander: {other:?} instead of {want}")),
                    };
                }
                // Sending would wait for a window that this thread has to receive.
                Some(Event::Opened { waits: false, .. } | Event::Window { .. }) if !is_sent => {
                    is_sent = true;
                    job.send_files(&[stamp], &[&file], &[0]).map_err(wrong)?;
                }
                Some(_) => {}
            }
        }
    }

    fn hashctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(bin("hashctl"));
        command.env("HASHCLUSTER_RUNTIME_DIR", self.runtime_dir).stdin(Stdio::null()).args(args);
        command
    }
}

/// Kinds of jobs.
const KINDS: u64 = 8;

/// The number of lines, if a command ended well and printed `want`.
fn same(what: &str, ended: &Ended, want: &str) -> Result<u64, String> {
    if ended.status.success() && ended.stdout == want && ended.stderr.is_empty() {
        return Ok(want.lines().count() as u64);
    }
    let differs = ended.stdout.lines().zip(want.lines()).find(|(got, want)| got != want);
    let (got, wanted) = (ended.stdout.lines().count(), want.lines().count());
    Err(format!(
        "{what}: {}, {got} lines instead of {wanted}, the first that differs {differs:?}, stderr {:?}",
        ended.status, ended.stderr
    ))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
