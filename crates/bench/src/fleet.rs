//! CPU time of the controller per batch with 1 and with 1,000 workers connected.
//!
//! The workers are connections of this process. One batch is under way at a time, so that neither
//! side gains by several messages sharing a system call.

use crate::contest::{interleave, median, median_ratio, us};
use crate::report::{Report, Target};
use test_kit::{Cluster, FakeWorker, MessageJob, Options, cpu_time};

const ROUNDS: usize = 15;
const BATCHES: usize = 2000;
const FLEET: usize = 1000;

struct Fleet {
    cluster: Cluster,
    workers: Vec<FakeWorker>,
    job: MessageJob,
    next_worker: usize,
}

pub(crate) fn run(report: &mut Report) {
    let mut one = Fleet::start(1);
    let mut many = Fleet::start(FLEET);
    let costs = interleave(ROUNDS, &mut [Box::new(|| one.round()), Box::new(|| many.round())]);
    report.note(&format!(
        "CPU of the controller a batch: {:.1} us with 1 worker, {:.1} us with {FLEET}",
        median(costs[0].clone()),
        median(costs[1].clone())
    ));
    let ratio = median_ratio(&costs[1], &costs[0]);
    report.check(
        "cost of a batch with 1,000 workers over 1 worker",
        ratio,
        "x",
        Target::AtMost(1.5),
    );
}

impl Fleet {
    fn start(len: usize) -> Self {
        let cluster = Cluster::start(Options { workers: 0, ..Options::default() });
        let workers: Vec<FakeWorker> = (0..len)
            .map(|i| {
                let mut worker = FakeWorker::join(&cluster, &format!("w{i}"));
                worker.give_credit(1);
                worker
            })
            .collect();
        cluster.wait_ready(len);
        let job = MessageJob::on(&cluster);
        Self { cluster, workers, job, next_worker: 0 }
    }

    /// The controller's CPU time per batch, in microseconds.
    fn round(&mut self) -> f64 {
        // Workers that are silent for long are dropped.
        for worker in &mut self.workers {
            worker.beat();
        }
        let pid = self.cluster.controller.id();
        let _settled = self.cluster.status();
        let before = cpu_time(pid);
        (0..BATCHES).for_each(|_| self.batch());
        us(cpu_time(pid) - before) / BATCHES as f64
    }

    fn batch(&mut self) {
        self.job.send(1, 0);
        // Of equally loaded workers, the one that has waited longest is next.
        let i = self.next_worker;
        self.next_worker = (i + 1) % self.workers.len();
        let lease = self.workers[i].next_lease();
        self.workers[i].finish(lease, 0);
        self.job.receive();
    }
}
