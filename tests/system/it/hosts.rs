//! Many hosts: bridges around a real nats-server, each serving one with a controller and a worker of its own.

mod clocks;
mod networks;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use test_kit::{
    Broker, Cluster, Options, Random, Running, bin, broker_cluster, oracle, output, text, until,
    until_within,
};

/// The longest that a job may take while everything is killed.
const LIMIT: Duration = Duration::from_secs(300);

/// Things that are killed, each in the middle of a job of its own.
const KILLS: u32 = 5;

/// Writes a configuration with `datasets`; the rest is for tests: nothing waits for long.
fn configure(dir: &Path, host: &str, ports: &[u16], rest: &str) -> PathBuf {
    let servers: Vec<String> =
        ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
    configure_for(dir, host, &servers, rest)
}

/// The same for servers anywhere.
fn configure_for(dir: &Path, host: &str, servers: &[String], rest: &str) -> PathBuf {
    let path = dir.join(format!("{host}.toml"));
    let text = format!(
        "host = \"{host}\"\nbroker.servers = {servers:?}\n\
         submit.republish_after_s = 20\n{rest}"
    );
    fs::write(&path, text).unwrap();
    path
}

fn bridge(role: &str, config: &Path) -> Command {
    bridge_of(&bin("hashcluster-bridge"), role, config)
}

fn bridge_of(program: &Path, role: &str, config: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg(role).arg("--config").arg(config).stdin(Stdio::null());
    command
}

/// A host that serves: a controller, a worker, and the bridge.
struct ServingHost {
    cluster: Cluster,
    config: PathBuf,
    program: PathBuf,
    bridge: Option<Running>,
}

impl ServingHost {
    fn start(dir: &Path, name: &str, ports: &[u16], root: &Path) -> Self {
        let mut host = Self::prepare(None, root, |rest| configure(dir, name, ports, rest));
        host.restart_bridge();
        host
    }

    /// One with the programs in `bin_dir`, and the configuration that `configure` writes; still without a bridge.
    fn prepare(
        bin_dir: Option<PathBuf>,
        root: &Path,
        configure: impl FnOnce(&str) -> PathBuf,
    ) -> Self {
        const BRIDGE: &str = "hashcluster-bridge";
        let program = bin_dir.as_ref().map_or_else(|| bin(BRIDGE), |dir| dir.join(BRIDGE));
        let cluster = Cluster::start(Options {
            bin_dir,
            workers: 1,
            datasets: vec![("d", root.to_owned())],
            ..Options::default()
        });
        let rest = format!(
            "serve.shards = 2\nserve.runtime_dir = \"{}\"\ndatasets.d = \"{}\"\n",
            cluster.dir().display(),
            root.display()
        );
        let config = configure(&rest);
        Self { cluster, config, program, bridge: None }
    }

    /// The same as a service is started: again until the broker can be reached.
    fn restart_service(&mut self) {
        self.bridge = None;
        self.bridge = Some(until_within(LIMIT, "a bridge that serves", || {
            let mut serve = bridge_of(&self.program, "serve", &self.config);
            let mut bridge = Running::start(&mut serve, LIMIT);
            until_within(LIMIT, "it serves or ends", || {
                let has_ended = !bridge.is_running();
                (has_ended || bridge.stderr().contains("serving d")).then_some(())
            });
            if bridge.is_running() {
                return Some(bridge);
            }
            let ended = bridge.end();
            assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
            None
        }));
    }

    /// Kills the bridge at once and starts it again.
    fn restart_bridge(&mut self) {
        // Killed when it is dropped.
        self.bridge = None;
        let mut bridge =
            Running::start(&mut bridge_of(&self.program, "serve", &self.config), LIMIT);
        bridge.wait_for("serving d");
        self.bridge = Some(bridge);
    }
}

