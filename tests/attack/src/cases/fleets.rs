//! Fleets in which liars are many, in clusters of their own.

use super::workers::done_of;
use crate::intruder::Intruder;
use crate::site::TRAP;
use crate::suite::{Boundary, Case, Cases};
use crate::wire::tag;
use ipc_proto::limits::{CREDIT_MAX, WORKER_THREADS_MAX};
use ipc_proto::message::{Planes, Role, WorkerHealth, WorkerRequest};
use std::thread;
use std::time::Duration;
use test_kit::{Cluster, FakeWorker, MessageJob, Options, sparse_file, until, worker_role};

/// The tag of BLAKE3.
const BLAKE3: u8 = 5;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Worker);
    cases.add_slow(
        "credit renewed while hundreds of thousands of files wait",
        "at most CREDIT_MAX leases",
        |_| {
            let cluster = Cluster::start(Options { workers: 0, ..Options::default() });
            let Role::Worker(mut intro) = worker_role("liar") else {
                unreachable!("it is a worker's")
            };
            intro.threads = WORKER_THREADS_MAX;
            let socket = cluster.dir().join(ipc_proto::endpoint::WORKER_SOCKET);
            let mut liar = Intruder::worker(&socket, intro);
            let mut client = Intruder::client(&cluster.client_socket());
            let (job, _) = client.open_job(BLAKE3);
            let file = sparse_file(32 << 30);
            for first in 0..60 {
                let body = tag(1).job(job).number(first).raw(&[0, 0]).files(1, 32 << 30);
                client.send_with(&body.frame(), &[&file]);
            }
            let mut leases = 0;
            for _ in 0..2000 {
                liar.say(&tag(0).number(1));
                if matches!(
                    liar.poll_request(Duration::from_millis(1)),
                    Some(WorkerRequest::Assign { .. })
                ) {
                    leases += 1;
                }
            }
            assert!(leases <= u64::from(CREDIT_MAX), "{leases} leases");
            client.say(&tag(4).job(job));
            assert!(cluster.status().jobs.is_empty());
        },
    );
    cases.add_slow(
        "a fleet of liars that join and leave",
        "an item fails only after three workers",
        |_| {
            let mut cluster = Cluster::start(Options { workers: 0, ..Options::default() });
            let mut job = MessageJob::on(&cluster);
            job.send(1, 100);
            for number in 0..2 {
                let mut liar = FakeWorker::join(&cluster, &format!("liar{number}"));
                liar.give_credit(1);
                liar.next_lease();
            }
            let worker = cluster.spawn_worker(0);
            cluster.workers.push(worker);
            assert_eq!(job.receive(), 1, "the honest worker gives the digest");
        },
    );
    cases.add_slow(
        "three connections of a liar, with an honest worker ready",
        "the honest worker gives the digest",
        |_| {
            let cluster = Cluster::start(Options { workers: 1, ..Options::default() });
            let mut liars: Vec<FakeWorker> =
                (0..3).map(|i| FakeWorker::join(&cluster, &format!("liar{i}"))).collect();
            liars.iter_mut().for_each(|liar| liar.give_credit(1));
            let mut job = MessageJob::on(&cluster);
            // Who is given it leaves with it.
            for _ in 0..200 {
                while !job.fits(1, 10) {
                    job.receive();
                }
                job.send(1, 10);
            }
            drop(liars);
            assert_eq!(job.finish(), 200);
        },
    );
    cases.add_slow(
        "wrong digests of bytes in messages, cross-checked",
        "found, quarantined, and right in the end",
        |_| {
            let controller_args = vec!["--cross-check=1/1".to_owned()];
            let cluster =
                Cluster::start(Options { workers: 2, controller_args, ..Options::default() });
            let mut liar = FakeWorker::join(&cluster, "liar");
            liar.give_credit(4);
            let is_found = || {
                let status = cluster.status();
                status.quarantined.iter().any(|case| case.worker == "liar")
                    && status
                        .workers
                        .iter()
                        .all(|w| w.name == "liar" || w.health == WorkerHealth::Ready)
            };
            thread::scope(|scope| {
                scope.spawn(|| liar.serve(9, Duration::from_millis(20), is_found));
                let mut job = MessageJob::on(&cluster);
                until("the liar's quarantine", || {
                    for _ in 0..50 {
                        job.round_trip();
                    }
                    is_found().then_some(())
                });
                job.finish();
            });
        },
    );
    cases.add_slow(
        "1,100 names that give wrong answers",
        "each is quarantined; honest workers that were there work on",
        |_| {
            let cluster = Cluster::start(Options { workers: 1, ..Options::default() });
            let socket = cluster.dir().join(ipc_proto::endpoint::WORKER_SOCKET);
            let datasets = vec![TRAP.to_owned()];
            let mut rejected = 0;
            for number in 0..1100 {
                let Role::Worker(mut intro) = worker_role(&format!("liar{number}")) else {
                    unreachable!()
                };
                intro.planes =
                    Planes { descriptors: true, inline: true, datasets: datasets.clone() };
                let mut liar = Intruder::worker(&socket, intro);
                liar.say(&tag(0).number(1));
                let mut job = MessageJob::on(&cluster);
                for _ in 0..4 {
                    job.send(1, 0);
                }
                if let Some(WorkerRequest::Assign { lease, attempt, .. }) =
                    liar.poll_request(Duration::from_millis(5))
                {
                    liar.say(&done_of(lease, attempt, 0, b"", &[0]));
                    rejected += 1;
                }
                job.finish();
            }
            assert!(rejected > 0, "no liar was given work");
            MessageJob::on(&cluster).round_trip();
            assert!(
                cluster
                    .status()
                    .workers
                    .iter()
                    .any(|w| w.name == "w0" && w.health == WorkerHealth::Ready)
            );
        },
    );
    cases.done()
}
