//! Deliveries from end to end: the process that delivers in a thread of its own, recipients on this host.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use notifier::{Delivery, DeliveryFailure, DeliveryReport, DeliveryTarget, Permissions, serve};
use std::fs::{self, Permissions as Mode};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::{self, JoinHandle};

/// The process that delivers, as a thread.
struct Courier {
    socket: OwnedFd,
    thread: JoinHandle<()>,
}

impl Courier {
    fn start(permissions: Permissions) -> Self {
        let pair = |flags| socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags);
        let (socket, theirs) = pair(SockFlag::SOCK_CLOEXEC).unwrap();
        let flags = nix::fcntl::OFlag::O_NONBLOCK;
        nix::fcntl::fcntl(&theirs, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
        let thread = thread::spawn(move || serve(theirs, permissions).unwrap());
        Self { socket, thread }
    }

    /// Has `body` delivered; the reason why it failed.
    fn try_once(&self, to: DeliveryTarget, body: &str) -> Option<DeliveryFailure> {
        let delivery =
            Delivery { number: 3, id: "nightly/7".to_owned(), to, body: body.to_owned() };
        let packet = serde_json::to_vec(&delivery).unwrap();
        send(self.socket.as_raw_fd(), &packet, MsgFlags::empty()).unwrap();
        let mut packet = vec![0; 1 << 16];
        let len = recv(self.socket.as_raw_fd(), &mut packet, MsgFlags::empty()).unwrap();
        let report: DeliveryReport = serde_json::from_slice(&packet[..len]).unwrap();
        assert_eq!(report.number, 3);
        report.failure
    }

    fn end(self) {
        drop(self.socket);
        self.thread.join().unwrap();
    }
}

fn url(url: String) -> DeliveryTarget {
    DeliveryTarget::Url { url, secret: None }
}

fn command(name: &str, args: &[&str]) -> DeliveryTarget {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    DeliveryTarget::Command { name: name.to_owned(), args }
}

/// Takes one request up to the end of its body, gives `answer`, and returns the request.
fn answer_once(mut stream: impl Read + Write, answer: &str) -> String {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let len = stream.read(&mut piece).unwrap();
        request.extend_from_slice(&piece[..len]);
        let text = String::from_utf8_lossy(&request);
        let body_len = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let head_len = text.find("\r\n\r\n");
        if let (Some(len), Some(head_len)) = (body_len, head_len)
            && request.len() >= head_len + 4 + len.trim().parse::<usize>().unwrap()
        {
            break;
        }
    }
    stream.write_all(answer.as_bytes()).unwrap();
    String::from_utf8(request).unwrap()
}

fn script(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, Mode::from_mode(0o755)).unwrap();
}

#[test]
fn a_url_gets_the_body_signed() {
    let secrets = tempfile::tempdir().unwrap();
    let path = secrets.path().join("ops");
    fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::set_permissions(&path, Mode::from_mode(0o600)).unwrap();
    let permissions = Permissions { commands: None, secrets: Some(secrets.path().to_owned()) };
    let courier = Courier::start(permissions);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = DeliveryTarget::Url {
        url: format!("http://{}/hook?a=b", listener.local_addr().unwrap()),
        secret: Some("ops".to_owned()),
    };
    let recipient = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        answer_once(stream, "HTTP/1.1 204 No Content\r\n\r\n")
    });
    assert_eq!(courier.try_once(to, r#"{"run":7}"#), None);
    let request = recipient.join().unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{head}");
    assert_eq!(body, r#"{"run":7}"#);
    for want in [
        "webhook-id: nightly/7",
        "webhook-timestamp: 1",
        "webhook-signature: v1,",
        "content-type: application/json",
    ] {
        assert!(head.contains(want), "{want}: {head}");
    }
    courier.end();
}

#[test]
fn answers_and_refusals_are_told() {
    let courier = Courier::start(Permissions::default());
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("hook.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let recipient = thread::spawn(move || {
        let statuses = ["503 Service Unavailable", "404 Not Found"];
        statuses.map(|status| {
            let (stream, _) = listener.accept().unwrap();
            answer_once(stream, &format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"))
        })
    });
    let unix = url(format!("unix:{}:/in", socket.display()));
    let failure = courier.try_once(unix.clone(), "{}").unwrap();
    assert_eq!(
        (failure.text.as_str(), failure.is_final),
        ("answered with 503 Service Unavailable", false)
    );
    let failure = courier.try_once(unix, "{}").unwrap();
    assert_eq!((failure.text.as_str(), failure.is_final), ("answered with 404 Not Found", true));
    assert!(recipient.join().unwrap()[0].starts_with("POST /in HTTP/1.1\r\n"));
    // Nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failure = courier.try_once(url(format!("http://{port}/")), "{}").unwrap();
    assert!(!failure.is_final && failure.text.contains("refused"), "{failure}");
    let to =
        DeliveryTarget::Url { url: "http://127.0.0.1/".to_owned(), secret: Some("ops".to_owned()) };
    let failure = courier.try_once(to, "{}").unwrap();
    assert!(failure.is_final && failure.text.contains("--notify-secrets"), "{failure}");
    courier.end();
}

#[test]
fn a_command_gets_the_body_on_its_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let commands = dir.path().join("commands");
    fs::create_dir(&commands).unwrap();
    let out = dir.path().join("out");
    script(&commands, "keep", r#"{ cat; echo " $2"; env | sort | head -1; } > "$1""#);
    script(&commands, "fail", "echo 'no mail today' >&2; exit 3");
    script(&commands, "background", "sleep 5 & exit 0");
    script(&commands, "open", "exit 0");
    fs::set_permissions(commands.join("open"), Mode::from_mode(0o777)).unwrap();
    let courier = Courier::start(Permissions { commands: Some(commands), secrets: None });
    let (path, words) = (out.to_str().unwrap(), "two words; $(id)");
    assert_eq!(courier.try_once(command("keep", &[path, words]), r#"{"a":1}"#), None);
    let kept = fs::read_to_string(&out).unwrap();
    assert!(kept.starts_with("{\"a\":1} two words; $(id)\nPATH="), "{kept}");
    let failure = courier.try_once(command("fail", &[]), "{}").unwrap();
    assert_eq!(failure.text, "command 'fail': exit status: 3: no mail today");
    assert_eq!(courier.try_once(command("background", &[]), "{}"), None);
    for (name, want) in [
        ("missing", "No such file"),
        ("../out", "not a name"),
        (".", "not a name"),
        ("open", "lets others write to it"),
    ] {
        let failure = courier.try_once(command(name, &[]), "{}").unwrap();
        assert!(failure.text.contains(want), "{name}: {failure}");
    }
    courier.end();
    let courier = Courier::start(Permissions::default());
    let failure = courier.try_once(command("keep", &[]), "{}").unwrap();
    assert!(failure.is_final && failure.text.contains("--notify-commands"), "{failure}");
    courier.end();
}
