//! Running jobs: started, fed, and ended.

use super::feed::{Counted, Feed, Settled};
use super::limits::{CHUNK_ITEMS, OPEN_PAUSE, PRINCIPAL_RUNNING_MAX, RUNNING_MAX};
use super::record::{
    JobOrigin, StoredPrincipal, delete_claims, delete_items, put_death, put_progress, put_results,
    put_untold,
};
use super::source::ItemSource;
use super::usage::Amount;
use super::walk::Walk;
use super::{Book, BookAction, Phase, ReadFor, cut};
use crate::core::{BookRequest, ListTag, Quota};
use crate::journal::Rows;
use ipc_proto::Blob;
use ipc_proto::limits::REASON_LEN_MAX;
use ipc_proto::message::{
    ClientReply, Failures, ItemOutcome, JobId, JobSource, JobState, Run, Window,
};
use std::cmp::Reverse;
use std::collections::BTreeMap;

impl Book {
    /// Gives jobs that are ready their feed, as many as may run.
    pub(super) fn start_jobs(&mut self) {
        if self.ready.is_empty() || self.fed.len() >= RUNNING_MAX {
            return;
        }
        let mut running: BTreeMap<StoredPrincipal, usize> = BTreeMap::new();
        for id in &self.fed {
            *running.entry(self.jobs[id].origin.principal).or_default() += 1;
        }
        for (priority, id) in self.ready.iter().copied().collect::<Vec<_>>() {
            if self.fed.len() >= RUNNING_MAX {
                return;
            }
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            let of_principal = running.entry(job.origin.principal).or_default();
            // It reads what that commit wrote.
            let may_start =
                self.commits.is_durable(job.run_after) && job.not_before <= self.at.monotonic;
            if *of_principal >= PRINCIPAL_RUNNING_MAX || !may_start {
                continue;
            }
            *of_principal += 1;
            self.ready.remove(&(priority, id));
            self.fed.insert(id);
            let number = self.next_feed;
            self.next_feed = number.wrapping_add(1);
            if job.progress.started_s == 0 {
                job.progress.started_s = self.at.wall_s;
            }
            let progress = &job.progress;
            let (next, source) = match progress.again {
                Some(next) => {
                    let next = next - next % CHUNK_ITEMS;
                    (next, ItemSource::again(next, progress.resolved))
                }
                None => {
                    (progress.resolved, ItemSource::first_pass(progress.resolved, job.readable))
                }
            };
            let spec = &job.origin.spec;
            let mut feed = Feed::new(number, next, source, spec);
            let place = progress.walked.as_ref().filter(|_| !progress.is_complete);
            let tag = ListTag(number.into());
            feed.algorithms = job.algorithms();
            feed.walk = place.map(|place| match job.reads_manifest() {
                true => Walk::through_manifest(tag, place),
                false => Walk::new(tag, place),
            });
            let open = open_request(id, &job.origin, &feed);
            job.feed = Some(feed);
            self.opening.insert(number, id);
            self.actions.push(BookAction::Core(open));
        }
    }

    /// Reads, hands out, and settles whatever running jobs can.
    pub(super) fn advance(&mut self) {
        for id in self.fed.iter().copied().collect::<Vec<_>>() {
            self.walk(id);
            self.feed_job(id);
            if self.commits.is_idle() {
                self.settle(id);
            }
        }
    }

    fn feed_job(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(feed) = job.feed.as_mut() else { return };
        feed.source.grow(job.readable);
        let is_complete = job.progress.is_complete && job.readable == job.progress.items;
        let number = feed.number;
        if feed.has_room()
            && let Some(range) = feed.source.next_read(id)
        {
            self.read(ReadFor::Feed(id, number), range);
        }
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(feed) = job.feed.as_mut() else { return };
        let Some(core) = feed.core else { return };
        while let Some((first, items)) = feed.take_frame() {
            let request = BookRequest::Items { job: core, first, items };
            self.actions.push(BookAction::Core(request));
        }
        if let Some(algorithms) = feed.other_algorithms() {
            feed.switch(algorithms);
            let open = open_request(id, &job.origin, feed);
            self.opening.insert(number, id);
            self.of_core.remove(&core);
            let finish = BookRequest::Finish { job: core };
            return self.actions.extend([finish, open].map(BookAction::Core));
        }
        if is_complete && feed.source.is_done() && feed.is_handed_out() && !feed.is_finished {
            feed.is_finished = true;
            self.actions.push(BookAction::Core(BookRequest::Finish { job: core }));
        }
    }

