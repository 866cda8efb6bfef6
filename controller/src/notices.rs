//! Notifications of runs: a bounded queue, and further attempts. [`Notices::step`] takes one event and returns
//! the actions that follow from it.
//!
//! A notice is in the journal from the commit of its run's end until it is delivered or given up, so that it
//! arrives at least once; its id is the same in every attempt. A recipient that hangs holds up nobody
//! else: one delivery per recipient is under way at a time.
//!
//! Not here: the process that delivers (the crate `notifier`), what is worth a notice (`schedules`).

use notifier::{Delivery, DeliveryFailure, DeliveryReport, DeliveryTarget};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// Most notices that wait; a further one is dropped, and logged.
pub const NOTICES_MAX: usize = 1_000;

/// Most deliveries that are under way at once.
const UNDER_WAY_MAX: usize = 8;

/// Attempts before a notice is given up: within about six hours.
pub const ATTEMPTS_MAX: u32 = 15;

/// Delay before the second attempt; each next one is twice as long.
const DELAY: Duration = Duration::from_secs(5);

/// Longest delay between two attempts.
const DELAY_MAX: Duration = Duration::from_secs(3_600);

/// A notice, as it is in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its key in the journal.
    pub key: Vec<u8>,
    /// The same in every attempt.
    pub id: String,
    /// Its recipient.
    pub to: DeliveryTarget,
    /// JSON.
    pub body: String,
}

/// An input of the queue.
#[derive(Debug)]
pub enum NoticeEvent {
    /// Something is worth a notice.
    New(Notice),
    /// An attempt has ended.
    Reported(DeliveryReport),
    /// Nothing is delivered any more, until the controller restarts.
    Closed,
    /// Time passed.
    Tick,
}

/// An output of the queue, for the driver.
#[derive(Debug, PartialEq, Eq)]
pub enum NoticeAction {
    /// Try this once; answered by `Reported`.
    Try(Delivery),
    /// Forget this notice, whose end is known.
    Forget {
        /// Its key in the journal.
        key: Vec<u8>,
        /// Its id.
        id: String,
        /// Its end.
        end: NoticeEnd,
    },
    /// An attempt failed, and there will be another one.
    Delayed {
        /// The notice's id.
        id: String,
        /// Why it failed.
        failure: DeliveryFailure,
        /// Time until the next attempt.
        delay: Duration,
    },
}

/// The end of a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoticeEnd {
    /// Its recipient has it.
    Delivered,
    /// The last attempt failed.
    GivenUp(DeliveryFailure),
    /// The queue was full.
    Dropped,
}

#[derive(Debug)]
struct Waiting {
    notice: Notice,
    attempts: u32,
    /// When it is tried next.
    due: Duration,
    is_under_way: bool,
}

/// All notices that are not delivered yet.
#[derive(Debug, Default)]
pub struct Notices {
    /// By the number of their deliveries, in the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
    next_number: u64,
    is_closed: bool,
}

impl Notices {
    /// Returns true if something happens as time passes.
    #[must_use]
    pub fn needs_ticks(&self) -> bool {
        !self.is_closed && !self.waiting.is_empty()
    }

    /// Takes in one event.
    pub fn step(&mut self, now: Duration, event: NoticeEvent) -> Vec<NoticeAction> {
        let mut actions = Vec::new();
        match event {
            // Whoever reads the journal again finds what is here already.
            NoticeEvent::New(notice) if self.has(&notice.key) => {}
            NoticeEvent::New(Notice { key, id, .. }) if self.waiting.len() >= NOTICES_MAX => {
                actions.push(NoticeAction::Forget { key, id, end: NoticeEnd::Dropped });
            }
            NoticeEvent::New(notice) => {
                let waiting = Waiting { notice, attempts: 0, due: now, is_under_way: false };
                self.waiting.insert(self.next_number, waiting);
                self.next_number += 1;
            }
            NoticeEvent::Reported(report) => actions.extend(self.reported(now, report)),
            NoticeEvent::Closed => self.is_closed = true,
            NoticeEvent::Tick => {}
        }
        if !self.is_closed {
            self.try_due(now, &mut actions);
        }
        actions
    }

    fn has(&self, key: &[u8]) -> bool {
        self.waiting.values().any(|waiting| waiting.notice.key == key)
    }

    fn reported(&mut self, now: Duration, report: DeliveryReport) -> Option<NoticeAction> {
        let waiting = self.waiting.get_mut(&report.number).filter(|known| known.is_under_way)?;
        waiting.is_under_way = false;
        let failure = match report.failure {
            None => return self.forget(report.number, NoticeEnd::Delivered),
            Some(failure) if failure.is_final || waiting.attempts >= ATTEMPTS_MAX => {
                return self.forget(report.number, NoticeEnd::GivenUp(failure));
            }
            Some(failure) => failure,
        };
        let doubled = 1_u32.checked_shl(waiting.attempts - 1).unwrap_or(u32::MAX);
        let delay = DELAY.saturating_mul(doubled).min(DELAY_MAX);
        waiting.due = now + delay;
        Some(NoticeAction::Delayed { id: waiting.notice.id.clone(), failure, delay })
    }

    fn forget(&mut self, number: u64, end: NoticeEnd) -> Option<NoticeAction> {
        let Notice { key, id, .. } = self.waiting.remove(&number)?.notice;
        Some(NoticeAction::Forget { key, id, end })
    }