/// Files longer than a shard's target, each a shard of its own, small ones that are packed, and a marker.
fn make_dataset(root: &Path, identity: &str, long: u64, small: u64) {
    fs::create_dir_all(root.join("sub/dir")).unwrap();
    fs::write(root.join(".hashcluster-dataset"), format!("{identity}\n")).unwrap();
    for number in 0..long {
        // Mostly holes: their bytes take time to hash, and no room.
        let mut file = fs::File::create(root.join(format!("long{number}"))).unwrap();
        write!(file, "{number}").unwrap();
        file.set_len((65 << 20) + number).unwrap();
    }
    for number in 0..small {
        let dir = ["sub/", "sub/dir/"][usize::from(number % 2 == 0)];
        fs::write(root.join(format!("{dir}small{number}")), format!("{number}")).unwrap();
    }
}

/// The process of a host's worker.
fn worker_of(host: &ServingHost) -> Pid {
    Pid::from_raw(i32::try_from(host.cluster.workers[0].id()).unwrap())
}

/// The manifest that sha256sum prints of `root`.
fn manifest_by_sha256sum(root: &Path) -> String {
    let printed = oracle("sha256sum", root, ".");
    text(&printed.stdout).replace("  ./", "  ")
}

/// Objects of `hosts --json`, by host, and its status.
fn listed_hosts(config: &Path) -> (serde_json::Value, Option<i32>) {
    let printed = output(bridge("hosts", config).arg("--json"));
    let stdout = text(&printed.stdout);
    let objects = stdout.lines().map(|line| {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        (object["host"].as_str().unwrap().to_owned(), object)
    });
    (objects.collect::<serde_json::Map<_, _>>().into(), printed.status.code())
}

#[test]
fn many_hosts_give_one_manifest_while_everything_is_killed_in_turn() {
    let mut random = Random::from_entropy();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    make_dataset(&root, "5f0c-1", 50, 5000);
    let want = manifest_by_sha256sum(&root);
    let mut broker = Broker::start();
    let ports = [broker.port()];
    let start_at = |name, root: &Path| ServingHost::start(dir.path(), name, &ports, root);
    let mut hosts = [start_at("h1", &root), start_at("h2", &root)];
    // Another directory of that name: its host gets none of the shards.
    let other = dir.path().join("other");
    make_dataset(&other, "another", 0, 1);
    let mut stranger = start_at("h3", &other);
    let config =
        configure(dir.path(), "h0", &ports, &format!("datasets.d = \"{}\"\n", root.display()));
    let manifest = dir.path().join("manifest");
    let ledger = |number: u32| dir.path().join(format!("ledger{number}"));
    let submit = |number| {
        let mut submit = bridge("submit", &config);
        submit.arg("--ledger").arg(ledger(number)).arg("-o").arg(&manifest).arg("d");
        submit
    };
    for number in 0..KILLS {
        let mut running = Running::start(&mut submit(number), LIMIT);
        let answers = || fs::read_to_string(ledger(number)).unwrap_or_default();
        until("a shard has its result", || answers().contains("{\"answer\":").then_some(()));
        // Nothing is hashed until it is killed, however fast the workers are.
        let workers: Vec<Pid> = hosts.iter().map(worker_of).collect();
        workers.iter().for_each(|&worker| kill(worker, Signal::SIGSTOP).unwrap());
        assert!(running.is_running(), "job {number} is over before anything is killed");
        match number {
            0 => broker.crash(),
            1 => hosts[random.index(2)].restart_bridge(),
            2 => {
                drop(running);
                running = Running::start(&mut submit(number), LIMIT);
            }
            3 => hosts[random.index(2)].cluster.replace_worker(0),
            _ => {
                let cluster = &mut hosts[random.index(2)].cluster;
                cluster.controller.kill().unwrap();
                cluster.controller.wait().unwrap();
                cluster.restart_controller();
            }
        }
        // One that was replaced is dead.
        for worker in workers {
            let _ = kill(worker, Signal::SIGCONT);
        }
        let ended = running.end();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        assert_eq!(fs::read_to_string(&manifest).unwrap(), want, "job {number}");
        fs::remove_file(&manifest).unwrap();
    }
    let leaving = stranger.bridge.take().unwrap();
    leaving.signal(Signal::SIGTERM);
    let said = leaving.end().stderr;
    assert!(said.contains("leaving: 0 shards answered, 0 returned"), "{said}");
    let (listed, status) = listed_hosts(&config);
    assert_eq!(listed["h1"]["state"], "serving", "{listed}");
    assert_eq!(listed["h1"]["datasets"], serde_json::json!(["d"]), "{listed}");
    assert_eq!(listed["h3"]["state"], "left", "{listed}");
    assert_eq!(listed["h3"]["done"], 0, "{listed}");
    assert_eq!(status, Some(0), "{listed}");
    let mut get = Command::new(bin("hashctl"));
    get.args(["get", "hosts", "--selector", "state=left", "h3"]);
    let listed = text(&output(get.env("HASHCLUSTER_BRIDGE_CONFIG", &config)).stdout);
    assert!(listed.lines().nth(1).is_some_and(|line| line.starts_with("h3 ")), "{listed}");
    // Done is done: the same command prints the same, and needs no broker.
    drop(broker);
    assert_eq!(output(&mut submit(0)).status.code(), Some(0));
    assert_eq!(fs::read_to_string(&manifest).unwrap(), want);
    assert!(hosts.iter().all(|host| host.cluster.status().workers.len() == 1));
}