    /// Writes the results that no other has to come before, and ends the job after the last.
    fn settle(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(feed) = job.feed.as_mut() else { return };
        let Settled { counted, full, deaths } = feed.settle();
        let is_last = feed.source.is_done() && feed.is_empty() && feed.is_finished;
        let progress = &mut job.progress;
        // A chunk of before is replaced as a whole, as the rest of it would be lost otherwise.
        let tail = if progress.again.is_none() || is_last { feed.take_dirty() } else { None };
        let next = feed.next_index();
        let Counted { resolved, failed_before, failed, mismatched, bytes } = counted;
        let was = (progress.again, progress.resolved);
        match &mut progress.again {
            Some(again) => *again = next - next % CHUNK_ITEMS,
            None => progress.resolved += resolved,
        }
        progress.failed = (progress.failed + failed).saturating_sub(failed_before);
        progress.mismatched += mismatched;
        progress.bytes += bytes;
        let is_counted = resolved == 0 || progress.again.is_some() || progress.resolved == next;
        debug_assert!(is_counted, "an item is counted once");
        let chunks =
            full.into_iter().chain(tail).flat_map(|(first, chunk)| put_results(id, first, &chunk));
        self.commits.write(chunks);
        let deaths = deaths.iter().map(|(index, death)| put_death(id, *index, death.as_ref()));
        self.commits.write(deaths);
        let is_audit = is_last && self.is_audit(id);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if is_audit {
            // It is not hashed again if the comparison is cut off.
            job.progress.again = None;
        }
        if is_last && !is_audit {
            return self.end(id, JobState::Done, String::new());
        }
        // With an audit there is always a commit to wait for.
        if is_audit || was != (job.progress.again, job.progress.resolved) {
            self.write_progress(id);
        }
        if is_audit {
            self.begin_audit(id);
        }
    }

    /// Writes the progress of a job.
    pub(super) fn write_progress(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        self.commits.write([put_progress(id, &job.progress)]);
        self.commits.results(id, job.progress.resolved, job.progress.items);
    }

    /// Ends a job.
    pub(super) fn end(&mut self, id: JobId, state: JobState, reason: String) {
        self.stop(id);
        let wall_s = self.at.wall_s;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let progress = &mut job.progress;
        progress.state = state;
        progress.reason = cut(reason, REASON_LEN_MAX);
        progress.ended_s = wall_s.max(1);
        progress.again = None;
        // Nobody can want to hash them again.
        if state == JobState::Done && progress.failed == 0 && progress.stored_len > 0 {
            let bytes = std::mem::take(&mut progress.stored_len);
            let principal = job.origin.principal.into();
            self.usage.give_back(principal, Amount { bytes, ..Amount::default() });
            self.commits.write([delete_items(id), delete_claims(id)]);
        }
        self.commits.ended(id);
        if state != JobState::Cancelled {
            self.commits.write([put_untold(id)]);
        }
        self.write_progress(id);
    }

    /// Takes a job's feed away, with what is settled of it written.
    pub(super) fn stop(&mut self, id: JobId) {
        self.fed.remove(&id);
        self.auditing.remove(&id);
        self.audit.take_if(|run| run.is_of(id));
        let Some(job) = self.jobs.get_mut(&id) else { return };
        self.ready.remove(&(Reverse(job.origin.spec.priority), id));
        let Some(feed) = job.feed.take() else { return };
        self.opening.remove(&feed.number);
        if let Some(walk) = feed.walk.filter(|walk| walk.is_asked) {
            self.of_list.remove(&walk.tag);
            self.actions.push(BookAction::Unlist(walk.tag));
        }
        if let Some(core) = feed.core {
            self.of_core.remove(&core);
            self.actions.push(BookAction::Core(BookRequest::Cancel { job: core }));
        }
    }

    /// Lets a job run, from the next commit on.
    pub(super) fn make_ready(&mut self, id: JobId) {
        let run_after = self.commits.next_sequence();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.run_after = run_after;
        self.ready.insert((Reverse(job.origin.spec.priority), id));
    }

