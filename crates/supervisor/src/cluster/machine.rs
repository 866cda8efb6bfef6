//! One member of a cluster while it runs: its processes are one unit, as QEMU cannot live without
//! its daemons.

use super::ps::Restarts;
use crate::deployment::Member;
use crate::supervise::{Program, ProgramId, Supervisor};
use crate::vm::Image;
use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A member that was healthy for this long starts over with the first pause.
const HEALTHY_LIFE: Duration = Duration::from_secs(60);

/// A daemon that has to listen before the main program starts.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) program: Program,
    pub(crate) socket: PathBuf,
}

/// The processes of one member.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) daemons: Vec<Daemon>,
    /// QEMU, or the controller or worker itself.
    pub(crate) main: Program,
}

/// Phase of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is not wanted, and has no process.
    Down,
    /// Its daemons start; the main program waits for their sockets until then.
    Daemons { until: Instant },
    /// Its main program runs, and nobody has said that it is healthy.
    Booting,
    /// It is healthy, or was a moment ago.
    Healthy,
    /// Its processes end; then it rests, or is down.
    Ending { again: bool, kill_at: Instant, killed: bool },
    /// It starts again then.
    Resting { until: Instant },
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) member: Member,
    /// Image that a VM boots from.
    pub(super) image: Option<Image>,
    pub(super) phase: Phase,
    /// When its present phase began.
    pub(super) since: Instant,
    /// Times that its processes ended without being asked to.
    pub(super) deaths: u32,
    /// Description of its last end.
    pub(super) last_end: String,
    pub(super) restarts: Restarts,
    /// Starts of its processes.
    pub(super) boots: u32,
    /// Time of its last start until it was healthy.
    pub(super) boot_time: Option<Duration>,
    /// Bad checks in a row, and when the last one counted.
    pub(super) failures: u32,
    pub(super) checked: Instant,
    pub(super) why: String,
    /// Bytes of its console that have been copied into the log.
    pub(super) console_copied: Cell<u64>,
    /// Where in its console log its present life begins.
    pub(super) console_start: u64,
    /// Where the life before that began.
    pub(super) console_before: u64,
    /// When its console was last looked at.
    pub(super) console_checked: Instant,
    /// Position in its console up to which it was searched.
    pub(super) console_read: u64,
    /// Fault that its guest reports while its programs work.
    pub(super) trouble: Option<String>,
    pub(super) pause: Duration,
    daemons: Vec<(Option<ProgramId>, PathBuf)>,
    main: Option<ProgramId>,
}

impl Machine {
    pub(super) fn new(member: Member, image: Option<Image>) -> Self {
        let now = Instant::now();
        Self {
            member,
            image,
            phase: Phase::Down,
            since: now,
            deaths: 0,
            last_end: String::new(),
            restarts: Restarts::default(),
            boots: 0,
            boot_time: None,
            failures: 0,
            checked: now,
            why: String::new(),
            console_copied: Cell::new(0),
            console_start: 0,
            console_before: 0,
            console_checked: now,
            console_read: 0,
            trouble: None,
            pause: Duration::ZERO,
            daemons: Vec::new(),
            main: None,
        }
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
    }

    /// Ends its present life; it starts again after a pause that doubles while lives are short.
    pub(super) fn fail(&mut self) {
        let lived =
            if self.phase == Phase::Healthy { self.since.elapsed() } else { Duration::ZERO };
        self.deaths += 1;
        self.pause = pause_after(lived, self.pause);
        self.enter(Phase::Ending { again: true, kill_at: Instant::now(), killed: true });
    }

    pub(super) fn owns(&self, id: ProgramId) -> bool {
        self.ids().any(|own| own == id)
    }

    pub(super) fn is_main(&self, id: ProgramId) -> bool {
        self.main == Some(id)
    }

    /// Its processes' programs; the main one last.
    pub(super) fn ids(&self) -> impl Iterator<Item = ProgramId> + '_ {
        self.daemon_ids().chain(self.main)
    }

    pub(super) fn runs(&self, supervisor: &Supervisor) -> bool {
        self.ids().any(|id| supervisor.is_running(id))
    }

    pub(super) fn daemon_ids(&self) -> impl Iterator<Item = ProgramId> + '_ {
        self.daemons.iter().filter_map(|(id, _)| *id)
    }

    pub(super) const fn main_id(&self) -> Option<ProgramId> {
        self.main
    }

    /// Starts the daemons of a unit.
    pub(super) fn start_daemons(
        &mut self,
        supervisor: &mut Supervisor,
        daemons: Vec<Daemon>,
    ) -> io::Result<()> {
        self.daemons.resize_with(daemons.len(), || (None, PathBuf::new()));
        for (slot, daemon) in self.daemons.iter_mut().zip(daemons) {
            slot.1 = daemon.socket;
            launch(supervisor, &mut slot.0, daemon.program)?;
        }
        Ok(())
    }

    pub(super) fn daemons_listen(&self) -> bool {
        self.daemons.iter().all(|(_, socket)| socket.exists())
    }

    pub(super) fn start_main(
        &mut self,
        supervisor: &mut Supervisor,
        program: Program,
    ) -> io::Result<()> {
        launch(supervisor, &mut self.main, program)
    }
}

/// The pause after a healthy life of `lived`, where the last pause was `last`.
fn pause_after(lived: Duration, last: Duration) -> Duration {
    if lived >= HEALTHY_LIFE || last.is_zero() { PAUSE_FIRST } else { (2 * last).min(PAUSE_MAX) }
}

fn launch(
    supervisor: &mut Supervisor,
    slot: &mut Option<ProgramId>,
    program: Program,
) -> io::Result<()> {
    let path = program.path.display().to_string();
    let started = match *slot {
        Some(id) => supervisor.replace(id, program),
        None => supervisor.start(program).map(|id| *slot = Some(id)),
    };
    started.map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit() {
        let mut pause = Duration::ZERO;
        for (lived_s, want_ms) in [
            (0, 200),
            (1, 400),
            (59, 800),
            (0, 1_600),
            (0, 3_200),
            (0, 6_400),
            (0, 10_000),
            (0, 10_000),
            (60, 200),
            (0, 400),
        ] {
            pause = pause_after(Duration::from_secs(lived_s), pause);
            assert_eq!(pause, Duration::from_millis(want_ms), "after {lived_s} s");
        }
    }
}
