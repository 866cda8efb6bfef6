//! The sending half: opens jobs, sends their items, cancels.

use crate::in_flight::{InFlight, Outcome};
use crate::{Client, ClientError, Replies};
use ipc_proto::limits::{FRAME_DESCRIPTORS_MAX, FRAME_NAMES_MAX, NAMES_LEN_MAX};
use ipc_proto::message::{ClientRequest, FileItem, FileSource, Items, Piece, Stamp, Window};
use ipc_proto::sample::Sample;
use ipc_proto::{Algorithms, Blob};
use ipc_socket::{HandoverReceiver, HandoverSender, Sender};
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};

/// Options of a job.
#[derive(Clone, Copy, Debug, Default)]
pub struct JobOptions {
    /// Items that are cross-checked, in addition to the controller's own sample.
    pub cross_check: Option<Sample>,
    /// A file must be shown to have no writer before it is read, however old its stamps are.
    pub strict_reads: bool,
}

/// Opens and cancels jobs.
#[derive(Clone, Debug)]
pub struct Submitter {
    in_flight: Arc<InFlight>,
    sender: Arc<Mutex<Sender>>,
    /// Of threads with a descriptor table of their own.
    tables: Arc<Mutex<Vec<HandoverSender>>>,
}

thread_local! {
    /// For a thread with a descriptor table of its own: where it gets connections from, and the generation of the
    /// one in its table.
    static TABLE: RefCell<Option<(HandoverReceiver, u64)>> = const { RefCell::new(None) };
}

/// Says that this thread has a descriptor table of its own from here on, with all that was open before.
/// `handover` is from [`Submitter::handover`].
pub fn enter_table(handover: HandoverReceiver) {
    TABLE.set(Some((handover, 0)));
}

/// An open job. One thread sends its items.
#[derive(Debug)]
pub struct Job {
    submitter: Submitter,
    tag: u32,
}

/// A piece on its way, whose output is kept for [`Job::wait`].
#[derive(Debug)]
pub struct Ticket(u64);

impl Submitter {
    pub(crate) fn new(in_flight: Arc<InFlight>, sender: Arc<Mutex<Sender>>) -> Self {
        Self { in_flight, sender, tables: Arc::default() }
    }

    /// Opens a job, without waiting for the answer.
    ///
    /// # Errors
    /// [`ClientError::Send`] and [`ClientError::Stopped`].
    pub fn open(
        &self,
        algorithms: impl Into<Algorithms>,
        options: JobOptions,
    ) -> Result<Job, ClientError> {
        let (tag, open, generation) = self.in_flight.add_job(algorithms.into(), options);
        self.send(&open, &[], generation)?;
        Ok(Job { submitter: self.clone(), tag })
    }

    /// Number of open jobs.
    #[must_use]
    pub fn jobs_len(&self) -> usize {
        self.in_flight.jobs_len()
    }

    /// Cancels every job. Nothing more is sent after this, also not a second cancellation.
    ///
    /// # Errors
    /// [`ClientError::Send`].
    pub fn cancel(&self) -> Result<(), ClientError> {
        if !self.in_flight.cancel() {
            return Ok(());
        }
        let mut sender = self.sender.lock().expect("no holder panics");
        for job in self.in_flight.open_jobs() {
            sender.send(&ClientRequest::Cancel { job }, &[]).map_err(ClientError::Send)?;
        }
        Ok(())
    }

    /// From now on a lost connection is not the end: whoever sends waits until [`Self::reconnect`] gave another
    /// one, or [`Self::stop`] gave up.
    pub fn recover(&self) {
        self.in_flight.recover();
    }

    /// The way of later connections to a thread that is going to have a descriptor table of its own, and sends.
    ///
    /// # Errors
    /// As socketpair(2).
    pub fn handover(&self) -> io::Result<HandoverReceiver> {
        let (ours, theirs) = ipc_socket::handover()?;
        self.tables.lock().expect("no holder panics").push(ours);
        Ok(theirs)
    }

