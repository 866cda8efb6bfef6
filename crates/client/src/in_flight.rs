//! The in-flight table: windows and unresolved items of every open job, shared by the sending and the
//! receiving half. An item leaves it with its result, or with its connection.
//!
//! Invariant: whatever was made for one connection (an id, a grant) is not used on another one: it has the
//! number of its connection, its generation.

use crate::ClientError;
use crate::JobOptions;
use ipc_proto::Algorithms;
use ipc_proto::message::{ClientRequest, Failure, JobId, Run, Window};
use ipc_proto::sample::Sample;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard};

const NOT_OPEN: ClientError = ClientError::Nonsense("a job that is not open");

/// Marks the tag of a piece whose output is kept for [`crate::Job::wait`].
pub(crate) const TICKET_BIT: u64 = 1 << 63;

/// Outcome of one item: its digests, or the failure.
pub(crate) type Outcome = Result<Vec<u8>, Failure>;

#[derive(Debug, Default)]
pub(crate) struct InFlight {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By the tag of their `Open`.
    jobs: BTreeMap<u32, JobState>,
    tickets: BTreeMap<u64, Option<Outcome>>,
    next_job: u32,
    next_ticket: u64,
    is_stopped: bool,
    is_cancelled: bool,
    /// A lost connection is replaced by another one.
    recovers: bool,
    /// Number of the connection.
    generation: u64,
}

/// Requests and items that a new connection has to have again.
#[derive(Debug, Default)]
pub(crate) struct Resubmission {
    /// Opens the jobs that take items.
    pub(crate) opens: Vec<ClientRequest>,
    /// Tags of the items that have no result.
    pub(crate) tags: Vec<u64>,
}

/// One job.
#[derive(Debug)]
struct JobState {
    algorithms: Algorithms,
    options: JobOptions,
    /// There are no more items.
    is_finishing: bool,
    /// `None` until the controller has opened it.
    id: Option<JobId>,
    digest_len: usize,
    window: Window,
    unresolved_items: u64,
    unresolved_bytes: u64,
    /// Index of the first of `items`.
    base: u64,
    /// The tag and the inline bytes of each item; `None` once it is resolved.
    items: VecDeque<Option<(u64, u32)>>,
}

