//! Pages of real programs over HTTP, during real work.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tempfile::tempdir;
use test_kit::{Cluster, Options, free_ports, pattern, until};

/// The answer to a request for `path`, without its head.
fn page(stream: &mut (impl Read + Write), path: &str) -> (String, String) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (status, body) = page(&mut stream, "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    body
}

/// The value of a series.
fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

/// Of workers that `portable` was forced on.
const ITEMS: &str = "hashcluster_controller_items_total{algorithm=\"sha256\",backend=\"portable\",outcome=\"digest\"}";
const BYTES: &str = "hashcluster_controller_bytes_total{algorithm=\"sha256\",backend=\"portable\",outcome=\"digest\"}";

#[test]
fn metrics_move_with_the_work_and_forget_workers_that_left() {
    let address = format!("127.0.0.1:{}", free_ports(1)[0]);
    let mut cluster = Cluster::start(Options {
        controller_args: vec!["--http".to_owned(), address.clone()],
        worker_args: vec!["--backend", "portable"],
        ..Options::default()
    });
    let before = scrape(&address);
    for (series, want) in [
        ("hashcluster_controller_workers{state=\"ready\"}", 2.0),
        ("hashcluster_controller_workers{state=\"quarantined\"}", 0.0),
        ("hashcluster_controller_worker_threads{worker=\"w0\"}", 1.0),
        ("hashcluster_controller_jobs_opened_total", 0.0),
        (ITEMS, 0.0),
        (BYTES, 0.0),
        ("hashcluster_controller_results_total{client=\"connected\"}", 0.0),
        ("hashcluster_controller_requeues_total{reason=\"disconnected\"}", 0.0),
        (
            "hashcluster_controller_connections_refused_total{role=\"worker\",reason=\"forbidden\"}",
            0.0,
        ),
        ("hashcluster_controller_batch_duration_seconds_count", 0.0),
        ("hashcluster_log_lines_dropped_total{reason=\"rate\"}", 0.0),
        ("hashcluster_sandbox_layer{layer=\"seccomp\"}", 1.0),
    ] {
        assert_eq!(value(&before, series), Some(want), "{series} in\n{before}");
    }
    let files = tempdir().unwrap();
    for i in 0..30 {
        fs::write(files.path().join(i.to_string()), pattern(1000)).unwrap();
    }
    let mut hashctl = cluster.hashctl();
    assert!(
        hashctl
            .args(["sum", "-r", "."])
            .current_dir(files.path())
            .output()
            .unwrap()
            .status
            .success()
    );
    let after = scrape(&address);
    for (series, want) in
        [("hashcluster_controller_jobs_opened_total", 1.0), ("hashcluster_controller_jobs", 0.0)]
    {
        assert_eq!(value(&after, series), Some(want), "{series} in\n{after}");
    }
    let grew = |series: &str| value(&after, series) > value(&before, series);
    for series in [
        "hashcluster_controller_leases_total",
        "hashcluster_controller_batch_duration_seconds_count",
        "hashcluster_controller_queue_wait_seconds_count",
        "hashcluster_controller_last_digest_timestamp_seconds",
        "hashcluster_controller_connections_total{role=\"client\"}",
    ] {
        assert!(grew(series), "{series} in\n{after}");
    }
    for series in [
        "process_start_time_seconds",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_threads",
        "process_open_fds",
        "process_max_fds",
        "hashcluster_host_memory_total_bytes",
        "hashcluster_host_memory_available_bytes",
    ] {
        assert!(value(&after, series) > Some(0.0), "{series} in\n{after}");
    }
    assert!(value(&after, "hashcluster_host_load1").is_some(), "{after}");
    until("processor time", || {
        (value(&scrape(&address), "process_cpu_seconds_total") > Some(0.0)).then_some(())
    });

    cluster.workers[0].kill().unwrap();
    let series = "hashcluster_controller_worker_threads{worker=\"w0\"}";
    until("a picture without the worker", || {
        let metrics = scrape(&address);
        let ready = value(&metrics, "hashcluster_controller_workers{state=\"ready\"}");
        (ready == Some(1.0) && value(&metrics, series).is_none()).then_some(())
    });
}

#[test]
fn a_controller_is_ready_while_a_worker_is() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("http.sock");
    let mut cluster = Cluster::start(Options {
        workers: 1,
        controller_args: vec!["--http".to_owned(), format!("unix:{}", path.display())],
        ..Options::default()
    });
    let ask = |page_path| page(&mut UnixStream::connect(&path).unwrap(), page_path);
    assert_eq!(ask("/healthz"), ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
    let ready = "{\"ready\":true,\"reasons\":[]}\n";
    assert_eq!(ask("/readyz"), ("HTTP/1.1 200 OK".to_owned(), ready.to_owned()));
    cluster.workers[0].kill().unwrap();
    let (status, body) = until("a controller that is not ready", || {
        let answer = ask("/readyz");
        (answer.1 != ready).then_some(answer)
    });
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(body, "{\"ready\":false,\"reasons\":[\"no worker is ready\"]}\n");
    assert_eq!(ask("/healthz").0, "HTTP/1.1 200 OK");
    assert!(cluster.terminate_controller());
    assert!(!path.exists(), "its socket is left");
}

#[test]
fn work_goes_on_where_the_port_of_the_metrics_is_taken() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let cluster = Cluster::start(Options {
        workers: 1,
        controller_args: vec!["--http".to_owned(), address.clone()],
        ..Options::default()
    });
    let want = format!("{address}: Address already in use (os error 98); no metrics are shown");
    assert!(cluster.logs().contains(&want), "{}", cluster.logs());
}

#[test]
fn the_status_page_shows_workers_that_die_and_can_be_left_out() {
    let address = format!("127.0.0.1:{}", free_ports(1)[0]);
    let mut cluster = Cluster::start(Options {
        controller_args: vec!["--http".to_owned(), address.clone()],
        ..Options::default()
    });
    let get = |path: &str| page(&mut TcpStream::connect(&address).unwrap(), path);
    let (status, html) = get("/");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(html.contains("2 of 2 workers ready") && html.contains(">w1</th>"), "{html}");
    for path in ["/status.css", "/status.js"] {
        assert!(html.contains(path) && get(path).0.ends_with("200 OK"), "{path}");
    }
    let (_, json) = get("/status.json");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["version"], &json["workers"][1]["name"]), (&1.into(), &"w1".into()));
    let mut events = TcpStream::connect(&address).unwrap();
    events.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    events.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut seen = String::new();
    let mut wait_for = |text: &str| {
        let mut bytes = [0; 4096];
        while !seen.contains(text) {
            let len = events.read(&mut bytes).unwrap();
            assert!(len > 0, "the stream ended without {text}: {seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..len]));
        }
    };
    wait_for("2 of 2 workers ready");
    cluster.workers[1].kill().unwrap();
    cluster.workers[1].wait().unwrap();
    wait_for("worker w1 left");
    let again = cluster.spawn_worker(1);
    cluster.workers.push(again);
    wait_for("worker w1 connected");
    let address = format!("127.0.0.1:{}", free_ports(1)[0]);
    let _cluster = Cluster::start(Options {
        workers: 0,
        controller_args: vec!["--http".into(), address.clone(), "--no-status-page".into()],
        ..Options::default()
    });
    for (path, want) in
        [("/", "404 Not Found"), ("/events", "404 Not Found"), ("/healthz", "200 OK")]
    {
        let (status, _) = page(&mut TcpStream::connect(&address).unwrap(), path);
        assert!(status.ends_with(want), "{path}: {status}");
    }
}
