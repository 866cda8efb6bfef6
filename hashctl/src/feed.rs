//! The producer's end: takes opened files and other entries in input order, and sends them in
//! frames.
//!
//! Frames start small, so that output and all workers start at once, and double up to what a frame
//! carries; a batch that is older than [`AGE_MAX`] goes out as it is, so that slow opening does not
//! leave workers without work.
//!
//! Invariants:
//! - an entry is handed over before its file is sent, so that no result comes unexpected;
//! - one job at a time takes items: who waits for the window of a second one while holding a first
//!   can wait for ever, because windows are shares of what the user may have in all.

use crate::datasets::{Folder, Name};
use crate::handover::{Handover, Stopped};
use crate::open::{Kind, look};
use crate::order::{Batch, Verdict};
use crate::plane::{Plane, Route, Served};
use crate::problem::Problem;
use crate::stream::{self, StreamError};
use client::{ClientError, Job, Submitter};
use ipc_proto::Algorithm;
use ipc_proto::Blob;
use ipc_proto::limits::{FRAME_DESCRIPTORS_MAX, FRAME_NAMES_MAX};
use ipc_proto::message::{Named, Stamp};
use ipc_proto::sample::Sample;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Whence, lseek};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

/// Entries in the first batch; each later one may have twice as many as the one before.
const BATCH_LEN_FIRST: usize = 16;

/// Entries in a batch at most, of descriptors or of names.
const BATCH_FILES_MAX: usize = FRAME_DESCRIPTORS_MAX;
const BATCH_NAMES_MAX: usize = FRAME_NAMES_MAX;

/// A batch that is older than this goes out.
const AGE_MAX: Duration = Duration::from_millis(5);

/// Inline, a file of at most this many bytes travels as one message among others.
const SMALL_LEN_MAX: u64 = 64 << 10;

/// Bytes of such messages after which a frame goes out.
const MESSAGES_LEN_MAX: usize = 256 << 10;

/// Why nothing more can be fed.
#[derive(Debug)]
pub(crate) enum FeedError {
    /// The main thread ended the work, and knows why.
    Stopped,
    /// Sending is impossible.
    Failed(String),
}

impl From<Stopped> for FeedError {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<ClientError> for FeedError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Stopped => Self::Stopped,
            // The main thread sees the same end of the connection, and says it better.
            ClientError::Send(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN)
                ) =>
            {
                Self::Stopped
            }
            ClientError::Send(error) => Self::Failed(format!("sending to the controller: {error}")),
            ClientError::Receive(_)
            | ClientError::Rejected { .. }
            | ClientError::Nonsense(_)
            | ClientError::WindowTooSmall => Self::Failed(error.to_string()),
        }
    }
}

/// What an entry is called and belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label<'a> {
    /// Its name.
    pub(crate) name: &'a [u8],
    /// What its digest is computed with.
    pub(crate) algorithm: Algorithm,
    /// What its digest should be, if that is known.
    pub(crate) want: &'a [u8],
}

/// Takes entries.
#[derive(Debug)]
pub(crate) struct Feeder {
    submitter: Submitter,
    handover: Arc<Handover>,
    route: Route,
    served: Served,
    has_stdin: bool,
    /// How many items are cross-checked.
    sample: Option<Sample>,
    /// The job that takes items.
    job: Option<(Algorithm, Job)>,
    lanes: BTreeMap<Algorithm, Lane>,
    batch: Batch,
    batch_len: usize,
    /// When the batch got its first entry.
    since: Duration,
    /// Number of the next entry.
    next: u64,
}

/// What goes out with the batch for one algorithm.
#[derive(Debug, Default)]
struct Lane {
    stamps: Vec<Stamp>,
    files: Vec<OwnedFd>,
    file_tags: Vec<u64>,
    lens: Vec<u32>,
    data: Vec<u8>,
    message_tags: Vec<u64>,
    /// By dataset, in the order in which they came.
    names: Vec<(Arc<str>, Names)>,
}

/// Files of one dataset.
#[derive(Debug, Default)]
struct Names {
    files: Vec<Named>,
    tags: Vec<u64>,
}

impl Feeder {
    /// A feeder by `route`; `has_stdin` says whether standard input was open at the start.
    pub(crate) fn new(
        submitter: Submitter,
        handover: Arc<Handover>,
        route: Route,
        has_stdin: bool,
        sample: Option<Sample>,
    ) -> Self {
        Self {
            submitter,
            handover,
            route,
            served: Served::default(),
            has_stdin,
            sample,
            job: None,
            lanes: BTreeMap::new(),
            batch: Batch::default(),
            batch_len: BATCH_LEN_FIRST,
            since: Duration::ZERO,
            next: 0,
        }
    }

