//! Requests about schedules.

use super::record::{ScheduleState, put_text, remove_schedule};
use super::{Planned, Planner, RunOutcome, SCHEDULES_MAX};
use crate::core::Principal;
use schedule::{Schedule, TaskKind};
use std::rc::Rc;

/// A request about schedules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleAsk {
    /// Adds or replaces a schedule, given in its normal form. No run of it may go on.
    Apply(String),
    /// Forgets a schedule and its runs; jobs that it submitted stay.
    Remove(String),
    /// Holds a schedule back, or lets it be due again: what was due meanwhile is skipped.
    Pause(String, bool),
    /// Starts a run now.
    Run(String),
    /// Ends the run that goes on.
    Cancel(String),
    /// The normal form of a schedule.
    Show(String),
    /// All schedules.
    List,
}

/// The answer to a [`ScheduleAsk`], after its change is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleAnswer {
    /// It is done.
    Done,
    /// Nothing was changed, for this reason.
    Refused(String),
    /// A run of this number began.
    Started(u64),
    /// A schedule.
    Text(Rc<str>),
    /// All schedules, in the order of their names.
    All(Vec<ScheduleOverview>),
}

/// A schedule in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleOverview {
    /// Its name.
    pub name: String,
    /// It is held back.
    pub is_paused: bool,
    /// Its next due time, in seconds since 1970.
    pub next_s: Option<i64>,
    /// Number of the run that goes on.
    pub active: Option<u64>,
    /// Runs that have begun.
    pub runs: u64,
}

impl ScheduleAnswer {
    pub(super) fn refused(text: &str) -> Self {
        Self::Refused(text.to_owned())
    }
}

impl Planner {
    pub(super) fn ask(&mut self, principal: Principal, ask: ScheduleAsk) -> ScheduleAnswer {
        match ask {
            ScheduleAsk::Apply(text) => match self.apply(principal, &text) {
                Ok(()) => ScheduleAnswer::Done,
                Err(text) => ScheduleAnswer::Refused(text),
            },
            ScheduleAsk::List => ScheduleAnswer::All(self.overview()),
            ScheduleAsk::Remove(name)
            | ScheduleAsk::Pause(name, _)
            | ScheduleAsk::Run(name)
            | ScheduleAsk::Cancel(name)
            | ScheduleAsk::Show(name)
                if !self.planned.contains_key(&name) =>
            {
                ScheduleAnswer::Refused(format!("no schedule of the name '{name}'"))
            }
            ScheduleAsk::Show(name) => ScheduleAnswer::Text(Rc::clone(&self.planned[&name].text)),
            ScheduleAsk::Remove(name) => {
                self.remove(&name);
                ScheduleAnswer::Done
            }
            ScheduleAsk::Pause(name, is_paused) => {
                let now_s = self.wall_s();
                if let Some(planned) = self.planned.get_mut(&name) {
                    if planned.state.is_paused && !is_paused {
                        planned.state.considered_s = planned.state.considered_s.max(now_s);
                    }
                    planned.state.is_paused = is_paused;
                }
                self.save(&name);
                self.plan(&name);
                ScheduleAnswer::Done
            }
            ScheduleAsk::Run(name) if self.planned[&name].state.active.is_some() => {
                ScheduleAnswer::refused("a run goes on; cancel it, or wait for its end")
            }
            ScheduleAsk::Run(name) => {
                let number = self.begin_run(&name, self.wall_s(), true);
                self.save(&name);
                ScheduleAnswer::Started(number)
            }
            ScheduleAsk::Cancel(name) => {
                if self.planned[&name].state.active.is_none() {
                    return ScheduleAnswer::refused("no run goes on");
                }
                self.stop_run(&name, RunOutcome::Cancelled);
                ScheduleAnswer::Done
            }
        }
    }

    fn apply(&mut self, principal: Principal, text: &str) -> Result<(), String> {
        let all = schedule::parse(text.as_bytes()).map_err(|errors| errors.to_string())?;
        let [schedule] = <[Schedule; 1]>::try_from(all.schedules)
            .map_err(|all| format!("{} schedules instead of one", all.len()))?;
        check_tasks(&schedule)?;
        let name = schedule.name.clone();
        let old = self.planned.get(&name);
        if old.is_none() && self.planned.len() >= SCHEDULES_MAX {
            return Err(format!("{SCHEDULES_MAX} schedules are there already"));
        }
        if old.is_some_and(|old| old.state.active.is_some()) {
            return Err(format!("a run of '{name}' goes on; cancel it, or wait for its end"));
        }
        let now_s = self.wall_s();
        let new = || ScheduleState::new(principal, now_s);
        let mut state = old.map_or_else(new, |old| old.state.clone());
        state.principal = principal.into();
        // Due times of the new form count from now on.
        state.considered_s = state.considered_s.max(now_s);
        let next_s = old.and_then(|old| old.next_s);
        // The form that this version writes, whoever sent it.
        let text = schedule.to_json();
        self.next.writes.push(put_text(&name, &text));
        let planned =
            Planned { schedule: Rc::new(schedule), text: text.into(), state, next_s, run: None };
        self.planned.insert(name.clone(), planned);
        self.save(&name);
        self.plan(&name);
        Ok(())
    }

    fn remove(&mut self, name: &str) {
        self.drop_run(name);
        if let Some(planned) = self.planned.remove(name)
            && let Some(at_s) = planned.next_s
        {
            self.calendar.remove(&(at_s, name.to_owned()));
        }
        self.next.writes.extend(remove_schedule(name));
    }

    fn overview(&self) -> Vec<ScheduleOverview> {
        let overview = |(name, planned): (&String, &Planned)| ScheduleOverview {
            name: name.clone(),
            is_paused: planned.state.is_paused,
            next_s: planned.next_s,
            active: planned.state.active,
            runs: planned.state.next_run - 1,
        };
        self.planned.iter().map(overview).collect()
    }
}

/// Refuses what jobs cannot do yet.
fn check_tasks(schedule: &Schedule) -> Result<(), String> {
    for step in &schedule.steps {
        let Some(task) = &step.task else { continue };
        let missing = match task.kind {
            TaskKind::Sum | TaskKind::Audit { manifest: None } if task.rate.is_none() => continue,
            TaskKind::Sum | TaskKind::Audit { manifest: None } => "a rate",
            TaskKind::Check { .. } => "kind check",
            TaskKind::Audit { .. } => "an audit against a manifest",
            TaskKind::Scrub { .. } => "kind scrub",
        };
        return Err(format!("{}: this controller cannot run {missing}", step.name));
    }
    Ok(())
}