#[test]
fn a_cluster_of_three_brokers_loses_one_by_a_kill_and_one_by_silence_and_the_manifest_is_whole() {
    let mut random = Random::from_entropy();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    make_dataset(&root, "5f0c-1", 30, 1000);
    let want = manifest_by_sha256sum(&root);
    let mut brokers = broker_cluster();
    let ports = brokers.each_ref().map(Broker::port);
    let rest = format!("broker.replicas = 3\ndatasets.d = \"{}\"\n", root.display());
    let config = configure(dir.path(), "h0", &ports, &rest);
    until_within(LIMIT, "the brokers have a leader", || {
        output(&mut bridge("hosts", &config)).status.success().then_some(())
    });
    let start_at = |name| ServingHost::start(dir.path(), name, &ports, &root);
    let hosts = [start_at("h1"), start_at("h2")];
    let (manifest, ledger) = (dir.path().join("manifest"), dir.path().join("ledger"));
    let mut submit = bridge("submit", &config);
    submit.arg("--ledger").arg(&ledger).arg("-o").arg(&manifest).arg("d");
    let running = Running::start(&mut submit, LIMIT);
    let answers =
        || fs::read_to_string(&ledger).unwrap_or_default().matches("{\"answer\":").count();
    // While the workers stand still, no shard is done.
    let signal_workers =
        |signal| hosts.iter().for_each(|host| kill(worker_of(host), signal).unwrap());
    until("a shard has its result", || (answers() > 0).then_some(()));
    signal_workers(Signal::SIGSTOP);
    brokers[random.index(3)].crash();
    let before = answers();
    signal_workers(Signal::SIGCONT);
    until_within(LIMIT, "results after the kill", || (answers() > before + 8).then_some(()));
    signal_workers(Signal::SIGSTOP);
    // Its connections stay open, and nothing comes through them any more: as when a link is cut.
    let silent = Pid::from_raw(i32::try_from(brokers[random.index(3)].id()).unwrap());
    kill(silent, Signal::SIGSTOP).unwrap();
    signal_workers(Signal::SIGCONT);
    let ended = running.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(&manifest).unwrap(), want);
}

/// A replica of `root` in which every file has other content of the same length and time.
fn make_wrong_replica(root: &Path, to: &Path) {
    let copied = output(Command::new("cp").arg("-a").arg(root).arg(to));
    assert!(copied.status.success(), "{}", text(&copied.stderr));
    let script = "find . -type f ! -name .hashcluster-dataset | while read -r file; do \
        printf X | dd of=\"$file\" conv=notrunc status=none; touch -r \"$FROM/$file\" \"$file\"; done";
    let changed = output(Command::new("sh").args(["-c", script]).current_dir(to).env("FROM", root));
    assert!(changed.status.success(), "{}", text(&changed.stderr));
}

