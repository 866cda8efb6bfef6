//! The loop: waits for signals, deaths, ready lines and due restarts, one event at a time.

use super::backoff::Backoff;
use super::log;
use super::process::{Console, Process, Program};
use super::signals::{Caught, Signals};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// A program of one [`Supervisor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProgramId(usize);

/// Whether a program that ends is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    Always,
    Never,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// We are asked to stop.
    Signal(Caught),
    /// A program that announces it is ready.
    Ready(ProgramId),
    /// A process ended; its program starts again after the pause, if there is one.
    Exited { id: ProgramId, pid: u32, status: ExitStatus, pause: Option<Duration> },
    /// A program could not be started again, and is tried again after the pause.
    NotStarted { id: ProgramId, error: io::Error, pause: Duration },
    /// The descriptor that was waited for too.
    Readable,
    /// The deadline passed.
    Deadline,
}

/// Owns the processes.
#[derive(Debug)]
pub(crate) struct Supervisor {
    signals: Signals,
    entries: Vec<Entry>,
    stopping: bool,
}

#[derive(Debug)]
struct Entry {
    program: Program,
    restart: Restart,
    backoff: Backoff,
    state: State,
    log_start: u64,
}

#[derive(Debug)]
enum State {
    Running(Process),
    Pausing { until: Instant },
    Ended,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Signals,
    Also,
    Ready(usize),
    End(usize),
}

impl Supervisor {
    pub(crate) const fn new(signals: Signals) -> Self {
        Self { signals, entries: Vec::new(), stopping: false }
    }

    /// Starts `program`.
    pub(crate) fn start(&mut self, program: Program, restart: Restart) -> io::Result<ProgramId> {
        let process = Process::start(&program)?;
        let log_start = process.log_start;
        let state = State::Running(process);
        self.entries.push(Entry { program, restart, backoff: Backoff::new(), state, log_start });
        Ok(ProgramId(self.entries.len() - 1))
    }

    /// Starts another program in place of one that has ended.
    pub(crate) fn replace(&mut self, id: ProgramId, program: Program) -> io::Result<()> {
        let process = Process::start(&program)?;
        let entry = &mut self.entries[id.0];
        debug_assert!(matches!(entry.state, State::Ended), "it has ended");
        entry.log_start = process.log_start;
        entry.state = State::Running(process);
        entry.program = program;
        Ok(())
    }

    /// What a person calls the program.
    pub(crate) fn name(&self, id: ProgramId) -> &str {
        &self.entries[id.0].program.name
    }

    /// The last lines that the program's latest process wrote, fit for a terminal.
    pub(crate) fn tail(&self, id: ProgramId) -> String {
        let entry = &self.entries[id.0];
        match &entry.program.console {
            Console::Background { log } => log::tail(log, entry.log_start),
            Console::Foreground => String::new(),
        }
    }

    /// Sends `signal` to the program's process, if it has one.
    pub(crate) fn signal(&self, id: ProgramId, signal: Signal) {
        if let State::Running(process) = &self.entries[id.0].state {
            // It can only fail when the process has just ended, which is the next event.
            let _ = process.signal(signal);
        }
    }

