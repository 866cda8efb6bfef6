//! Lines of other programs on their way to a syslog collector.

use crate::render;
use crate::syslog::Collector;
use crate::writer::{Outlet, Writer};
use crate::{Level, SyslogTarget};
use std::io;

/// A line that another program wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignLine<'a> {
    /// Name of its host.
    pub host: &'a str,
    /// Name of its program.
    pub program: &'a str,
    /// Id of its process, 0 if that is unknown.
    pub pid: u32,
    /// Its severity.
    pub level: Level,
    /// Its text.
    pub text: &'a str,
}

/// A thread that sends lines to a collector, with a queue of its own.
#[derive(Clone, Copy, Debug)]
pub struct Forwarder {
    writer: &'static Writer,
}

impl Forwarder {
    /// Starts the thread, which lives as long as the process; `None` if there is to be no collector.
    ///
    /// # Errors
    /// There is no way to the collector, or the system refused a thread.
    pub fn start(target: &SyslogTarget) -> io::Result<Option<Self>> {
        let Some(collector) = Collector::open(target)? else { return Ok(None) };
        let writer: &'static Writer =
            Box::leak(Box::new(Writer::new(Outlet::Syslog(collector), true)));
        let host = render::this_host().unwrap_or_default();
        let report = move |lines: u64| {
            let text = format!("{lines} more lines of others were dropped, as nobody took them");
            let pid = std::process::id();
            let (program, level) = ("hashcluster-vm", Level::Warning);
            render::foreign(&ForeignLine { host: &host, program, pid, level, text: &text })
        };
        writer.start("forward", || Ok(()), || None, report)?;
        Ok(Some(Self { writer }))
    }

    /// Sends a line, now or once the collector takes it.
    pub fn send(self, line: &ForeignLine<'_>) {
        self.writer.write(render::foreign(line));
    }
}
