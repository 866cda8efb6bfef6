//! Bytes inside messages.

use crate::controller::{Controller, Worker, pattern};
use engine::hash::Backend;
use ipc_proto::Algorithm;
use ipc_proto::limits::{FRAME_MESSAGES_MAX, INLINE_LEN_MAX};
use ipc_proto::message::Work;

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
