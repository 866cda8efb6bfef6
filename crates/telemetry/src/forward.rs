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

    /// Sends to another collector from now on, or to none.
    ///
    /// # Errors
    /// There is no way to the collector: the one of before stays.
    pub fn turn_to(self, target: &SyslogTarget) -> io::Result<()> {
        self.writer.turn_to(Collector::open(target)?.into());
        Ok(())
    }

    /// Sends a line, now or once the collector takes it.
    pub fn send(self, line: &ForeignLine<'_>) {
        self.writer.write(render::foreign(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    #[test]
    fn lines_go_to_the_collector_that_was_named_last() {
        let dir = tempfile::tempdir().unwrap();
        let collectors = ["a", "b"].map(|name| {
            let collector = UnixDatagram::bind(dir.path().join(name)).unwrap();
            collector.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            collector
        });
        let target = |name: &str| SyslogTarget::Unix(dir.path().join(name));
        let forwarder = Forwarder::start(&target("a")).unwrap().unwrap();
        let send = |text| {
            let level = Level::Info;
            forwarder.send(&ForeignLine { host: "w1", program: "sh", pid: 1, level, text });
        };
        let next = |i: usize| {
            let mut bytes = [0; 2048];
            let len = collectors[i].recv(&mut bytes).unwrap();
            let text = str::from_utf8(&bytes[..len]).unwrap();
            text.rsplit(' ').next().unwrap().trim_start_matches('\u{feff}').to_owned()
        };
        send("first");
        assert_eq!(next(0), "first");
        assert!(forwarder.turn_to(&target("nowhere/b")).is_err());
        send("second");
        assert_eq!(next(0), "second", "what cannot be opened takes nothing away");
        forwarder.turn_to(&target("b")).unwrap();
        send("third");
        assert_eq!(next(1), "third");
        forwarder.turn_to(&SyslogTarget::Off).unwrap();
        send("fourth");
        forwarder.writer.flush(Duration::from_secs(60));
        forwarder.turn_to(&target("b")).unwrap();
        send("fifth");
        assert_eq!(next(1), "fifth");
    }

    #[test]
    fn an_outage_loses_only_lines_that_are_counted() {
        const LINES: usize = 3000;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let target = SyslogTarget::Unix(path.clone());
        let forwarder = Forwarder::start(&target).unwrap().expect("a collector is asked for");
        let line =
            ForeignLine { host: "w1", program: "sh", pid: 1, level: Level::Info, text: "line" };
        (0..LINES).for_each(|_| forwarder.send(&line));
        let collector = UnixDatagram::bind(&path).unwrap();
        collector.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut received = 0_usize;
        let count: usize = loop {
            let mut bytes = [0; 2048];
            let len = collector.recv(&mut bytes).expect("a line in time");
            let text = str::from_utf8(&bytes[..len]).unwrap();
            match text.split_once(" more lines of others were dropped") {
                Some((count, _)) => break count.rsplit_once(' ').unwrap().1.parse().unwrap(),
                None => received += 1,
            }
        };
        assert_eq!(received + count, LINES, "{received} lines, {count} counted");
        assert!(count > 1000, "{count}");
    }
}
