//! The loop: waits for signals, deaths and ready lines, one event at a time.

use super::log;
use super::manager::Manager;
use super::process::{Console, Process, Program, describe};
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

/// An event of the loop.
#[derive(Debug)]
pub(crate) enum Event {
    /// We are asked to stop.
    Signal(Caught),
    /// A program announces that it is ready.
    Ready,
    /// A process ended.
    Exited { id: ProgramId, pid: u32, status: ExitStatus },
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
    /// Told of what happens to all of them together.
    pub(crate) manager: Manager,
}

#[derive(Debug)]
struct Entry {
    program: Program,
    /// Its process, until it has ended.
    process: Option<Process>,
    log_start: u64,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Signals,
    Also,
    Ready(usize),
    End(usize),
}

impl Supervisor {
    pub(crate) fn new(signals: Signals) -> Self {
        Self { signals, entries: Vec::new(), manager: Manager::default() }
    }

    /// Starts `program`.
    pub(crate) fn start(&mut self, program: Program) -> io::Result<ProgramId> {
        let process = Process::start(&program)?;
        let log_start = process.log_start;
        self.entries.push(Entry { program, process: Some(process), log_start });
        Ok(ProgramId(self.entries.len() - 1))
    }

    /// Starts another program in place of one that has ended.
    pub(crate) fn replace(&mut self, id: ProgramId, program: Program) -> io::Result<()> {
        let process = Process::start(&program)?;
        let entry = &mut self.entries[id.0];
        debug_assert!(entry.process.is_none(), "it has ended");
        entry.log_start = process.log_start;
        entry.process = Some(process);
        entry.program = program;
        Ok(())
    }

    /// The program as it was started last.
    pub(crate) fn program(&self, id: ProgramId) -> &Program {
        &self.entries[id.0].program
    }

    /// The program's name for a person.
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
        if let Some(process) = &self.entries[id.0].process {
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
            let until = deadline.into_iter().chain(self.manager.ping()).min();
            let source = self.wait(also, until)?;
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

    /// Waits for the end of the program's process, no longer than `limit`; a description of the end.
    pub(crate) fn await_end(&mut self, id: ProgramId, limit: Duration) -> Option<String> {
        let process = self.entries[id.0].process.as_ref()?;
        let mut polled = [PollFd::new(process.pidfd(), PollFlags::POLLIN)];
        let now = Instant::now();
        let has_ended = poll(&mut polled, timeout(Some(now + limit), now)).is_ok_and(|len| len > 0);
        let ended = has_ended.then(|| self.bury(id.0))?;
        let Ok(Event::Exited { pid, status, .. }) = ended else { return None };
        Some(format!("(pid {pid}) {}", describe(status)))
    }

    /// Stops waiting for the program's process, which was killed; the number of it, if there was one.
    pub(crate) fn abandon(&mut self, id: ProgramId) -> Option<u32> {
        self.entries[id.0].process.take().map(|process| process.pid())
    }

    /// True while the program has a process.
    pub(crate) fn is_running(&self, id: ProgramId) -> bool {
        self.pid(id).is_some()
    }

    /// The program's process, if it has one.
    pub(crate) fn pid(&self, id: ProgramId) -> Option<u32> {
        self.entries[id.0].process.as_ref().map(Process::pid)
    }

    fn wait(
        &self,
        also: Option<BorrowedFd<'_>>,
        deadline: Option<Instant>,
    ) -> io::Result<Option<Source>> {
        let mut sources = vec![(Source::Signals, self.signals.as_fd())];
        for (i, entry) in self.entries.iter().enumerate() {
            if let Some(process) = &entry.process {
                sources.extend(process.ready_fd().map(|fd| (Source::Ready(i), fd)));
                sources.push((Source::End(i), process.pidfd()));
            }
        }
        sources.extend(also.map(|fd| (Source::Also, fd)));
        let mut polled: Vec<PollFd<'_>> =
            sources.iter().map(|&(_, fd)| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, timeout(deadline, Instant::now())) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let happened = polled.iter().position(|fd| fd.any().unwrap_or(true));
        Ok(happened.map(|i| sources[i].0))
    }

    fn read_ready(&mut self, i: usize) -> Option<Event> {
        let process = self.entries[i].process.as_mut()?;
        process.read_ready().then_some(Event::Ready)
    }

    fn bury(&mut self, i: usize) -> io::Result<Event> {
        let process = self.entries[i].process.take().expect("only a running process has a pidfd");
        let pid = process.pid();
        Ok(Event::Exited { id: ProgramId(i), pid, status: process.wait()? })
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
