//! Descriptors reach the message that they were sent with.

use crate::support::{Arrival, Pair, borrow, files, files_message, frame, inodes};
use ipc_proto::limits::FRAME_DESCRIPTORS_MAX;
use ipc_proto::message::{ClientRequest, JobId};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::fs::File;
use std::os::fd::AsFd;

const FINISH: ClientRequest = ClientRequest::Finish { job: JobId { epoch: 1, number: 1 } };

#[track_caller]
fn check_arrivals(arrivals: &[Arrival], want: &[(&ClientRequest, &[File])]) {
    assert_eq!(arrivals.len(), want.len(), "{arrivals:?}");
    for ((message, descriptors), (want_message, want_files)) in arrivals.iter().zip(want) {
        assert_eq!(&message, want_message);
        assert_eq!(inodes(descriptors), inodes(want_files), "{message:?}");
    }
}

#[test]
fn descriptors_arrive_in_order_and_are_closed_on_exec() {
    let mut pair = Pair::new();
    let (message, files) = (files_message(0, 3), files(3));
    pair.send(&frame(&message), &borrow(&files));
    let arrivals = pair.arrivals().unwrap();
    check_arrivals(&arrivals, &[(&message, &files)]);
    for descriptor in &arrivals[0].1 {
        let flags = fcntl(descriptor.as_fd(), FcntlArg::F_GETFD).unwrap();
        assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
    }
}

#[test]
fn the_most_descriptors_of_a_frame_arrive() {
    let mut pair = Pair::new();
    let (message, files) = (files_message(0, FRAME_DESCRIPTORS_MAX), files(FRAME_DESCRIPTORS_MAX));
    pair.send(&frame(&message), &borrow(&files));
    let received = pair.receive().unwrap();
    assert_eq!(received.descriptors_len, FRAME_DESCRIPTORS_MAX);
    assert!(!received.truncated, "the control buffer holds the most descriptors");
    check_arrivals(&pair.arrivals().unwrap(), &[(&message, &files)]);
}

#[test]
fn a_frame_cut_at_any_byte_keeps_its_descriptors() {
    let (message, files) = (files_message(7, 2), files(2));
    let frame = frame(&message);
    for cut in 1..frame.len() {
        let mut pair = Pair::new();
        pair.send(&frame[..cut], &borrow(&files));
        assert!(pair.arrivals().unwrap().is_empty(), "cut at {cut}");
        assert!(pair.inbox.is_cut());
        for byte in cut..frame.len() - 1 {
            pair.send(&frame[byte..=byte], &[]);
            assert!(pair.arrivals().unwrap().is_empty(), "cut at {cut}, byte {byte}");
        }
        pair.send(&frame[frame.len() - 1..], &[]);
        check_arrivals(&pair.arrivals().unwrap(), &[(&message, &files)]);
        assert!(!pair.inbox.is_cut());
    }
}

#[test]
fn descriptors_skip_the_frames_that_arrive_with_them() {
    let mut pair = Pair::new();
    let (message, files) = (files_message(0, 2), files(2));
    for _ in 0..3 {
        pair.send(&frame(&FINISH), &[]);
    }
    pair.send(&frame(&message), &borrow(&files));
    pair.send(&frame(&FINISH), &[]);
    let received = pair.receive().unwrap();
    assert_eq!(received.descriptors_len, 2, "one call brings frames before the descriptors, too");
    assert!(received.bytes_len > frame(&message).len());
    let none: &[File] = &[];
    let want =
        [(&FINISH, none), (&FINISH, none), (&FINISH, none), (&message, &files), (&FINISH, none)];
    check_arrivals(&pair.arrivals().unwrap(), &want);
}

#[test]
fn the_end_of_a_frame_arrives_with_the_descriptors_of_the_next() {
    let (message, files) = (files_message(0, 2), files(2));
    let first = frame(&FINISH);
    for cut in 1..first.len() {
        let mut pair = Pair::new();
        pair.send(&first[..cut], &[]);
        assert!(pair.arrivals().unwrap().is_empty());
        pair.send(&first[cut..], &[]);
        pair.send(&frame(&message)[..1], &borrow(&files));
        pair.send(&frame(&message)[1..], &[]);
        check_arrivals(&pair.arrivals().unwrap(), &[(&FINISH, &[]), (&message, &files)]);
    }
}

#[test]
fn frames_with_descriptors_one_after_the_other_keep_their_own() {
    let mut pair = Pair::new();
    let sent: Vec<_> = (0..20).map(|first| (files_message(first, 5), files(5))).collect();
    for (message, files) in &sent {
        pair.send(&frame(message), &borrow(files));
    }
    let want: Vec<_> = sent.iter().map(|(message, files)| (message, files.as_slice())).collect();
    check_arrivals(&pair.arrivals().unwrap(), &want);
}

#[test]
fn an_end_of_stream_between_frames_is_not_truncation() {
    let mut pair = Pair::new();
    pair.send(&frame(&FINISH), &[]);
    pair.sender.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(pair.arrivals().unwrap().len(), 1);
    assert_eq!(pair.receive().map(|received| received.bytes_len), Some(0));
    assert!(!pair.inbox.is_cut());
    assert_eq!(pair.inbox.pending_len(), 0);
}
