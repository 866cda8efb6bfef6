//! Requests about schedules: who may make them, and what they change. Pages of runs are in `history`.

use super::record::{ScheduleState, put_generation, put_text, remove_schedule};
use super::{PRINCIPAL_TEXTS_LEN_MAX, Planned, Planner, SCHEDULES_MAX, ScheduleAsk, ScheduleOwner};
use crate::core::Rights;
use crate::jobs::{AskRefusal, Caller};
use ipc_proto::limits::SCHEDULE_TEXT_LEN_MAX;
use ipc_proto::message::{
    RunOutcome, ScheduleAct, ScheduleReply, ScheduleRequest, ScheduleRow, ServiceRefusal,
    ServiceReply,
};
use schedule::Schedule;
use std::ops::Bound;
use std::rc::Rc;

/// A client, as far as it matters for its rights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Applicant<'a> {
    owner: ScheduleOwner,
    rights: &'a Rights,
}

impl Applicant<'_> {
    /// True if it may know of a schedule.
    fn may_see(self, planned: &Planned) -> bool {
        self.rights.see_jobs || planned.state.owner().principal == self.owner.principal
    }

    fn may_change(self, planned: &Planned) -> bool {
        self.rights.manage_jobs || planned.state.owner().principal == self.owner.principal
    }

    fn may_submit(self) -> Result<(), AskRefusal> {
        if self.rights.submit {
            return Ok(());
        }
        let text = "this client may not submit jobs, nor schedules; see the controller's --policy";
        Err((ServiceRefusal::Forbidden, text.to_owned()))
    }
}

impl Planner {
    /// Answers a request, now or when the journal was read.
    pub(super) fn ask(&mut self, ask: ScheduleAsk) {
        let ScheduleAsk { caller, tag, owner, rights, request } = ask;
        let applicant = Applicant { owner, rights: &rights };
        let done = match request {
            ScheduleRequest::Apply { text } => self.apply(applicant, &text),
            ScheduleRequest::List { after, limit } => Ok(self.list(applicant, &after, limit)),
            ScheduleRequest::Show { name } => self.seen(applicant, &name).map(|planned| {
                let row = Box::new(planned.row(&name, applicant));
                ScheduleReply::Schedule { row, text: planned.text.to_string() }
            }),
            ScheduleRequest::Act { name, act } => self.act_on(applicant, &name, act),
            ScheduleRequest::Runs { name, before, limit } => {
                let seen = self.seen(applicant, &name).map(|planned| planned.state.next_run);
                match seen {
                    Ok(next_run) => {
                        let before = before.unwrap_or(next_run);
                        return self.read_runs((caller, tag), name, before, limit);
                    }
                    Err(refused) => Err(refused),
                }
            }
            ScheduleRequest::Run { name, run, from, limit } => {
                match self.seen(applicant, &name).map(|_| ()) {
                    Ok(()) => return self.read_run((caller, tag), name, run, (from, limit)),
                    Err(refused) => Err(refused),
                }
            }
            ScheduleRequest::Differences { name, run, step, page } => {
                match self.seen(applicant, &name).map(|_| ()) {
                    Ok(()) => return self.read_differences((caller, tag), name, run, (step, page)),
                    Err(refused) => Err(refused),
                }
            }
        };
        self.answer((caller, tag), done);
    }

    pub(super) fn answer(&mut self, to: (Caller, u32), done: Result<ScheduleReply, AskRefusal>) {
        match done {
            Ok(reply) => self.reply(to, ServiceReply::Schedule(reply)),
            Err(refused) => self.refuse(to, refused),
        }
    }

    /// Answers the requests that waited for the journal.
    pub(super) fn answer_held(&mut self) {
        for ask in std::mem::take(&mut self.held) {
            self.ask(ask);
        }
    }

    /// Refuses the requests that waited for a journal that cannot be read.
    pub(super) fn refuse_held(&mut self) {
        for ask in std::mem::take(&mut self.held) {
            let text = "the journal cannot be read".to_owned();
            self.refuse((ask.caller, ask.tag), (ServiceRefusal::JournalFailed, text));
        }
    }

