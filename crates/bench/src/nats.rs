//! A JetStream of nats-server with file storage, by the text protocol of NATS on a connection of our own.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use test_kit::{free_ports, until};

/// Messages without an acknowledgement from which on no more are sent.
const IN_FLIGHT_MAX: u64 = 4096;

/// Messages that one system call sends.
const BURST: u64 = 256;

/// Bytes of messages that one system call sends.
const BURST_LEN: usize = 256 << 10;

const STREAM: &str = r#"{"name":"HC","subjects":["hc.items"],"retention":"workqueue","storage":"file",
    "num_replicas":1,"max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"max_age":0,"discard":"old"}"#;

/// A server with one stream, and a connection to it.
#[derive(Debug)]
pub(crate) struct Nats {
    server: Child,
    stream: BufReader<TcpStream>,
}

impl Nats {
    pub(crate) fn start(dir: &Path) -> Self {
        let port = free_ports(1)[0];
        let server = Command::new("nats-server")
            .args([
                "--addr",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--jetstream",
                "--store_dir",
            ])
            .arg(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server is installed");
        let stream =
            until("nats-server to listen", || TcpStream::connect(("127.0.0.1", port)).ok());
        stream.set_nodelay(true).expect("a TCP socket");
        let mut nats = Self { server, stream: BufReader::new(stream) };
        nats.line();
        nats.send(
            "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB _INBOX.hc 1\r\n".as_bytes(),
        );
        let len = STREAM.len();
        nats.send(
            format!("PUB $JS.API.STREAM.CREATE.HC _INBOX.hc {len}\r\n{STREAM}\r\n").as_bytes(),
        );
        let made = nats.message();
        assert!(made.contains("stream_create_response") && !made.contains("\"error\""), "{made}");
        nats
    }

    /// Publishes this many messages, and waits until each is acknowledged.
    pub(crate) fn publish(&mut self, count: u64, payload: &[u8]) {
        let mut one = Vec::new();
        let mut head = String::new();
        write!(head, "PUB hc.items _INBOX.hc {}\r\n", payload.len()).expect("a string");
        one.extend_from_slice(head.as_bytes());
        one.extend_from_slice(payload);
        one.extend_from_slice(b"\r\n");
        let burst_max = BURST.min((BURST_LEN / one.len()).max(1) as u64);
        let (mut sent, mut acknowledged) = (0, 0);
        while acknowledged < count {
            let burst = burst_max.min(count - sent);
            if burst > 0 && sent - acknowledged + burst <= IN_FLIGHT_MAX {
                let times = usize::try_from(burst).expect("few");
                self.send(&one.repeat(times));
                sent += burst;
                continue;
            }
            let text = self.message();
            assert!(text.contains("\"seq\":") && !text.contains("\"error\""), "{text}");
            acknowledged += 1;
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("nats-server lives");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("nats-server lives");
        line
    }

    /// The payload of the next message.
    fn message(&mut self) -> String {
        loop {
            let line = self.line();
            if line.starts_with("PING") {
                self.send(b"PONG\r\n");
                continue;
            }
            assert!(line.starts_with("MSG "), "nats-server says {line:?}");
            let len: usize =
                line.trim_end().rsplit(' ').next().unwrap_or_default().parse().expect("a length");
            let mut payload = vec![0; len + 2];
            self.stream.read_exact(&mut payload).expect("nats-server lives");
            return String::from_utf8_lossy(&payload).into_owned();
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
