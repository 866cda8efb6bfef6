//! Jobs whose owner is the book of durable jobs: opened, filled, finished and dropped like a client's.
//!
//! The book keeps the rules of the protocol (indexes, windows), so that a fault is ours.

use super::clients::OpenOptions;
use super::owner::{Opener, Owner};
use super::{Action, Core, JobId, Principal, Quota};
use ipc_proto::Algorithms;
use ipc_proto::message::{ClientReply, Items, RejectReason};
use std::time::Duration;

/// A request of the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BookRequest {
    /// Opens a job; answered by `Opened` or `Rejected`.
    Open {
        /// Comes back in the answer.
        tag: u32,
        /// The durable job, for whoever asks for the status.
        durable: JobId,
        /// The principal that is charged.
        principal: Principal,
        /// The bounds on what it may hold.
        quota: Quota,
        /// The digests of each item, in this order.
        algorithms: Algorithms,
        /// One item per this many is checked; 0 for none.
        cross_check: u32,
        /// A file must be shown to have no writer before it is read, however old its stamp.
        strict_reads: bool,
        /// Bytes per second that are read at most; 0 for no limit.
        rate: u64,
    },
    /// Adds items: names in datasets, or bytes.
    Items {
        /// The job.
        job: JobId,
        /// Index of the first item.
        first: u64,
        /// The items, which fit the window.
        items: Items,
    },
    /// There are no more items; answered by `Finished`.
    Finish {
        /// The job.
        job: JobId,
    },
    /// Drops the job; answered by `Cancelled`, unless it has just ended.
    Cancel {
        /// The job.
        job: JobId,
    },
}

impl<F: Clone> Core<F> {
    pub(super) fn book_said(&mut self, now: Duration, request: BookRequest) {
        let owner = Owner::Durable;
        let result = match request {
            BookRequest::Open {
                tag,
                durable,
                principal,
                quota,
                algorithms,
                cross_check,
                strict_reads,
                rate,
            } => {
                let opener = Opener { owner, principal, pid: 0, quota };
                let durable = Some(durable);
                let options =
                    OpenOptions { tag, algorithms, cross_check, strict_reads, rate, durable };
                if self.open_job(now, &opener, &options).is_none() {
                    let reason = RejectReason::TooManyJobs;
                    let reply = ClientReply::Rejected { tag, reason, text: String::new() };
                    self.actions.push(Action::ToBook(reply));
                }
                Ok(())
            }
            BookRequest::Items { job, first, items: Items::Files { source, files } } => {
                self.files(owner, (job, first), &source, files, Vec::new())
            }
            BookRequest::Items { job, first, items: Items::Inline { lens, data } } => {
                self.inline(owner, (job, first), lens, data)
            }
            BookRequest::Finish { job } => self.finish(owner, job),
            BookRequest::Cancel { job } => {
                self.cancel(owner, job);
                Ok(())
            }
        };
        if let Err(fault) = result {
            unreachable!("the book keeps the rules of the protocol: {fault}");
        }
    }
}
