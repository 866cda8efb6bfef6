//! Histories of what workers were lost over.

use crate::tables::table;
use hashcluster_controller::core::{Event, WorkerId};
use ipc_proto::message::WorkerReply;

#[test]
fn what_two_workers_were_lost_over_is_alone_with_the_third_one() {
    let mut table = table();
    table.join(1, 9);
    table.send_files(0, &[10]);
    table.step(Event::WorkerLeft(WorkerId(1)));
    table.join(2, 9);
    table.step(Event::WorkerLeft(WorkerId(2)));
    // A third one is busy with other files, of this user and of others.
    table.send_files(1, &[20]);
    table.assigned();
    table.join(3, 9);
    let busy = table.assigned();
    assert_eq!(busy.iter().map(|(_, _, files)| &files[..]).collect::<Vec<_>>(), [[1]]);
    table.send_files(2, &[30]);
    assert_eq!(table.assigned(), [], "reserved: it gets no more");
    table.done(3, busy[0].1, 1, vec![]);
    let alone = table.assigned();
    let [(3, lease, files)] = &alone[..] else { panic!("{alone:?}") };
    assert_eq!(files, &[0]);
    table.hear(3, WorkerReply::Credit { batches: 9 });
    assert_eq!(table.assigned(), [], "nothing is lost with it");
    // Others are not held up.
    table.join(4, 1);
    let (worker, other, files) = table.assigned().pop().expect("there is work");
    assert_eq!((worker, files), (4, vec![2]));
    table.done(4, other, 1, vec![]);
    table.done(3, *lease, 1, vec![]);
    table.send_files(3, &[40]);
    assert_eq!(table.assigned().len(), 1, "it takes others again");
}
