//! Files that are sent once more: as bytes those that the workers do not see as they are here, and as before
//! those whose connection was lost.
//!
//! A name may lead the workers elsewhere: the dataset's directory was replaced, something was mounted in
//! it, it is a copy from before, the file was replaced a moment ago, or their file server is out of
//! descriptors. Such a file is opened here again, by its path, and read by the quiet rule.
//!
//! The thread starts with the first of them. It sends between the tasks of the openers, in whichever job
//! is open: items have tags, so their order does not matter.

use super::{
    EXHAUSTED_PAUSE, EXHAUSTED_RETRIES, Found, MESSAGES_LEN_MAX, Opener, Shared, not_a_file,
};
use crate::engine::reorder::{Change, Tag, Unseen, Verdict};
use crate::input::open::{Opened, Way, open_again};
use crate::lists::quote::quote;
use crate::problem::Problem;
use crate::say::say;
use client::ClientError;
use engine::exec::relay::RelayedFile;
use ipc_proto::Algorithms;
use ipc_proto::limits::FRAME_DESCRIPTORS_MAX;
use ipc_proto::message::Failure;
use nix::errno::Errno;
use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// The main thread's end.
#[derive(Debug)]
pub(crate) struct Resender {
    shared: &'static Shared,
    /// At most as many as the reorder buffer has entries.
    queue: Option<Sender<Unseen>>,
    given: u64,
    unseen: u64,
    done: Arc<AtomicU64>,
}

impl Resender {
    pub(super) fn new(shared: &'static Shared) -> Self {
        Self { shared, queue: None, given: 0, unseen: 0, done: Arc::default() }
    }

    /// Takes files that have no outcome yet.
    pub(crate) fn give(&mut self, unseen: Vec<Unseen>) {
        for file in unseen {
            if let Some(failure) = file.failure
                && self.unseen == 0
                && self.shared.options.is_verbose
            {
                let name = quote(file.batch.label(file.position).name);
                let failure = Problem::Failure(failure);
                say(format_args!("the workers see {name} differently ({failure})"));
            }
            self.given += 1;
            self.unseen += u64::from(file.failure.is_some());
            // It fails when the thread has ended, with the connection.
            let _ = self.queue.get_or_insert_with(|| start(self.shared, &self.done)).send(file);
        }
    }

    /// Files that were sent, or got their verdict. Those jobs have ended in which nothing else goes.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    /// Files that were taken because the workers see them differently.
    pub(crate) fn unseen(&self) -> u64 {
        self.unseen
    }

    /// Files that were taken.
    pub(crate) fn given(&self) -> u64 {
        self.given
    }
}

fn start(shared: &'static Shared, done: &Arc<AtomicU64>) -> Sender<Unseen> {
    let (queue, receiver) = channel();
    let done = Arc::clone(done);
    let run = move || {
        if let Err(error) = Opener::new(shared).resend_all(&receiver, &done) {
            shared.fail(error);
        }
    };
    if let Err(error) = thread::Builder::new().spawn(run) {
        shared.fail(ClientError::Send(error));
    }
    queue
}

impl Opener {
    fn resend_all(
        &mut self,
        queue: &Receiver<Unseen>,
        done: &AtomicU64,
    ) -> Result<(), ClientError> {
        while let Ok(file) = queue.recv() {
            let mut count = 1;
            let mut stream = self.resend(&file);
            while stream.is_none()
                && self.lanes.data_len < MESSAGES_LEN_MAX
                && count < FRAME_DESCRIPTORS_MAX as u64
            {
                let Ok(file) = queue.try_recv() else { break };
                count += 1;
                stream = self.resend(&file);
            }
            let mut sender = self.shared.sender.lock().expect("no holder panics");
            if sender.has_failed {
                return Ok(());
            }
            let (had_job, inline) = (sender.has_job(), sender.served.inline);
            self.flush(&mut sender)?;
            self.lanes.close_sent();
            if let Some((algorithms, tag, file)) = stream {
                self.stream(&mut sender, algorithms, tag, file)?;
            }
            sender.served.inline = inline;
            if !had_job {
                sender.finish_job()?;
            }
            drop(sender);
            done.fetch_add(count, Ordering::Release);
            self.shared.reorder.wake();
        }
        Ok(())
    }

    /// Opens a file again; what is long is returned, and goes as a stream.
    fn resend(&mut self, unseen: &Unseen) -> Option<(Algorithms, Tag, RelayedFile)> {
        let Unseen { tag, batch, position, way, failure } = unseen;
        let same = |failure: &Option<Failure>| match failure {
            Some(failure) => Problem::Failure(*failure),
            None => Problem::Io(libc::ELOOP),
        };
        let function = batch.label(*position).function;
        let algorithms = function.algorithms().expect("what was sent has algorithms");
        let problem = |problem| Found::Verdict(Verdict::Problem(problem));
        let found = match open_patiently(batch.path(*position, 0), *way) {
            Ok(Opened::File(file, stamp)) => match failure {
                None => self.by_plane(file, stamp, *way),
                Some(_) if self.shared.route.takes_bytes() => self.by_bytes(file),
                Some(failure) => problem(Problem::Unseen(*failure)),
            },
            Ok(other @ (Opened::Directory(_) | Opened::Special(_))) => not_a_file(&other, *way),
            // A directory above it was replaced by a link, or openat2 is unknown here.
            Err(Errno::ELOOP | Errno::EXDEV | Errno::EAGAIN | Errno::ENOSYS) => {
                problem(same(failure))
            }
            Err(errno) => problem(Problem::Io(errno as i32)),
        };
        match found {
            Found::Bytes(data) => {
                self.changes.push((*tag, Change::Sent(data.len() as u64, *way)));
                self.lanes.add_bytes(algorithms, *tag, &data);
            }
            Found::Stream(file) => return Some((algorithms, *tag, file)),
            Found::Verdict(verdict) => self.changes.push((*tag, Change::Verdict(verdict))),
            Found::File(file, stamp) => {
                self.changes.push((*tag, Change::Sent(stamp.size, *way)));
                self.lanes.add_file(algorithms, *tag, file, stamp);
            }
            Found::Named(name, stamp, way) => {
                self.changes.push((*tag, Change::Named(stamp.size, way)));
                self.lanes.add_name(algorithms, *tag, name, stamp);
            }
            Found::Stdin(_) => unreachable!("it has no path"),
        }
        None
    }
}

/// Waits while no descriptor is free: that is not the file's fault.
fn open_patiently(path: &CStr, way: Way) -> Result<Opened, Errno> {
    for _ in 0..EXHAUSTED_RETRIES {
        match open_again(path, way) {
            Err(Errno::EMFILE | Errno::ENFILE) => thread::sleep(EXHAUSTED_PAUSE),
            opened => return opened,
        }
    }
    open_again(path, way)
}
