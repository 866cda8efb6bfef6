//! The opener threads: open listed files, or look at them where they go by name, and send them.
//!
//! Opening takes most of the time of a run over small files, so [`OPENERS`] threads do it at once,
//! a task each. Sending is in the order of tasks: a thread waits for its turn, so items are
//! numbered in input order and a window that is full stops every thread.
//!
//! Each thread has its own descriptor table where the system permits it (unshare(2),
//! `CLONE_FILES`): then nobody else holds up its calls. Descriptors are therefore sent and closed by
//! the thread that opened them, and the lister's directories are found through `/proc/self/fd`,
//! which shows the table of the main thread.

mod long;
mod resend;

use super::dirs::{DirCache, unshare_descriptors};
use super::lister::{Dir, Last, OpenTask, Target, TaskSink, split};
use super::reorder::{Change, End, Reorder, Stopped, Tag, Verdict};
use super::sender::{ItemSender, Lanes};
use super::stdin::{errno_of, stdin_file};
use crate::input::datasets::{Folder, Name};
use crate::input::open::{Links, Opened, Way, glance_at, open_at};
use crate::input::plane::{Plane, Route};
use crate::problem::Problem;
use crate::say::say;
use client::{ClientError, HandoverReceiver, JobOptions, Submitter};
use engine::clock::StampClock;
use engine::exec::relay::RelayedFile;
use ipc_proto::Algorithms;
use ipc_proto::limits::{FRAME_DESCRIPTORS_MAX, FRAME_NAMES_MAX};
use ipc_proto::message::{Failure, Stamp};
use long::problem_of;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::time::{ClockId, clock_gettime};
pub(crate) use resend::Resender;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// Threads that open files.
const OPENERS: usize = 2;

/// Tasks that wait for an opener.
const TASKS_MAX: usize = 2;

/// Listed or opened files that are older than this go out.
pub(crate) const AGE_MAX: Duration = Duration::from_millis(5);

/// Inline, a file of at most this many bytes travels as one message among others.
const SMALL_LEN_MAX: usize = 64 << 10;

/// Bytes of such messages after which a frame goes out.
const MESSAGES_LEN_MAX: usize = 256 << 10;

/// Retries, and the pause between them, when no descriptor is free.
const EXHAUSTED_RETRIES: u32 = 2_000;
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(5);

/// The lister's end of the openers.
#[derive(Debug)]
pub(crate) struct Openers {
    tasks: SyncSender<OpenTask>,
    shared: &'static Shared,
}

/// Lives as long as the process: an opener must not be the one that closes the descriptors in it,
/// as its own table has other files under their numbers.
#[derive(Debug)]
struct Shared {
    reorder: Arc<Reorder>,
    route: Arc<Route>,
    tasks: Mutex<Receiver<OpenTask>>,
    sender: Mutex<ItemSender>,
    /// Signalled when the next task may send.
    turn: Condvar,
    /// Directories that the lister may close.
    dirs: Mutex<Vec<Arc<Dir>>>,
    options: Options,
}

/// Settings of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) job: JobOptions,
    /// Standard input was open when the program started.
    pub(crate) has_stdin: bool,
    pub(crate) is_verbose: bool,
    /// Opens the job of this algorithm before its first item, so that errors are reported early.
    pub(crate) expected: Option<Algorithms>,
}

impl Openers {
    /// Starts the threads.
    pub(crate) fn start(
        reorder: Arc<Reorder>,
        route: Arc<Route>,
        submitter: Submitter,
        options: Options,
    ) -> Result<(Self, Resender), ClientError> {
        let (tasks, receiver) = sync_channel(TASKS_MAX);
        let handover = || submitter.handover().map_err(ClientError::Send);
        let handovers: [_; OPENERS] = [handover()?, handover()?];
        let mut sender = ItemSender::new(submitter, options.job);
        if let Some(algorithms) = options.expected {
            sender.job(algorithms)?;
        }
        let shared: &Shared = Box::leak(Box::new(Shared {
            reorder,
            route,
            tasks: Mutex::new(receiver),
            sender: Mutex::new(sender),
            turn: Condvar::new(),
            dirs: Mutex::default(),
            options,
        }));
        for (number, handover) in handovers.into_iter().enumerate() {
            let run = move || Opener::new(shared).run(handover);
            let started = thread::Builder::new().spawn(run);
            // One is enough.
            if let (0, Err(error)) = (number, started) {
                return Err(ClientError::Send(error));
            }
        }
        Ok((Self { tasks, shared }, Resender::new(shared)))
    }
}

