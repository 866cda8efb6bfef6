//! A cluster that hashes and loses a worker, watched by the real programs, with the files of `monitoring/`
//! but for their intervals.

use crate::dashboards::{Query, queries};
use crate::{monitoring, succeeds};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;
use test_kit::{Broker, DEADLINE, Running, bin, free_ports, output, text, until, write_tree};

/// Paths of `monitoring/` that Prometheus reads.
const RULES: [&str; 2] = ["rules/alerts.yml", "rules/recording.yml"];

/// Directories of the test, and the ports of all.
struct Site {
    dir: tempfile::TempDir,
    prometheus: u16,
    node: u16,
    webhook: u16,
    bridge: u16,
    metrics: u16,
}

impl Site {
    fn new() -> Self {
        let ports = free_ports(5);
        let dir = tempfile::Builder::new().prefix("hc").tempdir().unwrap();
        let site = Self {
            dir,
            prometheus: ports[0],
            node: ports[2],
            webhook: ports[4],
            bridge: ports[6],
            metrics: ports[8],
        };
        site.write_files();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same files, with short intervals and other ports.
    fn write_files(&self) {
        let read = |path: &str| fs::read_to_string(monitoring(path)).unwrap();
        fs::create_dir_all(self.path("files/prometheus/rules")).unwrap();
        let config = read("prometheus/prometheus.yml")
            .replace("15s", "1s")
            .replace("scrape_timeout: 5s", "scrape_timeout: 900ms")
            .replace("/etc/hashcluster", self.dir.path().to_str().unwrap())
            .replace("127.0.0.1:9100", &format!("127.0.0.1:{}", self.node));
        fs::write(self.path("files/prometheus/prometheus.yml"), config).unwrap();
        for name in RULES {
            let rules = read(&format!("prometheus/{name}"));
            let short = |line: &str| match line.trim_start().starts_with("for: ") {
                true => "        for: 2s\n".to_owned(),
                false => format!("{line}\n"),
            };
            let rules: String = rules.lines().map(short).collect();
            fs::write(self.path("files/prometheus").join(name), rules).unwrap();
        }
        let alerts = read("alertmanager/alertmanager.yml")
            .replace("127.0.0.1:9095", &format!("127.0.0.1:{}", self.webhook))
            .replace("group_wait: 30s", "group_wait: 0s")
            .replace("group_interval: 5m", "group_interval: 1s");
        fs::write(self.path("alertmanager.yml"), alerts).unwrap();
    }

    fn monitoring(&self, args: &[&str]) -> String {
        let mut command = Command::new(bin("hashcluster-vm"));
        command.arg("monitoring").args(args).arg("--runtime-dir").arg(self.path("run"));
        command.arg("--files").arg(self.path("files")).arg("--settings").arg(self.dir.path());
        succeeds(&mut command)
    }

    /// Two workers; the supervisor lists the targets.
    fn start_cluster(&self) -> Running {
        let mut command = Command::new(bin("hashcluster-vm"));
        command.args([
            "local",
            "up",
            "--workers",
            "2",
            "--metrics-port",
            &self.metrics.to_string(),
        ]);
        let mut cluster =
            Running::start(command.arg("--runtime-dir").arg(self.path("run")), DEADLINE);
        cluster.wait_for("are ready in");
        cluster
    }

    /// Series that Prometheus has at this moment for a query.
    fn ask(&self, query: &str) -> Vec<Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = get(self.prometheus, &format!("/api/v1/query?query={encoded}"));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }

    /// Names of the alerts that fire, with their members.
    fn firing(&self) -> Vec<String> {
        let name = |alert: &Value| {
            let labels = &alert["metric"];
            format!(
                "{} {}",
                labels["alertname"].as_str().unwrap(),
                labels["vm"].as_str().unwrap_or("-")
            )
        };
        self.ask("ALERTS{alertstate=\"firing\"}").iter().map(name).collect()
    }
}

/// The body of an answer to a GET.
fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// Takes what Alertmanager posts: the path and the body of each request.
fn receive(port: u16) -> Receiver<(String, Value)> {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (sender, posted) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut path, mut len) = (String::new(), 0);
            stream.read_line(&mut path).unwrap();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    len = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; len];
            stream.read_exact(&mut body).unwrap();
            // Nobody asks any more once the test has ended.
            let _ = sender.send((path, serde_json::from_slice(&body).unwrap()));
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            stream.into_inner().write_all(answer.as_bytes()).unwrap();
        }
    });
    posted
}

/// Work without end: jobs of each algorithm, some with cross-checks, some of files that are not there.
struct Load(Child);