    /// A schedule that a client may see. One that it may not see looks as if there were none.
    fn seen(&self, applicant: Applicant<'_>, name: &str) -> Result<&Planned, AskRefusal> {
        let planned = self.planned.get(name).filter(|planned| applicant.may_see(planned));
        let text = || format!("there is no schedule {name}");
        planned.ok_or_else(|| (ServiceRefusal::UnknownSchedule, text()))
    }

    fn list(&self, applicant: Applicant<'_>, after: &str, limit: u16) -> ScheduleReply {
        let range = (Bound::Excluded(after), Bound::Unbounded);
        let seen = self.planned.range::<str, _>(range);
        let mut seen = seen.filter(|(_, planned)| applicant.may_see(planned));
        let page = seen.by_ref().take(limit.into());
        let rows = page.map(|(name, planned)| planned.row(name, applicant)).collect();
        ScheduleReply::Schedules { rows, more: seen.next().is_some() }
    }

    fn apply(&mut self, applicant: Applicant<'_>, text: &str) -> Result<ScheduleReply, AskRefusal> {
        applicant.may_submit()?;
        let bad = |text| (ServiceRefusal::BadSchedule, text);
        let all = schedule::parse(text.as_bytes()).map_err(|errors| bad(errors.to_string()))?;
        let [schedule] = <[Schedule; 1]>::try_from(all.schedules)
            .map_err(|all| bad(format!("{} schedules instead of one", all.len())))?;
        self.check_datasets(applicant, &schedule)?;
        // The form that this version writes, whoever sent it.
        let text = schedule.to_json();
        if text.len() > SCHEDULE_TEXT_LEN_MAX {
            let text = format!(
                "{}: {} bytes in its normal form, at most {SCHEDULE_TEXT_LEN_MAX} are taken",
                schedule.name,
                text.len()
            );
            return Err((ServiceRefusal::TooMuch, text));
        }
        let name = schedule.name.clone();
        self.check_room(applicant, &name, text.len())?;
        let state = self.new_state(applicant, &name)?;
        let next_s = self.planned.get(&name).and_then(|old| old.next_s);
        self.next.writes.push(put_text(&name, &text));
        let schedule = Rc::new(schedule);
        let old = self.planned.get(&name);
        let (bases, places) =
            old.map(|old| (old.bases.clone(), old.places.clone())).unwrap_or_default();
        let planned =
            Planned { schedule, text: text.into(), state, next_s, run: None, bases, places };
        self.planned.insert(name.clone(), planned);
        self.save(&name);
        self.plan(&name);
        Ok(self.changed(applicant, &name))
    }

    /// Checks that a principal may have a text of this length, too: all texts are in memory.
    fn check_room(
        &self,
        applicant: Applicant<'_>,
        name: &str,
        text_len: usize,
    ) -> Result<(), AskRefusal> {
        let principal = applicant.owner.principal;
        let is_other = |(other, planned): &(&String, &Planned)| {
            *other != name && planned.state.owner().principal == principal
        };
        let held = self.planned.iter().filter(is_other).map(|(_, planned)| planned.text.len());
        if held.sum::<usize>().saturating_add(text_len) <= PRINCIPAL_TEXTS_LEN_MAX {
            return Ok(());
        }
        let text = format!(
            "the schedules of {principal} would have more than {PRINCIPAL_TEXTS_LEN_MAX} bytes; remove some"
        );
        Err((ServiceRefusal::TooMuch, text))
    }

