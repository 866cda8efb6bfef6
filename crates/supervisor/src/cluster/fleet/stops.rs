//! Members that stop: asked first, killed after their limit.

use super::Fleet;
use crate::cluster::error::Error;
use crate::cluster::log::{LOG, MemberEvent};
use crate::cluster::machine::Phase;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// Time after which a killed process is not waited for any more: it may be in a read that never ends.
const STUCK_LIMIT: Duration = Duration::from_secs(5);

impl Fleet {
    /// Stops the machines, the workers first, then the controller: asks them to end, and kills after
    /// the limit, or a second signal, what still runs.
    pub(in crate::cluster) fn stop_all(&mut self) -> Result<(), Error> {
        self.is_ending = true;
        self.signal = None;
        for operation in std::mem::take(&mut self.operations) {
            operation.abandon(Error::Refused("the cluster is being stopped".to_owned()));
        }
        let workers: Vec<usize> = (1..self.machines.len()).collect();
        for group in [workers, vec![0]] {
            self.stop(&group)?;
        }
        Ok(())
    }

    /// Ends a cluster that keeps nothing: no member is asked.
    pub(in crate::cluster) fn kill_all(&mut self) -> Result<(), Error> {
        self.is_ending = true;
        for machine in &mut self.machines {
            if machine.phase != Phase::Down {
                let kill_at = Instant::now();
                machine.enter(Phase::Ending { again: false, kill_at, killed: true });
            }
        }
        self.stop_all()
    }

    /// Stops the machines of one group at the same time.
    pub(in crate::cluster) fn stop(&mut self, group: &[usize]) -> Result<(), Error> {
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

    /// Asks a member to end.
    pub(in crate::cluster) fn end(&mut self, i: usize, again: bool) {
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
        let (is_healthy, main) = (machine.phase == Phase::Healthy, machine.main_id());
        let asked = self.context.ask_to_stop(&machine.member, is_healthy, main, &self.supervisor);
        let limit = if asked { self.limits.stop_limit } else { Duration::ZERO };
        let kill_at = Instant::now() + limit;
        machine.enter(Phase::Ending { again, kill_at, killed: !asked });
    }

    pub(super) fn finish(
        &mut self,
        i: usize,
        now: Instant,
        again: bool,
        kill_at: Instant,
        killed: bool,
    ) {
        let machine = &mut self.machines[i];
        if !machine.runs(&self.supervisor) {
            // Files of a VM that is gone; whoever looks for them later says what cannot be removed.
            let _ = self.context.clean(&machine.member.name);
            let pause = machine.pause;
            machine.enter(match again {
                true => Phase::Resting { until: now + pause },
                false => Phase::Down,
            });
            return;
        }
        let main = machine.main_id().filter(|&id| self.supervisor.is_running(id));
        if main.is_some() && now < kill_at {
            return;
        }
        if main.is_some() && !killed && !again {
            LOG.log(&MemberEvent::Killed { member: &machine.member.name });
        }
        let is_stuck = killed && now >= kill_at + STUCK_LIMIT;
        for id in machine.ids() {
            if is_stuck && let Some(pid) = self.supervisor.abandon(id) {
                LOG.log(&MemberEvent::Stuck { member: &machine.member.name, pid });
            }
            self.supervisor.signal(id, Signal::SIGKILL);
        }
        machine.phase = Phase::Ending { again, kill_at, killed: true };
    }
}