#[test]
fn a_host_with_wrong_content_is_found_and_the_manifest_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let (root, wrong) = (dir.path().join("data"), dir.path().join("wrong"));
    make_dataset(&root, "5f0c-2", 3, 300);
    make_wrong_replica(&root, &wrong);
    let broker = Broker::start();
    let _liar = ServingHost::start(dir.path(), "liar", &[broker.port()], &wrong);
    let own = Cluster::start(Options {
        workers: 1,
        datasets: vec![("d", root.clone())],
        ..Options::default()
    });
    let submit = |audit: u32, name: &str| {
        let rest = format!(
            "submit.audit = {audit}\nserve.runtime_dir = {:?}\ndatasets.d = {root:?}\n",
            own.dir()
        );
        let config = configure(dir.path(), "h0", &[broker.port()], &rest);
        let mut submit = bridge("submit", &config);
        submit.arg("--ledger").arg(dir.path().join(name)).arg("d");
        let ended = output(&mut submit);
        assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
        (text(&ended.stdout), text(&ended.stderr))
    };
    let want = manifest_by_sha256sum(&root);
    assert_ne!(submit(0, "trusted").0, want, "its content is wrong");
    let (manifest, said) = submit(1, "audited");
    assert_eq!(manifest, want);
    assert!(said.contains("host liar gave a wrong digest: its results do not count"), "{said}");
    // The ledger knows.
    assert_eq!(submit(1, "audited").0, want);
}

#[test]
fn a_shard_that_fails_on_all_hosts_is_a_dead_letter_with_reasons_and_is_done_when_one_can() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    make_dataset(&root, "5f0c-4", 0, 10);
    let want = manifest_by_sha256sum(&root);
    let broker = Broker::start();
    let ports = [broker.port()];
    let replica = dir.path().join("replica");
    let copied = output(Command::new("cp").arg("-a").arg(&root).arg(&replica));
    assert!(copied.status.success(), "{}", text(&copied.stderr));
    let mut idle = ServingHost::start(dir.path(), "idle", &ports, &root);
    let _bare = ServingHost::start(dir.path(), "bare", &ports, &replica);
    // One has no worker any more, the other one's file system is not mounted.
    idle.cluster.workers[0].kill().unwrap();
    let marker = replica.join(".hashcluster-dataset");
    fs::rename(&marker, dir.path().join("marker")).unwrap();
    let config = configure(dir.path(), "h0", &ports, &format!("datasets.d = {root:?}\n"));
    let mut submit = bridge("submit", &config);
    submit.arg("--ledger").arg(dir.path().join("ledger")).arg("d");
    let running = Running::start(&mut submit, LIMIT);
    let listed = until_within(LIMIT, "a dead letter", || {
        let mut get = Command::new(bin("hashctl"));
        let get = get.args(["get", "dead-shards"]).env("HASHCLUSTER_BRIDGE_CONFIG", &config);
        let listed = output(get);
        assert_eq!(listed.status.code(), Some(0), "{}", text(&listed.stderr));
        let listed = text(&listed.stdout);
        listed.contains(".0.1 ").then_some(listed)
    });
    for part in ["REASONS", " d ", " 11 ", "idle: no worker is ready", "bare: dataset d is not the"]
    {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    let printed = output(bridge("dead", &config).arg("--json"));
    assert_eq!(printed.status.code(), Some(1), "there is one");
    let first = text(&printed.stdout);
    let letter: serde_json::Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!((&letter["attempt"], &letter["dataset"]), (&1.into(), &"d".into()), "{letter}");
    assert_eq!(letter["files"].as_array().unwrap().len(), 11, "{letter}");
    let reasons = letter["reasons"].as_array().unwrap();
    let of = |host: &str| reasons.iter().filter(|note| note["host"] == host).count();
    assert_eq!((of("idle"), of("bare"), reasons.len()), (1, 1, 2), "{letter}");
    // A letter is for people; the job goes on.
    fs::rename(dir.path().join("marker"), &marker).unwrap();
    let ended = running.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, want);
}
