//! Pairs messages with the descriptors that ride on them.
//!
//! Linux delivers the descriptors of a frame no later than its first byte, possibly in one
//! `recvmsg` with the end of the frame before it. So descriptors queue in order of arrival, each
//! with the stream position reached at that time, and a message takes as many as it declares.
//! Invariants: descriptors that no message can claim any more are an error at once, and at most
//! [`PENDING_MAX`] are queued.

use ipc_proto::codec::{self, CodecError};
use ipc_proto::frame::{Decoder, FrameError};
use ipc_proto::limits::FRAME_DESCRIPTORS_MAX;
use ipc_proto::message::Message;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use thiserror::Error;

use crate::closing::{Passed, PassedBy};
use crate::sys::{self, Received};

/// Limit of descriptors that wait for their message: those of one incomplete frame and of one
/// complete frame.
const PENDING_MAX: usize = 2 * FRAME_DESCRIPTORS_MAX;

/// Bytes per `recvmsg`: most frames, and the default socket buffer.
pub const RECEIVE_LEN: usize = 256 << 10;

/// Memory for one `recvmsg` at a time; connections that are read in turn share one.
pub struct Scratch {
    bytes: Box<[u8]>,
    descriptors: Vec<OwnedFd>,
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self { bytes: vec![0; RECEIVE_LEN].into(), descriptors: Vec::new() }
    }
}

/// End of a peer's stream by an error: the peer's fault, except [`InboxError::Truncated`].
#[derive(Debug, Error)]
pub enum InboxError {
    /// A frame exceeds its limits.
    #[error("{0}")]
    Frame(#[source] FrameError),
    /// A body is not a valid message.
    #[error("{0}")]
    Codec(#[source] CodecError),
    /// A message came without all of its descriptors.
    #[error("message with {got} descriptors instead of {want}")]
    DescriptorsMissing {
        /// Number that it declares.
        want: usize,
        /// Number that arrived.
        got: usize,
    },
    /// Descriptors arrived that no message claims.
    #[error("{count} descriptors that no message claims")]
    DescriptorsUnclaimed {
        /// Their number.
        count: usize,
    },
    /// Descriptors were lost because this process has reached its limit of open files.
    #[error("descriptors lost: too many open files")]
    Truncated,
}

/// Bytes and descriptors of one connection that have arrived but were not returned yet.
#[derive(Debug, Default)]
pub struct Inbox {
    decoder: Decoder,
    pending: VecDeque<Pending>,
    /// Bytes of the stream received so far.
    received: u64,
    truncated: bool,
    /// The peer, as far as closing what it passed goes.
    owner: PassedBy,
}

#[derive(Debug)]
struct Pending {
    descriptor: Passed,
    /// Stream position after the `recvmsg` that received it: its frame starts before.
    before: u64,
}

impl Inbox {
    /// An inbox at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An inbox at the start of a stream whose first body is a `Hello`, as [`Decoder::for_hello`].
    #[must_use]
    pub fn for_hello() -> Self {
        Self { decoder: Decoder::for_hello(), ..Self::default() }
    }

    /// Says whom the descriptors come from.
    pub fn set_owner(&mut self, owner: PassedBy) {
        self.owner = owner;
    }

    /// Whom the descriptors come from.
    #[must_use]
    pub fn owner(&self) -> PassedBy {
        self.owner
    }

    /// Takes frames of any message from now on.
    pub fn accept_hello(&mut self) {
        self.decoder.accept_hello();
    }

    /// Receives once from `socket`.
    ///
    /// # Errors
    /// As recvmsg(2).
    pub fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        scratch: &mut Scratch,
    ) -> io::Result<Received> {
        self.receive_up_to(RECEIVE_LEN, socket, scratch)
    }

    /// Receives once from `socket`, at most `len_max` bytes.
    ///
    /// # Errors
    /// As recvmsg(2).
    pub fn receive_up_to(
        &mut self,
        len_max: usize,
        socket: BorrowedFd<'_>,
        scratch: &mut Scratch,
    ) -> io::Result<Received> {
        let bytes = &mut scratch.bytes[..len_max.min(RECEIVE_LEN)];
        let received = sys::recv(socket, bytes, &mut scratch.descriptors)?;
        self.decoder.push(&scratch.bytes[..received.bytes_len]);
        self.received += received.bytes_len as u64;
        let before = self.received;
        let arrived = scratch.descriptors.drain(..);
        let owner = self.owner;
        self.pending.extend(arrived.map(|descriptor| {
            let descriptor = Passed::of(owner, descriptor);
            Pending { descriptor, before }
        }));
        self.truncated |= received.truncated;
        Ok(received)
    }

    /// The body of the next whole frame, which carries no descriptors: the handshake's.
    ///
    /// # Errors
    /// See [`InboxError`]; the connection cannot be used any more.
    pub fn next_body(&mut self) -> Result<Option<Vec<u8>>, InboxError> {
        self.refuse_excess()?;
        let body = self.decoder.next_body().map_err(InboxError::Frame)?.map(<[u8]>::to_vec);
        self.refuse_unclaimed()?;
        Ok(body)
    }

    /// The next whole message, with its descriptors.
    ///
    /// # Errors
    /// See [`InboxError`]; the connection cannot be used any more.
    pub fn next_message<M: Message>(&mut self) -> Result<Option<(M, Vec<Passed>)>, InboxError> {
        self.refuse_excess()?;
        let Some(body) = self.decoder.next_body().map_err(InboxError::Frame)? else {
            return self.refuse_unclaimed().map(|()| None);
        };
        let message: M = codec::decode(body).map_err(InboxError::Codec)?;
        let want = message.descriptors_len();
        if self.pending.len() < want {
            return Err(InboxError::DescriptorsMissing { want, got: self.pending.len() });
        }
        let descriptors = self.pending.drain(..want).map(|pending| pending.descriptor).collect();
        self.refuse_unclaimed()?;
        Ok(Some((message, descriptors)))
    }

    /// Bytes of an incomplete frame.
    #[must_use]
    pub fn pending_len(&self) -> usize {
        self.decoder.pending_len()
    }

    /// Descriptors that wait for their message.
    #[must_use]
    pub fn descriptors_len(&self) -> usize {
        self.pending.len()
    }

    /// Memory that is held for bytes that have arrived.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.decoder.capacity()
    }