    /// Gives up: whoever waits, or starts to, gets [`ClientError::Stopped`].
    pub fn stop(&self) {
        self.in_flight.stop();
    }

    /// Goes on over another connection. Jobs that take items are opened there again; the tags of items without
    /// a result are returned, which have to be sent again, in whichever job. `None` if a stream was in the
    /// middle, which cannot go on.
    pub fn reconnect(&self, client: Client, replies: &mut Replies) -> Option<Vec<u64>> {
        let mut sender = self.sender.lock().expect("no holder panics");
        // Under the lock: no request of before comes between.
        let lost = self.in_flight.begin_again()?;
        let generation = self.in_flight.generation();
        let tables = self.tables.lock().expect("no holder panics");
        let given = tables.iter().try_for_each(|table| table.give(generation, &client.sender));
        given.and_then(|()| sender.replace(&client.sender)).ok()?;
        replies.replace(client.receiver);
        for open in &lost.opens {
            // If that is lost as well, the other half reports it.
            let _ = sender.send(open, &[]);
        }
        Some(lost.tags)
    }

    /// Sends a request of this `generation`. One of an earlier connection is dropped: what it was about was
    /// reported as lost.
    fn send(
        &self,
        request: &ClientRequest,
        descriptors: &[BorrowedFd<'_>],
        generation: u64,
    ) -> Result<(), ClientError> {
        let mut sender = self.sender.lock().expect("no holder panics");
        // Asked under the lock: after a `Cancel` no request may speak of its job.
        if self.in_flight.is_stopped() {
            return Err(ClientError::Stopped);
        }
        if self.in_flight.generation() != generation {
            return Ok(());
        }
        TABLE.with_borrow_mut(|table| match table {
            Some((handover, here)) if *here != generation => {
                *here = generation;
                handover.take(generation, &mut sender).map_err(ClientError::Send)
            }
            Some(_) | None => Ok(()),
        })?;
        match sender.send(request, descriptors) {
            Err(error) if self.in_flight.recovers() && is_lost(&error) => Ok(()),
            sent => sent.map_err(ClientError::Send),
        }
    }
}

/// True if the connection has ended.
pub(crate) fn is_lost(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected)
}

impl Job {
    /// Waits until the window has room for items, and returns how many.
    ///
    /// # Errors
    /// [`ClientError::Stopped`].
    pub fn window(&self) -> Result<Window, ClientError> {
        self.submitter.in_flight.window(self.tag)
    }

    /// Sends files, in as few frames as their number and the window allow.
    ///
    /// # Panics
    /// If the slices are not of one length.
    pub fn send_files<F: AsFd>(
        &mut self,
        stamps: &[Stamp],
        files: &[F],
        tags: &[u64],
    ) -> Result<(), ClientError> {
        assert!(stamps.len() == files.len() && files.len() == tags.len());
        let mut start = 0;
        while start < tags.len() {
            let end = tags.len().min(start + FRAME_DESCRIPTORS_MAX);
            let items: Vec<_> = tags[start..end].iter().map(|&tag| (tag, 0)).collect();
            let grant = self.submitter.in_flight.take(self.tag, &items)?;
            let end = start + grant.len;
            let descriptors: Vec<_> = files[start..end].iter().map(AsFd::as_fd).collect();
            let files = stamps[start..end].iter().copied().map(FileItem::from).collect();
            let items = Items::Files { source: FileSource::Descriptors, files };
            let request = ClientRequest::Items { job: grant.job, first: grant.first, items };
            self.submitter.send(&request, &descriptors, grant.generation)?;
            start = end;
        }
        Ok(())
    }

