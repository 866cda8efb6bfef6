//! The pool in many orders of its threads' steps.

use super::model::{AtomicUsize, Ordering};
use super::{Full, Pool};
use crate::sandbox::Sandbox;
use engine::exec::order::Scratch;
use std::sync::Arc;

/// Orders that are tried.
const RUNS: usize = 1_000;

const THREADS: usize = 2;
const SUBMITTERS: usize = 2;
const JOBS: usize = 3;

fn pool() -> Arc<Pool> {
    let scratches = (0..THREADS).map(|_| Scratch::default()).collect();
    Arc::new(
        Pool::start(scratches, Scratch::default(), &[], Sandbox::default())
            .expect("the model starts threads"),
    )
}

#[test]
fn in_any_order_each_job_runs_once_and_every_thread_ends() {
    let run = || {
        let pool = pool();
        let ran: Arc<[AtomicUsize; SUBMITTERS * JOBS]> = Arc::default();
        let submit = |submitter: usize| {
            let (pool, ran) = (Arc::clone(&pool), Arc::clone(&ran));
            shuttle::thread::spawn(move || {
                for job in 0..JOBS {
                    let ran = Arc::clone(&ran);
                    let job = Box::new(move |_: &mut Scratch| {
                        ran[submitter * JOBS + job].fetch_add(1, Ordering::Relaxed);
                    });
                    assert_eq!(pool.submit(job), Ok::<(), Full>(()));
                    assert!(pool.idle() <= THREADS);
                }
            })
        };
        let submitters: Vec<_> = (0..SUBMITTERS).map(submit).collect();
        submitters.into_iter().for_each(|submitter| submitter.join().expect("it submits"));
        while pool.idle() < THREADS || pool.idle_probe().is_busy() || count(&ran[..]) < ran.len() {
            shuttle::thread::yield_now();
        }
        assert!(ran.iter().all(|ran| ran.load(Ordering::Relaxed) == 1), "each once");
        // The run ends when every thread has.
    };
    shuttle::check_random(run, RUNS);
}

#[test]
fn in_any_order_jobs_that_wait_when_the_pool_is_dropped_run_before_its_threads_end() {
    let run = || {
        let pool = pool();
        let (sender, results) = shuttle::sync::mpsc::channel();
        for _ in 0..JOBS {
            let sender = sender.clone();
            let job = Box::new(move |_: &mut Scratch| sender.send(()).expect("it is waited for"));
            assert_eq!(pool.submit(job), Ok(()));
        }
        drop((pool, sender));
        assert_eq!(results.iter().count(), JOBS);
    };
    shuttle::check_random(run, RUNS);
}

#[test]
fn in_any_order_short_jobs_run_while_all_threads_have_long_ones() {
    let run = || {
        let pool = pool();
        let is_over = Arc::new(AtomicUsize::new(0));
        for _ in 0..THREADS {
            let is_over = Arc::clone(&is_over);
            let long = Box::new(move |_: &mut Scratch| {
                while is_over.load(Ordering::Relaxed) == 0 {
                    shuttle::thread::yield_now();
                }
            });
            assert_eq!(pool.submit_long(long), Ok(()));
        }
        for _ in 0..JOBS {
            // The answer goes out before the spare thread is back: the next one comes at once.
            let (sender, result) = shuttle::sync::mpsc::channel();
            let short = Box::new(move |_: &mut Scratch| sender.send(()).expect("it is waited for"));
            assert_eq!(pool.submit(short), Ok(()));
            result.recv().expect("it runs");
        }
        is_over.store(1, Ordering::Relaxed);
    };
    shuttle::check_random(run, RUNS);
}

fn count(ran: &[AtomicUsize]) -> usize {
    ran.iter().map(|ran| ran.load(Ordering::Relaxed)).sum()
}