    /// Opens the job of `algorithm` before its first entry: what is known early is said early.
    pub(crate) fn expect(&mut self, algorithm: Algorithm) -> Result<(), FeedError> {
        self.job(algorithm).map(drop)
    }

    /// A regular file.
    pub(crate) fn file(
        &mut self,
        label: Label<'_>,
        file: OwnedFd,
        stamp: Stamp,
    ) -> Result<(), FeedError> {
        let Some(plane) = self.route.plane_of(&file) else {
            return self.known(label, Verdict::Problem(Problem::NoDataset));
        };
        match plane {
            Plane::Descriptor => {
                self.served.count(&plane);
                let number = self.enter(label, stamp.size, Verdict::Waiting);
                let lane = self.lanes.entry(label.algorithm).or_default();
                lane.stamps.push(stamp);
                lane.files.push(file);
                lane.file_tags.push(number);
                self.flush_if_due()
            }
            Plane::Name(name) => self.named(label, name, stamp),
            Plane::Inline => {
                self.served.count(&plane);
                self.inline(label, &File::from(file), stamp)
            }
        }
    }

    /// A regular file that workers find by `name`.
    pub(crate) fn named(
        &mut self,
        label: Label<'_>,
        name: Name,
        stamp: Stamp,
    ) -> Result<(), FeedError> {
        self.served.count_name(&name.dataset);
        let number = self.enter(label, stamp.size, Verdict::Waiting);
        let lane = self.lanes.entry(label.algorithm).or_default();
        let Name { dataset, path } = name;
        let names = lane.names_in(dataset);
        names.files.push(Named { path: Blob(path), stamp });
        names.tags.push(number);
        self.flush_if_due()
    }

    /// What `dir` is called where the files in it go by name.
    pub(crate) fn folder(&self, dir: BorrowedFd<'_>) -> Option<Folder> {
        self.route.folder(dir)
    }

    /// Something that is known without a worker.
    pub(crate) fn known(&mut self, label: Label<'_>, verdict: Verdict) -> Result<(), FeedError> {
        self.enter(label, 0, verdict);
        self.flush_if_due()
    }

    /// Standard input.
    pub(crate) fn stdin(&mut self, label: Label<'_>) -> Result<(), FeedError> {
        if !self.has_stdin {
            return self.known(label, Verdict::Problem(Problem::Io(libc::EBADF)));
        }
        if self.route.takes_descriptors()
            && let Some((file, stamp)) = stdin_file()
        {
            return self.file(label, file, stamp);
        }
        self.served.count(&Plane::Inline);
        let number = self.enter(label, 0, Verdict::Waiting);
        let handover = Arc::clone(&self.handover);
        self.stream(label.algorithm, io::stdin().lock(), number, |total| {
            handover.late_size(number, total);
            Ok(())
        })
    }

    /// Sends everything that is waiting, and ends the job: what comes next may take its time, and
    /// others may need the window meanwhile.
    pub(crate) fn rest(&mut self) -> Result<(), FeedError> {
        self.flush()?;
        match self.job.take() {
            Some((_, job)) => Ok(job.finish()?),
            None => Ok(()),
        }
    }

    /// How many files went which way.
    pub(crate) fn served(&self) -> &Served {
        &self.served
    }

