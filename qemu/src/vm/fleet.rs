//! The VMs of a cluster while they run: one event at a time, everything decided here and nothing
//! waited for without a deadline.
//!
//! A VM whose process ends, or that stays unhealthy, is started again after a pause that grows; its
//! leases have gone to others by then. Before the cluster is ready, three ends of one VM give up.

use super::error::Error;
use super::image::Image;
use super::machine::{Machine, Phase};
use super::plan::Frame;
use super::prepare;
use super::qmp;
use super::watch::Watch;
use crate::deployment::{Deployment, Role, Strategy};
use crate::say::{indented, say};
use crate::supervise::{Event, ProgramId, Supervisor, describe, tail};
use nix::sys::signal::Signal;
use std::fs;
use std::path::Path;
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

pub(super) struct Fleet {
    pub(super) frame: Frame,
    pub(super) deployment: Deployment,
    pub(super) machines: Vec<Machine>,
    pub(super) supervisor: Supervisor,
    pub(super) watch: Watch,
    is_ready: bool,
}

/// What a wait ended with, beside what was waited for.
#[derive(Debug)]
pub(super) enum Woken {
    /// Something happened and was dealt with, or time has passed.
    Again,
    /// A signal asks us to stop.
    Signal(Signal),
    /// A program that is none of ours ended.
    Other(Event),
}

impl Fleet {
    pub(super) fn new(
        frame: Frame,
        deployment: Deployment,
        image: &Image,
        supervisor: Supervisor,
        watch: Watch,
    ) -> Self {
        let machines =
            deployment.vms.iter().map(|vm| Machine::new(vm.clone(), image.clone())).collect();
        Self { frame, deployment, machines, supervisor, watch, is_ready: false }
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
            if let Some(dead) =
                group.iter().copied().find(|&i| self.machines[i].deaths >= START_DEATHS_MAX)
            {
                return Err(self.died(dead));
            }
            if Instant::now() >= deadline {
                return Err(self.late(late));
            }
            if let Woken::Signal(signal) = self.next(Some(deadline))? {
                return Err(Error::Interrupted(signal));
            }
        }
    }

    /// Stops the machines, the workers first, then the controller: asks the guests to power off,
    /// and ends after [`STOP_LIMIT`], or a second signal, what still runs.
    pub(super) fn stop_all(&mut self) -> Result<(), Error> {
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
            if let Woken::Signal(_) = self.next(None)? {
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
        let started = cleaned.and_then(|()| machine.start_daemons(&mut self.supervisor, unit));
        machine.enter(Phase::Daemons { until: Instant::now() + DAEMONS_LIMIT });
        if let Err(error) = started {
            machine.last_end = format!("cannot be started: {error}");
            self.fall(i);
        }
    }

    /// Takes one event, or what has become due, and deals with it.
    pub(super) fn next(&mut self, deadline: Option<Instant>) -> Result<Woken, Error> {
        self.advance_all();
        let is_busy = self
            .machines
            .iter()
            .any(|machine| !matches!(machine.phase, Phase::Down | Phase::Healthy));
        let tick = Instant::now() + if is_busy { TICK } else { IDLE_TICK };
        let until = deadline.map_or(tick, |deadline| deadline.min(tick));
        let event = self.supervisor.next(Some(std::os::fd::AsFd::as_fd(&self.watch)), Some(until));
        match event.map_err(Error::step("wait"))? {
            Event::Signal(caught) => return Ok(Woken::Signal(caught.signal)),
            Event::Readable => self.watch.drain(),
            Event::Deadline | Event::Ready(_) | Event::NotStarted { .. } => {}
            Event::Exited { id, pid, status, pause } => {
                let Some(i) = self.machines.iter().position(|machine| machine.owns(id)) else {
                    return Ok(Woken::Other(Event::Exited { id, pid, status, pause }));
                };
                self.ended(i, id, &describe(status));
            }
        }
        Ok(Woken::Again)
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
        let startup = self.deployment.startup_timeout;
        let machine = &mut self.machines[i];
        let is_controller = machine.vm.role == Role::Controller;
        let health = machine.vm.health.clone();
        match self.watch.judge(&machine.vm.name, is_controller, &health) {
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
                    if self.is_ready && now.duration_since(machine.since) > startup {
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
        machine.enter(Phase::Ending { again: true, kill_at, killed: false });
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

    /// What the VM's processes wrote last, and its console.
    fn all_tails(&self, i: usize) -> String {
        let machine = &self.machines[i];
        let programs = machine.daemon_ids().into_iter().chain(machine.qemu_id());
        let mut tails: Vec<String> = programs.map(|id| self.supervisor.tail(id)).collect();
        tails.push(self.console_tail(i));
        tails.retain(|tail| !tail.is_empty());
        tails.join("\n")
    }

    fn console_tail(&self, i: usize) -> String {
        tail(&self.frame.layout.console(&self.machines[i].vm.name), 0)
    }

    /// Number of the VM called `name`.
    pub(super) fn find(&self, name: &str) -> Result<usize, Error> {
        let found = self.machines.iter().position(|machine| machine.vm.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.machines.iter().map(|m| m.vm.name.as_str()).collect();
            Error::NoSuchVm { name: name.to_owned(), names: names.join(", ") }
        })
    }

    /// Lets `image` be what the VM boots from next.
    pub(super) fn set_image(&mut self, i: usize, image: &Image) -> Result<(), Error> {
        self.machines[i].image = image.clone();
        let token = fs::read_to_string(self.frame.layout.token_file())
            .map_err(Error::step("read the client token"))?;
        prepare::settings(&self.frame, &self.machines[i].vm, image, token.trim_end())
    }

    /// Memory that QEMU holds for the VM, in MiB.
    pub(super) fn resident_mib(&self, i: usize) -> Option<u64> {
        let pid = self.machines[i].qemu_pid(&self.supervisor)?;
        let text =
            fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib / 1024)
    }
}
