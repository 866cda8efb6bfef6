//! The fuzz target `kernels` as a plain function: `fuzz/` wraps it for libFuzzer, the test
//! `fuzz` gives it seeded inputs. It panics when a backend does not agree with the portable one.

use engine::hash::{Backend, Midstate};
use ipc_proto::Algorithm;
use ipc_proto::limits::SEGMENT_ALIGN;

/// Most messages of a set: more than twice as many as the widest kernel has lanes.
const MESSAGES_MAX: usize = 48;

/// Bytes that describe a message: twice 16 bits of length, then where its bytes start in the data.
const HEAD_LEN: usize = 4;

/// An algorithm, a number of messages, as many heads of them, and the data.
pub(crate) fn kernels(input: &[u8]) {
    let Some((&[algorithm, messages_len], rest)) = input.split_first_chunk() else { return };
    let algorithm = Algorithm::ALL[usize::from(algorithm) % Algorithm::ALL.len()];
    let heads = rest.as_chunks::<HEAD_LEN>().0;
    let heads = &heads[..heads.len().min(usize::from(messages_len) % (MESSAGES_MAX + 1))];
    let data = match &rest[heads.len() * HEAD_LEN..] {
        [] => &[0],
        data => data,
    };
    // Each in memory of its own and as long as it is, so that a sanitizer sees a read past its end.
    let messages: Vec<Box<[u8]>> = heads.iter().map(|head| message(*head, data)).collect();
    let messages: Vec<&[u8]> = messages.iter().map(AsRef::as_ref).collect();
    let mut want = b"before".to_vec();
    Backend::PORTABLE.hash_many(algorithm, &messages, &mut want);
    for backend in Backend::available() {
        let mut got = b"before".to_vec();
        backend.hash_many(algorithm, &messages, &mut got);
        assert!(got == want, "{algorithm} by {}", backend.name());
        if algorithm.has_midstate() {
            let mut got = b"before".to_vec();
            interleave(*backend, algorithm, &messages, &mut got);
            assert!(got == want, "{algorithm} by {}, block by block", backend.name());
        }
    }
}

/// Hashes as long files are hashed: interleaved, as many whole blocks of each as the one with the
/// fewest has, again and again.
fn interleave(backend: Backend, algorithm: Algorithm, messages: &[&[u8]], out: &mut Vec<u8>) {
    let start = |message| (Midstate::new(algorithm).expect("it has one"), message);
    let mut going: Vec<(Midstate, &[u8])> = messages.iter().copied().map(start).collect();
    let whole_len = |rest: &[u8]| rest.len() / SEGMENT_ALIGN * SEGMENT_ALIGN;
    while let Some(len) = going.iter().map(|(_, rest)| whole_len(rest)).filter(|len| *len > 0).min()
    {
        let (mut states, mut data) = (Vec::new(), Vec::new());
        for (midstate, rest) in going.iter_mut().filter(|(_, rest)| whole_len(rest) > 0) {
            let (next, after) = rest.split_at(len);
            *rest = after;
            states.push(midstate);
            data.push(next);
        }
        Midstate::update_many_by(backend, &mut states, &data);
    }
    out.extend(going.iter().flat_map(|(midstate, rest)| midstate.finish(rest)));
}

/// Of 0 to 65,535 bytes, a shift in the head making short ones as likely as long ones.
fn message([low, high, shift, start]: [u8; HEAD_LEN], data: &[u8]) -> Box<[u8]> {
    let len = usize::from(u16::from_le_bytes([low, high]) >> (shift % 16));
    data.iter().cycle().skip(usize::from(start) % data.len()).take(len).copied().collect()
}