    /// Sends files by their names in `dataset`, in as few frames as their number, their lengths and
    /// the window allow, and leaves `files` empty.
    ///
    /// # Panics
    /// If `files` and `tags` are not of one length.
    pub fn send_names(
        &mut self,
        dataset: &str,
        files: &mut Vec<(Blob, Stamp)>,
        tags: &[u64],
    ) -> Result<(), ClientError> {
        assert_eq!(files.len(), tags.len());
        let len_of =
            |(path, _): &(Blob, Stamp)| u32::try_from(path.len()).expect("a path is short");
        let items: Vec<_> = tags.iter().copied().zip(files.iter().map(len_of)).collect();
        let mut files = files.drain(..);
        let mut rest = &items[..];
        while !rest.is_empty() {
            let mut room = NAMES_LEN_MAX;
            let fits = |&&(_, len): &&(u64, u32)| match room.checked_sub(len as usize) {
                Some(left) => {
                    room = left;
                    true
                }
                None => false,
            };
            let frame_len = rest.iter().take(FRAME_NAMES_MAX).take_while(fits).count();
            let grant = self.submitter.in_flight.take(self.tag, &rest[..frame_len])?;
            rest = &rest[grant.len..];
            let granted = files.by_ref().take(grant.len);
            let (paths, files) = granted.map(|(path, stamp)| (path, FileItem::from(stamp))).unzip();
            let source = FileSource::Dataset { name: dataset.to_owned(), paths };
            let (job, first, items) = (grant.job, grant.first, Items::Files { source, files });
            let request = ClientRequest::Items { job, first, items };
            self.submitter.send(&request, &[], grant.generation)?;
        }
        Ok(())
    }

    /// Sends whole messages, back to back in `data`, which fit one frame, in as few frames as the window
    /// allows.
    ///
    /// # Panics
    /// If `lens` and `tags` are not of one length.
    pub fn send_messages(
        &mut self,
        mut lens: Vec<u32>,
        mut data: Vec<u8>,
        tags: &[u64],
    ) -> Result<(), ClientError> {
        assert_eq!(lens.len(), tags.len());
        let tagged: Vec<_> = tags.iter().copied().zip(lens.iter().copied()).collect();
        let mut rest = &tagged[..];
        while !rest.is_empty() {
            let grant = self.submitter.in_flight.take(self.tag, rest)?;
            let data_len = rest[..grant.len].iter().map(|&(_, len)| len as usize).sum();
            rest = &rest[grant.len..];
            let (later_lens, later_data) = (lens.split_off(grant.len), data.split_off(data_len));
            let items = Items::Inline { lens, data: data.into() };
            let request = ClientRequest::Items { job: grant.job, first: grant.first, items };
            self.submitter.send(&request, &[], grant.generation)?;
            (lens, data) = (later_lens, later_data);
        }
        Ok(())
    }

    /// Sends the last step of a streamed hash, whose digest comes with `tag`.
    pub fn send_piece(&mut self, piece: Piece, tag: u64) -> Result<(), ClientError> {
        let len = u32::try_from(piece.len()).expect("a piece fits a frame");
        let grant = self.submitter.in_flight.take(self.tag, &[(tag, len)])?;
        let request = ClientRequest::Piece { job: grant.job, index: grant.first, piece };
        self.submitter.send(&request, &[], grant.generation)
    }

    /// Sends one step of a streamed hash whose output the next one needs.
    pub fn start_piece(&mut self, piece: Piece) -> Result<Ticket, ClientError> {
        let tag = self.submitter.in_flight.add_ticket();
        self.send_piece(piece, tag)?;
        Ok(Ticket(tag))
    }

    /// The output of a step, which another thread receives.
    ///
    /// # Errors
    /// [`ClientError::Stopped`].
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is good for one output")]
    pub fn wait(&self, ticket: Ticket) -> Result<Outcome, ClientError> {
        self.submitter.in_flight.wait_ticket(ticket.0)
    }

    /// Says that there are no more items.
    pub fn finish(self) -> Result<(), ClientError> {
        let (job, generation) = self.submitter.in_flight.finish(self.tag)?;
        self.submitter.send(&ClientRequest::Finish { job }, &[], generation)
    }
}