impl TaskSink for Openers {
    fn give(&self, task: OpenTask) -> Result<(), Stopped> {
        self.tasks.send(task).map_err(|_| Stopped)
    }

    fn close_dirs(&self) {
        let dirs = mem::take(&mut *self.shared.dirs.lock().expect("no holder panics"));
        drop(dirs);
    }

    fn wait_for(&self, turn: u64) {
        drop(self.shared.wait_for(turn));
    }

    fn folder(&self, dir: BorrowedFd<'_>) -> Option<Folder> {
        self.shared.route.folder(dir)
    }

    fn task_len_max(&self) -> usize {
        let is_fd = self.shared.route.takes_descriptors();
        if is_fd { FRAME_DESCRIPTORS_MAX } else { FRAME_NAMES_MAX }
    }

    fn tasks_max(&self) -> usize {
        TASKS_MAX + OPENERS
    }

    fn keeps_files_open(&self) -> bool {
        true
    }
}

impl Shared {
    /// Waits for a turn; whoever has the guard sends.
    fn wait_for(&self, turn: u64) -> MutexGuard<'_, ItemSender> {
        let sender = self.sender.lock().expect("no holder panics");
        let is_early = |sender: &mut ItemSender| sender.turn != turn && !sender.has_failed;
        self.turn.wait_while(sender, is_early).expect("no holder panics")
    }

    /// The guard if it is this turn already.
    fn try_turn(&self, turn: u64) -> Option<MutexGuard<'_, ItemSender>> {
        self.sender.try_lock().ok().filter(|sender| sender.turn == turn)
    }

    /// Has the lister close directories.
    fn give_back(&self, dirs: &mut Vec<Arc<Dir>>) {
        self.dirs.lock().expect("no holder panics").append(dirs);
    }

    fn fail(&self, error: ClientError) {
        self.sender.lock().expect("no holder panics").has_failed = true;
        self.turn.notify_all();
        self.reorder.end(end_of(error));
    }
}

fn end_of(error: ClientError) -> End {
    match error {
        ClientError::Stopped => End::Stopped,
        // The main thread sees the same end of the connection, and says it better.
        ClientError::Send(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN)
            ) =>
        {
            End::Stopped
        }
        ClientError::Send(error) => End::Failed(format!("sending to the controller: {error}")),
        ClientError::Receive(_)
        | ClientError::Rejected { .. }
        | ClientError::Nonsense(_)
        | ClientError::WindowTooSmall => End::Failed(error.to_string()),
    }
}

/// One thread.
struct Opener {
    shared: &'static Shared,
    lanes: Lanes,
    /// For the reorder buffer, before the lanes are sent.
    changes: Vec<(Tag, Change)>,
    /// When the lanes got their first item.
    since: Duration,
    dirs: DirCache,
    clock: Rc<StampClock>,
}

/// A listed entry that was opened.
enum Found {
    File(OwnedFd, Stamp),
    Named(Name, Stamp, Way),
    Bytes(Vec<u8>),
    /// Too long for one message.
    Stream(RelayedFile),
    /// Standard input, whose length is unknown.
    Stdin(File),
    Verdict(Verdict),
}

impl Opener {
    fn new(shared: &'static Shared) -> Self {
        Self {
            shared,
            lanes: Lanes::default(),
            changes: Vec::new(),
            since: Duration::ZERO,
            dirs: DirCache::default(),
            clock: Rc::default(),
        }
    }

    fn run(mut self, handover: HandoverReceiver) {
        self.dirs.is_own_table = unshare_descriptors();
        if self.dirs.is_own_table {
            client::enter_table(handover);
        }
        loop {
            let task = self.shared.tasks.lock().expect("no holder panics").recv();
            let Ok(mut task) = task else { return };
            let sent = self.send_task(&mut task);
            self.shared.give_back(&mut task.dirs);
            if let Err(error) = sent {
                return self.shared.fail(error);
            }
        }
    }

