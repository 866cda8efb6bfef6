//! The planner of schedules, between clients, the book and the journal.
//!
//! It asks the book as clients do, as the caller [`PLANNER`]. Answers to it wait in a queue, so that it is not
//! entered while it is in a step.

use super::book::INSIDE;
use super::hub::Hub;
use super::journal::JournalUser;
use super::log::{self, LOG};
use crate::core::{Principal, Rights};
use crate::events::TrailKind;
use crate::jobs::{BookEvent, Caller, Instants};
use crate::notices::NoticeEvent;
use crate::schedules::{Planner, PlannerAction, PlannerEvent, ScheduleOwner};
use ipc_proto::message::{
    ChangeCounts, DifferenceKind, RunOutcome, ServiceRefusal, ServiceReply, ServiceRequest,
};
use ipc_socket::Peer;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// The caller that the planner is to the book; those of other parts of this process are smaller.
pub(super) const PLANNER: Caller = Caller(u64::MAX);

const _: () = assert!(PLANNER.0 & INSIDE != 0);

/// The planner, if there is a journal.
#[derive(Debug, Default)]
pub(super) struct PlannerPort {
    planner: RefCell<Option<Planner>>,
    events: RefCell<VecDeque<PlannerEvent>>,
    is_busy: Cell<bool>,
    /// Runs that ended since the start of this controller, in the order of [`RunOutcome::ALL`].
    ended: Cell<[u64; RunOutcome::ALL.len()]>,
    /// Differences of those.
    changes: Cell<ChangeCounts>,
}

impl PlannerPort {
    pub(super) fn needs_ticks(&self) -> bool {
        self.planner.borrow().as_ref().is_some_and(Planner::needs_ticks)
    }

    /// Differences of the runs that ended.
    pub(super) fn changes(&self) -> ChangeCounts {
        self.changes.get()
    }

    /// Runs that ended, in the order of [`RunOutcome::ALL`].
    pub(super) fn ended(&self) -> [u64; RunOutcome::ALL.len()] {
        self.ended.get()
    }

    fn count(&self, outcome: RunOutcome, changes: ChangeCounts) {
        let mut ended = self.ended.get();
        ended[outcome as usize] += 1;
        self.ended.set(ended);
        let mut sum = self.changes.get();
        sum.add(changes);
        self.changes.set(sum);
    }

    fn next_event(&self) -> Option<PlannerEvent> {
        self.events.borrow_mut().pop_front()
    }
}

impl Hub {
    /// Has the schedules in the journal run.
    pub(super) fn open_planner(&self) {
        let datasets = self.live.borrow().datasets.clone();
        *self.planner.planner.borrow_mut() = Some(Planner::new(datasets));
        self.tell_planner(PlannerEvent::Tick);
    }

    /// Hands an event to the planner, and carries out all that follows from it.
    pub(super) fn tell_planner(&self, event: PlannerEvent) {
        self.planner.events.borrow_mut().push_back(event);
        if self.planner.is_busy.replace(true) {
            return;
        }
        while let Some(event) = self.planner.next_event() {
            let at = Instants { monotonic: self.now(), wall_s: self.wall_s() };
            let mut planner = self.planner.planner.borrow_mut();
            let actions = planner.as_mut().map(|planner| planner.step(at, event));
            drop(planner);
            let actions = actions.unwrap_or_default();
            actions.into_iter().for_each(|action| self.carry_out_for_planner(action));
        }
        self.planner.is_busy.set(false);
    }

    fn carry_out_for_planner(&self, action: PlannerAction) {
        match action {
            PlannerAction::Persist(number, writes) => {
                let sequence = JournalUser::Planner.number(number);
                let taken = self.journal.with(|journal| journal.commit(sequence, writes));
                if taken.is_none_or(|taken| taken.is_err()) {
                    self.tell_planner(PlannerEvent::PersistFailed(number));
                }
            }
            PlannerAction::Read(number, query) => {
                self.journal.queue_read(JournalUser::Planner.number(number), query);
            }
            PlannerAction::Book(number, owner, request) => {
                self.ask_book_for_planner(number, owner, request);
            }
            PlannerAction::Reply(caller, tag, reply) => {
                self.note_change(caller, tag, &reply);
                self.send_reply(caller, tag, reply);
            }
            PlannerAction::Notice(notice) => self.tell_notices(NoticeEvent::New(notice)),
            PlannerAction::Ended { schedule, run, outcome, changes } => {
                self.planner.count(outcome, changes);
                let (schedule, outcome_name) = (&schedule, outcome.name());
                let files = changes.of(DifferenceKind::Rotted);
                let text = format_args!("run {run}: {outcome_name}");
                self.note(TrailKind::RunEnded, schedule, None, text);
                if files > 0 {
                    let text = format_args!("run {run}: {files} files");
                    self.note(TrailKind::FilesRotted, schedule, None, text);
                    LOG.log(&log::Event::Rotted { schedule, run, files });
                }
                match outcome {
                    RunOutcome::Succeeded | RunOutcome::Cancelled => {
                        LOG.log(&log::Event::RunEnded { schedule, run, outcome: outcome_name });
                    }
                    RunOutcome::Failed | RunOutcome::Late => {
                        LOG.log(&log::Event::RunFailed { schedule, run, outcome: outcome_name });
                    }
                }
            }
        }
    }

    /// Asks the book in the name of a schedule's owner. New jobs need the rights that this one has now; looking
    /// after those that were submitted is the controller's own affair.
    fn ask_book_for_planner(&self, number: u32, owner: ScheduleOwner, request: ServiceRequest) {
        let principal = owner.principal;
        let is_submit = matches!(request, ServiceRequest::Submit { .. });
        let rights = if is_submit { self.rights_of(owner) } else { Some(Rc::new(Rights::ALL)) };
        let Some(rights) = rights else {
            let text = format!("{principal} is in no rule of the policy any more");
            let reply = ServiceReply::Refused { reason: ServiceRefusal::Forbidden, text };
            return self.tell_planner(PlannerEvent::Book(number, reply));
        };
        let caller = PLANNER;
        self.tell_book(BookEvent::Asked { caller, tag: number, principal, rights, request });
    }

    /// The rights that the policy gives the owner of a schedule.
    fn rights_of(&self, owner: ScheduleOwner) -> Option<Rc<Rights>> {
        match owner.principal {
            Principal::Uid(uid) => {
                self.settings.policy.client(Peer { uid, gid: owner.gid, pid: 0 })
            }
            Principal::Token(number) => self.settings.policy.token_rights(number),
            Principal::Named(name) => {
                let live = self.live.borrow();
                live.api_tokens.as_ref().and_then(|tokens| tokens.rights_of(name))
            }
        }
    }
}
