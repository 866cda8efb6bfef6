//! Console logs of guests: kept short, shown when a start fails, and searched for the
//! failures of a service that a start need not wait for.

use super::{Fleet, IDLE_TICK, START_DEATHS_MAX};
use crate::cluster::log::{LOG, MemberEvent};
use crate::supervise::tail;
use std::fs::{self, File};
use std::time::Instant;

/// Failures of the service in a VM, during a start of the cluster, after which it is not waited
/// for.
const SERVICE_FAILURES_MAX: usize = 3;

/// Words that the guest writes to its console when its service has failed.
const SERVICE_FAILED: &str = " failed with ";

/// A console log that grows past it while its VM runs is emptied: guests do not fill their host.
const CONSOLE_LEN_MAX: u64 = 16 << 20;

impl Fleet {
    /// Empties logs that have grown too long.
    pub(super) fn limit_consoles(&mut self) {
        if self.consoles_checked.elapsed() < IDLE_TICK {
            return;
        }
        self.consoles_checked = Instant::now();
        for machine in &mut self.machines {
            let Some(path) = self.context.console(&machine.member.name) else { return };
            if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > CONSOLE_LEN_MAX) {
                let (member, mib) = (&machine.member.name, CONSOLE_LEN_MAX >> 20);
                // QEMU appends: it goes on at the start of the file.
                match File::options().write(true).open(&path).and_then(|file| file.set_len(0)) {
                    Ok(()) => LOG.log(&MemberEvent::ConsoleEmptied { member, mib }),
                    Err(error) => {
                        let path = &path.display();
                        LOG.log(&MemberEvent::ConsoleKept { path, error: &error });
                    }
                }
                (machine.console_before, machine.console_start) = (0, 0);
            }
        }
    }

    /// Gives a VM up if its service does nothing but fail, before the time for a start is over.
    pub(super) fn keeps_failing(&mut self, i: usize, now: Instant) -> bool {
        if now.duration_since(self.machines[i].console_checked) < IDLE_TICK {
            return false;
        }
        self.machines[i].console_checked = now;
        let failures = self.console_tail(i).matches(SERVICE_FAILED).count();
        if failures < SERVICE_FAILURES_MAX {
            return false;
        }
        let machine = &mut self.machines[i];
        machine.last_end = "has a service that keeps failing".to_owned();
        machine.deaths = START_DEATHS_MAX;
        true
    }

    /// Last output of the VM's processes, and its console: that of its last two lives, as it may just
    /// have been started again.
    pub(super) fn all_tails(&self, i: usize) -> String {
        let machine = &self.machines[i];
        let mut tails: Vec<String> = machine.ids().map(|id| self.supervisor.tail(id)).collect();
        tails.push(self.tail_from(i, machine.console_before));
        tails.retain(|tail| !tail.is_empty());
        tails.join("\n")
    }

    pub(super) fn console_tail(&self, i: usize) -> String {
        self.tail_from(i, self.machines[i].console_start)
    }

    fn tail_from(&self, i: usize, start: u64) -> String {
        let path = self.context.console(&self.machines[i].member.name);
        path.map(|path| tail(&path, start)).unwrap_or_default()
    }
}
