//! Bodies of the fuzz targets, as plain functions: `fuzz/` wraps them for libFuzzer, the test
//! `fuzz` gives them seeded inputs. Each panics when the protocol code breaks a promise.

use ipc_proto::codec;
use ipc_proto::frame::{Decoder, FrameError, PREFIX_LEN};
use ipc_proto::handshake;
use ipc_proto::message::{
    ClientReply, ClientRequest, Hello, HelloReply, Message, VERSION_MAX, VERSION_MIN, WorkerReply,
    WorkerRequest,
};
use std::fmt::Debug;

/// The first byte seeds how the rest, a stream of frames, is cut into pieces: the bodies, the
/// error and the position must be those of the stream pushed whole.
pub(crate) fn frames(input: &[u8]) {
    let Some((&seed, stream)) = input.split_first() else { return };
    let mut whole = Reading::default();
    whole.push(stream);
    let mut pieces = Reading::default();
    let mut rest = stream;
    let mut state = u64::from(seed);
    while !rest.is_empty() {
        // Knuth's 64-bit linear congruential generator; its high bits are the good ones.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let piece_len = usize::from((state >> 56) as u8 % (seed | 1)).clamp(1, rest.len());
        pieces.push(&rest[..piece_len]);
        rest = &rest[piece_len..];
    }
    assert_eq!(pieces.bodies, whole.bodies, "bodies depend on how the stream was split");
    assert_eq!(pieces.error, whole.error);
    assert_eq!(pieces.decoder.pending_len(), whole.decoder.pending_len());
    if whole.error.is_none() {
        let used: usize = whole.bodies.iter().map(|body| PREFIX_LEN + body.len()).sum();
        assert_eq!(whole.decoder.position(), used as u64);
        assert_eq!(pieces.decoder.position(), used as u64);
        assert_eq!(used + whole.decoder.pending_len(), stream.len());
    }
}

#[derive(Default)]
struct Reading {
    decoder: Decoder,
    bodies: Vec<Vec<u8>>,
    error: Option<FrameError>,
}

impl Reading {
    fn push(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes);
        loop {
            match self.decoder.next_body() {
                Ok(Some(body)) => {
                    assert!(self.error.is_none(), "a body after an error");
                    assert!(!body.is_empty(), "an empty body");
                    self.bodies.push(body.to_vec());
                }
                Ok(None) => return,
                Err(error) => {
                    assert!(self.error.is_none_or(|first| first == error), "another error");
                    self.error = Some(error);
                    return;
                }
            }
        }
    }
}

/// A body, read as every type of message.
pub(crate) fn messages(body: &[u8]) {
    message::<Hello>(body);
    message::<HelloReply>(body);
    message::<ClientRequest>(body);
    message::<ClientReply>(body);
    message::<WorkerRequest>(body);
    message::<WorkerReply>(body);
}

/// A body that is read as a message keeps its limits and has one shortest form, which says the
/// same.
fn message<M: Message + PartialEq + Debug>(body: &[u8]) {
    let Ok(message) = codec::decode::<M>(body) else { return };
    assert_eq!(message.check(), Ok(()), "handed out unchecked");
    let shortest = encode(&message);
    assert!(shortest.len() <= body.len(), "re-encoding made the body longer");
    let again = codec::decode::<M>(&shortest).expect("what we send is read");
    assert_eq!(again, message);
    assert_eq!(encode(&again), shortest, "two encodings of one message");
}

/// The first body of a connection: accepted as what it says, or refused in words that fit.
pub(crate) fn handshake(body: &[u8]) {
    match handshake::accept(body) {
        Ok(accepted) => {
            assert!((VERSION_MIN..=VERSION_MAX).contains(&accepted.version));
            let hello: Hello = codec::decode(body).expect("an accepted body is a hello");
            assert_eq!(hello.role, accepted.role);
            assert_eq!(handshake::accept(&encode(&hello)), Ok(accepted));
        }
        Err(refusal) => {
            assert!(!refusal.text.is_empty());
            let reply = refusal.into_reply();
            assert_eq!(reply.check(), Ok(()), "{reply:?}");
            let sent = codec::decode::<HelloReply>(&encode(&reply)).expect("a refusal is read");
            assert_eq!(sent, reply);
        }
    }
}

fn encode<M: Message>(message: &M) -> Vec<u8> {
    let mut frame = Vec::new();
    codec::encode_frame(message, &mut frame).expect("a decoded message fits a frame");
    frame.split_off(PREFIX_LEN)
}
