//! The log as Debian's rsyslog receives it: each event is one message, parsed as it was meant.

use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use test_kit::{DEADLINE, Running, bin, until};

/// A directory's name that would forge a line, a key, structured data, and clear a screen.
const HOSTILE: &[u8] = b"a\n<8>1 - forged b\r \x1b[2J\"] [x y=\"z\" \\ \xff \xe2\x80\xae";

struct Rsyslog {
    dir: PathBuf,
    port: u16,
    daemon: Running,
    /// Text of the lines that show that it receives; those of the one before are there, too.
    probe: &'static str,
}

impl Rsyslog {
    fn start(dir: &Path, port: u16, probe: &'static str) -> Self {
        let properties = [
            ("version", "protocol-version"),
            ("severity", "syslogseverity-text"),
            ("facility", "syslogfacility-text"),
            ("host", "hostname"),
            ("program", "app-name"),
            ("pid", "procid"),
            ("id", "msgid"),
            ("data", "structured-data"),
            ("message", "msg"),
            ("input", "inputname"),
        ];
        let property = |(name, of): (&str, &str)| {
            format!("property(outname=\"{name}\" name=\"{of}\" format=\"jsonf\")\n")
        };
        let properties: String = properties.into_iter().map(property).collect();
        let place = dir.display();
        let config = format!(
            r#"global(workDirectory="{place}" maxMessageSize="8k")
               module(load="imuxsock" SysSock.Use="off")
               module(load="imudp")
               input(type="imuxsock" Socket="{place}/log" UseSpecialParser="off")
               input(type="imudp" address="127.0.0.1" port="{port}")
               template(name="json" type="list" option.jsonf="on") {{ {properties} }}
               action(type="omfile" file="{place}/received" template="json")
               "#
        );
        fs::write(dir.join("rsyslog.conf"), config).unwrap();
        let mut command = Command::new("rsyslogd");
        command.arg("-n").arg("-f").arg(dir.join("rsyslog.conf")).arg("-i").arg(dir.join("pid"));
        let daemon = Running::start(&mut command, DEADLINE);
        let this = Self { dir: dir.to_owned(), port, daemon, probe };
        until("rsyslogd takes a line on its socket", || this.takes(true).then_some(()));
        until("rsyslogd takes a line over UDP", || this.takes(false).then_some(()));
        this
    }

    /// True once a line of the test has been received.
    fn takes(&self, over_unix: bool) -> bool {
        let input = if over_unix { "imuxsock" } else { "imudp" };
        let line = format!("<14>1 - - probe - - - {}", self.probe);
        if over_unix {
            let socket = UnixDatagram::unbound().unwrap();
            let _ = socket.send_to(line.as_bytes(), self.dir.join("log"));
        } else {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let _ = socket.send_to(line.as_bytes(), ("127.0.0.1", self.port));
        }
        let is_probe = |line: &Value| line["message"] == self.probe && line["input"] == input;
        self.received().iter().any(is_probe)
    }

    /// All lines, of which each is a message.
    fn received(&self) -> Vec<Value> {
        let text = fs::read(self.dir.join("received")).unwrap_or_default();
        let text = String::from_utf8(text).expect("rsyslog writes UTF-8");
        // The last one may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// Messages of a program in the order of their arrival.
    fn of(&self, program: &str) -> Vec<Value> {
        let received = self.received().into_iter();
        received.filter(|line| line["program"] == program).collect()
    }
}

/// A program's message as one line of text, as it writes it on standard error.
fn text(line: &Value) -> String {
    let field = |name: &str| line[name].as_str().unwrap();
    let level = match field("severity") {
        "err" => "error: ",
        "warning" => "warning: ",
        "info" => "",
        other => panic!("no severity of ours: {other}"),
    };
    format!("{}: {level}{}", field("program"), field("message"))
}

/// The values of structured data as RFC 5424, section 6.3, has it.
fn parameters(data: &str) -> BTreeMap<String, String> {
    let mut rest = data.strip_prefix("[hashcluster@32473").expect(data);
    let mut found = BTreeMap::new();
    while let Some(pair) = rest.strip_prefix(' ') {
        let (name, value) = pair.split_once("=\"").expect(data);
        let (mut text, mut chars) = (String::new(), value.char_indices());
        let end = loop {
            match chars.next().expect(data) {
                (end, '"') => break end,
                (_, '\\') => text.push(chars.next().expect(data).1),
                (_, c) => text.push(c),
            }
        };
        rest = &value[end + 1..];
        assert!(found.insert(name.to_owned(), text).is_none(), "{data}");
    }
    assert_eq!(rest, "]", "{data}");
    found
}

fn program(name: &str, run: &Path, options: &[&str]) -> Running {
    let mut command = Command::new(bin(name));
    command.arg("--runtime-dir").arg(run).args(options);
    Running::start(&mut command, DEADLINE)
}

/// Ends a program in order, and returns what it wrote on standard error.
fn end(program: Running) -> Vec<String> {
    program.signal(Signal::SIGTERM);
    let ended = program.end();
    assert!(ended.status.success(), "{}", ended.stderr);
    ended.stderr.lines().map(str::to_owned).collect()
}

#[test]
fn rsyslog_parses_every_line_and_an_outage_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join(OsStr::from_bytes(HOSTILE));
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let collector = Rsyslog::start(dir.path(), port, "first");
    let (unix, udp) = (dir.path().join("log"), format!("udp:127.0.0.1:{port}"));
    let mut controller =
        program("hashcluster-controller", &run, &["--syslog", unix.to_str().unwrap()]);
    controller.wait_for("sandbox: ");
    let worker = program("hashcluster-worker", &run, &["--name", "w1", "--syslog", &udp]);
    controller.wait_for("w1 is here");
    let programs = ["hashcluster-controller", "hashcluster-worker"];
    let worker_is_there = || worker.stderr().contains("connected to").then_some(());
    until("the worker is connected", worker_is_there);
    let has_all = |collector: &Rsyslog, of: &Running, program: &str| {
        (collector.of(program).len() >= of.stderr().lines().count()).then_some(())
    };
    // What a collector has taken and not written when it is killed is lost with it.
    until("the controller's lines arrive", || has_all(&collector, &controller, programs[0]));
    until("the worker's lines arrive", || has_all(&collector, &worker, programs[1]));

