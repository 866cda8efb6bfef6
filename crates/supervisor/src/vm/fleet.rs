//! The VMs of a cluster while they run: one event at a time, everything decided here and nothing
//! waited for without a deadline.
//!
//! A VM whose process ends, or that stays unhealthy, is started again after a pause that grows; its
//! leases have gone to others by then. Before the cluster is ready, three ends of one VM give up.

mod console;

use super::control::{Request, Requests};
use super::error::Error;
use super::image::Image;
use super::machine::{Machine, Phase};
use super::plan::Frame;
use super::prepare;
use super::qmp;
use super::watch::Watch;
use crate::deployment::{Deployment, Role, Strategy};
use crate::say::{indented, say};
use crate::supervise::{Caught, Event, ProgramId, Supervisor, describe, log};
use nix::sys::signal::Signal;
use std::collections::VecDeque;
use std::fs;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// How long the daemons of a VM may take until they listen.
const DAEMONS_LIMIT: Duration = Duration::from_secs(10);

/// How long a guest may take to power off.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Ends of one VM before its cluster was ready that are not forgiven.
const START_DEATHS_MAX: u32 = 3;

/// How often phases are looked at while something is on its way.
const TICK: Duration = Duration::from_millis(20);

/// How often they are otherwise.
const IDLE_TICK: Duration = Duration::from_secs(1);

const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A VM that was well for so long starts over with the first pause.
const GOOD_LIFE: Duration = Duration::from_secs(60);

/// A VM that is not healthy so long after its boot, or after a third of the time for a start if that
/// is more, is booted again: its wire may never answer, if it was dialled at a bad moment.
const BOOT_LIMIT: Duration = Duration::from_secs(30);

pub(super) struct Fleet {
    pub(super) frame: Frame,
    pub(super) deployment: Deployment,
    pub(super) machines: Vec<Machine>,
    pub(super) supervisor: Supervisor,
    watch: Watch,
    requests: Requests,
    /// Commands that wait for their turn: one is served at a time.
    waiting: VecDeque<Request>,
    /// Programs that belong to no VM and have ended.
    ended: Vec<(ProgramId, ExitStatus)>,
    /// Asks for the end of the cluster, or of what runs with it: whatever else is waited for is
    /// given up.
    signal: Option<Caught>,
    pub(super) is_ready: bool,
    is_ending: bool,
    consoles_checked: Instant,
}

impl Fleet {
    pub(super) fn new(
        frame: Frame,
        deployment: Deployment,
        image: &Image,
        supervisor: Supervisor,
        watch: Watch,
        requests: Requests,
    ) -> Self {
        let machines =
            deployment.vms.iter().map(|vm| Machine::new(vm.clone(), image.clone())).collect();
        Self {
            frame,
            deployment,
            machines,
            supervisor,
            watch,
            requests,
            waiting: VecDeque::new(),
            ended: Vec::new(),
            signal: None,
            is_ready: false,
            is_ending: false,
            consoles_checked: Instant::now(),
        }
    }

    /// Boots the controller, then the workers, and waits until they are healthy.
    pub(super) fn start(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.deployment.startup_timeout;
        let mut wait = vec![vec![0]];
        let workers = 1..self.machines.len();
        match self.deployment.strategy {
            Strategy::Parallel => wait.push(workers.collect()),
            Strategy::Sequential => wait.extend(workers.map(|i| vec![i])),
        }
        for group in wait {
            for &i in &group {
                say(format_args!("{}: booting", self.machines[i].vm.name));
                self.begin(i);
            }
            if self.deployment.wait_for_healthy || group == [0] {
                self.await_healthy(&group, deadline)?;
            }
        }
        self.is_ready = true;
        Ok(())
    }

