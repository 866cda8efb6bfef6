//! Messages to bodies and back. The only module that knows the encoding: bincode 2's standard
//! configuration (little-endian, variable-length integers, enum tags as variable-length `u32`).
//!
//! Invariants: decoding claims at most [`DECODE_CLAIM_MAX`] bytes, leaves no byte of the body
//! unread, and calls [`Message::check`] before a message is handed out.

use crate::frame::PREFIX_LEN;
use crate::limits::{BODY_LEN_MAX, DECODE_CLAIM_MAX};
use crate::message::{LimitExceeded, Message};
use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use std::fmt;

const CONFIG: Configuration<LittleEndian, Varint, Limit<DECODE_CLAIM_MAX>> =
    bincode::config::standard().with_limit::<DECODE_CLAIM_MAX>();

/// Why a message could not become a body, or a body a message.
#[derive(Debug)]
pub enum CodecError {
    /// The encoded body would be longer than [`BODY_LEN_MAX`].
    Oversize,
    /// The body does not follow the encoding: cut, an unknown tag, a length that lies.
    Malformed(String),
    /// The message ended before its body did.
    Trailing {
        /// Bytes left over.
        unread_len: usize,
    },
    /// A field breaks its limit.
    Limit(LimitExceeded),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oversize => write!(f, "message longer than {BODY_LEN_MAX} bytes"),
            Self::Malformed(what) => write!(f, "malformed message: {what}"),
            Self::Trailing { unread_len } => write!(f, "{unread_len} bytes after the message"),
            Self::Limit(limit) => limit.fmt(f),
        }
    }
}

impl std::error::Error for CodecError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Limit(error) => Some(error),
            Self::Oversize | Self::Malformed(_) | Self::Trailing { .. } => None,
        }
    }
}

/// Appends `message` to `out` as one frame.
///
/// # Errors
/// [`CodecError::Oversize`], with `out` as it was before.
pub fn encode_frame<M: Message>(message: &M, out: &mut Vec<u8>) -> Result<(), CodecError> {
    debug_assert_eq!(message.check(), Ok(()), "we never send what we would refuse");
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_LEN]);
    let body_start = out.len();
    let mut bounded = Bounded { out, start: body_start, chunk: [0; GATHER_LEN], chunk_len: 0 };
    let written = bincode::serde::encode_into_writer(message, &mut bounded, CONFIG)
        .and_then(|()| bounded.flush());
    let body_len = out.len() - body_start;
    match (written, u32::try_from(body_len)) {
        (Ok(()), Ok(prefix)) => {
            out[start..body_start].copy_from_slice(&prefix.to_le_bytes());
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(CodecError::Oversize)
        }
    }
}

/// The message in `body`.
///
/// # Errors
/// The peer's fault, always: see [`CodecError`].
pub fn decode<M: Message>(body: &[u8]) -> Result<M, CodecError> {
    let (message, read_len) = bincode::serde::decode_from_slice::<M, _>(body, CONFIG)
        .map_err(|error| malformed(&error))?;
    if read_len != body.len() {
        return Err(CodecError::Trailing { unread_len: body.len() - read_len });
    }
    message.check().map_err(CodecError::Limit)?;
    Ok(message)
}

/// The message at the start of `body`, whatever follows it: for the fields of a `Hello` that
/// never change, when the rest may be of a version that we do not know.
pub(crate) fn decode_prefix<M: Message>(body: &[u8]) -> Result<M, CodecError> {
    let (message, _) = bincode::serde::decode_from_slice::<M, _>(body, CONFIG)
        .map_err(|error| malformed(&error))?;
    Ok(message)
}

fn malformed(error: &DecodeError) -> CodecError {
    // Our own words, without the encoder's name for them around.
    if let DecodeError::OtherString(text) = error {
        return CodecError::Malformed(text.clone());
    }
    CodecError::Malformed(error.to_string())
}

/// Bytes that are appended together.
const GATHER_LEN: usize = 256;

/// Appends to `out` until the body that starts at `start` is full. The encoder writes a byte or a
/// few at a time, so they are gathered.
struct Bounded<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    chunk: [u8; GATHER_LEN],
    chunk_len: usize,
}

impl Bounded<'_> {
    fn flush(&mut self) -> Result<(), EncodeError> {
        let len = std::mem::take(&mut self.chunk_len);
        append(self.out, self.start, &self.chunk[..len])
    }

    #[cold]
    fn write_past(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.flush()?;
        append(self.out, self.start, bytes)
    }
}

fn append(out: &mut Vec<u8>, start: usize, bytes: &[u8]) -> Result<(), EncodeError> {
    if out.len() - start + bytes.len() > BODY_LEN_MAX {
        return Err(EncodeError::UnexpectedEnd);
    }
    out.extend_from_slice(bytes);
    Ok(())
}

impl Writer for Bounded<'_> {
    // Inlined, so that the encoder's slices of a constant length are stored without a call.
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let end = self.chunk_len + bytes.len();
        let Some(room) = self.chunk.get_mut(self.chunk_len..end) else {
            return self.write_past(bytes);
        };
        room.copy_from_slice(bytes);
        self.chunk_len = end;
        Ok(())
    }
}