    /// Memory that will be held once `len` more bytes have arrived.
    #[must_use]
    pub fn capacity_for(&self, len: usize) -> usize {
        self.decoder.capacity_for(len)
    }

    /// Bytes that are missing of the frame that is not whole; of its length, as long as that is not known.
    #[must_use]
    pub fn missing_len(&self) -> usize {
        self.decoder.missing_len()
    }

    /// Releases memory that is not needed for what has arrived.
    pub fn shrink(&mut self) {
        self.decoder.shrink();
    }

    /// The position in the stream at which a frame starts that is not whole, if one does.
    #[must_use]
    pub fn incomplete_frame(&self) -> Option<u64> {
        self.is_cut().then(|| self.decoder.position())
    }

    /// True if the stream ended inside a frame, or with descriptors left over.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.decoder.pending_len() > 0 || !self.pending.is_empty()
    }

    fn refuse_excess(&self) -> Result<(), InboxError> {
        if self.truncated {
            return Err(InboxError::Truncated);
        }
        if self.pending.len() > PENDING_MAX {
            return Err(InboxError::DescriptorsUnclaimed { count: self.pending.len() });
        }
        Ok(())
    }

    /// Fails on a descriptor of a frame that was already returned: no message claimed it.
    fn refuse_unclaimed(&self) -> Result<(), InboxError> {
        let position = self.decoder.position();
        let count = self.pending.iter().take_while(|pending| pending.before <= position).count();
        if count > 0 {
            return Err(InboxError::DescriptorsUnclaimed { count });
        }
        Ok(())
    }
}
