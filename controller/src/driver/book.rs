//! The book of durable jobs, between clients, the core and the journal.
//!
//! Reports of the core to it wait in a queue, so that neither is entered while it is in a step. Parts of this
//! process ask it as clients do, by [`Hub::ask_book`].

use super::hub::Hub;
use super::journal::JournalUser;
use super::planner::PLANNER;
use crate::core::{ClientId, Event, Principal, Rights};
use crate::events::{TrailEvent, TrailKind};
use crate::jobs::{Book, BookAction, BookEvent, Caller, Instants, Retirement};
use crate::journal::{Journal, Write};
use crate::schedules::{PlannerEvent, ScheduleAsk, ScheduleOwner};
use ipc_proto::message::{
    ClientReply, JobRow, JobState, ScheduleReply, ScheduleRequest, ServiceRefusal, ServiceReply,
    ServiceRequest,
};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use tokio::sync::oneshot;

/// Most requests of one connection without a reply; it is not read from until there is one.
pub(super) const OWED_MAX: usize = 16;

/// Bit of the callers that are parts of this process; no connection has a number that large.
pub(super) const INSIDE: u64 = 1 << 63;

/// The book, if there is a journal.
#[derive(Debug, Default)]
pub(super) struct BookPort {
    /// Parts of this process that wait for a reply, by the number of their caller.
    insiders: RefCell<HashMap<u64, oneshot::Sender<ServiceReply>>>,
    next_insider: Cell<u64>,
    /// Changes that were asked for and have no reply yet, for the trail: by caller and tag.
    asked: RefCell<HashMap<(u64, u32), AskedChange>>,
    book: RefCell<Option<Book>>,
    events: RefCell<VecDeque<BookEvent>>,
    is_busy: Cell<bool>,
}

/// A change that is an event once it is made.
#[derive(Clone, Debug)]
struct AskedChange {
    kind: TrailKind,
    by: Principal,
    /// The schedule that it is about; empty for others.
    schedule: String,
    at_s: u64,
}

impl BookPort {
    /// Forgets a caller that has left.
    pub(super) fn forget(&self, caller: u64) {
        self.asked.borrow_mut().retain(|(of, _), _| *of != caller);
    }

    pub(super) fn push(&self, event: BookEvent) {
        self.events.borrow_mut().push_back(event);
    }

    fn next_event(&self) -> Option<BookEvent> {
        self.events.borrow_mut().pop_front()
    }

    pub(super) fn is_open(&self) -> bool {
        self.book.borrow().is_some()
    }

    /// Why the bound of the journal keeps new jobs out, if it does.
    pub(super) fn shortage(&self) -> Option<String> {
        self.book.borrow().as_ref().and_then(Book::shortage)
    }

    pub(super) fn needs_ticks(&self) -> bool {
        self.book.borrow().as_ref().is_some_and(Book::needs_ticks)
    }
}

impl Hub {
    /// Opens the book of what is in the journal.
    pub(super) fn open_book(&self) {
        let datasets = self.live.borrow().datasets.clone();
        let mut book = Book::new(self.epoch(), datasets);
        if let Some(len_max) = self.settings.journal_max {
            book = book.bounded(len_max);
        }
        *self.book.book.borrow_mut() = Some(book);
        self.tell_journal_len();
    }

    /// Tells the book how much is in the journal.
    pub(super) fn tell_journal_len(&self) {
        let len = self.journal.with(Journal::rows_len).unwrap_or(0);
        self.tell_book(BookEvent::JournalLen(len));
    }

    /// Hands a request to the book or the planner, or returns it if there is no journal. `gid` is the client's
    /// effective group, 0 over vsock.
    pub(super) fn serve(
        &self,
        (client, gid): (ClientId, u32),
        tag: u32,
        request: ServiceRequest,
    ) -> Option<ServiceRequest> {
        if !self.book.is_open() && !matches!(request, ServiceRequest::Rules) {
            return Some(request);
        }
        let known = self.core.borrow().client(client);
        let (principal, rights) = known?;
        let caller = Caller(client.0);
        self.port_of(client).inspect(|port| port.owe());
        let owner = ScheduleOwner { principal, gid };
        self.hand_out((caller, tag), owner, rights, request);
        None
    }

