//! Pages of directories, for jobs that find their files without a client.
//!
//! A page is a job of one item, so that it is queued, leased, retried and fenced as everything else is. It takes
//! no window and no share: whoever asks bounds how many there are.
//!
//! Invariant: each [`Event::List`](super::Event::List) is answered once by [`Action::Listed`], unless
//! [`Event::Unlist`](super::Event::Unlist) comes first. What is listed is as the worker says: a page has a form that is
//! verified, and no content that could be.

use super::batch::{Batch, Load};
use super::fault::Fault;
use super::job::{Job, Order};
use super::limits::LISTS_MAX;
use super::owner::Owner;
use super::results::is_of_reading;
use super::{Action, Core, JobId, Principal, Quota, WorkerId};
use ipc_proto::Algorithms;
use ipc_proto::message::{Failure, LeaseId, ListOutcome, ListWork, Window};
use std::rc::Rc;

/// Names a page until its answer; chosen by whoever asks, who may use it again after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListTag(pub u64);

/// A page of a directory that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageWanted {
    /// Comes back in the answer.
    pub tag: ListTag,
    /// The user whose turn it takes.
    pub principal: Principal,
    /// Algorithms of the job that it is for: it goes to workers that have them.
    pub algorithms: Algorithms,
    /// The page.
    pub work: ListWork,
}

impl<F: Clone> Core<F> {
    /// Queues a page. What can be no request of the protocol, such as a path that is too long, fails as
    /// [`Failure::Invalid`].
    pub(super) fn list(&mut self, page: PageWanted) {
        let PageWanted { tag, principal, algorithms, work } = page;
        assert!(self.lists.len() < LISTS_MAX, "whoever asks for pages counts them");
        assert!(!self.lists.contains_key(&tag), "a page is asked for once");
        let refused = match (work.check(), self.datasets.find(&work.dataset)) {
            (Err(_), _) => Failure::Invalid,
            (Ok(()), None) => Failure::UnknownDataset,
            (Ok(()), Some(dataset)) => {
                return self.queue_page(
                    tag,
                    principal,
                    algorithms,
                    Load::List { dataset, work: Rc::new(work) },
                );
            }
        };
        self.actions.push(Action::Listed(tag, ListOutcome::Failed { failure: refused }));
    }

    fn queue_page(
        &mut self,
        tag: ListTag,
        principal: Principal,
        algorithms: Algorithms,
        load: Load<F>,
    ) {
        let id = JobId { epoch: self.epoch, number: self.next_job };
        self.next_job += 1;
        self.lists.insert(tag, id);
        let order = Order {
            id,
            owner: Owner::List(tag),
            principal,
            quota: Quota::MAX,
            pid: 0,
            algorithms,
            cross_check: 0,
            strict_reads: false,
            rate: 0,
            durable: None,
            opened: self.now,
        };
        let mut job = Job::new(order, Window { items: 1, bytes: 0 });
        job.received = 1;
        self.jobs.insert(id, job);
        self.requeue(id, [Batch::new(load)]);
    }

    /// Forgets a page, if it was not answered yet.
    pub(super) fn unlist(&mut self, tag: ListTag) {
        if let Some(&id) = self.lists.get(&tag) {
            self.drop_job(id);
        }
    }

    /// Takes in the answer of `worker` to a lease of a page.
    pub(super) fn accept_page(
        &mut self,
        worker: WorkerId,
        (id, attempt): (LeaseId, u32),
        outcome: ListOutcome,
    ) -> Result<(), Fault> {
        let fits = |batch: &Batch<F>, _| match &batch.load {
            Load::List { work, .. } => outcome.fits(work) && is_of_worker(&outcome, work),
            Load::Files(_)
            | Load::Inline { .. }
            | Load::Part { .. }
            | Load::Merge { .. }
            | Load::Piece { .. } => false,
        };
        if self.counts(worker, (id, attempt), fits)?.is_none() {
            return Ok(());
        }
        let lease = self.take_lease(id).expect("it was just there");
        self.fleet.answered(worker);
        self.timings.batches.push(self.now.saturating_sub(lease.leased));
        self.answer_page(lease.job, outcome);
        Ok(())
    }

    /// A page that no worker can give.
    pub(super) fn listed(&mut self, key: JobId, failure: Failure) {
        self.answer_page(key, ListOutcome::Failed { failure });
    }

    fn answer_page(&mut self, key: JobId, outcome: ListOutcome) {
        let Some(tag) = self.jobs.get(&key).and_then(Job::list_tag) else { return };
        self.drop_job(key);
        self.actions.push(Action::Listed(tag, outcome));
    }
}

/// True unless a failure is one that a worker cannot find in such a page.
fn is_of_worker(outcome: &ListOutcome, work: &ListWork) -> bool {
    match outcome {
        ListOutcome::Page { .. } => true,
        ListOutcome::Failed { failure: Failure::NotAList } => work.claims.is_some(),
        ListOutcome::Failed { failure } => is_of_reading(*failure),
        ListOutcome::Claims { entries, .. } => {
            let mut refused = entries.iter().filter_map(|entry| entry.refused);
            refused.all(|failure| failure == Failure::Outside || is_of_reading(failure))
        }
    }
}
