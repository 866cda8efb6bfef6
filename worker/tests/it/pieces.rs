//! Bytes inside messages: whole messages, and steps of streamed hashes.

use crate::controller::{Controller, Worker, pattern};
use engine::hash::Backend;
use ipc_proto::limits::{FRAME_MESSAGES_MAX, INLINE_LEN_MAX};
use ipc_proto::message::{Failure, Piece, Work};
use ipc_proto::{Algorithm, Blob};

fn digest(algorithm: Algorithm, input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Backend::PORTABLE.hash_many(algorithm, &[input], &mut out);
    out
}

#[test]
fn inline_messages_get_their_digests_in_batches_of_any_size() {
    let controller = Controller::new();
    let _worker = Worker::start(&controller, &["--threads", "2"]);
    let (mut peer, credit) = controller.welcome();
    let batches: Vec<Vec<Vec<u8>>> = vec![
        vec![vec![]],
        vec![pattern(64); 512],
        (0..100).map(pattern).collect(),
        vec![pattern(INLINE_LEN_MAX)],
        vec![vec![]; FRAME_MESSAGES_MAX],
    ];
    let turns = || batches.chunks(credit.into());
    for (algorithm, batches) in
        Algorithm::ALL.into_iter().flat_map(|a| turns().map(move |b| (a, b)))
    {
        let mut wanted = Vec::new();
        for batch in batches {
            let lens = batch.iter().map(|message| message.len().try_into().unwrap()).collect();
            let work = Work::Inline { lens, data: batch.concat().into() };
            let lease = peer.assign(algorithm, work, &[]);
            let want: Vec<u8> = batch.iter().flat_map(|input| digest(algorithm, input)).collect();
            wanted.push((lease, want));
        }
        while !wanted.is_empty() {
            let answer = peer.answer();
            let i = wanted.iter().position(|(lease, _)| *lease == answer.lease).unwrap();
            assert_eq!(
                (answer.outputs, answer.failures),
                (wanted.remove(i).1, vec![]),
                "{algorithm}"
            );
        }
    }
}

#[test]
fn a_blake3_stream_has_the_plain_digest() {
    let controller = Controller::new();
    let _worker = Worker::start(&controller, &[]);
    let (mut peer, _) = controller.welcome();
    let bytes = pattern(1_000_003);
    let part_len = 256 << 10;
    let mut values = Vec::new();
    for (i, part) in bytes.chunks(part_len).enumerate() {
        let piece = Piece::Subtree { offset: (i * part_len) as u64, data: part.into() };
        let lease = peer.assign(Algorithm::Blake3, Work::Piece(piece), &[]);
        values.extend(peer.done(lease).0);
    }
    let merge = Piece::Merge { values: values.into(), root: true };
    let lease = peer.assign(Algorithm::Blake3, Work::Piece(merge), &[]);
    assert_eq!(peer.done(lease), (digest(Algorithm::Blake3, &bytes), vec![]));
}

#[test]
fn a_stream_in_segments_has_the_plain_digest() {
    let controller = Controller::new();
    let _worker = Worker::start(&controller, &[]);
    let (mut peer, _) = controller.welcome();
    let bytes = pattern(1_000_003);
    for algorithm in Algorithm::ALL.into_iter().filter(|a| a.has_midstate()) {
        let mut state = Blob::default();
        let segments: Vec<_> = bytes.chunks(128 * 3001).collect();
        for (i, data) in segments.iter().enumerate() {
            let last = i + 1 == segments.len();
            let piece = Piece::Segment { state, data: (*data).into(), last };
            let lease = peer.assign(algorithm, Work::Piece(piece), &[]);
            let (output, failures) = peer.done(lease);
            assert_eq!(failures, vec![]);
            state = output.into();
        }
        assert_eq!(state.0, digest(algorithm, &bytes), "{algorithm}");
    }
}

#[test]
fn an_unsupported_step_is_invalid_and_the_worker_survives() {
    let controller = Controller::new();
    let _worker = Worker::start(&controller, &[]);
    let (mut peer, _) = controller.welcome();
    let blob = |len| Blob(vec![0xff; len]);
    for (algorithm, piece) in [
        (Algorithm::Sha256, Piece::Merge { values: blob(64), root: true }),
        (Algorithm::Sha512, Piece::Subtree { offset: 0, data: blob(1024) }),
        (Algorithm::Blake3, Piece::Segment { state: blob(0), data: blob(1), last: true }),
        (Algorithm::Sha256, Piece::Segment { state: blob(104), data: blob(128), last: false }),
        (Algorithm::Sha256, Piece::Segment { state: blob(105), data: blob(128), last: true }),
        (Algorithm::Sha384, Piece::Segment { state: blob(208), data: blob(1), last: true }),
        (Algorithm::Sha384, Piece::Segment { state: blob(512), data: blob(1), last: true }),
    ] {
        let lease = peer.assign(algorithm, Work::Piece(piece.clone()), &[]);
        let want = (vec![], vec![(0, Failure::Invalid)]);
        assert_eq!(peer.done(lease), want, "{algorithm}, {piece:?}");
    }
}