impl Load {
    fn start(site: &Site) -> Self {
        let files = site.path("tree");
        fs::create_dir(&files).unwrap();
        write_tree(&files, 200, 100_000);
        let script = "while :; do for algorithm in blake3 sha256; do \
                      \"$0\" sum --cluster -r -a $algorithm --cross-check 1/4 . gone; done; done";
        let mut command = Command::new("bash");
        command.args(["-c", script]).arg(bin("hashctl")).current_dir(files);
        command.env("HASHCLUSTER_RUNTIME_DIR", site.path("run"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It ends with its shell: each of its jobs takes a moment.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The process of a program that ends with the test.
struct Ours(Child);

impl Drop for Ours {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Stops what `monitoring up` started, also where the test fails.
struct Watch<'a>(&'a Site);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.monitoring(&["down"]);
    }
}

fn start_node_exporter(port: u16) -> Ours {
    let mut command = Command::new("prometheus-node-exporter");
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    Ours(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// A broker and a bridge that serves, and that Prometheus scrapes as a host of `cluster`.
fn start_bridge(site: &Site, cluster: &Value) -> (Broker, Running) {
    let broker = Broker::start();
    fs::create_dir_all(site.path("data")).unwrap();
    fs::write(site.path("data/.hashcluster-dataset"), "1\n").unwrap();
    let config = format!(
        "host = \"h1\"\nbroker.servers = [\"nats://127.0.0.1:{}\"]\nserve.runtime_dir = {:?}\n\
         datasets.d = {:?}\n",
        broker.port(),
        site.path("run"),
        site.path("data")
    );
    fs::write(site.path("bridge.toml"), config).unwrap();
    let address = format!("127.0.0.1:{}", site.bridge);
    let mut bridge = Command::new(bin("hashcluster-bridge"));
    bridge.args(["serve", "--http", &address, "--config"]).arg(site.path("bridge.toml"));
    let mut bridge = Running::start(&mut bridge, DEADLINE);
    bridge.wait_for("serving d");
    let labels = serde_json::json!({"cluster": cluster, "role": "bridge", "vm": "h1"});
    let targets = serde_json::json!([{"targets": [address], "labels": labels}]);
    fs::create_dir_all(site.path("targets")).unwrap();
    fs::write(site.path("targets/hosts.json"), targets.to_string()).unwrap();
    (broker, bridge)
}

/// Waits until every query has at least one series.
#[track_caller]
fn expect_data(site: &Site, queries: &[Query]) {
    let mut empty: Vec<&Query> = queries.iter().filter(|query| query.is_prometheus).collect();
    until("data for every panel", || {
        empty.retain(|query| site.ask(&query.expr).is_empty());
        empty.is_empty().then_some(())
    });
}

/// `promtool` reads a page of each program, and finds no fault in names, kinds and units.
fn check_pages(site: &Site) {
    let up = site.ask("up{job=\"hashcluster\"}");
    let mut roles: Vec<&str> = Vec::new();
    for target in &up {
        let labels = &target["metric"];
        let (_, port) = labels["instance"].as_str().unwrap().rsplit_once(':').unwrap();
        let page = get(port.parse().unwrap(), "/metrics");
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut promtool = promtool.spawn().unwrap();
        promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
        let ended = promtool.wait_with_output().unwrap();
        assert!(ended.status.success(), "{labels}: {}", text(&ended.stderr));
        roles.push(labels["role"].as_str().unwrap());
    }
    roles.sort_unstable();
    assert_eq!(roles, ["controller", "supervisor", "worker", "worker"]);
}

/// The process of a member.
fn member_pid(site: &Site, name: &str) -> Pid {
    let mut ps = Command::new(bin("hashcluster-vm"));
    let printed = output(ps.args(["ps", "--json", "--runtime-dir"]).arg(site.path("run")));
    let report: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let members = report["members"].as_array().unwrap();
    let member = members.iter().find(|member| member["name"] == name).unwrap();
    Pid::from_raw(member["pid"].as_i64().unwrap().try_into().unwrap())
}

#[test]
fn every_panel_has_data_and_the_loss_of_a_worker_reaches_a_webhook() {
    let site = Site::new();
    let posted = receive(site.webhook);
    let _node = start_node_exporter(site.node);
    site.monitoring(&["up", "--native", "--port", &site.prometheus.to_string()]);
    let watch = Watch(&site);
    let cluster = site.start_cluster();
    let _load = Load::start(&site);

    until("scrapes of all four programs", || {
        (site.ask("up{job=\"hashcluster\"} == 1").len() == 4).then_some(())
    });
    check_pages(&site);
    let targets = site.monitoring(&["targets"]);
    assert_eq!(targets.matches(" up ").count(), 4, "{targets}");
    let name = site.ask("up{job=\"hashcluster\"}")[0]["metric"]["cluster"].clone();
    let bridge = start_bridge(&site, &name);
    until("a scrape of the bridge", || {
        (site.ask("up{job=\"hashcluster-hosts\"} == 1").len() == 1).then_some(())
    });
    let (needs_alert, others): (Vec<Query>, Vec<Query>) = queries(name.as_str().unwrap())
        .into_iter()
        .partition(|query| query.expr.starts_with("ALERTS"));
    assert!(needs_alert.len() == 1 && others.len() > 60, "{} queries", others.len());
    expect_data(&site, &others);
    until("silence", || site.firing().is_empty().then_some(()));

    drop(bridge);
    fs::remove_file(site.path("targets/hosts.json")).unwrap();

    // A process that is stopped answers nobody.
    kill(member_pid(&site, "w1"), Signal::SIGSTOP).unwrap();
    let (path, alert) = until("an alert", || {
        let (path, body) = posted.recv_timeout(Duration::from_millis(100)).ok()?;
        let is_it = |alert: &&Value| alert["labels"]["alertname"] == "HashclusterWorkerDown";
        let alert = body["alerts"].as_array().unwrap().iter().find(is_it)?.clone();
        Some((path, alert))
    });
    assert!(path.starts_with("POST /team "), "a warning wakes nobody: {path}");
    assert_eq!(alert["labels"]["vm"], "w1");
    assert_eq!(alert["annotations"]["runbook_url"], "docs/runbooks.md#hashclusterworkerdown");
    expect_data(&site, &needs_alert);

    cluster.signal(Signal::SIGTERM);
    cluster.end();
    until("no targets of a cluster that was stopped", || {
        site.ask("up{job=\"hashcluster\"}").is_empty().then_some(())
    });
    assert!(site.path("run/targets").is_dir(), "a container has mounted it");
    drop(watch);
    assert!(!site.path("run/targets").exists());
}
