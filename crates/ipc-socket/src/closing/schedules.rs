//! The closing threads in many orders of their steps.

use super::model::World;
use super::{CLOSERS_MAX, Closers, PassedBy};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

/// Orders that are tried.
const RUNS: usize = 2_000;

fn descriptor() -> OwnedFd {
    File::open("/dev/null").expect("a device of every system").into()
}

fn owner(number: usize) -> PassedBy {
    PassedBy(number as u64)
}

/// Closers of one run.
fn started(slack: usize) -> &'static Closers {
    World::begin();
    // Its threads outlive the run.
    let closers: &'static Closers = Box::leak(Box::new(Closers::new(slack)));
    closers.start(|| Ok(())).expect("the model starts threads");
    closers
}

/// Waits until this many descriptors are closed, and none counts as open.
fn wait_closed(closers: &Closers, count: usize) {
    let is_done = || closers.state().open == 0 && closers.state().owners.is_empty();
    while World::with(|world| world.closed) < count || !is_done() {
        shuttle::thread::yield_now();
    }
    assert_eq!(World::with(|world| world.closed), count, "each once");
}

#[test]
fn in_any_order_each_descriptor_is_closed_once_and_none_counts_as_open_afterwards() {
    const CALLERS: usize = 3;
    let run = || {
        let closers = started(2);
        let callers: Vec<_> = (1..=CALLERS)
            .map(|caller| {
                shuttle::thread::spawn(move || {
                    for _ in 0..2 {
                        let descriptors = (0..caller).map(|_| descriptor()).collect();
                        closers.close_for(owner(caller), descriptors);
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().expect("it returns"));
        wait_closed(closers, 2 * (1..=CALLERS).sum::<usize>());
    };
    shuttle::check_random(run, RUNS);
}

#[test]
fn in_any_order_what_hangs_delays_no_other_descriptor_and_no_caller_for_ever() {
    const HUNG: usize = 4;
    let run = || {
        let closers = started(1);
        let caller = shuttle::thread::spawn(move || {
            for _ in 0..HUNG {
                let hung = descriptor();
                World::with(|world| world.hung.insert(hung.as_raw_fd()));
                closers.close_for(owner(1), vec![hung]);
            }
        });
        (0..HUNG).for_each(|_| closers.close_for(owner(2), vec![descriptor()]));
        caller.join().expect("it returns");
        while World::with(|world| world.closed) < HUNG {
            shuttle::thread::yield_now();
        }
    };
    shuttle::check_random(run, RUNS);
}

#[test]
fn callers_return_when_as_many_closings_hang_as_there_are_threads() {
    let run = || {
        let closers = started(1);
        for of in 0..CLOSERS_MAX + 2 {
            let hung = descriptor();
            World::with(|world| world.hung.insert(hung.as_raw_fd()));
            closers.close_for(owner(of), vec![hung]);
        }
        closers.close_for(owner(0), vec![descriptor()]);
        assert!(World::with(|world| world.started) <= CLOSERS_MAX);
        assert_eq!(World::with(|world| world.closed), 0);
    };
    shuttle::check_random(run, RUNS / 100);
}
