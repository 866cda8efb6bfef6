//! The book of durable jobs, between clients, the core and the journal.
//!
//! Reports of the core to it wait in a queue, so that neither is entered while it is in a step.

use super::hub::Hub;
use crate::core::{ClientId, Event};
use crate::jobs::{Book, BookAction, BookEvent, Caller, Instants};
use crate::journal::{Journal, JournalAnswer, Query, StorageError};
use ipc_proto::message::{ClientReply, ServiceReply, ServiceRequest};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::error::Error;

/// Most requests of one connection without a reply; it is not read from until there is one.
pub(super) const OWED_MAX: usize = 16;

/// The book, if there is a journal.
#[derive(Debug, Default)]
pub(super) struct BookPort {
    book: RefCell<Option<Book>>,
    events: RefCell<VecDeque<BookEvent>>,
    is_busy: Cell<bool>,
    /// Reads for which the journal had no room.
    reads: RefCell<VecDeque<(u64, Query)>>,
}

impl BookPort {
    pub(super) fn push(&self, event: BookEvent) {
        self.events.borrow_mut().push_back(event);
    }

    fn next_event(&self) -> Option<BookEvent> {
        self.events.borrow_mut().pop_front()
    }

    pub(super) fn is_open(&self) -> bool {
        self.book.borrow().is_some()
    }

    pub(super) fn needs_ticks(&self) -> bool {
        self.book.borrow().as_ref().is_some_and(Book::needs_ticks)
    }
}

impl Hub {
    /// Opens the book of what is in the journal.
    pub(super) fn open_book(&self) {
        let datasets = self.live.borrow().datasets.clone();
        *self.book.book.borrow_mut() = Some(Book::new(self.epoch(), datasets));
        self.tell_book(BookEvent::Tick);
    }

    /// Hands a request to the book, or returns it if there is none.
    pub(super) fn serve(
        &self,
        client: ClientId,
        tag: u32,
        request: ServiceRequest,
    ) -> Option<ServiceRequest> {
        if !self.book.is_open() {
            return Some(request);
        }
        let known = self.core.borrow().client(client);
        let (principal, rights) = known?;
        let caller = Caller(client.0);
        self.port_of(client).inspect(|port| port.owe());
        self.tell_book(BookEvent::Asked { caller, tag, principal, rights, request });
        None
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
        match action {
            BookAction::Persist(sequence, writes) => {
                let taken = self.journal.with(|journal| journal.commit(sequence, writes));
                if taken.is_none_or(|taken| taken.is_err()) {
                    let text = "the journal is too slow for what is to be written".to_owned();
                    self.book.push(BookEvent::PersistFailed { sequence, text, is_final: false });
                }
            }
            BookAction::Read(tag, query) => {
                self.book.reads.borrow_mut().push_back((tag, query));
                self.read_for_book();
            }
            BookAction::Core(request) => self.step(Event::BookSaid(request)),
            BookAction::List(page) => self.step(Event::List(page)),
            BookAction::Unlist(tag) => self.step(Event::Unlist(tag)),
            BookAction::Reply(Caller(client), tag, reply) => {
                self.reply_for_book(ClientId(client), tag, reply);
            }
        }
    }

    /// Hands reads to the journal, as many as it takes.
    fn read_for_book(&self) {
        let mut reads = self.book.reads.borrow_mut();
        while let Some((tag, query)) = reads.pop_front() {
            let taken = self.journal.with(|journal: &Journal| journal.read(tag, query));
            if let Some(Err(query)) = taken {
                return reads.push_front((tag, query));
            }
        }
    }

    fn reply_for_book(&self, client: ClientId, tag: u32, reply: ServiceReply) {
        let Some(port) = self.port_of(client) else { return };
        let reply = ClientReply::Service { tag, reply };
        port.push(&reply, Vec::new()).expect("replies fit a frame");
        port.repay();
        port.flush_or_wake();
    }

    /// Takes an answer of the journal.
    pub(super) fn journal_answered(&self, answer: JournalAnswer) {
        let event = match answer {
            JournalAnswer::Committed(sequence) => BookEvent::Persisted(sequence),
            JournalAnswer::NotCommitted(sequence, error) => {
                let is_final = !matches!(error, StorageError::Full(_) | StorageError::ReadOnly(_));
                BookEvent::PersistFailed { sequence, text: text_of(&error), is_final }
            }
            JournalAnswer::Found(tag, found) => {
                self.read_for_book();
                let rows = found.map_err(|error| text_of(&error));
                BookEvent::Read(tag, rows)
            }
            JournalAnswer::Health(_) => return,
        };
        self.tell_book(event);
    }
}

/// An error with its cause.
fn text_of(error: &StorageError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