    /// Hands a request to the part that it is for.
    fn hand_out(
        &self,
        (caller, tag): (Caller, u32),
        owner: ScheduleOwner,
        rights: Rc<Rights>,
        request: ServiceRequest,
    ) {
        self.expect_change(caller, tag, owner.principal, &request);
        if let ServiceRequest::Schedule(request) = request {
            let ask = ScheduleAsk { caller, tag, owner, rights, request };
            return self.tell_planner(PlannerEvent::Asked(ask));
        }
        if let ServiceRequest::Events { .. } | ServiceRequest::Rules = request
            && !rights.see_jobs
        {
            let text = "the policy does not let you see what others do".to_owned();
            let reason = ServiceRefusal::Forbidden;
            return self.send_reply(caller, tag, ServiceReply::Refused { reason, text });
        }
        if let ServiceRequest::Events { after, limit } = request {
            return self.read_events((caller, tag), after, limit.into());
        }
        if let ServiceRequest::Rules = request {
            let rules = self.settings.policy.rows();
            return self.send_reply(caller, tag, ServiceReply::Rules(rules));
        }
        if let ServiceRequest::Backup { from } = request {
            return self.back_up((caller, tag), (owner.principal, &rights), from);
        }
        let principal = owner.principal;
        self.tell_book(BookEvent::Asked { caller, tag, principal, rights, request });
    }

    /// Asks the book in the name of `principal`. A future that is dropped gives up what it waited for; a change
    /// is made all the same.
    pub(super) async fn ask_book(
        &self,
        principal: Principal,
        rights: Rc<Rights>,
        request: ServiceRequest,
    ) -> ServiceReply {
        if !self.book.is_open() {
            let text = "this controller keeps no journal; see --state-dir".to_owned();
            return ServiceReply::Refused { reason: ServiceRefusal::NoJournal, text };
        }
        let number = INSIDE | self.book.next_insider.get();
        self.book.next_insider.set(number.wrapping_add(1));
        let (reply, replied) = oneshot::channel();
        self.book.insiders.borrow_mut().insert(number, reply);
        let _asking = Asking { hub: self, number };
        // No group of this number exists: what a part of this process applies is its principal's own.
        let owner = ScheduleOwner { principal, gid: u32::MAX };
        self.hand_out((Caller(number), 0), owner, rights, request);
        replied.await.expect("every request has one reply, and its sender stays until then")
    }

    /// Keeps in mind that a request changes something.
    fn expect_change(&self, caller: Caller, tag: u32, by: Principal, request: &ServiceRequest) {
        let mut schedule = String::new();
        let kind = match request {
            ServiceRequest::Submit { .. } => TrailKind::JobSubmitted,
            ServiceRequest::Act { act, .. } => (*act).into(),
            ServiceRequest::Store { .. }
            | ServiceRequest::Seal { .. }
            | ServiceRequest::Jobs { .. }
            | ServiceRequest::Job { .. }
            | ServiceRequest::Wait { .. }
            | ServiceRequest::Results { .. }
            | ServiceRequest::Deaths { .. }
            | ServiceRequest::Events { .. }
            | ServiceRequest::Rules
            | ServiceRequest::Backup { .. }
            | ServiceRequest::Findings { .. } => return,
            ServiceRequest::Schedule(request) => match request {
                ScheduleRequest::Apply { .. } => TrailKind::ScheduleApplied,
                ScheduleRequest::Act { name, act } => {
                    schedule.clone_from(name);
                    (*act).into()
                }
                ScheduleRequest::List { .. }
                | ScheduleRequest::Show { .. }
                | ScheduleRequest::Runs { .. }
                | ScheduleRequest::Run { .. }
                | ScheduleRequest::Differences { .. } => return,
            },
        };
        let change = AskedChange { kind, by, schedule, at_s: self.wall_s() };
        self.book.asked.borrow_mut().insert((caller.0, tag), change);
    }

    /// Notes a change that was made.
    pub(super) fn note_change(&self, Caller(caller): Caller, tag: u32, reply: &ServiceReply) {
        let Some(change) = self.book.asked.borrow_mut().remove(&(caller, tag)) else { return };
        if let ServiceReply::Schedule(ScheduleReply::Changed(row)) = reply {
            return self.note(change.kind, &row.name, Some(change.by), "");
        }
        if let ServiceReply::Schedule(ScheduleReply::Started { run }) = reply {
            let text = format_args!("run {run}");
            return self.note(change.kind, change.schedule, Some(change.by), text);
        }
        let ServiceReply::Job(row) = reply else { return };
        // A submission with the key of an earlier one changes nothing.
        if change.kind == TrailKind::JobSubmitted && row.created_s < change.at_s {
            return;
        }
        self.note(change.kind, row.id, Some(change.by), &row.key);
    }