    /// Tries what is due, as far as there is room.
    fn try_due(&mut self, now: Duration, actions: &mut Vec<NoticeAction>) {
        let under_way = self.waiting.values().filter(|waiting| waiting.is_under_way);
        let mut busy: HashSet<DeliveryTarget> =
            under_way.map(|waiting| waiting.notice.to.clone()).collect();
        let mut room = UNDER_WAY_MAX - busy.len();
        for (&number, waiting) in &mut self.waiting {
            let is_due = waiting.due <= now && !waiting.is_under_way;
            if room == 0 || !is_due || !busy.insert(waiting.notice.to.clone()) {
                continue;
            }
            room -= 1;
            waiting.is_under_way = true;
            waiting.attempts += 1;
            let Notice { id, to, body, .. } = waiting.notice.clone();
            actions.push(NoticeAction::Try(Delivery { number, id, to, body }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(number: usize, recipient: &str) -> Notice {
        Notice {
            key: number.to_be_bytes().to_vec(),
            id: format!("nightly/{number}"),
            to: DeliveryTarget::Url { url: format!("http://{recipient}/"), secret: None },
            body: "{}".to_owned(),
        }
    }

    /// Numbers of the deliveries that are tried.
    fn tried(actions: &[NoticeAction]) -> Vec<u64> {
        let number = |action: &NoticeAction| match action {
            NoticeAction::Try(delivery) => Some(delivery.number),
            NoticeAction::Forget { .. } | NoticeAction::Delayed { .. } => None,
        };
        actions.iter().filter_map(number).collect()
    }

    fn failed(number: u64, is_final: bool) -> NoticeEvent {
        let failure = Some(DeliveryFailure { text: "no".to_owned(), is_final });
        NoticeEvent::Reported(DeliveryReport { number, failure })
    }

    fn delivered(number: u64) -> NoticeEvent {
        NoticeEvent::Reported(DeliveryReport { number, failure: None })
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_recipient_that_hangs_holds_up_nobody_else() {
        let mut notices = Notices::default();
        assert_eq!(tried(&notices.step(at(0), NoticeEvent::New(notice(0, "hangs")))), [0]);
        assert_eq!(tried(&notices.step(at(0), NoticeEvent::New(notice(1, "hangs")))), [0; 0]);
        assert_eq!(tried(&notices.step(at(0), NoticeEvent::New(notice(2, "works")))), [2]);
        let actions = notices.step(at(1), delivered(2));
        let want = NoticeAction::Forget {
            key: 2_usize.to_be_bytes().to_vec(),
            id: "nightly/2".to_owned(),
            end: NoticeEnd::Delivered,
        };
        assert_eq!(actions, [want]);
        assert_eq!(
            notices.step(at(1), NoticeEvent::New(notice(1, "hangs"))),
            [],
            "it is here already"
        );
        // A report that nobody waits for changes nothing.
        assert_eq!(notices.step(at(1), delivered(2)), []);
        let actions = notices.step(at(15), failed(0, false));
        assert_eq!(tried(&actions), [1], "the next one of the same recipient");
    }

    #[test]
    fn attempts_are_delayed_ever_longer_and_end() {
        let mut notices = Notices::default();
        notices.step(at(0), NoticeEvent::New(notice(0, "down")));
        let mut now = at(0);
        let mut delays = Vec::new();
        let end = loop {
            match &notices.step(now, failed(0, false))[..] {
                [NoticeAction::Delayed { delay, .. }] => {
                    delays.push(delay.as_secs());
                    let early = now + *delay - Duration::from_millis(1);
                    assert_eq!(notices.step(early, NoticeEvent::Tick), []);
                    now += *delay;
                    assert_eq!(tried(&notices.step(now, NoticeEvent::Tick)), [0]);
                }
                [NoticeAction::Forget { end, .. }] => break end.clone(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(delays, [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600, 3600]);
        assert!(matches!(end, NoticeEnd::GivenUp(_)));
        assert!(!notices.needs_ticks());
    }

    #[test]
    fn a_lasting_failure_ends_the_attempts_at_once() {
        let mut notices = Notices::default();
        notices.step(at(0), NoticeEvent::New(notice(0, "gone")));
        let actions = notices.step(at(0), failed(0, true));
        assert!(
            matches!(&actions[..], [NoticeAction::Forget { end: NoticeEnd::GivenUp(_), .. }]),
            "{actions:?}"
        );
    }

    #[test]
    fn the_queue_is_bounded_and_little_is_under_way() {
        let mut notices = Notices::default();
        let mut under_way = 0;
        for number in 0..NOTICES_MAX {
            let new = NoticeEvent::New(notice(number, &format!("host{number}")));
            under_way += tried(&notices.step(at(0), new)).len();
        }
        assert_eq!(under_way, UNDER_WAY_MAX);
        let actions = notices.step(at(0), NoticeEvent::New(notice(NOTICES_MAX, "late")));
        assert!(
            matches!(&actions[..], [NoticeAction::Forget { end: NoticeEnd::Dropped, .. }]),
            "{actions:?}"
        );
        assert_eq!(tried(&notices.step(at(1), delivered(0))), [8]);
        assert_eq!(notices.step(at(1), NoticeEvent::Closed), []);
        assert_eq!(notices.step(at(2), NoticeEvent::Tick), []);
        assert!(!notices.needs_ticks());
    }
}