    // Nobody listens for a while, in which peers are refused and closed.
    collector.daemon.signal(Signal::SIGKILL);
    collector.daemon.end();
    for _ in 0..40 {
        let mut peer = UnixStream::connect(run.join("client.sock")).unwrap();
        peer.write_all(b"not this protocol").unwrap();
    }
    until("peers are refused", || {
        (controller.stderr().matches("warning").count() >= 40).then_some(())
    });
    let collector = Rsyslog::start(dir.path(), port, "second");
    until("lines of the outage arrive", || has_all(&collector, &controller, programs[0]));
    let written = [end(controller), end(worker)];
    for (program, written) in programs.into_iter().zip(written) {
        until("all lines arrive", || (collector.of(program).len() >= written.len()).then_some(()));
        let received = collector.of(program);
        let texts: Vec<String> = received.iter().map(text).collect();
        assert_eq!(texts, written, "{program}");
        for line in &received {
            assert_eq!((&line["version"], &line["facility"]), (&"1".into(), &"daemon".into()));
            let data = parameters(line["data"].as_str().unwrap());
            assert!(data.contains_key("event"), "{line}");
            assert!(line["id"].as_str().unwrap().parse::<u32>().is_ok(), "{line}");
        }
    }
    let listening = &collector.of(programs[0])[0];
    let data = parameters(listening["data"].as_str().unwrap());
    assert_eq!(data["event"], "Listening");
    let shown = "a\\n<8>1 - forged b\\r \\u{1b}[2J\"] [x y=\"z\" \\ \u{fffd} \\u{202e}/client.sock";
    assert!(data["clients"].ends_with(shown), "{}", data["clients"]);
}

#[test]
fn a_cluster_sends_the_logs_of_all_its_members() {
    let dir = tempfile::tempdir().unwrap();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let collector = Rsyslog::start(dir.path(), port, "probe");
    let config = dir.path().join("cluster.toml");
    fs::write(&config, format!("[logs]\nsyslog = '{}/log'\n", dir.path().display())).unwrap();
    let mut command = Command::new(bin("hashcluster-vm"));
    command.args(["local", "up", "--workers", "1", "--config"]).arg(&config);
    command.env("HASHCLUSTER_RUNTIME_DIR", dir.path().join("run"));
    let mut cluster = Running::start(&mut command, DEADLINE);
    cluster.wait_for("are ready in");
    let arrives = |host: &str, program: &str, text: &str| {
        until(text, || {
            let received = collector.of(program);
            let is_it = |line: &&Value| {
                let is_of_host = host.is_empty() || line["host"] == host;
                is_of_host && line["message"].as_str().unwrap().contains(text)
            };
            received.iter().find(is_it).cloned()
        })
    };
    arrives("controller", "hashcluster-controller", "listens on ");
    let joined = arrives("controller", "hashcluster-controller", "w1 is here");
    assert_eq!((&joined["severity"], &joined["data"]), (&"info".into(), &"-".into()));
    arrives("w1", "hashcluster-worker", "connected to the controller");
    cluster.signal(Signal::SIGTERM);
    assert!(cluster.end().status.success());
    let stopping = arrives("", "hashcluster-vm", "stopping the workers");
    let data = parameters(stopping["data"].as_str().unwrap());
    assert_eq!((&*data["event"], &*data["signal"]), ("Stopping", "SIGTERM"));
}