    /// Notes that a job has ended by itself.
    fn note_end(&self, row: JobRow, told: Write) {
        let JobRow { id, items, failed, mismatched, reason, findings, ended_s: at_s, .. } = row;
        let (kind, text) = if row.state == JobState::Failed {
            (TrailKind::JobFailed, reason)
        } else {
            let found = match findings {
                Some(findings) => findings.to_string(),
                None => format!("{failed} without a digest, {mismatched} mismatched"),
            };
            (TrailKind::JobDone, format!("{items} items, {found}"))
        };
        let (subject, by) = (id.to_string(), String::new());
        self.note_event(TrailEvent { at_s, kind, subject, by, text }, Some(told));
    }

    /// Hands an event to the book, and carries out all that follows from it.
    pub(super) fn tell_book(&self, event: BookEvent) {
        self.book.push(event);
        self.run_book();
    }

    /// Hands events that wait to the book.
    pub(super) fn run_book(&self) {
        if self.book.events.borrow().is_empty() || self.book.is_busy.replace(true) {
            return;
        }
        while let Some(event) = self.book.next_event() {
            let at = Instants { monotonic: self.now(), wall_s: self.wall_s() };
            let actions = self.book.book.borrow_mut().as_mut().map(|book| book.step(at, event));
            let actions = actions.unwrap_or_default();
            actions.into_iter().for_each(|action| self.carry_out_for_book(action));
        }
        self.book.is_busy.set(false);
    }

    fn carry_out_for_book(&self, action: BookAction) {
        if let BookAction::Reply(caller, tag, reply) = &action {
            self.note_change(*caller, *tag, reply);
        }
        match action {
            BookAction::Persist(sequence, writes) => {
                let number = JournalUser::Book.number(sequence);
                let taken = self.journal.with(|journal| journal.commit(number, writes));
                if taken.is_none_or(|taken| taken.is_err()) {
                    let text = "the journal is too slow for what is to be written".to_owned();
                    self.book.push(BookEvent::PersistFailed { sequence, text, is_final: false });
                }
            }
            BookAction::Read(tag, query) => {
                self.journal.queue_read(JournalUser::Book.number(tag), query);
            }
            BookAction::Core(request) => self.step(Event::BookSaid(request)),
            BookAction::List(page) => self.step(Event::List(page)),
            BookAction::Unlist(tag) => self.step(Event::Unlist(tag)),
            BookAction::Reply(caller, tag, reply) => self.send_reply(caller, tag, reply),
            BookAction::Ended { row, told } => self.note_end(*row, told),
            BookAction::Retired(id, retirement) => {
                let text = match retirement {
                    Retirement::Age => "it ended long ago",
                    Retirement::Count => "its user has too many that have ended",
                    Retirement::Room => "it ended first, and --journal-max is reached",
                };
                self.note(TrailKind::JobRemoved, id, None, text);
            }
        }
    }

    /// Sends a reply to the connection or the part of this process that asked.
    pub(super) fn send_reply(&self, caller: Caller, tag: u32, reply: ServiceReply) {
        if caller == PLANNER {
            return self.tell_planner(PlannerEvent::Book(tag, reply));
        }
        let Caller(number) = caller;
        if number & INSIDE != 0 {
            if let Some(asking) = self.book.insiders.borrow_mut().remove(&number) {
                // The receiver may have given up.
                let _ = asking.send(reply);
            }
            return;
        }
        let Some(port) = self.port_of(ClientId(number)) else { return };
        let reply = ClientReply::Service { tag, reply };
        port.push(&reply, Vec::new()).expect("replies fit a frame");
        port.repay();
        port.flush_or_wake();
    }
}

/// A request of a part of this process.
struct Asking<'a> {
    hub: &'a Hub,
    number: u64,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.hub.book.forget(self.number);
        if self.hub.book.insiders.borrow_mut().remove(&self.number).is_some() {
            self.hub.tell_book(BookEvent::Left(Caller(self.number)));
        }
    }
}
