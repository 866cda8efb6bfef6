//! The members of a cluster while they run: one event at a time, everything decided here and nothing
//! waited for without a deadline.
//!
//! A member whose process ends, or that stays unhealthy, is started again after a pause that grows;
//! its leases have gone to others by then. Before the cluster is ready, three ends of one member give
//! up.

mod console;
mod members;
mod monitoring;
mod stops;

use super::context::Context;
use super::control::{Request, Requests};
use super::description::{Declared, Description};
use super::error::Error;
use super::log::{LOG, LogTarget, MemberEvent};
use super::machine::{Machine, Phase};
use super::operation::Operation;
use super::ps::RestartCause;
use super::watch::Watch;
use crate::deployment::{Member, Strategy};
use crate::run_dir::Witness;
use crate::supervise::{Caught, Event, ProgramId, Supervisor, describe, log};
use crate::vm::{Image, Sight};
use nix::sys::signal::Signal;
use std::collections::VecDeque;
use std::io;
use std::process::ExitStatus;
use std::time::{Duration, Instant, SystemTime};
use telemetry::http::HttpAddress;

/// Time limit for the daemons of a VM until they listen.
const DAEMONS_LIMIT: Duration = Duration::from_secs(10);

/// Ends of one member before its cluster was ready that are not forgiven.
const START_DEATHS_MAX: u32 = 3;

/// Time in which QEMU's end is seen after that of a daemon that it ended.
const LAST_LIMIT: Duration = Duration::from_millis(200);

/// Interval between looks at the phases while something is on its way.
const TICK: Duration = Duration::from_millis(20);

/// The same interval otherwise.
const IDLE_TICK: Duration = Duration::from_secs(1);

/// A member that is not healthy this long after its boot is booted again, as its wire may never answer
/// if it was dialled at a bad moment. Where a third of the time for a start is longer, that counts.
const BOOT_LIMIT: Duration = Duration::from_secs(30);

/// Meaning of `SIGHUP`, unless a terminal has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnHangup {
    /// Apply the files again.
    Apply,
    /// End what is in the foreground, as other signals do.
    End,
}

/// Members that a start waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// Controller and workers.
    All,
    /// The controller; that workers do not start later is a fault like others.
    Controller,
    /// The controller; that workers do not start later fails the start.
    Early,
}

/// Order and time limits of a start and a stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) strategy: Strategy,
    pub(super) awaited: Awaited,
    /// Limit for the whole start.
    pub(super) startup_timeout: Duration,
    /// Limit for a member to stop before it is killed.
    pub(super) stop_limit: Duration,
}

/// All that tells a fleet of something, in threads of their own.
pub(super) struct Senses {
    pub(super) watch: Watch,
    pub(super) sight: Sight,
    pub(super) description: Description,
    pub(super) requests: Requests,
    pub(super) http: HttpAddress,
    pub(super) logs: LogTarget,
}

pub(super) struct Fleet {
    pub(super) context: Context,
    pub(super) limits: Limits,
    pub(super) machines: Vec<Machine>,
    pub(super) supervisor: Supervisor,
    watch: Watch,
    requests: Requests,
    /// Commands that wait for their turn: of those that concern the whole cluster, one is served at a
    /// time.
    waiting: VecDeque<Request>,
    /// Commands that are under way.
    operations: Vec<Operation>,
    /// The places of live datasets.
    pub(super) sight: Sight,
    pub(super) description: Description,
    on_hangup: OnHangup,
    /// The command line that counts, where the cluster can be changed.
    pub(super) declared: Option<Declared>,
    pub(super) logs: LogTarget,
    /// Programs that belong to no member and have ended.
    ended: Vec<(ProgramId, ExitStatus)>,
    /// Asks for the end of the cluster, or of what runs with it: whatever else is waited for is
    /// given up.
    signal: Option<Caught>,
    pub(super) is_ready: bool,
    /// The run directory, until it is lost.
    pub(super) home: Option<Witness>,
    pub(super) started: SystemTime,
    /// True while the service manager waits for the end of a reload.
    is_reloading: bool,
    /// Where the supervisor serves its pages.
    pub(super) http: HttpAddress,
    start_deadline: Instant,
    is_ending: bool,
    consoles_checked: Instant,
    datasets_checked: Instant,
    /// Next look at the monitoring.
    monitoring_due: Instant,
}

