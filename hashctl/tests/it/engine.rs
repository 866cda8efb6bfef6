//! A controller that does everything right, and is as slow or unordered as a test wants it.

use crate::fake::{DESCRIPTORS, Fake, Peer};
use crate::oracle;
use ipc_proto::limits::CHUNK_LEN;
use ipc_proto::message::{
    ClientReply, ClientRequest, Failure, FileSource, Items, JobId, LossCause, Piece, Planes, Run,
    Stamp, Window, WorkerLoss,
};
use ipc_proto::{Algorithm, Blob};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;
use test_kit::{DEADLINE, Polled, Random};

/// Answers are held back until nothing has arrived for this long.
const QUIET: Duration = Duration::from_millis(20);

/// Behaviour of the controller.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) window: Window,
    pub(crate) workers: u32,
    pub(crate) planes: Planes,
    /// Answers in random order, one item per message, as late as the window allows.
    pub(crate) shuffle: Option<Random>,
    /// The root of every dataset.
    pub(crate) root: PathBuf,
    /// Failure of the files with this content.
    pub(crate) fail: fn(&[u8]) -> Option<Failure>,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            window: Window { items: 4096, bytes: 8 << 20 },
            workers: 2,
            planes: DESCRIPTORS,
            shuffle: None,
            root: PathBuf::new(),
            fail: |_| None,
        }
    }
}

/// Observed actions of the client.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) items: u64,
    pub(crate) files: u64,
    pub(crate) names: u64,
    pub(crate) messages: u64,
    pub(crate) pieces: u64,
    pub(crate) frames: u64,
    pub(crate) unresolved_max: u64,
    pub(crate) jobs_max: usize,
    pub(crate) jobs: u64,
    pub(crate) cancelled: u64,
}

struct Job {
    algorithm: Algorithm,
    next: u64,
    unresolved: u64,
    bytes: u64,
    is_finished: bool,
}

struct Answer {
    job: JobId,
    index: u64,
    len: u64,
    outcome: Result<Vec<u8>, Failure>,
}

struct Play {
    engine: Engine,
    jobs: BTreeMap<JobId, Job>,
    answers: Vec<Answer>,
    /// Bytes that each state of a SHA-2 stream covers, by its number.
    streams: Vec<Vec<u8>>,
    report: Report,
}

impl Engine {
    pub(crate) fn start(self) -> Fake<Report> {
        Fake::start(move |peer| {
            peer.welcome(self.planes.clone());
            self.play(peer)
        })
    }

    /// Serves a client until it leaves.
    pub(crate) fn play(self, peer: &mut Peer) -> Report {
        let is_shuffled = self.shuffle.is_some();
        let mut play = Play {
            engine: self,
            jobs: BTreeMap::new(),
            answers: Vec::new(),
            streams: Vec::new(),
            report: Report::default(),
        };
        loop {
            let timeout = match (play.answers.is_empty(), is_shuffled) {
                (true, _) => DEADLINE,
                (false, true) => QUIET,
                (false, false) => Duration::ZERO,
            };
            match peer.poll_next(timeout) {
                Polled::Message(request, files) => play.take(peer, request, files),
                Polled::Silent => play.answer(peer),
                Polled::Gone => return play.report,
            }
        }
    }
}

impl Play {
    fn take(&mut self, peer: &mut Peer, request: ClientRequest, files: Vec<OwnedFd>) {
        match request {
            ClientRequest::Open { tag, algorithms, .. } => {
                let algorithm = algorithms.single().expect("one digest");
                let job = JobId { epoch: 1, number: self.report.jobs };
                let new = Job { algorithm, next: 0, unresolved: 0, bytes: 0, is_finished: false };
                assert!(self.jobs.insert(job, new).is_none(), "{job:?} is open");
                self.report.jobs += 1;
                self.report.jobs_max = self.report.jobs_max.max(self.jobs.len());
                let Engine { window, workers, .. } = self.engine;
                peer.send(&ClientReply::Opened { tag, job, window, workers });
            }
            ClientRequest::Items { job, first, items } => self.items(job, first, items, files),
            ClientRequest::Piece { job, index, piece } => {
                self.report.pieces += 1;
                let len = piece.len() as u64;
                self.admit(job, index, 1, len);
                let outcome = Ok(self.step(self.jobs[&job].algorithm, piece));
                self.answers.push(Answer { job, index, len, outcome });
            }
            ClientRequest::Finish { job } => {
                self.jobs.get_mut(&job).expect("an open job").is_finished = true;
                self.close_if_done(peer, job);
            }
            ClientRequest::Cancel { job } => {
                // One that is not open has crossed its `Finished`.
                let Some(Job { unresolved, .. }) = self.jobs.remove(&job) else { return };
                self.answers.retain(|answer| answer.job != job);
                self.report.cancelled += 1;
                peer.send(&ClientReply::Cancelled { job, unresolved });
            }
            other @ (ClientRequest::Status
            | ClientRequest::WaitReady { .. }
            | ClientRequest::Release { .. }
            | ClientRequest::Drain { .. }
            | ClientRequest::Undrain { .. }
            | ClientRequest::Service { .. }) => {
                panic!("{other:?}")
            }
        }
    }