    pub(super) fn feed_read(&mut self, id: JobId, number: u32, rows: Result<Rows, String>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let items = job.readable;
        let Some(feed) = job.feed.as_mut().filter(|feed| feed.number == number) else { return };
        let taken = rows.and_then(|rows| feed.take_rows(items, &rows).map_err(|record| record.0));
        if let Err(text) = taken
            && matches!(self.phase, Phase::Open)
        {
            self.end(id, JobState::Failed, format!("its items cannot be read: {text}"));
        }
    }

    /// Takes in a report of the core. One of a job that was stopped meanwhile is of no use.
    pub(super) fn core_said(&mut self, reply: ClientReply) {
        match reply {
            ClientReply::Opened { tag, job: core, window, .. } => match self.opening.remove(&tag) {
                Some(id) => {
                    self.of_core.insert(core, id);
                    if let Some(feed) = self.jobs.get_mut(&id).and_then(|job| job.feed.as_mut()) {
                        feed.core = Some(core);
                        feed.window = window;
                    }
                }
                None => {
                    let cancel = BookRequest::Cancel { job: core };
                    self.actions.push(BookAction::Core(cancel));
                }
            },
            // Its principal has its most jobs open: it waits for one of them to end.
            ClientReply::Rejected { tag, .. } => {
                if let Some(id) = self.opening.get(&tag).copied() {
                    self.stop(id);
                    let Some(job) = self.jobs.get_mut(&id) else { return };
                    job.not_before = self.at.monotonic + OPEN_PAUSE;
                    self.ready.insert((Reverse(job.origin.spec.priority), id));
                }
            }
            ClientReply::Window { job, window } => self.window(job, window),
            ClientReply::Results { job, runs, outputs, failures } => {
                self.core_results(job, &runs, &outputs, &failures);
            }
            ClientReply::Death { job, index, losses } => {
                let id = self.of_core.get(&job);
                let job = id.and_then(|id| self.jobs.get_mut(id));
                if let Some(feed) = job.and_then(|job| job.feed.as_mut()) {
                    feed.die(index, losses);
                }
            }
            ClientReply::Finished { job, .. } => {
                let id = self.of_core.remove(&job);
                let job = id.and_then(|id| self.jobs.get_mut(&id));
                if let Some(feed) = job.and_then(|job| job.feed.as_mut()) {
                    feed.core = None;
                }
            }
            ClientReply::Suspect { .. }
            | ClientReply::Advanced { .. }
            | ClientReply::Cancelled { .. }
            | ClientReply::Status(_)
            | ClientReply::Ready { .. }
            | ClientReply::Released { .. }
            | ClientReply::Drained { .. }
            | ClientReply::Service { .. } => {}
        }
    }

    fn window(&mut self, core: JobId, window: Window) {
        let id = self.of_core.get(&core);
        if let Some(job) = id.and_then(|id| self.jobs.get_mut(id))
            && let Some(feed) = job.feed.as_mut()
        {
            feed.window = window;
        }
    }

    fn core_results(&mut self, core: JobId, runs: &[Run], outputs: &Blob, failures: &Failures) {
        let Some(job) = self.of_core.get(&core).and_then(|id| self.jobs.get_mut(id)) else {
            return;
        };
        let kind = job.origin.spec.kind;
        let Some(feed) = job.feed.as_mut() else { return };
        let len = feed.algorithms.digests_len();
        let mut digests = outputs.chunks_exact(len);
        let mut failures = failures.iter().peekable();
        let indexes = runs.iter().flat_map(|run| run.first..run.first + u64::from(run.len));
        for (position, index) in (0..).zip(indexes) {
            let outcome = match failures.next_if(|(failed, _)| *failed == position) {
                Some(&(_, failure)) => ItemOutcome::Failed(failure),
                None => {
                    let digests = digests.next().expect("the core verifies the length of outputs");
                    ItemOutcome::Digests(digests.into())
                }
            };
            feed.resolve(index, outcome, kind);
        }
    }

    /// True if the job's items are stored by a client.
    pub(super) fn is_stored(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| job.origin.spec.source == JobSource::Stored)
    }
}

/// A request for the job of the core that hashes the items of a feed.
fn open_request(durable: JobId, origin: &JobOrigin, feed: &Feed) -> BookRequest {
    let spec = &origin.spec;
    BookRequest::Open {
        tag: feed.number,
        durable,
        principal: origin.principal.into(),
        quota: Quota::MAX,
        algorithms: feed.algorithms,
        cross_check: spec.cross_check,
        strict_reads: spec.strict_reads,
        rate: spec.rate,
    }
}
