//! Bytes inside messages: whole messages, and steps of streamed hashes.

use crate::controller::{Controller, Worker, pattern};
use engine::hash::Backend;
use ipc_proto::limits::{FRAME_MESSAGES_MAX, INLINE_LEN_MAX};
use ipc_proto::message::{Failure, Piece, Work};
use ipc_proto::{Algorithm, Blob};

fn digest(algorithm: Algorithm, input: &[u8]) -> Vec<u8> {
    Backend::PORTABLE.digests(algorithm, &[input])
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
fn a_streamed_hash_has_the_plain_digest() {
    let controller = Controller::new();
    let _worker = Worker::start(&controller, &[]);
    let (mut peer, _) = controller.welcome();
    let mut step = |algorithm, piece| {
        let lease = peer.assign(algorithm, Work::Piece(piece), &[]);
        peer.done(lease)
    };
    let bytes = pattern(1_000_003);
    let parts = (0..).step_by(256 << 10).zip(bytes.chunks(256 << 10));
    let subtrees = parts.map(|(offset, part)| Piece::Subtree { offset, data: part.into() });
    let values: Vec<_> = subtrees.flat_map(|piece| step(Algorithm::Blake3, piece).0).collect();
    let merge = Piece::Merge { values: values.into(), root: true };
    assert_eq!(step(Algorithm::Blake3, merge), (digest(Algorithm::Blake3, &bytes), vec![]));
    for algorithm in Algorithm::ALL.into_iter().filter(|a| a.has_midstate()) {
        let segments: Vec<_> = bytes.chunks(128 * 3001).collect();
        let state = (1..).zip(&segments).fold(Blob::default(), |state, (n, data)| {
            let piece = Piece::Segment { state, data: (*data).into(), last: n == segments.len() };
            step(algorithm, piece).0.into()
        });
        assert_eq!(state.0, digest(algorithm, &bytes), "{algorithm}");
    }
    let piece = Piece::Merge { values: Blob(vec![0xff; 64]), root: true };
    assert_eq!(step(Algorithm::Sha256, piece), (vec![], vec![(0, Failure::Invalid)]));
}
