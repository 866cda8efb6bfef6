//! The hashing threads themselves.

use crossbeam::channel::{bounded, unbounded};
use engine::exec::order::Scratch;
use hashcluster_worker::pool::{Full, Pool};
use hashcluster_worker::sandbox::Sandbox;
use ipc_proto::limits::CREDIT_MAX;
use std::collections::HashSet;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

fn scratches(threads: usize) -> Vec<Scratch> {
    (0..threads).map(|_| Scratch::default()).collect()
}

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn jobs_run_on_every_thread() {
    let pool = Pool::start(scratches(3), Scratch::default(), &[], Sandbox::default()).unwrap();
    let (done, results) = unbounded();
    let together = Arc::new(Barrier::new(3));
    for _ in 0..3 {
        let (done, together) = (done.clone(), Arc::clone(&together));
        let job = Box::new(move |_: &mut Scratch| {
            together.wait();
            done.send(thread::current().id()).unwrap();
        });
        pool.submit(job).unwrap();
    }
    let threads: HashSet<_> = (0..3).map(|_| results.recv_timeout(DEADLINE).unwrap()).collect();
    assert_eq!(threads.len(), 3);
}

#[test]
fn the_queue_is_full_at_its_limit() {
    let pool = Pool::start(scratches(1), Scratch::default(), &[], Sandbox::default()).unwrap();
    let (started, has_started) = bounded(0);
    let (release, released) = bounded::<()>(0);
    let job = Box::new(move |_: &mut Scratch| {
        started.send(()).unwrap();
        assert!(released.recv().is_err(), "released by a drop");
    });
    pool.submit(job).unwrap();
    has_started.recv_timeout(DEADLINE).unwrap();
    for i in 0..2 * CREDIT_MAX {
        assert_eq!(pool.submit(Box::new(|_| {})), Ok(()), "job {i}");
    }
    assert_eq!(pool.submit(Box::new(|_| {})), Err(Full));
    drop(release);
}

#[test]
fn a_missing_core_is_an_error() {
    assert!(Pool::start(scratches(2), Scratch::default(), &[1023], Sandbox::default()).is_err());
}
