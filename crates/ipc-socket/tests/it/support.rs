//! Two ends of a socket, files to pass, and messages that carry them.

use ipc_proto::codec;
use ipc_proto::message::{ClientRequest, FileItem, FileSource, Items, JobId, Message};
use ipc_socket::{Inbox, InboxError, Passed, Received, Scratch};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

/// A message with its descriptors.
pub(crate) type Arrival = (ClientRequest, Vec<OwnedFd>);

/// A sending end, and a receiving one that never waits.
pub(crate) struct Pair {
    pub(crate) sender: UnixStream,
    pub(crate) receiver: UnixStream,
    pub(crate) inbox: Inbox,
    scratch: Scratch,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = UnixStream::pair().expect("a socket pair");
        receiver.set_nonblocking(true).expect("non-blocking");
        Self { sender, receiver, inbox: Inbox::new(), scratch: Scratch::default() }
    }

    /// Sends all of `bytes`, with `descriptors` on the first.
    pub(crate) fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let sent = ipc_socket::send(self.sender.as_fd(), bytes, descriptors).expect("sent");
        assert_eq!(sent, bytes.len(), "the test's frames fit the socket's buffer");
    }

    /// Receives once, if there is anything.
    pub(crate) fn receive(&mut self) -> Option<Received> {
        match self.inbox.receive(self.receiver.as_fd(), &mut self.scratch) {
            Ok(received) => Some(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The messages that have arrived, read as a driver reads them.
    pub(crate) fn arrivals(&mut self) -> Result<Vec<Arrival>, InboxError> {
        let mut arrivals = Vec::new();
        loop {
            while let Some((message, descriptors)) = self.inbox.next_message()? {
                arrivals.push((message, descriptors.into_iter().map(Passed::into_inner).collect()));
            }
            match self.receive() {
                None => return Ok(arrivals),
                Some(received) if received.bytes_len == 0 => return Ok(arrivals),
                Some(_) => {}
            }
        }
    }
}

pub(crate) fn frame<M: Message>(message: &M) -> Vec<u8> {
    let mut frame = Vec::new();
    codec::encode_frame(message, &mut frame).expect("a frame");
    frame
}

/// A message that wants `len` descriptors, from item `first` on.
pub(crate) fn files_message(first: u64, len: usize) -> ClientRequest {
    let (source, files) = (FileSource::Descriptors, vec![FileItem::default(); len]);
    let items = Items::Files { source, files };
    ClientRequest::Items { job: JobId::default(), first, items }
}

/// `len` different files.
pub(crate) fn files(len: usize) -> Vec<File> {
    (0..len).map(|_| tempfile::tempfile().expect("a temporary file")).collect()
}

pub(crate) fn borrow(files: &[File]) -> Vec<BorrowedFd<'_>> {
    files.iter().map(AsFd::as_fd).collect()
}

/// Which files `descriptors` are.
pub(crate) fn inodes<F: AsFd>(descriptors: &[F]) -> Vec<(u64, u64)> {
    let inode = |descriptor: &F| {
        let twin = descriptor.as_fd().try_clone_to_owned().expect("a free descriptor");
        let metadata = File::from(twin).metadata().expect("metadata");
        (metadata.dev(), metadata.ino())
    };
    descriptors.iter().map(inode).collect()
}
