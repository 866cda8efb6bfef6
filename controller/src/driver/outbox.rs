//! The send queue of one connection: bytes in order, descriptors on the first byte of their frame.

use super::files::File;
use ipc_proto::codec::{self, CodecError};
use ipc_proto::message::Message;
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

/// A peer whose unsent bytes reach this is not read from until it has taken some.
pub(super) const CHOKE_LEN: usize = 1 << 20;

/// Bytes that are sent in one call.
#[derive(Debug, Default)]
struct Segment {
    bytes: Vec<u8>,
    sent: usize,
    descriptors: Vec<File>,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    segments: VecDeque<Segment>,
    unsent_len: usize,
    spare: Vec<u8>,
}

/// Where a flush ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Everything is sent.
    Empty,
    /// The socket takes no more for now.
    Full,
    /// The kernel takes no more descriptors for now, and will not say when it does.
    Later,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    pub(super) fn unsent_len(&self) -> usize {
        self.unsent_len
    }

    /// Appends a message as one frame.
    pub(super) fn push<M: Message>(
        &mut self,
        message: &M,
        descriptors: Vec<File>,
    ) -> Result<(), CodecError> {
        let joins = descriptors.is_empty()
            && self.segments.back().is_some_and(|segment| segment.bytes.len() < CHOKE_LEN);
        if !joins {
            let bytes = std::mem::take(&mut self.spare);
            self.segments.push_back(Segment { bytes, sent: 0, descriptors });
        }
        let segment = self.segments.back_mut().expect("one was just pushed or joined");
        let before = segment.bytes.len();
        let result = codec::encode_frame(message, &mut segment.bytes);
        self.unsent_len += segment.bytes.len() - before;
        if !joins && result.is_err() {
            self.segments.pop_back();
        }
        result
    }

    /// Sends as much as `socket` takes.
    pub(super) fn flush(&mut self, socket: BorrowedFd<'_>) -> io::Result<Flushed> {
        while let Some(segment) = self.segments.front_mut() {
            let unsent = &segment.bytes[segment.sent..];
            let sent = File::with_descriptors(&segment.descriptors, |descriptors| {
                ipc_socket::send(socket, unsent, descriptors)
            });
            match sent {
                Ok(sent_len) => {
                    segment.sent += sent_len;
                    segment.descriptors.clear();
                    self.unsent_len -= sent_len;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Flushed::Full);
                }
                Err(error)
                    if error.raw_os_error() == Some(nix::errno::Errno::ETOOMANYREFS as i32) =>
                {
                    return Ok(Flushed::Later);
                }
                Err(error) => return Err(error),
            }
            if segment.sent == segment.bytes.len() {
                let mut done = self.segments.pop_front().expect("it is the front");
                if done.bytes.capacity() <= SPARE_LEN_MAX {
                    done.bytes.clear();
                    self.spare = done.bytes;
                }
            }
        }
        Ok(Flushed::Empty)
    }
}

/// A buffer up to this size is kept for the next frame.
const SPARE_LEN_MAX: usize = 64 << 10;
