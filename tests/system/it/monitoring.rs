//! Pages of real programs over HTTP, during real work.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tempfile::tempdir;
use test_kit::{Cluster, HungFile, Options, free_ports, pattern, until};

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
    let pid = std::process::id();
    let want = format!("{address}: the port is in use by ");
    assert!(cluster.logs().contains(&format!("(pid {pid}); no metrics are shown")));
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
    for (path, want) in [
        ("/", "404 Not Found"),
        ("/events", "404 Not Found"),
        ("/status.json", "404 Not Found"),
        ("/healthz", "200 OK"),
    ] {
        let (status, _) = page(&mut TcpStream::connect(&address).unwrap(), path);
        assert!(status.ends_with(want), "{path}: {status}");
    }
}

#[test]
fn metrics_of_a_worker_move_with_its_work() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("w.sock");
    let address: &'static str = format!("unix:{}", path.display()).leak();
    let mut cluster = Cluster::start(Options {
        workers: 1,
        worker_args: vec!["--http", address, "--backend", "portable"],
        ..Options::default()
    });
    let ask = |page_path| page(&mut UnixStream::connect(&path).unwrap(), page_path);
    let series = |name: &str, labels: &str| value(&ask("/metrics").1, &format!("{name}{labels}"));
    let worker = |name: &str| series(&format!("hashcluster_worker_{name}"), "");
    let items = |outcome| {
        let labels = format!("{{algorithm=\"sha256\",backend=\"portable\",outcome=\"{outcome}\"}}");
        series("hashcluster_worker_items_total", &labels)
    };
    let bytes = || {
        let labels = "{algorithm=\"sha256\",backend=\"portable\"}";
        series("hashcluster_worker_bytes_total", labels)
    };
    assert_eq!((items("digest"), items("failed"), bytes()), (Some(0.0), Some(0.0), Some(0.0)));
    assert_eq!(worker("connected"), Some(1.0));
    assert_eq!(worker("connections_total"), Some(1.0));
    assert_eq!((worker("threads"), worker("threads_stuck")), (Some(1.0), Some(0.0)));
    assert_eq!((worker("threads_busy"), worker("leases")), (Some(0.0), Some(0.0)));
    assert_eq!(worker("batch_duration_seconds_count"), Some(0.0));
    assert_eq!(ask("/readyz").1, "{\"ready\":true,\"reasons\":[]}\n");

    let hung = HungFile::new();
    let files = tempdir().unwrap();
    for i in 0..30 {
        fs::write(files.path().join(i.to_string()), pattern(1000)).unwrap();
    }
    let summed = cluster.hashctl().args(["sum", "-r", "."]).current_dir(files.path()).output();
    assert!(summed.unwrap().status.success());
    assert_eq!((items("digest"), bytes()), (Some(30.0), Some(30_000.0)));
    assert!(worker("batch_duration_seconds_count") >= Some(1.0));
    assert!(worker("queue_wait_seconds_count") >= Some(1.0));

    // A file that never answers: its thread is busy with a lease, which is revoked when its client leaves.
    let mut stuck = cluster.hashctl().arg("sum").arg(hung.path()).spawn().unwrap();
    hung.wait_for_read();
    until("a busy thread", || (worker("threads_busy") == Some(1.0)).then_some(()));
    assert_eq!(worker("leases"), Some(1.0));
    stuck.kill().unwrap();
    stuck.wait().unwrap();
    until("a revoked lease", || (worker("leases_revoked_total") == Some(1.0)).then_some(()));
    drop(hung);
    until("an idle thread", || (worker("threads_busy") == Some(0.0)).then_some(()));

    assert!(cluster.terminate_controller());
    until("a worker that is not connected", || (worker("connected") == Some(0.0)).then_some(()));
    let (status, body) = ask("/readyz");
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(body, "{\"ready\":false,\"reasons\":[\"not connected to a controller\"]}\n");
    cluster.restart_controller();
    until("a second connection", || (worker("connections_total") == Some(2.0)).then_some(()));
}
