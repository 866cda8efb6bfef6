//! The programs that watch a cluster, where they are processes of this host: nobody else would start them
//! again.

use super::Fleet;
use crate::cluster::control::Request;
use crate::cluster::log::{LOG, MemberEvent};
use crate::cluster::operation::{Operation, OperationStep};
use crate::monitoring;
use crate::supervise::{Console, Program};
use std::time::{Duration, Instant};

/// Interval between two looks.
const INTERVAL: Duration = Duration::from_secs(2);

/// Interval between two attempts to start what ended.
const ATTEMPT_INTERVAL: Duration = Duration::from_secs(60);

/// Command of the supervisor to itself.
const COMMAND: &str = "monitoring";

impl Fleet {
    /// Starts again what ended by itself.
    pub(super) fn look_at_monitoring(&mut self) {
        if !self.is_ready || self.is_ending || Instant::now() < self.monitoring_due {
            return;
        }
        self.monitoring_due = Instant::now() + INTERVAL;
        let Some((services, args)) = monitoring::ended(self.context.layout().run()) else { return };
        let Ok(path) = std::env::current_exe() else { return };
        self.monitoring_due = Instant::now() + ATTEMPT_INTERVAL;
        for service in services {
            LOG.log(&MemberEvent::MonitoringEnded { service });
        }
        let log = self.context.layout().log(COMMAND);
        let program = Program {
            name: "monitoring up".to_owned(),
            path,
            args,
            env: Vec::new(),
            console: Console::Background { log },
            announces_ready: false,
        };
        let what = "start the monitoring again".to_owned();
        let step = OperationStep::Run(what, Box::new(move |_| Some(program)));
        self.operate(Operation::new(Request::internal(COMMAND), vec![step]));
    }
}