    /// Sends everything that is waiting.
    pub(crate) fn flush(&mut self) -> Result<(), FeedError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let most = if self.route.takes_descriptors() { BATCH_FILES_MAX } else { BATCH_NAMES_MAX };
        self.batch_len = (2 * self.batch_len).min(most);
        let batch = mem::take(&mut self.batch);
        self.batch = self.handover.push(batch)?;
        let mut lanes = mem::take(&mut self.lanes);
        if let Some(open) = self.job.as_ref().map(|(algorithm, _)| *algorithm)
            && let Some(lane) = lanes.get_mut(&open)
        {
            lane.flush(self.job(open)?)?;
        }
        for (&algorithm, lane) in lanes.iter_mut().filter(|(_, lane)| !lane.is_empty()) {
            lane.flush(self.job(algorithm)?)?;
        }
        self.lanes = lanes;
        Ok(())
    }

    fn enter(&mut self, label: Label<'_>, size: u64, verdict: Verdict) -> u64 {
        if self.batch.is_empty() {
            self.since = coarse_now();
        }
        self.batch.push(label.algorithm, label.name, label.want, size, verdict);
        self.next += 1;
        self.next - 1
    }

    fn flush_if_due(&mut self) -> Result<(), FeedError> {
        let is_due = self.batch.len() >= self.batch_len
            || coarse_now().saturating_sub(self.since) >= AGE_MAX;
        if is_due { self.flush() } else { Ok(()) }
    }

    /// The job of `algorithm`; that of another one is ended first.
    fn job(&mut self, algorithm: Algorithm) -> Result<&mut Job, FeedError> {
        let job = match self.job.take() {
            Some((open, job)) if open == algorithm => job,
            other => {
                if let Some((_, job)) = other {
                    job.finish()?;
                }
                self.submitter.open(algorithm, self.sample)?
            }
        };
        Ok(&mut self.job.insert((algorithm, job)).1)
    }

    fn inline(&mut self, label: Label<'_>, file: &File, stamp: Stamp) -> Result<(), FeedError> {
        if stamp.size > SMALL_LEN_MAX {
            let number = self.enter(label, stamp.size, Verdict::Waiting);
            return self.stream(label.algorithm, file, number, |total| {
                let now = look(file).map(|(_, now)| now);
                let is_same = now == Ok(stamp) && total == stamp.size;
                if is_same { Ok(()) } else { Err(Problem::Changed) }
            });
        }
        match read_small(file, stamp) {
            Ok(data) => {
                let number = self.enter(label, stamp.size, Verdict::Waiting);
                let lane = self.lanes.entry(label.algorithm).or_default();
                lane.lens.push(u32::try_from(data.len()).expect("a small file"));
                lane.data.extend_from_slice(&data);
                lane.message_tags.push(number);
                let is_full = lane.data.len() >= MESSAGES_LEN_MAX;
                if is_full { self.flush() } else { self.flush_if_due() }
            }
            Err(problem) => self.known(label, Verdict::Problem(problem)),
        }
    }

    fn stream(
        &mut self,
        algorithm: Algorithm,
        input: impl Read,
        number: u64,
        agree: impl FnOnce(u64) -> Result<(), Problem>,
    ) -> Result<(), FeedError> {
        self.flush()?;
        match stream::send(self.job(algorithm)?, algorithm, input, number, agree) {
            Ok(()) => Ok(()),
            Err(StreamError::Problem(problem)) => {
                self.handover.late_problem(number, problem);
                Ok(())
            }
            Err(StreamError::Client(error)) => Err(error.into()),
        }
    }
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.files.is_empty()
            && self.lens.is_empty()
            && self.names.iter().all(|(_, names)| names.files.is_empty())
    }

    fn flush(&mut self, job: &mut Job) -> Result<(), ClientError> {
        if !self.files.is_empty() {
            job.send_files(&self.stamps, &self.files, &self.file_tags)?;
            self.stamps.clear();
            ipc_socket::close_all(self.files.drain(..));
            self.file_tags.clear();
        }
        if !self.lens.is_empty() {
            let (lens, data) = (mem::take(&mut self.lens), mem::take(&mut self.data));
            job.send_messages(lens, data, &self.message_tags)?;
            self.message_tags.clear();
        }
        for (dataset, names) in &mut self.names {
            job.send_names(dataset, &mut names.files, &names.tags)?;
            names.tags.clear();
        }
        Ok(())
    }

    fn names_in(&mut self, dataset: Arc<str>) -> &mut Names {
        let known = self.names.iter().position(|(known, _)| *known == dataset);
        let at = known.unwrap_or_else(|| {
            self.names.push((dataset, Names::default()));
            self.names.len() - 1
        });
        &mut self.names[at].1
    }
}

/// A clock of a few milliseconds' precision, which costs next to nothing.
fn coarse_now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from)
}

/// Standard input as a file that a worker can read by itself: regular, open for reading, and at its
/// start. What reads standard input after us finds it at its end, as if we had read it.
fn stdin_file() -> Option<(OwnedFd, Stamp)> {
    let stdin = io::stdin();
    let (kind, stamp) = look(&stdin).ok()?;
    let mode = OFlag::from_bits_retain(fcntl(&stdin, FcntlArg::F_GETFL).ok()?) & OFlag::O_ACCMODE;
    let can_read = mode == OFlag::O_RDONLY || mode == OFlag::O_RDWR;
    if kind != Kind::File || !can_read || lseek(&stdin, 0, Whence::SeekCur) != Ok(0) {
        return None;
    }
    let file = stdin.as_fd().try_clone_to_owned().ok()?;
    lseek(&stdin, 0, Whence::SeekEnd).ok()?;
    Some((file, stamp))
}

/// The content of a file that is as `stamp` says before and after it is read.
fn read_small(file: &File, stamp: Stamp) -> Result<Vec<u8>, Problem> {
    let size = usize::try_from(stamp.size).map_err(|_| Problem::Changed)?;
    let mut data = vec![0; size + 1];
    let mut len = 0;
    while len < data.len() {
        match file.read_at(&mut data[len..], len as u64) {
            Ok(0) => break,
            Ok(read_len) => len += read_len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Problem::Io(error.raw_os_error().unwrap_or(libc::EIO))),
        }
    }
    data.truncate(len);
    let (_, now) = look(file).map_err(|errno| Problem::Io(errno as i32))?;
    if len == size && now == stamp { Ok(data) } else { Err(Problem::Changed) }
}