impl Fleet {
    pub(super) fn new(
        context: Context,
        limits: Limits,
        members: Vec<Member>,
        image: Option<&Image>,
        supervisor: Supervisor,
        senses: Senses,
        on_hangup: OnHangup,
    ) -> Self {
        let Senses { watch, sight, description, requests, http, logs } = senses;
        let machine = |member| Machine::new(member, image.cloned());
        requests.are_served();
        Self {
            context,
            limits,
            machines: members.into_iter().map(machine).collect(),
            supervisor,
            watch,
            requests,
            waiting: VecDeque::new(),
            operations: Vec::new(),
            is_reloading: false,
            sight,
            description,
            on_hangup,
            declared: None,
            logs,
            ended: Vec::new(),
            signal: None,
            is_ready: false,
            home: None,
            started: SystemTime::now(),
            http,
            start_deadline: Instant::now() + limits.startup_timeout,
            is_ending: false,
            consoles_checked: Instant::now(),
            datasets_checked: Instant::now(),
            monitoring_due: Instant::now(),
        }
    }

    /// Starts the members, in groups that start at the same time, and waits until those are healthy that
    /// a start waits for: the controller first.
    pub(super) fn start(&mut self) -> Result<(), Error> {
        self.start_deadline = Instant::now() + self.limits.startup_timeout;
        for group in self.start_order() {
            for &i in &group {
                if let Context::Vms(..) = self.context {
                    LOG.log(&MemberEvent::Booting { member: &self.machines[i].member.name });
                }
                self.begin(i);
            }
            if group.contains(&0) {
                self.await_healthy(&[0], self.start_deadline)?;
            }
            if self.limits.awaited == Awaited::All {
                self.await_healthy(&group, self.start_deadline)?;
            }
        }
        self.is_ready = self.limits.awaited != Awaited::Early;
        Ok(())
    }

    /// The groups of members that start at the same time.
    fn start_order(&self) -> Vec<Vec<usize>> {
        let members = 0..self.machines.len();
        match (self.limits.strategy, &self.context) {
            (Strategy::Sequential, _) => members.map(|i| vec![i]).collect(),
            // A worker looks for its controller when its VM has booted, and retries.
            (Strategy::Parallel, Context::Vms(..)) => vec![members.collect()],
            // A process would look before the controller listens, and lose more time by its pauses.
            (Strategy::Parallel, Context::Local(..)) => {
                vec![vec![0], members.skip(1).collect()]
            }
        }
    }

    /// Looks whether a start is complete that did not wait for the workers, or has failed.
    pub(super) fn complete_start(&mut self) -> Result<(), Error> {
        if !self.is_ready {
            let all: Vec<usize> = (0..self.machines.len()).collect();
            self.is_ready = self.are_healthy(&all, self.start_deadline)?;
        }
        Ok(())
    }

    /// Waits until the machines are healthy.
    pub(super) fn await_healthy(
        &mut self,
        group: &[usize],
        deadline: Instant,
    ) -> Result<(), Error> {
        while !self.are_healthy(group, deadline)? {
            self.next(Some(deadline))?;
            self.go_on()?;
        }
        Ok(())
    }

    /// True if the machines are healthy; an error if they do not become so.
    fn are_healthy(&self, group: &[usize], deadline: Instant) -> Result<bool, Error> {
        let late = group.iter().copied().find(|&i| self.machines[i].phase != Phase::Healthy);
        let Some(late) = late else { return Ok(true) };
        if self.is_ready && self.machines[late].phase == Phase::Down {
            let name = &self.machines[late].member.name;
            return Err(Error::Refused(format!("{name} was stopped meanwhile")));
        }
        // Without a controller no worker becomes healthy.
        let controller = (!self.is_ready).then_some(0);
        let mut needed = controller.into_iter().chain(group.iter().copied());
        if let Some(dead) = needed.find(|&i| self.keeps_dying(i)) {
            return Err(self.died(dead));
        }
        if Instant::now() >= deadline {
            return Err(self.late(late));
        }
        Ok(false)
    }

    /// An error if a signal asks for something else than what is under way.
    fn go_on(&self) -> Result<(), Error> {
        match self.signal {
            Some(caught) if !self.is_ending => Err(Error::Interrupted(caught.signal)),
            _ => Ok(()),
        }
    }

    /// The signal that has come since the last call.
    pub(super) fn take_signal(&mut self) -> Option<Caught> {
        self.signal.take()
    }