    /// Waits until the machines are healthy.
    pub(super) fn await_healthy(
        &mut self,
        group: &[usize],
        deadline: Instant,
    ) -> Result<(), Error> {
        loop {
            let late = group.iter().copied().find(|&i| self.machines[i].phase != Phase::Healthy);
            let Some(late) = late else { return Ok(()) };
            // Without a controller no worker becomes healthy.
            let controller = (!self.is_ready).then_some(0);
            let mut needed = controller.into_iter().chain(group.iter().copied());
            if let Some(dead) = needed.find(|&i| self.machines[i].deaths >= START_DEATHS_MAX) {
                return Err(self.died(dead));
            }
            if Instant::now() >= deadline {
                return Err(self.late(late));
            }
            self.next(Some(deadline))?;
            self.go_on()?;
        }
    }

    /// Waits until the workers that run have found a controller again that was started anew.
    pub(super) fn await_reconnected(&mut self, deadline: Instant) -> Result<(), Error> {
        let is_away = |fleet: &Self, i: &usize| {
            let Machine { vm, phase, .. } = &fleet.machines[*i];
            *phase == Phase::Healthy
                && fleet.watch.judge(&vm.name, false, &vm.health) != Some(Ok(()))
        };
        while let Some(away) = (1..self.machines.len()).find(|i| is_away(self, i)) {
            if Instant::now() >= deadline {
                return Err(self.late(away));
            }
            self.next(Some(deadline))?;
            self.go_on()?;
        }
        Ok(())
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
        self.waiting.pop_front()
    }

    /// How a program that belongs to no VM ended, if it has.
    pub(super) fn take_end(&mut self, id: ProgramId) -> Option<ExitStatus> {
        let i = self.ended.iter().position(|(ended, _)| *ended == id)?;
        Some(self.ended.swap_remove(i).1)
    }

    /// Stops the machines, the workers first, then the controller: asks the guests to power off,
    /// and ends after [`STOP_LIMIT`], or a second signal, what still runs.
    pub(super) fn stop_all(&mut self) -> Result<(), Error> {
        self.is_ending = true;
        self.signal = None;
        let workers: Vec<usize> = (1..self.machines.len()).collect();
        for group in [workers, vec![0]] {
            self.stop(&group)?;
        }
        Ok(())
    }

    /// Stops the machines of one group at the same time.
    pub(super) fn stop(&mut self, group: &[usize]) -> Result<(), Error> {
        for &i in group {
            self.end(i, false);
        }
        while group.iter().any(|&i| self.machines[i].phase != Phase::Down) {
            self.next(None)?;
            self.go_on()?;
            if self.signal.take().is_some() {
                for &i in group {
                    if let Phase::Ending { kill_at, .. } = &mut self.machines[i].phase {
                        *kill_at = Instant::now();
                    }
                }
            }
        }
        Ok(())
    }

    /// Starts a machine that is down.
    pub(super) fn begin(&mut self, i: usize) {
        let machine = &mut self.machines[i];
        let is_controller = machine.vm.role == Role::Controller;
        self.watch.forget(&machine.vm.name, is_controller);
        machine.failures = 0;
        let unit = self.frame.unit(&machine.vm, i, &machine.image);
        let cleaned = prepare::clean_vm(&self.frame.layout, &machine.vm.name);
        let console = log::open(&self.frame.layout.console(&machine.vm.name));
        let started = cleaned.and(console).and_then(|(_, len)| {
            machine.console_before = std::mem::replace(&mut machine.console_start, len);
            machine.start_daemons(&mut self.supervisor, unit)
        });
        machine.enter(Phase::Daemons { until: Instant::now() + DAEMONS_LIMIT });
        if let Err(error) = started {
            machine.last_end = format!("cannot be started: {error}");
            self.fall(i);
        }
    }

    /// Takes one event, or what has become due, and deals with it.
    pub(super) fn next(&mut self, deadline: Option<Instant>) -> Result<(), Error> {
        self.advance_all();
        self.limit_consoles();
        let is_busy = self
            .machines
            .iter()
            .any(|machine| !matches!(machine.phase, Phase::Down | Phase::Healthy));
        let tick = Instant::now() + if is_busy { TICK } else { IDLE_TICK };
        let until = deadline.map_or(tick, |deadline| deadline.min(tick));
        let event = self.supervisor.next(Some(std::os::fd::AsFd::as_fd(&self.watch)), Some(until));
        match event.map_err(Error::step("wait"))? {
            Event::Signal(caught) => self.signal = Some(caught),
            Event::Readable => {
                self.watch.drain();
                self.receive_requests();
            }
            Event::Deadline | Event::Ready(_) | Event::NotStarted { .. } => {}
            Event::Exited { id, status, .. } => {
                match self.machines.iter().position(|machine| machine.owns(id)) {
                    Some(i) => self.ended(i, id, &describe(status)),
                    None => self.ended.push((id, status)),
                }
            }
        }
        Ok(())
    }

