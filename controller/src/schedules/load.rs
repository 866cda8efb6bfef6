//! Reading everything from the journal: at the start, and after a commit that failed.

use super::record::{
    RunPart, ScheduleEntry, SchedulePart, ScheduleState, ScrubPlace, notice, run_part, runs_range,
    schedule_entry, steps_range,
};
use super::run::ActiveRun;
use super::scrub::Bases;
use super::{Planned, Planner, PlannerAction, PlannerRead};
use crate::journal::{Rows, TableId};
use crate::notices::Notice;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// A load that goes on.
#[derive(Debug)]
pub(super) struct Loading {
    not_before: Duration,
    is_asked: bool,
    /// Ranges that are still to be read, the first one next.
    ranges: VecDeque<(TableId, Vec<u8>, Vec<u8>)>,
    texts: BTreeMap<String, String>,
    states: BTreeMap<String, ScheduleState>,
    runs: BTreeMap<String, Vec<RunPart>>,
    bases: BTreeMap<String, Bases>,
    places: BTreeMap<String, BTreeMap<String, ScrubPlace>>,
    notices: Vec<Notice>,
    next_generation: u32,
}

impl Loading {
    pub(super) fn at_once() -> Self {
        Self::not_before(Duration::ZERO)
    }

    pub(super) fn not_before(not_before: Duration) -> Self {
        let all = |table| (table, Vec::new(), vec![0xff]);
        Self {
            not_before,
            is_asked: false,
            ranges: [TableId::Schedules, TableId::Notices].map(all).into(),
            texts: BTreeMap::new(),
            states: BTreeMap::new(),
            runs: BTreeMap::new(),
            bases: BTreeMap::new(),
            places: BTreeMap::new(),
            notices: Vec::new(),
            next_generation: 1,
        }
    }

    /// Takes in rows of the first range.
    fn take(&mut self, rows: Rows) -> Result<(), crate::jobs::BadRow> {
        let Some((table, _, to)) = self.ranges.pop_front() else { return Ok(()) };
        if rows.more
            && let Some((last, _)) = rows.rows.last()
        {
            let from = [&last[..], &[0]].concat();
            self.ranges.push_front((table, from, to));
        }
        for (key, value) in rows.rows {
            if table == TableId::Schedules {
                match schedule_entry(&key, &value)? {
                    ScheduleEntry::Part(name, SchedulePart::Text(text)) => {
                        self.texts.insert(name, text);
                    }
                    ScheduleEntry::Part(name, SchedulePart::State(state)) => {
                        if let Some(run) = state.active {
                            let head = runs_range(&name, run, run.saturating_add(1));
                            // The run comes before its tasks.
                            for (from, to) in [head, steps_range(&name, run, 0)] {
                                self.ranges.push_back((TableId::Runs, from, to));
                            }
                        }
                        self.states.insert(name, *state);
                    }
                    ScheduleEntry::Part(name, SchedulePart::Base(task, run, base)) => {
                        self.bases.entry(name).or_default().insert((task, run), base);
                    }
                    ScheduleEntry::Part(name, SchedulePart::Place(task, place)) => {
                        self.places.entry(name).or_default().insert(task, place);
                    }
                    ScheduleEntry::Generation(next) => self.next_generation = next,
                }
            } else if table == TableId::Notices {
                self.notices.push(notice(key, &value)?);
            } else {
                let (name, part) = run_part(&key, &value)?;
                self.runs.entry(name).or_default().push(part);
            }
        }
        Ok(())
    }
}

impl Planner {
    /// Asks for the next rows.
    pub(super) fn load(&mut self) {
        let now = self.at.monotonic;
        let Some(loading) = &mut self.loading else { return };
        if loading.is_asked || loading.not_before > now {
            return;
        }
        let Some((table, from, to)) = loading.ranges.front().cloned() else { return };
        loading.is_asked = true;
        self.read(PlannerRead::Load, (table, from, to));
    }

    /// Takes in rows, and starts once all are there.
    pub(super) fn loaded(&mut self, rows: Result<Rows, String>) {
        let now = self.at.monotonic;
        let Some(mut loading) = self.loading.take() else { return };
        loading.is_asked = false;
        let is_good = rows.is_ok_and(|rows| loading.take(rows).is_ok());
        if !is_good {
            // What cannot be read is read again: it says why in the journal's own status.
            self.loading = Some(Loading::not_before(now + super::RELOAD_PAUSE));
            self.refuse_held();
        } else if loading.ranges.is_empty() {
            self.open(loading);
        } else {
            self.loading = Some(loading);
        }
    }

    fn open(&mut self, loading: Loading) {
        let Loading { texts, states, mut runs, mut bases, mut places, .. } = loading;
        let Loading { notices, next_generation, .. } = loading;
        self.actions.extend(notices.into_iter().map(PlannerAction::Notice));
        self.next_generation = next_generation;
        for (name, state) in states {
            let text = texts.get(&name).map_or("", String::as_str);
            // It was checked when it was applied.
            let Some(schedule) = schedule::parse(text.as_bytes())
                .ok()
                .and_then(|all| all.schedules.into_iter().next())
            else {
                continue;
            };
            let schedule = Rc::new(schedule);
            let parts = runs.remove(&name).unwrap_or_default();
            let run = state.active.and_then(|number| ActiveRun::restored(number, &schedule, parts));
            let bases = bases.remove(&name).unwrap_or_default();
            let places = places.remove(&name).unwrap_or_default();
            let text = text.into();
            let planned = Planned { schedule, text, state, next_s: None, run, bases, places };
            self.planned.insert(name.clone(), planned);
            self.plan(&name);
            self.resume_run(&name);
        }
        self.clock_went_back();
        self.answer_held();
    }
}