/// Items that may be sent: their indexes start at `first`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    pub(crate) job: JobId,
    pub(crate) first: u64,
    pub(crate) len: usize,
    pub(crate) generation: u64,
}

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Adds a job; its tag, the request that opens it, and the generation of that.
    pub(crate) fn add_job(
        &self,
        algorithms: Algorithms,
        options: JobOptions,
    ) -> (u32, ClientRequest, u64) {
        let mut state = self.lock();
        let tag = state.next_job;
        state.next_job += 1;
        let job = JobState::new(algorithms, options);
        let open = job.open_request(tag);
        state.jobs.insert(tag, job);
        (tag, open, state.generation)
    }

    /// From now on a lost connection stops nobody: sending goes on when there is another one.
    pub(crate) fn recover(&self) {
        self.lock().recovers = true;
    }

    pub(crate) fn recovers(&self) -> bool {
        self.lock().recovers
    }

    pub(crate) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Begins the next generation; `None` if the output of a step is awaited, which nobody can compute again.
    pub(crate) fn begin_again(&self) -> Option<Resubmission> {
        let mut state = self.lock();
        if state.tickets.values().any(Option::is_none) {
            return None;
        }
        state.generation += 1;
        let mut lost = Resubmission::default();
        state.jobs.retain(|&tag, job| {
            lost.tags.extend(job.items.iter().flatten().map(|&(tag, _)| tag));
            if !job.is_finishing {
                *job = JobState::new(job.algorithms, job.options);
                lost.opens.push(job.open_request(tag));
            }
            !job.is_finishing
        });
        self.changed.notify_all();
        Some(lost)
    }

    /// The controller has opened a job; returns whether it is to be cancelled.
    pub(crate) fn opened(&self, tag: u32, id: JobId, window: Window) -> Result<bool, ClientError> {
        let mut state = self.lock();
        let job = state.jobs.get_mut(&tag).filter(|job| job.id.is_none());
        let job = job.ok_or(ClientError::Nonsense("a job that nobody asked for"))?;
        (job.id, job.window) = (Some(id), window);
        self.changed.notify_all();
        Ok(state.is_cancelled)
    }

    /// Waits until the controller has opened the job, which takes no more items; its id, and the generation of
    /// that.
    pub(crate) fn finish(&self, tag: u32) -> Result<(JobId, u64), ClientError> {
        self.wait_for(tag, |job, generation| {
            let id = job.id?;
            job.is_finishing = true;
            Some(Ok((id, generation)))
        })
    }

    pub(crate) fn remove_job(&self, job: JobId) -> Result<(), ClientError> {
        let mut state = self.lock();
        let tag = state.tag_of(job).ok_or(NOT_OPEN)?;
        let job = state.jobs.remove(&tag).ok_or(NOT_OPEN)?;
        self.changed.notify_all();
        match job.unresolved_items {
            0 => Ok(()),
            _ => Err(ClientError::Nonsense("a job ended before its items")),
        }
    }

    /// Forgets a cancelled job.
    pub(crate) fn drop_job(&self, job: JobId) {
        let mut state = self.lock();
        if let Some(tag) = state.tag_of(job) {
            state.jobs.remove(&tag);
        }
        self.changed.notify_all();
    }

    pub(crate) fn open_jobs(&self) -> Vec<JobId> {
        self.lock().jobs.values().filter_map(|job| job.id).collect()
    }

    /// The number of jobs that were asked for and have not ended.
    pub(crate) fn jobs_len(&self) -> usize {
        self.lock().jobs.len()
    }

    pub(crate) fn set_window(&self, job: JobId, window: Window) -> Result<(), ClientError> {
        let mut state = self.lock();
        let job = state.job(job).ok_or(NOT_OPEN)?;
        job.window = window;
        self.changed.notify_all();
        Ok(())
    }

    /// Whoever waits, or starts to, gets [`ClientError::Stopped`] from now on.
    pub(crate) fn stop(&self) {
        self.lock().is_stopped = true;
        self.changed.notify_all();
    }

    /// As [`Self::stop`]; whether this is the first time.
    pub(crate) fn cancel(&self) -> bool {
        self.stop();
        !std::mem::replace(&mut self.lock().is_cancelled, true)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    /// Waits until the job may have items at all.
    pub(crate) fn window(&self, job: u32) -> Result<Window, ClientError> {
        self.wait_for(job, |job, _| (job.window.items > 0).then_some(Ok(job.window)))
    }

    /// Waits until items, a tag and its inline bytes each, may be sent, and enters from the first on as
    /// many as fit. So as not to send many small frames it waits for an eighth of the window where it
    /// can use that much.
    pub(crate) fn take(&self, job: u32, items: &[(u64, u32)]) -> Result<Grant, ClientError> {
        let bytes_min = items.iter().map(|&(_, len)| u64::from(len)).max().unwrap_or(0);
        self.wait_for(job, |job, generation| {
            let window = job.window;
            if window.items > 0 && window.bytes < bytes_min {
                return Some(Err(ClientError::WindowTooSmall));
            }
            let len = job.fitting(items);
            let useful = (window.items as usize / 8).clamp(1, items.len());
            let is_all = len >= 1 && job.unresolved_items == 0;
            (len >= useful || is_all).then(|| Ok(job.enter(&items[..len], generation)))
        })
    }

    fn wait_for<T>(
        &self,
        job: u32,
        mut ready: impl FnMut(&mut JobState, u64) -> Option<Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let mut state = self.lock();
        loop {
            if state.is_stopped {
                return Err(ClientError::Stopped);
            }
            let generation = state.generation;
            let Some(job) = state.jobs.get_mut(&job) else { return Err(ClientError::Stopped) };
            if let Some(result) = ready(job, generation) {
                return result;
            }
            state = self.changed.wait(state).expect("no holder panics");
        }
    }

    /// The tags of the items in `runs`, which are resolved now, and the length of the job's digests.
    pub(crate) fn resolve(
        &self,
        job: JobId,
        runs: &[Run],
    ) -> Result<(Vec<u64>, usize), ClientError> {
        let mut state = self.lock();
        let job = state.job(job).ok_or(NOT_OPEN)?;
        let mut tags = Vec::new();
        for run in runs {
            job.resolve(*run, &mut tags)?;
        }
        let digest_len = job.digest_len;
        self.changed.notify_all();
        Ok((tags, digest_len))
    }

    /// The tag of an item that is not resolved.
    pub(crate) fn tag_of_item(&self, job: JobId, index: u64) -> Result<u64, ClientError> {
        let mut state = self.lock();
        let job = state.job(job).ok_or(NOT_OPEN)?;
        let at = index.checked_sub(job.base).and_then(|at| usize::try_from(at).ok());
        let item = at.and_then(|at| job.items.get(at).copied().flatten());
        item.map(|(tag, _)| tag).ok_or(ClientError::Nonsense("news of an item without need"))
    }

    pub(crate) fn add_ticket(&self) -> u64 {
        let mut state = self.lock();
        let tag = TICKET_BIT | state.next_ticket;
        state.next_ticket += 1;
        state.tickets.insert(tag, None);
        tag
    }

    pub(crate) fn settle(&self, tag: u64, outcome: Outcome) {
        if let Some(slot) = self.lock().tickets.get_mut(&tag) {
            *slot = Some(outcome);
        }
        self.changed.notify_all();
    }

    pub(crate) fn wait_ticket(&self, tag: u64) -> Result<Outcome, ClientError> {
        let mut state = self.lock();
        loop {
            if let Some(Some(_)) = state.tickets.get(&tag) {
                let outcome = state.tickets.remove(&tag).flatten();
                return outcome.ok_or(ClientError::Stopped);
            }
            if state.is_stopped {
                return Err(ClientError::Stopped);
            }
            state = self.changed.wait(state).expect("no holder panics");
        }
    }
}