    fn send_task(&mut self, task: &mut OpenTask) -> Result<(), ClientError> {
        let mut turn = Turn { shared: self.shared, number: task.turn, sender: None };
        for (position, tag) in (0..task.targets.len()).zip(task.first..) {
            if matches!(task.targets[position], Target::Nothing) {
                continue;
            }
            let Some(algorithms) = task.batch.label(position).function.algorithms() else {
                let problem = Problem::Failure(Failure::Unsupported);
                self.changes.push((tag, Change::Verdict(Verdict::Problem(problem))));
                continue;
            };
            let found = self.find(task, position, &mut turn)?;
            if self.lanes.is_empty() {
                self.since = coarse_now();
            }
            match found {
                Found::File(file, stamp) => {
                    self.changes.push((tag, sent(task, position, stamp.size)));
                    self.lanes.add_file(algorithms, tag, file, stamp);
                }
                Found::Named(name, stamp, way) => {
                    self.changes.push((tag, Change::Named(stamp.size, way)));
                    self.lanes.add_name(algorithms, tag, name, stamp);
                }
                Found::Bytes(data) => {
                    self.changes.push((tag, sent(task, position, data.len() as u64)));
                    self.lanes.add_bytes(algorithms, tag, &data);
                    if self.lanes.data_len >= MESSAGES_LEN_MAX {
                        self.flush(turn.wait()?)?;
                    }
                }
                Found::Stream(file) => self.stream(turn.wait()?, algorithms, tag, file)?,
                Found::Stdin(file) => self.stdin_stream(turn.wait()?, algorithms, tag, &file)?,
                Found::Verdict(verdict) => self.changes.push((tag, Change::Verdict(verdict))),
            }
            let is_due = coarse_now().saturating_sub(self.since) >= AGE_MAX;
            if is_due && let Some(sender) = turn.get() {
                self.flush(sender)?;
            }
        }
        let sender = turn.wait()?;
        self.flush(sender)?;
        if task.last != Last::No {
            sender.finish_job()?;
        }
        if task.last == Last::OfAll {
            if self.shared.options.is_verbose {
                say(format_args!("sent {}", sender.served));
            }
            self.shared.reorder.end(End::Done);
        }
        // Before a thread that waits for descriptors resumes.
        self.shared.give_back(&mut task.dirs);
        turn.pass();
        self.lanes.close_sent();
        Ok(())
    }

    /// Sends what is open.
    fn flush(&mut self, sender: &mut ItemSender) -> Result<(), ClientError> {
        self.shared.reorder.change(&mut self.changes);
        sender.send(&mut self.lanes)
    }

    /// Opens an entry, and waits while no descriptor is free: that is not the file's fault.
    fn find(
        &mut self,
        task: &OpenTask,
        position: usize,
        turn: &mut Turn,
    ) -> Result<Found, ClientError> {
        if matches!(task.targets[position], Target::Stdin) {
            // Several entries can be standard input, each what the ones before left.
            turn.wait()?;
        }
        for retry in 0.. {
            match self.try_find(task, position) {
                Ok(found) => return Ok(found),
                Err(Errno::EMFILE | Errno::ENFILE) if retry < EXHAUSTED_RETRIES => {
                    if retry > 0 {
                        thread::sleep(EXHAUSTED_PAUSE);
                    }
                    self.flush(turn.wait()?)?;
                    self.lanes.close_sent();
                }
                Err(errno) => {
                    return Ok(Found::Verdict(Verdict::Problem(Problem::Io(errno as i32))));
                }
            }
        }
        unreachable!("the last retry returns")
    }

    fn try_find(&mut self, task: &OpenTask, position: usize) -> Result<Found, Errno> {
        let (opened, way, folder) = match task.targets[position] {
            Target::Path => {
                let path = task.batch.path(position, 0);
                (open_at(AT_FDCWD, path, Links::Follow)?, Way::Path, None)
            }
            Target::In(dir) => {
                let dir = &task.dirs[dir];
                let (prefix, _) = split(task.batch.label(position).name);
                let base = task.batch.path(position, prefix.len());
                let fd = self.dirs.fd(dir)?;
                if let Some(folder) = &dir.folder
                    && let Some(stamp) = glance_at(fd, base)
                    && !self.shared.route.prefers_bytes(&folder.dataset, stamp.size)
                    && let Some(name) = folder.name(base)
                {
                    return Ok(Found::Named(name, stamp, dir.way));
                }
                (open_at(fd, base, dir.links())?, dir.way, dir.folder.as_ref())
            }
            Target::Stdin => return self.stdin(),
            Target::Nothing => unreachable!("its verdict is known"),
        };
        Ok(match opened {
            Opened::File(file, stamp) => match folder {
                Some(folder) if self.shared.route.prefers_bytes(&folder.dataset, stamp.size) => {
                    self.by_bytes(file)
                }
                _ => self.by_plane(file, stamp, way),
            },
            other @ (Opened::Directory(_) | Opened::Special(_)) => not_a_file(&other, way),
        })
    }

