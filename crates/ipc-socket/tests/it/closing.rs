//! Descriptors whose closing waits.

use crate::alone::alone;
use ipc_socket::{Passed, close_all, start_closers};
use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use test_kit::lingering_socket;

fn closers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is mounted");
    let tasks = tasks.filter_map(Result::ok).map(|task| task.path().join("comm"));
    let names = tasks.filter_map(|comm| fs::read_to_string(comm).ok());
    names.filter(|name| name.trim() == "closer").count()
}

#[test]
fn closings_that_wait_delay_no_others_and_their_threads_end() {
    alone("closing::closings_that_wait_delay_no_others_and_their_threads_end", || {
        let (prepared, threads) = mpsc::channel();
        start_closers(1, move || prepared.send(thread::current().id()).map_err(io::Error::other))
            .unwrap();
        let mut other_ends = Vec::new();
        for round in 1..=10 {
            let (slow, other_end) = lingering_socket();
            other_ends.push(other_end);
            drop(Passed::from(slow));
            let (mut end, closed) = io::pipe().unwrap();
            close_all([OwnedFd::from(closed)]);
            assert_eq!(end.read(&mut [0]).unwrap(), 0, "round {round}");
        }
        assert!(closers() > 10, "{} for ten that wait", closers());
        drop(other_ends);
        while closers() > 3 {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(threads.try_iter().count(), 1, "the first one gives up what all others lack");
    });
}
