//! Losses of batches, and what is counted of them.

use super::*;

fn files(len: u64) -> Batch<()> {
    let file = |index| File {
        index,
        item: FileItem::default(),
        source: Source::Descriptor(()),
        queued: Duration::ZERO,
    };
    Batch::new(Load::Files((0..len).map(file).collect()))
}

fn retried(batch: Batch<()>, worker: &str) -> Vec<Batch<()>> {
    match batch.after_loss(&Rc::from(worker), LossCause::Disconnected) {
        AfterLoss::Retry(batches) => batches,
        AfterLoss::Fail(_) => panic!("it must be tried again"),
    }
}

#[test]
fn an_item_that_kills_its_workers_is_alone_by_its_third_attempt() {
    for items_len in [1, 2, 16, 253] {
        let second = retried(files(items_len), "w1");
        assert_eq!(second.iter().map(Batch::items_len).sum::<usize>() as u64, items_len);
        let third = retried(second.into_iter().next().unwrap(), "w2");
        assert!(third.iter().all(|batch| batch.items_len() == 1));
        let last = third.into_iter().next().unwrap();
        let last = last.after_loss(&Rc::from("w3"), LossCause::Silent);
        let AfterLoss::Fail(batch) = last else { panic!("it failed three workers") };
        let losses = batch.history.losses();
        let workers: Vec<&str> = losses.iter().map(|loss| loss.worker.as_str()).collect();
        assert_eq!((batch.items_len(), &workers[..]), (1, &["w1", "w2", "w3"][..]));
        let [first, _, last] = [0, 1, 2].map(|i| losses[i].cause);
        assert_eq!((first, last), (LossCause::Disconnected, LossCause::Silent));
    }
}

#[test]
fn the_same_worker_dying_again_is_no_proof_against_an_item_until_the_bound() {
    let mut batch = files(1);
    for _ in 1..LOSSES_MAX {
        batch = retried(batch, "w1").pop().unwrap();
    }
    let last = batch.after_loss(&Rc::from("w1"), LossCause::Expired);
    assert!(matches!(last, AfterLoss::Fail(batch) if batch.history.losses().len() == LOSSES_MAX));
}

#[test]
fn messages_are_cut_with_their_bytes() {
    let lens = vec![1, 0, 3, 2];
    let data = Blob::from(vec![10, 20, 21, 22, 30, 31]);
    let batch = Batch::<()>::new(Load::Inline { first: 7, lens, data });
    let cut: Vec<_> = batch.cut(2).into_iter().map(|batch| batch.load).collect();
    let [a, b] = cut.as_slice() else { panic!("two halves") };
    assert!(matches!(a, Load::Inline { first: 7, lens, data }
        if lens == &[1, 0] && data.0 == [10]));
    assert!(matches!(b, Load::Inline { first: 9, lens, data }
        if lens == &[3, 2] && data.0 == [20, 21, 22, 30, 31]));
}

#[test]
fn bytes_of_items_that_failed_do_not_count() {
    let failed = vec![(1, ipc_proto::message::Failure::Changed)];
    let file = |size| File {
        index: 0,
        item: Stamp { size, ..Stamp::default() }.into(),
        source: Source::Descriptor(()),
        queued: Duration::ZERO,
    };
    let batch = Batch::new(Load::Files([1, u64::MAX, 4].map(file).to_vec()));
    assert_eq!((batch.bytes(), batch.bytes_done(&failed)), (u64::MAX, 5));
    let data = Blob::from(vec![0; 7]);
    let batch = Batch::<()>::new(Load::Inline { first: 0, lens: vec![3, 4], data });
    assert_eq!((batch.bytes_done(&vec![]), batch.bytes_done(&failed)), (7, 3));
}

#[test]
fn neighbouring_indexes_make_one_run() {
    let want = [Run { first: 3, len: 3 }, Run { first: 9, len: 1 }, Run { first: 7, len: 2 }];
    assert_eq!(runs_of([3, 4, 5, 9, 7, 8].into_iter()), want);
}
