//! Reading everything from the journal: at the start, and after a commit that failed.

use super::record::{RunPart, SchedulePart, ScheduleState, run_part, run_range, schedule_part};
use super::run::ActiveRun;
use super::{Planned, Planner, PlannerAction};
use crate::journal::{Query, Rows, TableId};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// Bytes of rows per read.
const READ_LEN: usize = 1 << 20;

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
}

impl Loading {
    pub(super) fn at_once() -> Self {
        Self::not_before(Duration::ZERO)
    }

    pub(super) fn not_before(not_before: Duration) -> Self {
        let all = (TableId::Schedules, Vec::new(), vec![0xff]);
        Self {
            not_before,
            is_asked: false,
            ranges: VecDeque::from([all]),
            texts: BTreeMap::new(),
            states: BTreeMap::new(),
            runs: BTreeMap::new(),
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
                match schedule_part(&key, &value)? {
                    (name, SchedulePart::Text(text)) => {
                        self.texts.insert(name, text);
                    }
                    (name, SchedulePart::State(state)) => {
                        if let Some(run) = state.active {
                            let (from, to) = run_range(&name, run);
                            self.ranges.push_back((TableId::Runs, from, to));
                        }
                        self.states.insert(name, state);
                    }
                }
            } else {
                let name = key.split(|&byte| byte == 0).next().unwrap_or_default();
                let name = String::from_utf8_lossy(name).into_owned();
                self.runs.entry(name).or_default().push(run_part(&key, &value)?);
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
        self.actions.push(PlannerAction::Read(Query { table, from, to, bytes_max: READ_LEN }));
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
        } else if loading.ranges.is_empty() {
            self.open(loading);
        } else {
            self.loading = Some(loading);
        }
    }

    fn open(&mut self, loading: Loading) {
        let Loading { texts, states, mut runs, .. } = loading;
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
            let planned = Planned { schedule, text: text.into(), state, next_s: None, run };
            self.planned.insert(name.clone(), planned);
            self.plan(&name);
            self.resume_run(&name);
        }
        self.clock_went_back();
    }
}
