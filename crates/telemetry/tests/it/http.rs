//! Requests as bytes.

use std::env;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};
use telemetry::http::{
    CONNECTIONS_MAX, EVENT_STREAM, HEAD_LEN_MAX, HEAD_LIMIT, HTML, HttpAddress, HttpListener, Page,
    STREAMS_MAX,
};

/// Most time that a test waits for anything.
const DEADLINE: Duration = Duration::from_secs(60);

/// A listener in a thread of its own; its address.
fn listener() -> String {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let page = |content_type| Page { status: 200, content_type, body: "content\n".into() };
            let pages = Rc::new(move |path: &str| match path {
                "/page" => Some(Page::text(200, "content\n")),
                "/html" => Some(page(HTML)),
                "/events" => Some(page(EVENT_STREAM)),
                _ => None,
            });
            HttpListener::tcp(socket).unwrap().serve(pages).await;
        });
    });
    address
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// The answer until the end of the connection.
fn ask(address: &str, request: &[u8]) -> String {
    let mut stream = connect(address);
    // The listener may refuse before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn requests_have_the_answers_of_http() {
    let address = listener();
    for (request, status, content) in [
        ("GET /page HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK", "content\n"),
        ("GET /page?query=1 HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK", "content\n"),
        ("HEAD /page HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK", ""),
        ("GET /page HTTP/1.0\r\n\r\n", "200 OK", "content\n"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "404 Not Found", "there is no such page\n"),
        ("GET /page/ HTTP/1.1\r\nHost: a\r\n\r\n", "404 Not Found", "there is no such page\n"),
        ("GET //page HTTP/1.1\r\nHost: a\r\n\r\n", "404 Not Found", "there is no such page\n"),
        (
            "POST /page HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            "405 Method Not Allowed",
            "only GET and HEAD are served\n",
        ),
        (
            "DELETE /page HTTP/1.1\r\nHost: a\r\n\r\n",
            "405 Method Not Allowed",
            "only GET and HEAD are served\n",
        ),
        ("nonsense\r\n\r\n", "400 Bad Request", ""),
    ] {
        let answer = ask(&address, request.as_bytes());
        let (head, body) =
            answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request}: {answer:?}"));
        let line = head.lines().next().unwrap();
        assert_eq!(line.split_once(' ').unwrap().1, status, "{request}");
        assert_eq!(body, content, "{request}");
        if status.starts_with("405") {
            assert!(head.to_lowercase().contains("\r\nallow: get, head"), "{head}");
        }
    }
}

