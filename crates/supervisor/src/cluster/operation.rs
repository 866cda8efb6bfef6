//! Commands that take their time: one step after the other, looked at whenever something has happened, so
//! that a command that waits holds up no other one.

use super::control::Request;
use super::drain::Drain;
use super::error::Error;
use super::fleet::Fleet;
use super::machine::Phase;
use crate::deployment::Role;
use crate::supervise::{Program, ProgramId, describe};
use std::collections::VecDeque;
use std::time::Instant;

/// A change that takes no time.
type Change = Box<dyn FnOnce(&mut Fleet) -> Result<(), Error>>;

/// The program to run, if it is needed.
type ProgramOf = Box<dyn FnOnce(&Fleet) -> Option<Program>>;

/// Steps that are known when their turn comes.
type PlanOf = Box<dyn FnOnce(&Fleet) -> Result<Vec<OperationStep>, Error>>;

/// Steps that follow an error.
type OnError = Box<dyn FnOnce(&Error) -> Vec<OperationStep>>;

/// One step.
pub(super) enum OperationStep {
    /// Until this worker holds no lease and gets none; one that does not run, or that somebody has drained
    /// before, stays as it is.
    Drain(String),
    /// Have a worker given work again that this operation has drained.
    Undrain(String),
    /// Until these members are down.
    Stop(Vec<String>),
    /// Until these members are healthy, and the workers have found a controller among them.
    Start(Vec<String>),
    Change(Change),
    /// Until a program has succeeded at this.
    Run(String, ProgramOf),
    /// Tell how a member is.
    Tell(String),
    /// Tell this.
    Say(String),
    Plan(PlanOf),
    /// These, and if one of them fails others in place of the rest.
    Guarded(Vec<Self>, OnError),
    /// The end of those of the last [`Self::Guarded`].
    Unguard,
    Fail(Error),
}

impl OperationStep {
    /// A restart of one member after a change, for which nobody loses work.
    pub(super) fn renew(name: &str, change: Change) -> [Self; 5] {
        let name = || name.to_owned();
        [
            Self::Drain(name()),
            Self::Stop(vec![name()]),
            // It is known by its name, and comes back under it.
            Self::Undrain(name()),
            Self::Change(change),
            Self::Start(vec![name()]),
        ]
    }
}

/// A command that is under way.
pub(super) struct Operation {
    request: Request,
    /// True if there is to be only one such operation.
    pub(super) is_exclusive: bool,
    steps: VecDeque<OperationStep>,
    present: Option<Present>,
    /// Handlers of an error in the steps up to the next [`OperationStep::Unguard`], the innermost last.
    guards: Vec<OnError>,
    /// Workers that are drained for it.
    drained: Vec<String>,
}

/// The step that is under way.
enum Present {
    Drain(Drain),
    Stop(Vec<String>),
    Start { names: Vec<String>, deadline: Instant },
    Run { what: String, id: ProgramId },
}

impl Operation {
    pub(super) fn new(request: Request, steps: Vec<OperationStep>) -> Self {
        Self {
            request,
            is_exclusive: false,
            steps: steps.into(),
            present: None,
            guards: Vec::new(),
            drained: Vec::new(),
        }
    }

    /// One that excludes others of its kind.
    pub(super) fn exclusive(request: Request, steps: Vec<OperationStep>) -> Self {
        Self { is_exclusive: true, ..Self::new(request, steps) }
    }

    /// The command.
    pub(super) fn line(&self) -> &str {
        self.request.line()
    }

    /// The first word of it.
    pub(super) fn word(&self) -> &str {
        self.request.word()
    }

    pub(super) fn is_reload(&self) -> bool {
        self.request.is_reload()
    }

    /// Goes as far as possible; gives itself back unless it is complete, or has failed.
    pub(super) fn advance(mut self, fleet: &mut Fleet) -> Option<Self> {
        loop {
            let result = match self.present.take() {
                Some(Present::Drain(drain)) => Ok(self.drain(drain)),
                Some(present) => present.advance(fleet),
                None => match self.steps.pop_front() {
                    Some(step) => self.begin(step, fleet),
                    None => {
                        self.request.finish(Ok(()));
                        return None;
                    }
                },
            };
            match result {
                Ok(None) => {}
                Ok(Some((present, is_waiting))) => {
                    self.present = Some(present);
                    if is_waiting {
                        return Some(self);
                    }
                }
                Err(error) => {
                    self.undrain_all(fleet);
                    let Some(on_error) = self.guards.pop() else {
                        self.request.finish(Err(error));
                        return None;
                    };
                    self.skip_guarded();
                    self.follow(on_error(&error));
                }
            }
        }
    }

    /// Gives up.
    pub(super) fn abandon(self, error: Error) {
        self.request.finish(Err(error));
    }

    /// Puts steps before all others.
    fn follow(&mut self, steps: Vec<OperationStep>) {
        steps.into_iter().rev().for_each(|step| self.steps.push_front(step));
    }

    /// Drops the steps up to the end of the innermost guard.
    fn skip_guarded(&mut self) {
        while let Some(step) = self.steps.pop_front() {
            if matches!(step, OperationStep::Unguard) {
                return;
            }
        }
    }

