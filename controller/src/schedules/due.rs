//! Due times: which schedules start a run, and what becomes of due times that were missed.

use super::{BACK_S, LATE_S, Planner};
use schedule::{Missed, Overlap};
use std::mem;

impl Planner {
    /// Starts the runs that are due.
    pub(super) fn fire_due(&mut self) {
        let now_s = self.wall_s();
        while let Some((at_s, name)) = self.calendar.first().cloned() {
            if at_s > now_s {
                break;
            }
            self.calendar.pop_first();
            self.fire(&name, now_s);
            self.plan(&name);
        }
    }

    /// Puts the next due time of a schedule into the calendar.
    pub(super) fn plan(&mut self, name: &str) {
        let Some(planned) = self.planned.get_mut(name) else { return };
        let next_s = planned.schedule.next_after(planned.state.considered_s);
        let next_s = next_s.filter(|_| !planned.state.is_paused);
        if let Some(old_s) = mem::replace(&mut planned.next_s, next_s) {
            self.calendar.remove(&(old_s, name.to_owned()));
        }
        self.calendar.extend(next_s.map(|at_s| (at_s, name.to_owned())));
    }

    /// Of all due times up to now that were not looked at, the last one counts.
    fn fire(&mut self, name: &str, now_s: i64) {
        let Some(planned) = self.planned.get_mut(name) else { return };
        let Some(due_s) = planned.schedule.last_until(now_s) else { return };
        if due_s <= planned.state.considered_s {
            return;
        }
        planned.state.considered_s = due_s;
        let is_missed = now_s - due_s > LATE_S;
        let is_skipped = is_missed && planned.schedule.missed == Missed::Skip;
        if !is_skipped && planned.state.active.is_none() {
            self.begin_run(name, due_s, false);
        } else if !is_skipped && planned.schedule.overlap == Overlap::Queue {
            planned.state.queued_s.get_or_insert(due_s);
        }
        self.save(name);
    }

    /// Lets schedules that were looked at far in the future start again from now.
    pub(super) fn clock_went_back(&mut self) {
        let now_s = self.wall_s();
        let is_far = |considered_s: i64| considered_s > now_s.saturating_add(BACK_S);
        let names: Vec<String> = self.planned.keys().cloned().collect();
        for name in names {
            let Some(planned) = self.planned.get_mut(&name) else { continue };
            if is_far(planned.state.considered_s) {
                planned.state.considered_s = now_s;
                self.save(&name);
                self.plan(&name);
            }
        }
    }
}