    fn items(&mut self, job: JobId, first: u64, items: Items, descriptors: Vec<OwnedFd>) {
        let algorithm = self.jobs[&job].algorithm;
        match items {
            Items::Files { source: FileSource::Descriptors, files } => {
                self.report.files += files.len() as u64;
                self.admit(job, first, files.len(), 0);
                for ((item, file), index) in files.iter().zip(descriptors).zip(first..) {
                    let outcome = self.hash(algorithm, &content(&file.into(), item.stamp));
                    self.answers.push(Answer { job, index, len: 0, outcome });
                }
            }
            Items::Files { source: FileSource::Dataset { name, paths }, files } => {
                assert!(self.engine.planes.datasets.contains(&name), "{name}");
                self.report.names += files.len() as u64;
                self.admit(job, first, files.len(), paths.iter().map(|p| p.len() as u64).sum());
                for ((path, item), index) in paths.iter().zip(files).zip(first..) {
                    let path_here = self.engine.root.join(OsStr::from_bytes(path));
                    let outcome = match fs::read(path_here) {
                        Ok(data) if data.len() as u64 == item.stamp.size => {
                            self.hash(algorithm, &data)
                        }
                        Ok(_) => Err(Failure::Changed),
                        Err(error) => Err(Failure::Io { errno: error.raw_os_error().unwrap() }),
                    };
                    self.answers.push(Answer { job, index, len: path.len() as u64, outcome });
                }
            }
            Items::Inline { lens, data } => {
                self.report.messages += lens.len() as u64;
                self.admit(job, first, lens.len(), data.len() as u64);
                let mut rest = &data[..];
                for (len, index) in lens.into_iter().zip(first..) {
                    let (message, after) = rest.split_at(len as usize);
                    rest = after;
                    let outcome = Ok(oracle::digest(algorithm, message));
                    self.answers.push(Answer { job, index, len: len.into(), outcome });
                }
            }
        }
    }

    fn hash(&self, algorithm: Algorithm, data: &[u8]) -> Result<Vec<u8>, Failure> {
        match (self.engine.fail)(data) {
            Some(failure) => Err(failure),
            None => Ok(oracle::digest(algorithm, data)),
        }
    }

    fn admit(&mut self, job: JobId, first: u64, len: usize, bytes: u64) {
        let job = self.jobs.get_mut(&job).expect("an open job");
        let len = len as u64;
        assert!(!job.is_finished && job.next == first, "item {first} instead of {}", job.next);
        job.next += len;
        job.unresolved += len;
        job.bytes += bytes;
        let window = self.engine.window;
        assert!(job.unresolved <= u64::from(window.items), "more items than the window");
        assert!(job.bytes <= window.bytes, "more bytes than the window");
        self.report.items += len;
        self.report.frames += 1;
        self.report.unresolved_max = self.report.unresolved_max.max(job.unresolved);
    }

    /// A step; the state of a SHA-2 stream is a number that stands for all of its bytes.
    fn step(&mut self, algorithm: Algorithm, piece: Piece) -> Vec<u8> {
        match piece {
            Piece::Subtree { offset, data } => {
                assert!(data.len() as u64 >= CHUNK_LEN || offset > 0);
                oracle::subtree(offset, &data)
            }
            Piece::Merge { values, root } => oracle::merge(&values, root),
            Piece::Segment { state, data, last } => {
                let mut all = match state.first_chunk::<8>() {
                    Some(number) => {
                        let number = usize::try_from(u64::from_le_bytes(*number)).unwrap();
                        std::mem::take(&mut self.streams[number])
                    }
                    None => Vec::new(),
                };
                all.extend_from_slice(&data);
                if last {
                    return oracle::digest(algorithm, &all);
                }
                self.streams.push(all);
                let mut state = (self.streams.len() as u64 - 1).to_le_bytes().to_vec();
                state.resize(100, 0);
                state
            }
        }
    }

    fn answer(&mut self, peer: &mut Peer) {
        let mut answers = std::mem::take(&mut self.answers);
        if let Some(random) = &mut self.engine.shuffle {
            for i in (1..answers.len()).rev() {
                answers.swap(i, random.index(i + 1));
            }
        }
        let mut jobs = Vec::new();
        for answer in answers {
            let job = self.jobs.get_mut(&answer.job).expect("an open job");
            job.unresolved -= 1;
            job.bytes -= answer.len;
            jobs.push(answer.job);
            let (outputs, failures) = match answer.outcome {
                Ok(output) => (Blob::from(output), vec![]),
                Err(failure) => (Blob::default(), vec![(0, failure)]),
            };
            if let Some((_, Failure::WorkersLost { attempts })) = failures.first() {
                let loss = |n| WorkerLoss { worker: format!("w{n}"), cause: LossCause::Expired };
                let (job, index, losses) = (answer.job, answer.index, (1..=*attempts).map(loss));
                let losses = losses.collect();
                peer.send(&ClientReply::Death { job, index, losses });
            }
            let runs = vec![Run { first: answer.index, len: 1 }];
            peer.send(&ClientReply::Results { job: answer.job, runs, outputs, failures });
        }
        jobs.dedup();
        for job in jobs {
            self.close_if_done(peer, job);
        }
    }

    fn close_if_done(&mut self, peer: &mut Peer, id: JobId) {
        if let Some(job) = self.jobs.get(&id)
            && job.is_finished
            && job.unresolved == 0
        {
            peer.send(&ClientReply::Finished { job: id, items: job.next, failed: 0 });
            self.jobs.remove(&id);
        }
    }
}

fn content(file: &File, stamp: Stamp) -> Vec<u8> {
    assert_eq!(file.metadata().unwrap().len(), stamp.size, "the stamp is that of the file");
    let mut data = vec![0; usize::try_from(stamp.size).unwrap()];
    file.read_exact_at(&mut data, 0).unwrap();
    data
}