    /// The command whose turn it is.
    pub(super) fn take_request(&mut self) -> Option<Request> {
        match self.exclusive() {
            Some(_) => None,
            None => self.waiting.pop_front(),
        }
    }

    /// Begins what takes its time.
    pub(super) fn operate(&mut self, operation: Operation) {
        let unfinished = operation.advance(self);
        self.operations.extend(unfinished);
    }

    /// The commands that are under way, for a person.
    pub(super) fn commands(&self) -> Option<String> {
        let under_way = self.operations.iter().map(|operation| {
            // Its options are long, and encoded.
            let line = operation.line();
            if line.starts_with("apply ") { operation.word() } else { line }
        });
        let lines: Vec<&str> = under_way.collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    /// The exit status of a program that belongs to no member, if it has ended.
    pub(super) fn take_end(&mut self, id: ProgramId) -> Option<ExitStatus> {
        let i = self.ended.iter().position(|(ended, _)| *ended == id)?;
        Some(self.ended.swap_remove(i).1)
    }

    /// Starts a machine that is down.
    pub(super) fn begin(&mut self, i: usize) {
        let machine = &mut self.machines[i];
        self.watch.forget(&machine.member);
        machine.failures = 0;
        machine.boots = machine.boots.saturating_add(1);
        if let Err(error) = self.context.boot(i, machine.image.as_ref(), &self.sight) {
            machine.enter(Phase::Daemons { until: Instant::now() });
            return self.fail(i, RestartCause::Ended, error.to_string());
        }
        let unit = self.context.unit(i, &machine.member, machine.image.as_ref());
        let name = &machine.member.name;
        let cleaned = self.context.clean(name);
        let logs = self.context.guest_logs(name);
        let lens: io::Result<Vec<u64>> = logs.iter().map(|path| log::begin(path)).collect();
        let raw = self.context.console_raw(name).map_or(Ok(()), |raw| log::empty(&raw));
        machine.console_copied.set(0);
        let started = cleaned.and(raw).and(lens).and_then(|lens| {
            let len = lens.first().copied().unwrap_or_default();
            machine.console_before = std::mem::replace(&mut machine.console_start, len);
            (machine.console_read, machine.trouble) = (len, None);
            machine.start_daemons(&mut self.supervisor, unit.daemons)
        });
        machine.enter(Phase::Daemons { until: Instant::now() + DAEMONS_LIMIT });
        if let Err(error) = started {
            self.fail(i, RestartCause::Ended, format!("cannot be started: {error}"));
        }
    }

    /// Takes one event, or what has become due, and deals with it.
    pub(super) fn next(&mut self, deadline: Option<Instant>) -> Result<(), Error> {
        self.advance_all();
        self.end_reload();
        self.watch_guest_logs();
        if let Some(home) = self.home.take_if(|home| home.is_lost()) {
            LOG.log(&MemberEvent::Lost { path: &self.context.layout().run().display() });
            drop(home);
            self.signal = Some(Caught::own(Signal::SIGTERM));
        }
        self.look_at_datasets();
        self.look_at_monitoring();
        let is_busy = !self.operations.is_empty()
            || self
                .machines
                .iter()
                .any(|machine| !matches!(machine.phase, Phase::Down | Phase::Healthy));
        let tick = Instant::now() + if is_busy { TICK } else { IDLE_TICK };
        let until = deadline.map_or(tick, |deadline| deadline.min(tick));
        let event = self.supervisor.next(Some(std::os::fd::AsFd::as_fd(&self.watch)), Some(until));
        match event.map_err(Error::step("wait"))? {
            Event::Signal(caught) => self.take_in(caught),
            Event::Readable => {
                self.watch.drain();
                self.receive_requests();
            }
            Event::Deadline => {}
            Event::Ready => self.watch.ask_now(),
            Event::Exited { id, pid, status } => {
                match self.machines.iter().position(|machine| machine.owns(id)) {
                    Some(i) => self.ended(i, id, &format!("(pid {pid}) {}", describe(status))),
                    None => self.ended.push((id, status)),
                }
            }
        }
        // What the event has changed is done before whoever waits looks again.
        self.advance_all();
        for operation in std::mem::take(&mut self.operations) {
            self.operate(operation);
        }
        self.supervisor.manager.status(|| describe_health(&self.machines));
        Ok(())
    }

    /// A hangup is no wish to stop for who has no terminal.
    fn take_in(&mut self, caught: Caught) {
        let is_hangup = caught.signal == Signal::SIGHUP && !caught.is_from_terminal();
        match self.on_hangup {
            OnHangup::Apply if is_hangup => {
                self.waiting.push_back(Request::internal("apply"));
                self.begin_reload();
            }
            OnHangup::Apply | OnHangup::End => self.signal = Some(caught),
        }
    }

    fn begin_reload(&mut self) {
        self.supervisor.manager.reloading();
        self.is_reloading = true;
    }

    /// Tells the service manager once all that `SIGHUP` asked for is done, or has failed: the log says which.
    fn end_reload(&mut self) {
        let is_under_way = self.waiting.iter().any(Request::is_reload)
            || self.operations.iter().any(Operation::is_reload);
        if self.is_reloading && self.is_ready && !is_under_way {
            self.is_reloading = false;
            self.supervisor.manager.ready();
        }
    }

    /// Whoever only looks is answered at once, whatever is under way; and commands about members wait for
    /// no other one, once the cluster has started.
    fn receive_requests(&mut self) {
        while let Some(request) = self.requests.receive() {
            let Some(request) = request.answer_at_once(self) else { continue };
            if self.is_ready && request.is_served_beside() {
                request.serve(self);
                continue;
            }
            match self.other_change().filter(|_| request.is_impatient()).map(str::to_owned) {
                Some(other) => request.finish(Err(Error::Refused(format!(
                    "another change of this cluster is under way ({other}); try again when `ps` shows it no \
                     more"
                )))),
                None => self.waiting.push_back(request),
            }
        }
    }

    /// The word of a change of the whole cluster that is under way, or waits.
    fn other_change(&self) -> Option<&str> {
        let waiting = self.waiting.iter().find(|request| request.is_exclusive());
        self.exclusive().map(Operation::word).or(waiting.map(Request::word))
    }

    /// The command under way that concerns the whole cluster.
    fn exclusive(&self) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.is_exclusive)
    }

    fn advance_all(&mut self) {
        for i in 0..self.machines.len() {
            self.advance(i, Instant::now());
        }
    }

    fn advance(&mut self, i: usize, now: Instant) {
        let machine = &mut self.machines[i];
        match machine.phase {
            Phase::Down => {}
            Phase::Daemons { until } => {
                if machine.daemons_listen() {
                    let unit = self.context.unit(i, &machine.member, machine.image.as_ref());
                    let started = machine.start_main(&mut self.supervisor, unit.main);
                    machine.enter(Phase::Booting);
                    machine.checked = now;
                    if let Err(error) = started {
                        self.fail(i, RestartCause::Ended, format!("cannot be started: {error}"));
                    }
                } else if now >= until {
                    self.fail(i, RestartCause::Ended, "has daemons that do not listen".to_owned());
                }
            }
            Phase::Booting | Phase::Healthy => self.check(i, now),
            Phase::Ending { again, kill_at, killed } => self.finish(i, now, again, kill_at, killed),
            Phase::Resting { until } => {
                if now >= until {
                    self.begin(i);
                }
            }
        }
    }

    /// Looks at what is known of a running member's health.
    fn check(&mut self, i: usize, now: Instant) {
        let boot_limit = BOOT_LIMIT.max(self.limits.startup_timeout / START_DEATHS_MAX);
        let is_booting = self.machines[i].phase == Phase::Booting;
        let verdict = self.watch.judge(&self.machines[i].member);
        // A worker has as much time to find a controller that has booted later.
        let controller = &self.machines[0];
        let asked_since = controller.since.max(self.machines[i].since);
        let is_early = i != 0 && !self.is_ready && controller.phase != Phase::Healthy;
        if is_booting {
            if verdict != Some(Ok(())) && self.keeps_failing(i, now) {
                return;
            }
            // Its connection of before may not have been missed yet.
            let lives = now.duration_since(self.machines[i].since) + IDLE_TICK;
            if is_early || self.watch.age(&self.machines[i].member) > Some(lives) {
                return;
            }
        }
        let machine = &mut self.machines[i];
        match verdict {
            None => {}
            Some(Ok(())) => {
                machine.failures = 0;
                if is_booting {
                    if let Context::Vms(..) = self.context {
                        let seconds = now.duration_since(machine.since).as_secs_f32();
                        LOG.log(&MemberEvent::Healthy { member: &machine.member.name, seconds });
                    }
                    machine.boot_time = Some(now.duration_since(machine.since));
                    machine.enter(Phase::Healthy);
                }
            }
            Some(Err(why)) => {
                let is_late = if is_booting {
                    now.duration_since(asked_since) > boot_limit
                } else if now.duration_since(machine.checked) >= machine.member.health.interval {
                    machine.checked = now;
                    machine.failures += 1;
                    machine.failures > machine.member.health.retries
                } else {
                    false
                };
                machine.why = why;
                if is_late {
                    let why = format!("is not healthy: {}", machine.why);
                    self.fail(i, RestartCause::Unhealthy, why);
                }
            }
        }
    }

    /// A process of a member has ended.
    fn ended(&mut self, i: usize, id: ProgramId, how: &str) {
        self.copy_console(i, true);
        let machine = &mut self.machines[i];
        if matches!(machine.phase, Phase::Ending { .. } | Phase::Down | Phase::Resting { .. }) {
            return;
        }
        // QEMU's end ends its daemons, whose ends may be seen first.
        let main = machine.main_id().filter(|&main| main != id);
        let main_end =
            main.and_then(|main| Some((main, self.supervisor.await_end(main, LAST_LIMIT)?)));
        let (id, how) = main_end.unwrap_or_else(|| (id, how.to_owned()));
        let mut tail = self.supervisor.tail(id);
        if self.machines[i].is_main(id) {
            tail += &self.console_tail(i);
        }
        let why = match self.panic_of(i) {
            Some(panic) => format!("failed: its guest's kernel panicked: {panic}"),
            None => format!("failed: {} {how}", self.supervisor.name(id)),
        };
        self.fail(i, RestartCause::Ended, why);
        if self.is_ready {
            let member = &self.machines[i].member.name;
            tail.lines().for_each(|line| LOG.log(&MemberEvent::Wrote { member, line }));
        }
    }

    /// A member is of no more use as it is: ends what is left of it, and starts it again later.
    fn fail(&mut self, i: usize, cause: RestartCause, why: String) {
        let machine = &mut self.machines[i];
        machine.fail();
        // An end that is not forgiven is the error of the start.
        if self.is_ready || machine.deaths < START_DEATHS_MAX {
            let (member, pause_s) = (&machine.member.name, machine.pause.as_secs_f32());
            LOG.log(&MemberEvent::Failed { member, why: &why, pause_s });
        }
        machine.restarts.record(cause, &why);
        machine.last_end = why;
    }

    /// True if a member has ended so often that nobody waits for it any more.
    pub(super) fn keeps_dying(&self, i: usize) -> bool {
        self.machines[i].deaths >= START_DEATHS_MAX
    }

    pub(super) fn died(&self, i: usize) -> Error {
        let machine = &self.machines[i];
        let tail = self.all_tails(i);
        let name = machine.member.name.clone();
        Error::Died { name, how: machine.last_end.clone(), tail }
    }

    pub(super) fn late(&self, i: usize) -> Error {
        let machine = &self.machines[i];
        let why = if matches!(machine.phase, Phase::Daemons { .. }) {
            "its daemons do not listen".to_owned()
        } else if machine.why.is_empty() {
            "nobody could ask it".to_owned()
        } else {
            machine.why.clone()
        };
        let limit = self.limits.startup_timeout;
        Error::Late { name: machine.member.name.clone(), limit, why, tail: self.all_tails(i) }
    }

    /// Number of the member called `name`.
    pub(super) fn find(&self, name: &str) -> Result<usize, Error> {
        let found = self.machines.iter().position(|machine| machine.member.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.machines.iter().map(|m| m.member.name.as_str()).collect();
            Error::NoSuchMember { name: name.to_owned(), names: names.join(", ") }
        })
    }
}

/// The members that are healthy, and those that are not, in one line.
fn describe_health(machines: &[Machine]) -> String {
    let is_away = |machine: &&Machine| machine.phase != Phase::Healthy;
    let away: Vec<&str> =
        machines.iter().filter(is_away).map(|machine| machine.member.name.as_str()).collect();
    let len = machines.len();
    match away.len() {
        0 => format!("{len} of {len} members healthy"),
        n => format!("{} of {len} members healthy, not {}", len - n, away.join(", ")),
    }
}
