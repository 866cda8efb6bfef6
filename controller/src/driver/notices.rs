//! Notices of runs, between the planner and the process that delivers them.

use super::hub::Hub;
use super::log::{Event, LOG};
use super::port::watch;
use crate::notices::{NoticeAction, NoticeEnd, NoticeEvent, Notices};
use crate::schedules::PlannerEvent;
use notifier::{Delivery, DeliveryFailure, DeliveryReport, NotifierLink, Permissions};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Open files of the link.
pub(super) const FILES: usize = 1;

/// The queue, and the way to the process.
#[derive(Debug, Default)]
pub(super) struct NoticePort {
    notices: RefCell<Notices>,
    link: RefCell<Option<Rc<AsyncFd<NotifierLink>>>>,
}

impl NoticePort {
    pub(super) fn needs_ticks(&self) -> bool {
        self.notices.borrow().needs_ticks()
    }
}

/// Starts the process, as long as this one may.
pub(super) fn start(permissions: &Permissions) -> io::Result<NotifierLink> {
    NotifierLink::start(permissions, &["--deliver-notices"])
}

/// Takes the reports of the process.
pub(super) async fn follow(hub: Rc<Hub>, link: NotifierLink) {
    let error = match watch(link, Interest::READABLE) {
        Ok(link) => {
            let link = Rc::new(link);
            *hub.notices.link.borrow_mut() = Some(Rc::clone(&link));
            reports(&hub, &link).await
        }
        Err(error) => error,
    };
    LOG.log(&Event::NotifierEnded { error: &error });
    *hub.notices.link.borrow_mut() = None;
    hub.tell_notices(NoticeEvent::Closed);
}

/// Takes reports up to the end of the process, and returns its cause.
async fn reports(hub: &Hub, link: &AsyncFd<NotifierLink>) -> io::Error {
    loop {
        let mut guard = match link.readable().await {
            Ok(guard) => guard,
            Err(error) => return error,
        };
        match link.get_ref().receive() {
            Ok(Some(report)) => hub.tell_notices(NoticeEvent::Reported(report)),
            Ok(None) => return io::ErrorKind::UnexpectedEof.into(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
            Err(error) => return error,
        }
    }
}

impl Hub {
    /// Hands an event to the queue, and carries out all that follows from it.
    pub(super) fn tell_notices(&self, event: NoticeEvent) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let actions = self.notices.notices.borrow_mut().step(self.now(), event);
            for action in actions {
                match action {
                    NoticeAction::Try(delivery) => events.extend(self.try_notice(&delivery)),
                    NoticeAction::Forget { key, id, end } => {
                        log_end(&id, &end);
                        self.tell_planner(PlannerEvent::Noticed(key));
                    }
                    NoticeAction::Delayed { id, failure, delay } => {
                        let (notice, delay_s) = (id.as_str(), delay.as_secs());
                        LOG.log(&Event::NoticeDelayed { notice, error: &failure, delay_s });
                    }
                }
            }
        }
    }

    /// Sends a delivery to the process; the report of one that cannot be sent.
    fn try_notice(&self, delivery: &Delivery) -> Option<NoticeEvent> {
        let link = self.notices.link.borrow().clone();
        let sent = match link {
            Some(link) => link.get_ref().send(delivery),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        let error = sent.err()?;
        let is_final = error.kind() == io::ErrorKind::InvalidInput;
        let failure = Some(DeliveryFailure { text: error.to_string(), is_final });
        Some(NoticeEvent::Reported(DeliveryReport { number: delivery.number, failure }))
    }
}

fn log_end(notice: &str, end: &NoticeEnd) {
    match end {
        NoticeEnd::Delivered => LOG.log(&Event::NoticeDelivered { notice }),
        NoticeEnd::GivenUp(error) => LOG.log(&Event::NoticeGivenUp { notice, error }),
        NoticeEnd::Dropped => LOG.log(&Event::NoticeDropped { notice }),
    }
}