impl State {
    fn tag_of(&self, id: JobId) -> Option<u32> {
        self.jobs.iter().find(|(_, job)| job.id == Some(id)).map(|(&tag, _)| tag)
    }

    fn job(&mut self, id: JobId) -> Option<&mut JobState> {
        self.jobs.values_mut().find(|job| job.id == Some(id))
    }
}

impl JobState {
    fn new(algorithms: Algorithms, options: JobOptions) -> Self {
        Self {
            algorithms,
            options,
            is_finishing: false,
            id: None,
            digest_len: algorithms.digests_len(),
            window: Window::default(),
            unresolved_items: 0,
            unresolved_bytes: 0,
            base: 0,
            items: VecDeque::new(),
        }
    }

    fn open_request(&self, tag: u32) -> ClientRequest {
        let JobOptions { cross_check, strict_reads } = self.options;
        let (algorithms, cross_check) = (self.algorithms, Sample::to_wire(cross_check));
        ClientRequest::Open { tag, algorithms, cross_check, strict_reads }
    }

    /// Length of the longest prefix of `items` that the window has room for.
    fn fitting(&self, items: &[(u64, u32)]) -> usize {
        let room = u64::from(self.window.items).saturating_sub(self.unresolved_items);
        let mut free = self.window.bytes.saturating_sub(self.unresolved_bytes);
        let items = items.iter().take(usize::try_from(room).unwrap_or(usize::MAX));
        let fits = |&&(_, len): &&(u64, u32)| {
            let left = free.checked_sub(len.into());
            free = left.unwrap_or(free);
            left.is_some()
        };
        items.take_while(fits).count()
    }

    fn enter(&mut self, items: &[(u64, u32)], generation: u64) -> Grant {
        let job = self.id.expect("only an open job has a window");
        let first = self.base + self.items.len() as u64;
        let grant = Grant { job, first, len: items.len(), generation };
        for &(tag, len) in items {
            self.unresolved_bytes += u64::from(len);
            self.items.push_back(Some((tag, len)));
        }
        self.unresolved_items += grant.len as u64;
        grant
    }

