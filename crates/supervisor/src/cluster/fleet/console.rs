//! Logs of guests: kept short, shown when a start fails, and searched for what a guest says of itself. A
//! guest is not trusted: what it says changes only what is shown of it, or ends its own start.

use super::{Fleet, IDLE_TICK, START_DEATHS_MAX};
use crate::cluster::log::{LOG, MemberEvent};
use crate::supervise::{log, tail};
use std::path::Path;
use std::time::{Instant, SystemTime};

/// Failures of the service in a VM, during a start of the cluster, after which it is not waited
/// for.
const SERVICE_FAILURES_MAX: usize = 3;

/// Words that the guest writes to its console when its service has failed.
const SERVICE_FAILED: &str = " failed with ";

/// Words before the reason for which it does not start its service.
const SERVICE_BLOCKED: &str = " is not started: ";

/// Words before what is wrong with the controller's disk while it runs, and what follows when it is
/// mended.
const DISK_TROUBLE: &str = "trouble with the disk \"state\": ";
const DISK_FULL: &str = "it is full";
const NO_TROUBLE: &str = "none";

/// The kernel's words before the reason of its panic.
const PANIC: &str = "Kernel panic - not syncing: ";

/// Longest part of a console that is searched at once.
const SEARCH_LEN_MAX: u64 = 64 << 10;

/// Longest text of a guest that is part of a message.
const SAID_LEN_MAX: usize = 200;

/// Moves a log aside that has grown too long; true if it has.
fn limit(member: &str, path: &Path) -> bool {
    let shown = &path.display();
    match log::limit(path) {
        Ok(false) => return false,
        Ok(true) => LOG.log(&MemberEvent::LogMoved { member, path: shown }),
        Err(error) => LOG.log(&MemberEvent::LogKept { path: shown, error: &error }),
    }
    true
}

impl Fleet {
    /// Copies what a guest has written to its console into the log, with the time of each line. A last line
    /// without an end waits for it, unless it is `all` that there will be.
    pub(super) fn copy_console(&self, i: usize, all: bool) {
        let machine = &self.machines[i];
        let member = &machine.member.name;
        let Some(raw) = self.context.console_raw(member) else { return };
        let Some(path) = self.context.console(member) else { return };
        let now = telemetry::utc(SystemTime::now());
        match log::copy_with_time(&raw, machine.console_copied.get(), &path, &now, all) {
            Ok(copied) => machine.console_copied.set(copied),
            Err(error) => LOG.log(&MemberEvent::LogKept { path: &raw.display(), error: &error }),
        }
    }

    /// Moves logs aside that have grown too long, and reads what guests say is wrong.
    pub(super) fn watch_guest_logs(&mut self) {
        if self.consoles_checked.elapsed() < IDLE_TICK {
            return;
        }
        self.consoles_checked = Instant::now();
        limit("supervisor", &self.context.layout().log("supervisor"));
        for i in 0..self.machines.len() {
            self.copy_console(i, false);
            self.read_trouble(i);
            let machine = &mut self.machines[i];
            let member = &machine.member.name;
            for path in self.context.logs_of(member) {
                if !limit(member, &path) {
                    continue;
                }
                if self.context.console(member).is_some_and(|console| console == path) {
                    (machine.console_before, machine.console_start, machine.console_read) =
                        (0, 0, 0);
                }
            }
        }
    }