    /// Whoever only looks is answered at once, whatever is under way.
    fn receive_requests(&mut self) {
        while let Some(request) = self.requests.receive() {
            self.waiting.extend(request.answer_at_once(self));
        }
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
                    let unit = self.frame.unit(&machine.vm, i, &machine.image);
                    let started = machine.start_qemu(&mut self.supervisor, unit.qemu);
                    machine.enter(Phase::Booting);
                    machine.checked = now;
                    if let Err(error) = started {
                        machine.last_end = format!("cannot be started: {error}");
                        self.fall(i);
                    }
                } else if now >= until {
                    machine.last_end = "has daemons that do not listen".to_owned();
                    self.fall(i);
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

    /// Looks at what is known of a running VM's health.
    fn check(&mut self, i: usize, now: Instant) {
        let boot_limit = BOOT_LIMIT.max(self.deployment.startup_timeout / START_DEATHS_MAX);
        let machine = &mut self.machines[i];
        let is_controller = machine.vm.role == Role::Controller;
        let health = machine.vm.health.clone();
        let verdict = self.watch.judge(&machine.vm.name, is_controller, &health);
        if self.machines[i].phase == Phase::Booting {
            if verdict != Some(Ok(())) && self.keeps_failing(i, now) {
                return;
            }
            // Its connection of before may not have been missed yet.
            let lives = now.duration_since(self.machines[i].since) + IDLE_TICK;
            if !is_controller && self.watch.age(&self.machines[i].vm.name) > Some(lives) {
                return;
            }
        }
        let machine = &mut self.machines[i];
        match verdict {
            None => {}
            Some(Ok(())) => {
                machine.failures = 0;
                if machine.phase == Phase::Booting {
                    let took = now.duration_since(machine.since).as_secs_f32();
                    say(format_args!("{}: healthy after {took:.1} s", machine.vm.name));
                    machine.enter(Phase::Healthy);
                }
            }
            Some(Err(why)) => {
                machine.why = why;
                if machine.phase == Phase::Booting {
                    if now.duration_since(machine.since) > boot_limit {
                        machine.last_end = format!("is not healthy: {}", machine.why);
                        self.fall(i);
                    }
                } else if now.duration_since(machine.checked) >= health.interval {
                    machine.checked = now;
                    machine.failures += 1;
                    if machine.failures > health.retries {
                        machine.last_end = format!("is not healthy: {}", machine.why);
                        self.fall(i);
                    }
                }
            }
        }
    }

    /// A process of a VM has ended.
    fn ended(&mut self, i: usize, id: ProgramId, how: &str) {
        let machine = &mut self.machines[i];
        if matches!(machine.phase, Phase::Ending { .. } | Phase::Down | Phase::Resting { .. }) {
            return;
        }
        let what = self.supervisor.name(id).to_owned();
        let tail = match machine.is_qemu(id) {
            true => self.supervisor.tail(id) + &self.console_tail(i),
            false => self.supervisor.tail(id),
        };
        self.machines[i].last_end = format!("fell: the {what} {how}");
        if !tail.is_empty() && self.is_ready {
            indented(tail);
        }
        self.fall(i);
    }

    /// A VM is of no more use as it is: ends what is left of it, and starts it again later.
    fn fall(&mut self, i: usize) {
        let machine = &mut self.machines[i];
        machine.deaths += 1;
        let was_good = machine.phase == Phase::Healthy && machine.since.elapsed() >= GOOD_LIFE;
        machine.pause = match (was_good, machine.pause) {
            (false, pause) if pause > Duration::ZERO => (2 * pause).min(PAUSE_MAX),
            _ => PAUSE_FIRST,
        };
        say(format_args!("{} {}", machine.vm.name, machine.last_end));
        let kill_at = Instant::now();
        machine.enter(Phase::Ending { again: true, kill_at, killed: true });
    }

    /// Asks a VM to power off.
    pub(super) fn end(&mut self, i: usize, again: bool) {
        let machine = &mut self.machines[i];
        match machine.phase {
            Phase::Down => return,
            Phase::Ending { kill_at, killed, .. } => {
                machine.phase = Phase::Ending { again, kill_at, killed };
                return;
            }
            Phase::Resting { .. } if !machine.runs(&self.supervisor) => {
                machine.enter(if again { machine.phase } else { Phase::Down });
                return;
            }
            Phase::Daemons { .. } | Phase::Booting | Phase::Healthy | Phase::Resting { .. } => {}
        }
        let socket = self.frame.layout.of_vm(&machine.vm.name, "qmp");
        // A guest that has not come far does not hear its power button.
        let hears = machine.phase == Phase::Healthy;
        let asked = hears && qmp::power_down(&socket).is_ok();
        let limit = if asked { STOP_LIMIT } else { Duration::ZERO };
        let kill_at = Instant::now() + limit;
        machine.enter(Phase::Ending { again, kill_at, killed: !asked });
    }

    fn finish(&mut self, i: usize, now: Instant, again: bool, kill_at: Instant, killed: bool) {
        let machine = &mut self.machines[i];
        if !machine.runs(&self.supervisor) {
            // Files of a VM that is gone; whoever looks for them later says what cannot be removed.
            let _ = prepare::clean_vm(&self.frame.layout, &machine.vm.name);
            let pause = machine.pause;
            machine.enter(match again {
                true => Phase::Resting { until: now + pause },
                false => Phase::Down,
            });
            return;
        }
        let qemu = machine.qemu_id().filter(|&id| self.supervisor.is_running(id));
        if qemu.is_some() && now < kill_at {
            return;
        }
        let was_said = killed || again;
        if let Some(qemu) = qemu {
            if !was_said {
                say(format_args!("{} did not power off in time, and is killed", machine.vm.name));
            }
            self.supervisor.signal(qemu, Signal::SIGKILL);
        }
        for id in machine.daemon_ids() {
            self.supervisor.signal(id, Signal::SIGKILL);
        }
        machine.phase = Phase::Ending { again, kill_at, killed: true };
    }

    fn died(&self, i: usize) -> Error {
        let machine = &self.machines[i];
        let tail = self.all_tails(i);
        let name = machine.vm.name.clone();
        Error::Died { name, how: machine.last_end.clone(), tail }
    }

    fn late(&self, i: usize) -> Error {
        let machine = &self.machines[i];
        let why = if matches!(machine.phase, Phase::Daemons { .. }) {
            "its daemons do not listen".to_owned()
        } else if machine.why.is_empty() {
            "nobody could ask it".to_owned()
        } else {
            machine.why.clone()
        };
        let limit = self.deployment.startup_timeout;
        Error::Late { name: machine.vm.name.clone(), limit, why, tail: self.all_tails(i) }
    }

    /// Number of the VM called `name`.
    pub(super) fn find(&self, name: &str) -> Result<usize, Error> {
        let found = self.machines.iter().position(|machine| machine.vm.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.machines.iter().map(|m| m.vm.name.as_str()).collect();
            Error::NoSuchVm { name: name.to_owned(), names: names.join(", ") }
        })
    }

    /// Lets `image` be what the VM boots from next; if that fails, nothing has changed.
    pub(super) fn set_image(&mut self, i: usize, image: &Image) -> Result<(), Error> {
        let token = fs::read_to_string(self.frame.layout.token_file())
            .map_err(Error::step("read the client token"))?;
        prepare::settings(&self.frame, &self.machines[i].vm, image, token.trim_end())?;
        self.machines[i].image = image.clone();
        Ok(())
    }
}