    fn by_plane(&self, file: OwnedFd, stamp: Stamp, way: Way) -> Found {
        match self.shared.route.plane_of(&file, stamp.size) {
            Some(Plane::Descriptor) => Found::File(file, stamp),
            Some(Plane::Name(name)) => Found::Named(name, stamp, way),
            Some(Plane::Inline) => self.by_bytes(file),
            None => Found::Verdict(Verdict::Problem(Problem::NoDataset)),
        }
    }

    fn by_bytes(&self, file: OwnedFd) -> Found {
        let strict = self.shared.options.job.strict_reads;
        let read = |mut file: RelayedFile| {
            let is_small = file.size().is_none_or(|size| size <= SMALL_LEN_MAX as u64);
            let data = if is_small { file.read_whole(SMALL_LEN_MAX)? } else { None };
            Ok(data.map_or(Found::Stream(file), Found::Bytes))
        };
        let found = RelayedFile::new(file, Rc::clone(&self.clock), strict).and_then(read);
        found.unwrap_or_else(|failure| Found::Verdict(Verdict::Problem(problem_of(failure))))
    }

    fn stdin(&self) -> Result<Found, Errno> {
        if !self.shared.options.has_stdin {
            return Err(Errno::EBADF);
        }
        let stdin = io::stdin();
        if self.shared.route.takes_descriptors()
            && let Some((file, stamp)) = stdin_file(&stdin)?
        {
            return Ok(Found::File(file, stamp));
        }
        // Not read through the standard library, which takes an unreadable one for empty.
        let file = stdin.as_fd().try_clone_to_owned().map_err(|error| errno_of(&error))?;
        Ok(Found::Stdin(file.into()))
    }
}

/// The change of an entry of `size` bytes that is sent.
fn sent(task: &OpenTask, position: usize, size: u64) -> Change {
    match task.targets[position] {
        Target::Path => Change::Sent(size, Way::Path),
        Target::In(dir) => Change::Sent(size, task.dirs[dir].way),
        Target::Stdin | Target::Nothing => Change::Size(size),
    }
}

/// The right to send a task, from when it is needed until it is passed on.
struct Turn {
    shared: &'static Shared,
    number: u64,
    sender: Option<MutexGuard<'static, ItemSender>>,
}

impl Turn {
    fn wait(&mut self) -> Result<&mut ItemSender, ClientError> {
        let shared = self.shared;
        let sender = self.sender.get_or_insert_with(|| shared.wait_for(self.number));
        if sender.has_failed { Err(ClientError::Stopped) } else { Ok(sender) }
    }

    /// If that takes no waiting.
    fn get(&mut self) -> Option<&mut ItemSender> {
        if self.sender.is_none() {
            self.sender = self.shared.try_turn(self.number);
        }
        self.sender.as_deref_mut()
    }

    fn pass(mut self) {
        if let Some(sender) = &mut self.sender {
            sender.turn += 1;
        }
        self.sender = None;
        self.shared.turn.notify_all();
    }
}

/// A clock with a precision of a few milliseconds, which costs next to nothing.
pub(crate) fn coarse_now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from)
}

/// Outcome of an entry that is no regular file: below a directory it is left out.
fn not_a_file(opened: &Opened, way: Way) -> Found {
    Found::Verdict(match (opened, way) {
        (Opened::Special(special), Way::Below(_)) => Verdict::Skipped(*special),
        (Opened::Special(special), Way::Path) => Verdict::Problem(Problem::Special(*special)),
        (Opened::Directory(_) | Opened::File(..), _) => Verdict::Problem(Problem::Directory),
    })
}