    /// A worker that cannot be drained loses its leases at its stop, as it would without.
    fn drain(&mut self, drain: Drain) -> Option<(Present, bool)> {
        let said = match drain.said() {
            None => return Some((Present::Drain(drain), true)),
            Some(said) => said,
        };
        let said = said.unwrap_or_else(|why| Some(format!("not drained: {why}")));
        if let Some(said) = said {
            self.request.tell(&format!("{}: {said}", drain.worker()));
        }
        None
    }

    fn undrain_all(&mut self, fleet: &Fleet) {
        for worker in self.drained.drain(..) {
            // Nobody waits for it.
            let _ = Drain::end(fleet.context.layout(), &worker);
        }
    }

    fn begin(&mut self, step: OperationStep, fleet: &mut Fleet) -> StepResult {
        match step {
            OperationStep::Drain(name) => {
                let layout = fleet.context.layout();
                if fleet.find(&name).is_ok_and(|i| fleet.can_be_drained(i)) {
                    let drain =
                        Drain::start(layout, &name).map_err(Error::step("start a thread"))?;
                    self.drained.push(name);
                    return Ok(Some((Present::Drain(drain), false)));
                }
                Ok(None)
            }
            OperationStep::Undrain(name) => {
                let Some(at) = self.drained.iter().position(|drained| *drained == name) else {
                    return Ok(None);
                };
                self.drained.remove(at);
                let end = Drain::end(fleet.context.layout(), &name);
                Ok(Some((Present::Drain(end.map_err(Error::step("start a thread"))?), false)))
            }
            OperationStep::Stop(names) => {
                for i in fleet.found(&names) {
                    fleet.end(i, false);
                }
                Ok(Some((Present::Stop(names), false)))
            }
            OperationStep::Start(names) => {
                let members = fleet.found(&names);
                // It would wait for as long as a start may take.
                if members.iter().all(|&i| i != 0) {
                    fleet.require_controller(&names)?;
                }
                for i in members {
                    fleet.machines[i].deaths = 0;
                    if fleet.machines[i].phase == Phase::Down {
                        fleet.begin(i);
                    }
                }
                let deadline = Instant::now() + fleet.limits.startup_timeout;
                Ok(Some((Present::Start { names, deadline }, false)))
            }
            OperationStep::Change(change) => change(fleet).map(|()| None),
            OperationStep::Run(what, program) => {
                let Some(program) = program(fleet) else { return Ok(None) };
                let started = fleet.supervisor.start(program);
                let id = started.map_err(Error::step(what.clone()))?;
                Ok(Some((Present::Run { what, id }, false)))
            }
            OperationStep::Tell(name) => {
                if let Ok(i) = fleet.find(&name) {
                    self.request.tell(&fleet.told(i));
                }
                Ok(None)
            }
            OperationStep::Say(text) => {
                self.request.tell(&text);
                Ok(None)
            }
            OperationStep::Plan(plan) => {
                let steps = plan(fleet)?;
                self.follow(steps);
                Ok(None)
            }
            OperationStep::Guarded(mut steps, on_error) => {
                steps.push(OperationStep::Unguard);
                self.guards.push(on_error);
                self.follow(steps);
                Ok(None)
            }
            OperationStep::Unguard => {
                self.guards.pop();
                Ok(None)
            }
            OperationStep::Fail(error) => Err(error),
        }
    }
}

/// The step with whether it has to wait, or nothing once it is complete.
type StepResult = Result<Option<(Present, bool)>, Error>;

impl Present {
    fn advance(self, fleet: &mut Fleet) -> StepResult {
        match self {
            // It is the operation's, which says what it comes to.
            Self::Drain(drain) => Ok(Some((Self::Drain(drain), true))),
            Self::Stop(names) => {
                let is_down = |&i: &usize| fleet.machines[i].phase == Phase::Down;
                let are_down = fleet.found(&names).iter().all(is_down);
                Ok((!are_down).then_some((Self::Stop(names), true)))
            }
            Self::Start { names, deadline } => {
                let members = fleet.found(&names);
                let down = members.iter().find(|&&i| fleet.machines[i].phase == Phase::Down);
                if let Some(&i) = down {
                    let name = &fleet.machines[i].member.name;
                    return Err(Error::Refused(format!("{name} was stopped meanwhile")));
                }
                let late = members.iter().copied().find(|&i| !fleet.is_healthy(i));
                let late = late.or_else(|| {
                    let has_controller = members.contains(&0);
                    has_controller.then(|| fleet.away_from_controller()).flatten()
                });
                let Some(late) = late else { return Ok(None) };
                if fleet.keeps_dying(late) {
                    return Err(fleet.died(late));
                }
                if fleet.machines[late].member.role == Role::Worker {
                    fleet.require_controller(&names)?;
                }
                if Instant::now() >= deadline {
                    return Err(fleet.late(late));
                }
                Ok(Some((Self::Start { names, deadline }, true)))
            }
            Self::Run { what, id } => match fleet.take_end(id) {
                None => Ok(Some((Self::Run { what, id }, true))),
                Some(status) if status.success() => Ok(None),
                Some(status) => {
                    let how = format!("{} {}", fleet.supervisor.name(id), describe(status));
                    Err(Error::Tool { what, how, output: fleet.supervisor.tail(id) })
                }
            },
        }
    }
}