    fn resolve(&mut self, run: Run, tags: &mut Vec<u64>) -> Result<(), ClientError> {
        let unknown = ClientError::Nonsense("a result that nothing waits for");
        let Some(start) = run.first.checked_sub(self.base) else { return Err(unknown) };
        let Ok(start) = usize::try_from(start) else { return Err(unknown) };
        let Some(end) = start.checked_add(run.len as usize) else { return Err(unknown) };
        if end > self.items.len() {
            return Err(unknown);
        }
        for item in self.items.range_mut(start..end) {
            let twice = ClientError::Nonsense("a second result of one item");
            let (tag, len) = item.take().ok_or(twice)?;
            self.unresolved_items -= 1;
            self.unresolved_bytes -= u64::from(len);
            tags.push(tag);
        }
        while matches!(self.items.front(), Some(None)) {
            self.items.pop_front();
            self.base += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::Algorithm;

    fn items(tags: &[u64]) -> Vec<(u64, u32)> {
        tags.iter().map(|&tag| (tag, 0)).collect()
    }

    const ID: JobId = JobId { epoch: 1, number: 9 };

    fn open(window: Window) -> (InFlight, u32) {
        let in_flight = InFlight::default();
        let (job, ..) = in_flight.add_job(Algorithm::Sha256.into(), JobOptions::default());
        assert!(!in_flight.opened(job, ID, window).unwrap());
        (in_flight, job)
    }

    #[test]
    fn results_return_the_tags_of_their_items() {
        let (in_flight, job) = open(Window { items: 4, bytes: 0 });
        let grant = in_flight.take(job, &items(&[70, 71, 72, 73, 74])).unwrap();
        assert_eq!((grant.first, grant.len), (0, 4), "the window holds four");
        assert_eq!(in_flight.resolve(ID, &[Run { first: 2, len: 2 }]).unwrap().0, [72, 73]);
        let grant = in_flight.take(job, &items(&[74])).unwrap();
        assert_eq!((grant.first, grant.len), (4, 1));
        let runs = [Run { first: 4, len: 1 }, Run { first: 0, len: 2 }];
        assert_eq!(in_flight.resolve(ID, &runs).unwrap().0, [74, 70, 71]);
        in_flight.remove_job(ID).unwrap();
    }

    #[test]
    fn rejects_duplicate_and_unknown_results() {
        let (in_flight, job) = open(Window { items: 4, bytes: 0 });
        in_flight.take(job, &items(&[1, 2, 3])).unwrap();
        in_flight.resolve(ID, &[Run { first: 1, len: 1 }]).unwrap();
        for run in [
            Run { first: 1, len: 1 },
            Run { first: 0, len: 3 },
            Run { first: 3, len: 1 },
            Run { first: u64::MAX, len: u32::MAX },
        ] {
            let (other, other_job) = open(Window { items: 4, bytes: 0 });
            other.take(other_job, &items(&[1, 2, 3])).unwrap();
            other.resolve(ID, &[Run { first: 1, len: 1 }]).unwrap();
            assert!(other.resolve(ID, &[run]).is_err(), "{run:?}");
        }
        assert!(in_flight.resolve(JobId::default(), &[]).is_err());
        assert!(in_flight.remove_job(ID).is_err(), "two items have no result");
    }

    #[test]
    fn inline_bytes_count_until_their_items_are_resolved() {
        let (in_flight, job) = open(Window { items: 10, bytes: 100 });
        assert!(matches!(in_flight.take(job, &[(0, 101)]), Err(ClientError::WindowTooSmall)));
        in_flight.take(job, &[(0, 60), (1, 40)]).unwrap();
        in_flight.resolve(ID, &[Run { first: 0, len: 1 }]).unwrap();
        in_flight.take(job, &[(2, 60)]).unwrap();
        in_flight.stop();
        assert!(matches!(in_flight.take(job, &[(3, 1)]), Err(ClientError::Stopped)));
    }

    #[test]
    fn named_items_count_against_both_windows() {
        let (in_flight, job) = open(Window { items: 10, bytes: 100 });
        let names = [(1, 40), (2, 40), (3, 40)];
        assert_eq!(in_flight.take(job, &names).unwrap().len, 2);
        in_flight.resolve(ID, &[Run { first: 0, len: 1 }]).unwrap();
        assert_eq!(in_flight.take(job, &names[2..]).unwrap().first, 2);
        let too_long = in_flight.take(job, &[(4, 101)]);
        assert!(matches!(too_long, Err(ClientError::WindowTooSmall)));
    }

    #[test]
    fn a_new_connection_opens_the_jobs_again_and_has_to_have_what_is_unresolved() {
        let (in_flight, job) = open(Window { items: 10, bytes: 100 });
        let first = in_flight.take(job, &items(&[7, 8, 9])).unwrap();
        in_flight.resolve(ID, &[Run { first: 1, len: 1 }]).unwrap();
        let (other, ..) = in_flight.add_job(Algorithm::Sha256.into(), JobOptions::default());
        let done = JobId { epoch: 1, number: 10 };
        assert!(!in_flight.opened(other, done, Window { items: 1, bytes: 0 }).unwrap());
        in_flight.take(other, &items(&[70])).unwrap();
        in_flight.finish(other).unwrap();
        let lost = in_flight.begin_again().unwrap();
        assert_eq!(lost.tags, [7, 9, 70]);
        // The job that takes no more items is over: what is lost of it goes in another one.
        let [ClientRequest::Open { tag, .. }] = lost.opens[..] else { panic!("{:?}", lost.opens) };
        assert_eq!((tag, in_flight.jobs_len()), (job, 1));
        assert!(in_flight.resolve(ID, &[Run { first: 0, len: 1 }]).is_err(), "of before");
        let again = JobId { epoch: 2, number: 0 };
        assert!(!in_flight.opened(job, again, Window { items: 10, bytes: 0 }).unwrap());
        let grant = in_flight.take(job, &items(&[7])).unwrap();
        assert_eq!((grant.job, grant.first), (again, 0));
        assert_ne!(grant.generation, first.generation);
    }

    #[test]
    fn a_stream_whose_next_step_depends_on_a_lost_one_cannot_go_on() {
        let (in_flight, job) = open(Window { items: 10, bytes: 100 });
        let ticket = in_flight.add_ticket();
        in_flight.take(job, &items(&[ticket])).unwrap();
        assert!(in_flight.begin_again().is_none());
    }

    #[test]
    fn an_empty_window_accepts_whatever_fits() {
        let (in_flight, job) = open(Window { items: 4096, bytes: 100 });
        let names: Vec<(u64, u32)> = (0..500).map(|tag| (tag, 60)).collect();
        assert_eq!(in_flight.take(job, &names).unwrap().len, 1);
    }
}
