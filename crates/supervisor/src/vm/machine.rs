//! One VM while it runs: its processes are one unit, as QEMU cannot live without its daemons.

use super::image::Image;
use super::plan::Unit;
use crate::deployment::Vm;
use crate::supervise::{Program, ProgramId, Restart, Supervisor};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What a VM is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is not wanted, and has no process.
    Down,
    /// Its daemons start; QEMU waits for their sockets until then.
    Daemons { until: Instant },
    /// QEMU runs, and nobody has said that the VM is healthy.
    Booting,
    /// It is well, or was a moment ago.
    Healthy,
    /// Its processes end; then it rests, or is down.
    Ending { again: bool, kill_at: Instant, killed: bool },
    /// It starts again then.
    Resting { until: Instant },
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) vm: Vm,
    pub(super) image: Image,
    pub(super) phase: Phase,
    /// When its present phase began.
    pub(super) since: Instant,
    /// Times that its processes ended without being asked to.
    pub(super) deaths: u32,
    /// How it last ended.
    pub(super) last_end: String,
    /// Bad checks in a row, and when the last one counted.
    pub(super) failures: u32,
    pub(super) checked: Instant,
    pub(super) why: String,
    /// Where in its console log its present life begins.
    pub(super) console_start: u64,
    /// Where the life before that began.
    pub(super) console_before: u64,
    /// When its console was last looked at.
    pub(super) console_checked: Instant,
    pub(super) pause: Duration,
    daemons: Vec<(Option<ProgramId>, PathBuf)>,
    qemu: Option<ProgramId>,
}

impl Machine {
    pub(super) fn new(vm: Vm, image: Image) -> Self {
        let now = Instant::now();
        Self {
            vm,
            image,
            phase: Phase::Down,
            since: now,
            deaths: 0,
            last_end: String::new(),
            failures: 0,
            checked: now,
            why: String::new(),
            console_start: 0,
            console_before: 0,
            console_checked: now,
            pause: Duration::ZERO,
            daemons: Vec::new(),
            qemu: None,
        }
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
    }

    pub(super) fn owns(&self, id: ProgramId) -> bool {
        self.ids().any(|own| own == id)
    }

    pub(super) fn is_qemu(&self, id: ProgramId) -> bool {
        self.qemu == Some(id)
    }

    /// Its processes' programs; QEMU last.
    fn ids(&self) -> impl Iterator<Item = ProgramId> + '_ {
        self.daemons.iter().filter_map(|(id, _)| *id).chain(self.qemu)
    }

    pub(super) fn runs(&self, supervisor: &Supervisor) -> bool {
        self.ids().any(|id| supervisor.is_running(id))
    }

    pub(super) fn qemu_pid(&self, supervisor: &Supervisor) -> Option<u32> {
        self.qemu.and_then(|id| supervisor.pid(id))
    }

    pub(super) fn daemon_ids(&self) -> Vec<ProgramId> {
        self.daemons.iter().filter_map(|(id, _)| *id).collect()
    }

    pub(super) const fn qemu_id(&self) -> Option<ProgramId> {
        self.qemu
    }

    /// Starts the daemons of `unit`.
    pub(super) fn start_daemons(
        &mut self,
        supervisor: &mut Supervisor,
        unit: Unit,
    ) -> io::Result<()> {
        self.daemons.resize_with(unit.daemons.len(), || (None, PathBuf::new()));
        for (slot, daemon) in self.daemons.iter_mut().zip(unit.daemons) {
            slot.1 = daemon.socket;
            launch(supervisor, &mut slot.0, daemon.program)?;
        }
        Ok(())
    }

    pub(super) fn daemons_listen(&self) -> bool {
        self.daemons.iter().all(|(_, socket)| socket.exists())
    }

    pub(super) fn start_qemu(
        &mut self,
        supervisor: &mut Supervisor,
        program: Program,
    ) -> io::Result<()> {
        launch(supervisor, &mut self.qemu, program)
    }
}

fn launch(
    supervisor: &mut Supervisor,
    slot: &mut Option<ProgramId>,
    program: Program,
) -> io::Result<()> {
    let path = program.path.display().to_string();
    let started = match *slot {
        Some(id) => supervisor.replace(id, program),
        None => supervisor.start(program, Restart::Never).map(|id| *slot = Some(id)),
    };
    started.map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}
