use super::*;
use crate::engine::function::Function;
use crate::input::open::Way;
use ipc_proto::Algorithm;

fn push(reorder: &Reorder, names: &[&str]) {
    let mut batch = Batch::with_capacity(names.len());
    for name in names {
        let (function, want) = (Function::Standard(Algorithm::Sha256), &b"want"[..]);
        batch.push(Label { name: name.as_bytes(), function, want }, Verdict::Waiting);
    }
    reorder.push(batch.into()).unwrap();
}

fn resolve(reorder: &Reorder, batch: u64, position: u64, digest: u8) {
    let tag = (batch << POSITION_BITS) + position;
    assert!(reorder.resolve([(tag, Ok(&[digest; 32][..]))].into_iter()).is_empty());
}

fn take(reorder: &Reorder) -> String {
    let mut taken = String::new();
    while let Some(complete) = reorder.take() {
        for item in complete.items() {
            assert_eq!(item.label.want, b"want");
            let mark = if item.verdict == Verdict::Digest { item.digest[0] } else { b'!' };
            taken += &format!("{}{}", String::from_utf8_lossy(item.label.name), mark as char);
        }
        reorder.release(&complete);
    }
    taken
}

#[test]
fn outcomes_come_at_once_where_order_does_not_matter() {
    let reorder = Reorder::new().unwrap();
    reorder.set_unordered();
    push(&reorder, &["a", "b", "c"]);
    push(&reorder, &["d"]);
    resolve(&reorder, 1, 0, b'4');
    resolve(&reorder, 0, 1, b'2');
    assert_eq!(take(&reorder), "b2d4");
    push(&reorder, &["e"]);
    resolve(&reorder, 0, 2, b'3');
    assert_eq!(take(&reorder), "c3");
    resolve(&reorder, 2, 0, b'5');
    resolve(&reorder, 0, 0, b'1');
    assert_eq!(take(&reorder), "a1e5");
    assert!(reorder.is_empty());
    let State { entries, text_len, first, .. } = &*reorder.lock();
    assert_eq!((*entries, *text_len, *first), (0, 0, 3), "everything is released");
}

#[test]
fn shuffled_outcomes_are_printed_in_input_order_as_soon_as_possible() {
    let reorder = Reorder::new().unwrap();
    push(&reorder, &["a", "b"]);
    push(&reorder, &["c"]);
    push(&reorder, &["d", "e"]);
    resolve(&reorder, 2, 0, b'3');
    resolve(&reorder, 0, 1, b'1');
    assert_eq!(take(&reorder), "", "the first one is missing");
    let verdict = Verdict::Problem(Problem::Changed);
    reorder.change(&mut vec![(0, Change::Size(7)), (0, Change::Verdict(verdict))]);
    assert_eq!(take(&reorder), "a!b1");
    resolve(&reorder, 1, 0, b'2');
    assert_eq!(take(&reorder), "c2d3");
    assert!(!reorder.is_empty());
    resolve(&reorder, 2, 1, b'4');
    assert_eq!(take(&reorder), "e4");
    assert!(reorder.is_empty());
    let State { entries, text_len, listed, tally, .. } = &*reorder.lock();
    assert_eq!((*entries, *text_len, *listed), (0, 0, 5), "everything is released");
    assert_eq!(*tally, Tally { files: 5, bytes: 7, files_done: 5, bytes_done: 7 });
}

#[test]
fn a_file_that_workers_do_not_see_can_be_tried_in_another_way_once() {
    let reorder = Reorder::new().unwrap();
    push(&reorder, &["a", "b", "c"]);
    let way = Way::Below(7);
    reorder.change(&mut (0..2).map(|tag| (tag, Change::Named(3, way))).collect());
    let missing = Failure::Io { errno: libc::ENOENT };
    let failures = [(0, missing), (1, Failure::Disputed), (2, missing)];
    let unseen = reorder.resolve(failures.map(|(tag, failure)| (tag, Err(failure))).into_iter());
    let [Unseen { tag: 0, position: 0, way: Way::Below(7), failure, .. }] = unseen[..] else {
        panic!("{unseen:?}")
    };
    assert_eq!((failure, take(&reorder)), (Some(missing), String::new()));
    assert!(reorder.resolve([(0, Err(missing))].into_iter()).is_empty(), "the second time");
    assert_eq!(take(&reorder), "a!b!c!");
}

#[test]
fn files_of_a_lost_connection_are_found_by_their_tags_unless_one_was_a_stream() {
    let reorder = Reorder::new().unwrap();
    push(&reorder, &["a", "b", "c"]);
    let sent = |tag| (tag, Change::Sent(7, Way::Path));
    reorder.change(&mut vec![sent(0), sent(2), (1, Change::Size(9))]);
    let again = reorder.unanswered(&[0, 2]).unwrap();
    let found: Vec<_> = again.iter().map(|file| (file.tag, file.position, file.failure)).collect();
    assert_eq!(found, [(0, 0, None), (2, 2, None)]);
    assert!(reorder.unanswered(&[0, 1]).is_none(), "nobody can read it again");
}