    /// The state of a schedule that is applied: a new one, or that of the one of its name.
    fn new_state(
        &mut self,
        applicant: Applicant<'_>,
        name: &str,
    ) -> Result<ScheduleState, AskRefusal> {
        let now_s = self.wall_s();
        let Some(old) = self.planned.get(name) else {
            if self.planned.len() >= SCHEDULES_MAX {
                let text = format!("there are {SCHEDULES_MAX} schedules; remove some");
                return Err((ServiceRefusal::TooMuch, text));
            }
            let generation = self.next_generation;
            self.next_generation = generation.wrapping_add(1);
            self.next.writes.push(put_generation(self.next_generation));
            return Ok(ScheduleState::new(applicant.owner, generation, now_s));
        };
        if !applicant.may_change(old) {
            return Err(not_yours(name));
        }
        if let Some(run) = old.state.active {
            let text = format!("run {run} of {name} is active; cancel it, or wait for its end");
            return Err((ServiceRefusal::WrongState, text));
        }
        let mut state = old.state.clone();
        state.set_owner(applicant.owner);
        // Due times of the new form count from now on.
        state.considered_s = state.considered_s.max(now_s);
        Ok(state)
    }

    fn check_datasets(
        &self,
        applicant: Applicant<'_>,
        schedule: &Schedule,
    ) -> Result<(), AskRefusal> {
        for task in schedule.steps.iter().filter_map(|step| step.task.as_ref()) {
            let name = &task.dataset;
            if !self.datasets.contains(name) || !applicant.rights.datasets.includes(name) {
                let text = format!("{}: there is no dataset {name}", schedule.name);
                return Err((ServiceRefusal::UnknownDataset, text));
            }
        }
        Ok(())
    }

    fn act_on(
        &mut self,
        applicant: Applicant<'_>,
        name: &str,
        act: ScheduleAct,
    ) -> Result<ScheduleReply, AskRefusal> {
        applicant.may_submit()?;
        let planned = self.seen(applicant, name)?;
        if !applicant.may_change(planned) {
            return Err(not_yours(name));
        }
        let wrong = |text| Err((ServiceRefusal::WrongState, text));
        match (act, planned.state.active) {
            (ScheduleAct::Pause, _) => self.pause(name, true),
            (ScheduleAct::Resume, _) => self.pause(name, false),
            (ScheduleAct::Run, Some(run)) => {
                return wrong(format!(
                    "run {run} of {name} is active; cancel it, or wait for its end"
                ));
            }
            (ScheduleAct::Run, None) => {
                let run = self.begin_run(name, self.wall_s(), true);
                self.save(name);
                return Ok(ScheduleReply::Started { run });
            }
            (ScheduleAct::Cancel, None) => return wrong(format!("no run of {name} is active")),
            (ScheduleAct::Cancel, Some(_)) => self.stop_run(name, RunOutcome::Cancelled),
            (ScheduleAct::Remove, _) => {
                let was = self.changed(applicant, name);
                self.remove(name);
                return Ok(was);
            }
        }
        Ok(self.changed(applicant, name))
    }

    fn changed(&self, applicant: Applicant<'_>, name: &str) -> ScheduleReply {
        ScheduleReply::Changed(Box::new(self.planned[name].row(name, applicant)))
    }

    fn pause(&mut self, name: &str, is_paused: bool) {
        let now_s = self.wall_s();
        if let Some(planned) = self.planned.get_mut(name) {
            if planned.state.is_paused && !is_paused {
                planned.state.considered_s = planned.state.considered_s.max(now_s);
            }
            planned.state.is_paused = is_paused;
        }
        self.save(name);
        self.plan(name);
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
}

impl Planned {
    fn row(&self, name: &str, applicant: Applicant<'_>) -> ScheduleRow {
        let state = &self.state;
        let tasks = self.schedule.steps.iter().filter(|step| step.task.is_some()).count();
        ScheduleRow {
            name: name.to_owned(),
            principal: state.owner().principal.to_string(),
            is_own: state.owner().principal == applicant.owner.principal,
            zone: self.schedule.zone.name().to_owned(),
            has_trigger: self.schedule.trigger.is_some(),
            is_paused: state.is_paused,
            next_s: self.next_s,
            tasks: u32::try_from(tasks).unwrap_or(u32::MAX),
            active: state.active,
            runs: state.next_run - 1,
            last: state.last.as_ref().map(|(run, row)| row.row(*run)),
        }
    }
}

fn not_yours(name: &str) -> AskRefusal {
    let text =
        format!("schedule {name} is another user's; see may = [\"manage-jobs\"] in the policy");
    (ServiceRefusal::Forbidden, text)
}
