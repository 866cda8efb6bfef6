//! A peer that breaks the rules of descriptors is refused, and none of them stays open.

use crate::alone::{alone, open_descriptors};
use crate::support::{Pair, borrow, files, files_message, frame};
use ipc_proto::limits::FRAME_DESCRIPTORS_MAX;
use ipc_proto::message::{ClientRequest, JobId};
use ipc_socket::InboxError;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::path::Path;

const FINISH: ClientRequest = ClientRequest::Finish { job: JobId { epoch: 1, number: 1 } };

/// Per case the frames, each with that many descriptors on its first byte, and the error.
#[test]
fn descriptors_that_no_message_takes_are_refused_and_closed() {
    let most = FRAME_DESCRIPTORS_MAX;
    let (finish, of) = (frame(&FINISH), |len| frame(&files_message(0, len)));
    type Case<'a> = (&'a [(&'a [u8], usize)], &'a str);
    let cases: [Case<'_>; 8] = [
        (&[(&finish, 3)], "3 descriptors that no message claims"),
        (&[(&finish, 1), (&of(1), 0)], "1 descriptors that no message claims"),
        (&[(&of(2), 5)], "3 descriptors that no message claims"),
        (&[(&of(3), 2)], "message with 2 descriptors instead of 3"),
        (&[(&of(1), 0)], "message with 0 descriptors instead of 1"),
        // A frame that says 1 MiB, and descriptors on each of its bytes.
        (
            &[(&[0, 0, 16, 0], most), (&[0], most), (&[0], most), (&[0], most)],
            "759 descriptors that no message claims",
        ),
        (
            &[(&[2, 0, 0, 0, 99, 99], 4)],
            "malformed message: invalid value: integer `99`, expected variant index 0 <= i < 11",
        ),
        (&[(&[0xff; 4], 4)], "frame of 4294967295 bytes, at most 1048576 are taken"),
    ];
    alone("leaks::descriptors_that_no_message_takes_are_refused_and_closed", || {
        for (frames, want) in cases {
            let before = open_descriptors();
            let mut pair = Pair::new();
            for (bytes, descriptors_len) in frames {
                pair.send(bytes, &borrow(&files(*descriptors_len)));
            }
            let error = pair.arrivals().expect_err("the peer breaks a rule");
            assert_eq!(error.to_string(), *want);
            drop(pair);
            assert_eq!(open_descriptors(), before, "descriptors leaked: {want}");
        }
    });
}

#[test]
fn descriptors_in_the_handshake_are_refused() {
    alone("leaks::descriptors_in_the_handshake_are_refused", || {
        let before = open_descriptors();
        let mut pair = Pair::new();
        pair.send(&[1, 0, 0, 0, 7], &borrow(&files(2)));
        pair.receive().unwrap();
        let error = pair.inbox.next_body().unwrap_err();
        assert!(matches!(error, InboxError::DescriptorsUnclaimed { count: 2 }), "{error}");
        drop(pair);
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn descriptors_of_a_frame_that_never_ends_are_closed_with_the_connection() {
    alone("leaks::descriptors_of_a_frame_that_never_ends_are_closed_with_the_connection", || {
        let before = open_descriptors();
        let mut pair = Pair::new();
        pair.send(&frame(&files_message(0, 9))[..10], &borrow(&files(9)));
        assert!(pair.arrivals().unwrap().is_empty());
        pair.sender.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(pair.arrivals().unwrap().is_empty());
        assert!(pair.inbox.is_cut());
        assert_eq!(open_descriptors(), before + 2 + 9);
        drop(pair);
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn descriptors_that_are_never_received_are_closed_with_the_connection() {
    alone("leaks::descriptors_that_are_never_received_are_closed_with_the_connection", || {
        let before = open_descriptors();
        let pair = Pair::new();
        pair.send(&frame(&files_message(0, 9)), &borrow(&files(9)));
        drop(pair);
        assert_eq!(open_descriptors(), before);
    });
}

/// `MSG_CTRUNC`: of the descriptors on a frame only the first few find a place in this process.
#[test]
fn descriptors_beyond_the_limit_of_open_files_are_reported_lost_and_the_others_closed() {
    let name =
        "leaks::descriptors_beyond_the_limit_of_open_files_are_reported_lost_and_the_others_closed";
    alone(name, || {
        let before = open_descriptors();
        for room in 0..5 {
            let mut pair = Pair::new();
            {
                let file = files(1);
                pair.send(&frame(&files_message(0, 20)), &[borrow(&file)[0]; 20]);
            }
            // The limit is one on numbers: below this one exactly `room` are free.
            let is_free = |number: &u64| !Path::new(&format!("/proc/self/fd/{number}")).exists();
            let soft = (0..).filter(is_free).nth(room).unwrap();
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
            let received = pair.receive().unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
            assert!(received.truncated);
            assert_eq!(received.descriptors_len, room);
            let error = pair.arrivals().unwrap_err();
            assert!(matches!(error, InboxError::Truncated), "{error}");
            drop(pair);
            assert_eq!(open_descriptors(), before, "with room for {room}");
        }
    });
}

#[test]
fn closing_many_closes_exactly_those() {
    alone("leaks::closing_many_closes_exactly_those", || {
        let before = open_descriptors();
        let mut doomed: Vec<_> = files(100).into_iter().map(std::os::fd::OwnedFd::from).collect();
        let kept: Vec<_> = [70, 69, 40, 10, 3].map(|at| doomed.remove(at)).into();
        doomed.reverse();
        ipc_socket::close_all(doomed);
        assert_eq!(open_descriptors(), before + kept.len());
        for descriptor in &kept {
            nix::sys::stat::fstat(descriptor).expect("it was not among them");
        }
        ipc_socket::close_all(kept);
        ipc_socket::close_all(Vec::new());
        assert_eq!(open_descriptors(), before);
    });
}