#[test]
fn a_head_without_end_is_refused() {
    let address = listener();
    let request = format!("GET /page HTTP/1.1\r\nHost: {}", "a".repeat(2 * HEAD_LEN_MAX));
    let answer = ask(&address, request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    let many: String = (0..200).map(|i| format!("a{i}: b\r\n")).collect();
    let answer = ask(&address, format!("GET /page HTTP/1.1\r\n{many}\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
}

#[test]
fn silent_and_slow_clients_do_not_keep_others_out() {
    let address = listener();
    let start = Instant::now();
    // More than are served at once: half of them say nothing, the others a byte at a time.
    let mut silent: Vec<TcpStream> = (0..2 * CONNECTIONS_MAX).map(|_| connect(&address)).collect();
    for stream in silent.iter_mut().step_by(2) {
        stream.write_all(b"GET /pa").unwrap();
    }
    let answer = ask(&address, b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?}");
    assert!(start.elapsed() < DEADLINE);
    for mut stream in silent {
        let mut rest = Vec::new();
        // Their connections end, with or without an answer.
        let _ = stream.read_to_end(&mut rest);
    }
}

/// Processor time of this process so far.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    // utime and stime, in ticks of 10 ms: proc_pid_stat(5).
    let ticks: u64 =
        rest.split(' ').skip(11).take(2).map(|word| word.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}

/// Runs one test of this file as a process of its own with a soft limit of open files, so that its limit and
/// its processor time are its own. True in that process.
fn is_alone(test: &str, open_files: u32) -> bool {
    const ALONE: &str = "TELEMETRY_TEST_ALONE";
    if env::var_os(ALONE).is_some() {
        return true;
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -Sn {open_files} && exec \"$0\" \"$@\"")]);
    shell.arg(env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(ALONE, "1");
    let ran = shell.output().unwrap();
    let said =
        String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    false
}

#[test]
fn a_thousand_connections_wait_for_their_turn_and_cost_no_processor_time() {
    if !is_alone(
        "http::a_thousand_connections_wait_for_their_turn_and_cost_no_processor_time",
        4096,
    ) {
        return;
    }
    let address = listener();
    let before = cpu_time();
    // The kernel's queue takes those that are not served yet; more of them wait to be connected.
    let mut waiting: Vec<TcpStream> = (0..1000).filter_map(|_| try_connect(&address)).collect();
    assert!(waiting.len() > 2 * CONNECTIONS_MAX, "{}", waiting.len());
    // A scrape that is answered and never read.
    waiting[0].write_all(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let end = read_end(&mut waiting[1]);
    assert!(!end.contains("200 OK"), "it said nothing: {end}");
    drop(waiting);
    let answer = ask(&address, b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?}");
    let spent = cpu_time() - before;
    assert!(spent < Duration::from_secs(1), "the listener spins: {spent:?}");
}

/// A connection, unless the queue is full.
fn try_connect(address: &str) -> Option<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_millis(1)).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    Some(stream)
}

/// The rest until the end of the connection.
fn read_end(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    String::from_utf8_lossy(&rest).into_owned()
}

#[test]
fn without_a_free_descriptor_the_listener_pauses_and_goes_on_when_there_is_one() {
    if !is_alone(
        "http::without_a_free_descriptor_the_listener_pauses_and_goes_on_when_there_is_one",
        64,
    ) {
        return;
    }
    let address = listener();
    let mut first = connect(&address);
    first.write_all(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(read_end(&mut first).ends_with("content\n"));
    // The listener closes its end after the client has seen the end; from then on a write is refused.
    let deadline = Instant::now() + DEADLINE;
    while first.write_all(b"x").is_ok() {
        assert!(Instant::now() < deadline, "the connection stays open");
    }
    drop(first);
    let before = cpu_time();
    let mut held: Vec<fs::File> = Vec::new();
    while let Ok(file) = fs::File::open("/dev/null") {
        held.push(file);
    }
    // The last one is for our end of the connection, and none is left for the other.
    drop(held.pop().unwrap());
    let mut client = connect(&address);
    client.write_all(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    let waited = client.read(&mut [0]).unwrap_err();
    assert_eq!(waited.kind(), ErrorKind::WouldBlock, "nobody can have taken it: {waited}");
    drop(held);
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    assert!(read_end(&mut client).ends_with("content\n"));
    let spent = cpu_time() - before;
    assert!(spent < Duration::from_millis(500), "the listener spins: {spent:?}");
}

#[test]
fn a_head_that_comes_byte_by_byte_ends_at_its_time_limit() {
    let address = listener();
    let mut slow = connect(&address);
    slow.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let start = Instant::now();
    let head = b"GET /page HTTP/1.1\r\nHost: ".iter().copied().chain(std::iter::repeat(b'a'));
    for byte in head {
        let sent = slow.write_all(&[byte]);
        // The read is the pause between two bytes, and sees the end.
        let ended = match slow.read(&mut [0; 512]) {
            Ok(_) => true,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        if sent.is_err() || ended {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "a slow head is not ended");
    }
    assert!(start.elapsed() >= HEAD_LIMIT, "{:?}", start.elapsed());
}

#[test]
fn a_client_that_leaves_harms_nobody() {
    let address = listener();
    for _ in 0..200 {
        let mut stream = connect(&address);
        stream.write_all(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    }
    let answer = ask(&address, b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.ends_with("content\n"), "{answer:?}");
}

#[test]
fn a_place_is_an_address_with_a_port_or_a_socket() {
    for good in ["127.0.0.1:9464", "[::1]:80", "0.0.0.0:0", "unix:/run/a", "unix:a b"] {
        let parsed: HttpAddress = good.parse().unwrap();
        assert_eq!(parsed.to_string(), good);
    }
    for bad in
        ["", "9464", ":9464", "localhost:9464", "127.0.0.1", "127.0.0.1:65536", "unix:", "/run/a"]
    {
        assert!(bad.parse::<HttpAddress>().is_err(), "{bad}");
    }
}

/// A stream of events that has begun.
fn stream(address: &str) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    stream
}

/// Reads until `text` came this many times.
fn read_until(stream: &mut TcpStream, text: &str, times: usize) -> String {
    let (mut all, mut bytes) = (Vec::new(), [0; 512]);
    loop {
        let len = stream.read(&mut bytes).unwrap();
        all.extend_from_slice(&bytes[..len]);
        let seen = String::from_utf8_lossy(&all).into_owned();
        if len == 0 || seen.matches(text).count() >= times {
            return seen;
        }
    }
}

#[test]
fn a_stream_has_an_event_per_interval_and_there_are_few() {
    let address = listener();
    let mut streams: Vec<TcpStream> = (0..STREAMS_MAX).map(|_| stream(&address)).collect();
    for stream in &mut streams {
        let seen = read_until(stream, "data: content\n\n", 1);
        assert!(seen.contains("content-type: text/event-stream\r\n"), "{seen}");
    }
    let seen = read_until(&mut streams[0], "data: content\n\n", 1);
    assert!(seen.contains("data: content"), "another one: {seen}");
    let refused = read_until(&mut stream(&address), "open\n", 1);
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    // Others are served all the same, and one that leaves makes room.
    assert!(ask(&address, b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 200"));
    drop(streams.pop());
    let deadline = Instant::now() + DEADLINE;
    while !read_until(&mut stream(&address), "\r\n\r\n", 1).starts_with("HTTP/1.1 200") {
        assert!(Instant::now() < deadline, "the stream that was closed still counts");
    }
}

#[test]
fn a_page_for_browsers_is_shown_by_address_only_and_loads_nothing_from_elsewhere() {
    let address = listener();
    for (path, host, status) in [
        ("/html", "localhost:9464", 200),
        ("/html", "[::1]", 200),
        ("/html", "evil.example", 421),
        ("/events", "127.0.0.1.evil.example:80", 421),
        // A monitoring system may use any name.
        ("/page", "monitored.example", 200),
    ] {
        let request = format!("HEAD {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let answer = ask(&address, request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}, {host}: {answer}");
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self';",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
        ] {
            assert!(answer.contains(header), "{header}: {answer}");
        }
    }
}