    /// Waits until something happens to us, to a program, or to `also`.
    pub(crate) fn next(
        &mut self,
        also: Option<BorrowedFd<'_>>,
        deadline: Option<Instant>,
    ) -> io::Result<Event> {
        loop {
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(Event::Deadline);
            }
            if let Some(event) = self.start_due(now) {
                return Ok(event);
            }
            let source = self.wait(also, deadline)?;
            let event = match source {
                None => None,
                Some(Source::Also) => Some(Event::Readable),
                Some(Source::Signals) => self.signals.read()?.map(Event::Signal),
                Some(Source::Ready(i)) => self.read_ready(i),
                Some(Source::End(i)) => Some(self.bury(i)?),
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    /// Asks the processes of `ids` to end and waits until they have; after `limit`, or a second
    /// signal to us, they are killed. Nothing is started again from here on.
    ///
    /// Gives the names of those that had to be killed.
    pub(crate) fn stop(&mut self, ids: &[ProgramId], limit: Duration) -> io::Result<Vec<String>> {
        self.stopping = true;
        let mut deadline = Some(Instant::now() + limit);
        let mut killed = Vec::new();
        for &id in ids {
            self.signal(id, Signal::SIGTERM);
            if let State::Pausing { .. } = self.entries[id.0].state {
                self.entries[id.0].state = State::Ended;
            }
        }
        while ids.iter().any(|&id| self.is_running(id)) {
            match self.next(None, deadline)? {
                Event::Deadline | Event::Signal(_) if deadline.take().is_some() => {
                    let left = ids.iter().copied().filter(|&id| self.is_running(id));
                    for id in left {
                        self.signal(id, Signal::SIGKILL);
                        killed.push(self.name(id).to_owned());
                    }
                }
                Event::Deadline
                | Event::Signal(_)
                | Event::Ready(_)
                | Event::Exited { .. }
                | Event::NotStarted { .. }
                | Event::Readable => {}
            }
        }
        Ok(killed)
    }

    /// Whether the program has a process.
    pub(crate) fn is_running(&self, id: ProgramId) -> bool {
        self.pid(id).is_some()
    }

    /// The program's process, if it has one.
    pub(crate) fn pid(&self, id: ProgramId) -> Option<u32> {
        match &self.entries[id.0].state {
            State::Running(process) => Some(process.pid()),
            State::Pausing { .. } | State::Ended => None,
        }
    }

    fn start_due(&mut self, now: Instant) -> Option<Event> {
        if self.stopping {
            return None;
        }
        for (i, entry) in self.entries.iter_mut().enumerate() {
            match entry.state {
                State::Pausing { until } if until <= now => {}
                State::Pausing { .. } | State::Running(_) | State::Ended => continue,
            }
            match Process::start(&entry.program) {
                Ok(process) => {
                    entry.log_start = process.log_start;
                    entry.state = State::Running(process);
                }
                Err(error) => {
                    let pause = entry.backoff.pause_after(Duration::ZERO);
                    entry.state = State::Pausing { until: now + pause };
                    return Some(Event::NotStarted { id: ProgramId(i), error, pause });
                }
            }
        }
        None
    }

    fn wait(
        &self,
        also: Option<BorrowedFd<'_>>,
        deadline: Option<Instant>,
    ) -> io::Result<Option<Source>> {
        let mut sources = vec![(Source::Signals, self.signals.as_fd())];
        let mut until = deadline;
        for (i, entry) in self.entries.iter().enumerate() {
            match &entry.state {
                State::Running(process) => {
                    sources.extend(process.ready_fd().map(|fd| (Source::Ready(i), fd)));
                    sources.push((Source::End(i), process.pidfd()));
                }
                State::Pausing { until: due } if !self.stopping => {
                    until = Some(until.map_or(*due, |until| until.min(*due)));
                }
                State::Pausing { .. } | State::Ended => {}
            }
        }
        sources.extend(also.map(|fd| (Source::Also, fd)));
        let mut polled: Vec<PollFd<'_>> =
            sources.iter().map(|&(_, fd)| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, timeout(until, Instant::now())) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let happened = polled.iter().position(|fd| fd.any().unwrap_or(true));
        Ok(happened.map(|i| sources[i].0))
    }

    fn read_ready(&mut self, i: usize) -> Option<Event> {
        match &mut self.entries[i].state {
            State::Running(process) => process.read_ready().then_some(Event::Ready(ProgramId(i))),
            State::Pausing { .. } | State::Ended => None,
        }
    }

    fn bury(&mut self, i: usize) -> io::Result<Event> {
        let entry = &mut self.entries[i];
        let State::Running(process) = std::mem::replace(&mut entry.state, State::Ended) else {
            unreachable!("only a running process has a pidfd");
        };
        let (pid, lived) = (process.pid(), process.started.elapsed());
        let status = process.wait()?;
        let mut pause = None;
        if entry.restart == Restart::Always && !self.stopping {
            let next = entry.backoff.pause_after(lived);
            entry.state = State::Pausing { until: Instant::now() + next };
            pause = Some(next);
        }
        Ok(Event::Exited { id: ProgramId(i), pid, status, pause })
    }
}

/// Time from `now` to `until`, rounded up so that poll(2) does not return just before it.
fn timeout(until: Option<Instant>, now: Instant) -> PollTimeout {
    let Some(until) = until else {
        return PollTimeout::NONE;
    };
    let ms = until.saturating_duration_since(now).as_micros().div_ceil(1000);
    PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_never_ends_before_its_deadline() {
        let now = Instant::now();
        let ms = |us| timeout(Some(now + Duration::from_micros(us)), now).as_millis();
        assert_eq!([ms(0), ms(1), ms(1000), ms(1001)].map(|ms| ms.unwrap_or(9)), [0, 1, 1, 2]);
        assert_eq!(timeout(None, now), PollTimeout::NONE);
    }
}