    /// Learns what a guest has said of its disk since the last time.
    fn read_trouble(&mut self, i: usize) {
        let machine = &mut self.machines[i];
        let Some(path) = self.context.console(&machine.member.name) else { return };
        let Ok((bytes, end)) = log::since(&path, machine.console_read, SEARCH_LEN_MAX) else {
            return;
        };
        // A line that is not whole is read again.
        let Some(whole) = bytes.iter().rposition(|&byte| byte == b'\n') else { return };
        machine.console_read = end - (bytes.len() - whole - 1) as u64;
        let text = log::plain(&bytes[..=whole]);
        let Some(said) = last_said(&text, DISK_TROUBLE) else { return };
        let member = &machine.member.name;
        if said == NO_TROUBLE {
            LOG.log(&MemberEvent::NoTrouble { member });
            machine.trouble = None;
        } else {
            let remedy = match &*said {
                DISK_FULL => self.context.full_disk_remedy(member),
                _ => self.context.disk_remedy(member),
            };
            let what = format!("trouble with its disk: {said}; scripts/stop.sh, then {remedy}");
            LOG.log(&MemberEvent::Trouble { member, what: &what });
            machine.trouble = Some(what);
        }
    }

    /// Gives a VM up that does not start its service, or whose service does nothing but fail, before
    /// the time for a start is over.
    pub(super) fn keeps_failing(&mut self, i: usize, now: Instant) -> bool {
        if now.duration_since(self.machines[i].console_checked) < IDLE_TICK {
            return false;
        }
        self.machines[i].console_checked = now;
        let console = self.console_tail(i);
        let how = if let Some(reason) = last_said(&console, SERVICE_BLOCKED) {
            let name = &self.machines[i].member.name;
            let remedy = match reason.contains("disk \"state\"") {
                true => format!("; {}", self.context.disk_remedy(name)),
                false => String::new(),
            };
            format!("does not start its service: {reason}{remedy}")
        } else if console.matches(SERVICE_FAILED).count() >= SERVICE_FAILURES_MAX {
            "has a service that keeps failing".to_owned()
        } else {
            return false;
        };
        let machine = &mut self.machines[i];
        machine.last_end = how;
        machine.deaths = START_DEATHS_MAX;
        true
    }

    /// The reason of the guest's panic, if its console shows one.
    pub(super) fn panic_of(&self, i: usize) -> Option<String> {
        self.copy_console(i, true);
        let path = self.context.console(&self.machines[i].member.name)?;
        let bytes = log::since(&path, self.machines[i].console_start, SEARCH_LEN_MAX).ok()?.0;
        last_said(&log::plain(&bytes), PANIC)
    }

    /// Last output of the VM's processes, and its console: that of its last two lives, as it may just
    /// have been started again.
    pub(super) fn all_tails(&self, i: usize) -> String {
        self.copy_console(i, true);
        let machine = &self.machines[i];
        let mut tails: Vec<String> = machine.ids().map(|id| self.supervisor.tail(id)).collect();
        tails.push(self.tail_from(i, machine.console_before));
        tails.retain(|tail| !tail.is_empty());
        tails.join("\n")
    }

    pub(super) fn console_tail(&self, i: usize) -> String {
        self.copy_console(i, false);
        self.tail_from(i, self.machines[i].console_start)
    }

    fn tail_from(&self, i: usize, start: u64) -> String {
        let path = self.context.console(&self.machines[i].member.name);
        path.map(|path| tail(&path, start)).unwrap_or_default()
    }
}

/// The rest of the last line of `text` that has `words`.
fn last_said(text: &str, words: &str) -> Option<String> {
    let said = text.lines().rev().find_map(|line| Some(line.split_once(words)?.1))?;
    Some(said.chars().take(SAID_LEN_MAX).collect::<String>().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_says_is_the_last_of_its_kind_and_bounded() {
        let console = "hashcluster: x is not started: one\n\
                       [    1.0] Kernel panic - not syncing: VFS: no root \n\
                       hashcluster: x is not started: two\nmore\n";
        assert_eq!(last_said(console, SERVICE_BLOCKED).as_deref(), Some("two"));
        assert_eq!(last_said(console, PANIC).as_deref(), Some("VFS: no root"));
        assert_eq!(last_said(console, DISK_TROUBLE), None);
        let long = format!("{PANIC}{}", "x".repeat(1000));
        assert_eq!(last_said(&long, PANIC).map(|said| said.len()), Some(SAID_LEN_MAX));
    }
}
