//! Hosts and brokers on machines of their own: network namespaces around a bridge, with TLS between them, and for each host a
//! replica of the dataset that only its processes see.
//!
//! Needs root, and `ip` and `tc` of iproute2; without them the test fails.

use super::{LIMIT, ServingHost, bridge_of, configure_for, make_dataset, manifest_by_sha256sum};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Instant;
use test_kit::{
    Broker, BrokerPlace, Random, Running, bin, broker_cluster_at, output, text, until_within,
};

/// The names of all our namespaces start with this and the id of the process that made them.
const PREFIX: &str = "hashcluster-test-";

/// The port of each broker, and the one for the others.
const PORTS: (u16, u16) = (4222, 6222);

#[track_caller]
fn ip(args: &str) {
    let done = Command::new("ip").args(args.split(' ')).output();
    let done = done.unwrap_or_else(|error| panic!("ip of iproute2: {error}"));
    let said = text(&done.stderr);
    assert!(done.status.success(), "networks need root: ip {args}: {said}");
}

/// A machine in a network: its namespace, and the end of its cable in the switch.
#[derive(Debug)]
struct Machine {
    namespace: String,
    cable: String,
    address: String,
}

/// A switch with machines; gone with this.
#[derive(Debug)]
struct TestNetwork {
    switch: String,
    machines: Vec<Machine>,
}

impl TestNetwork {
    /// The first three machines are for hosts, the others for brokers.
    fn of_six() -> Self {
        remove_leftovers();
        let own = process::id();
        let switch = format!("{PREFIX}{own}-switch");
        // Whatever there is already is removed if a later step fails.
        let mut network = Self { switch, machines: Vec::new() };
        let switch = network.switch.clone();
        ip(&format!("netns add {switch}"));
        ip(&format!("-n {switch} link add switch type bridge"));
        ip(&format!("-n {switch} link set switch up"));
        for number in 1..=6 {
            let namespace = format!("{PREFIX}{own}-{number}");
            let (cable, address) = (format!("m{number}"), format!("10.0.0.{number}"));
            ip(&format!("netns add {namespace}"));
            let inside = format!("-n {namespace}");
            network.machines.push(Machine { namespace, cable: cable.clone(), address });
            ip(&format!("-n {switch} link add {cable} type veth peer name eth0"));
            ip(&format!(
                "-n {switch} link set eth0 netns {}",
                network.machines[number - 1].namespace
            ));
            ip(&format!("-n {switch} link set {cable} master switch up"));
            ip(&format!("{inside} addr add 10.0.0.{number}/24 dev eth0"));
            ip(&format!("{inside} link set eth0 up"));
            ip(&format!("{inside} link set lo up"));
        }
        network
    }

    /// Plugs a machine's cable in or out.
    fn plug(&self, machine: usize, is_in: bool) {
        let (switch, cable) = (&self.switch, &self.machines[machine].cable);
        ip(&format!("-n {switch} link set {cable} {}", if is_in { "up" } else { "down" }));
    }

    /// Cuts one machine off from another, or lets it through again.
    fn block(&self, machine: usize, other: usize, is_blocked: bool) {
        let (inside, address) = (&self.machines[machine].namespace, &self.machines[other].address);
        let change = if is_blocked { "add" } else { "del" };
        ip(&format!("-n {inside} route {change} blackhole {address}/32"));
    }

    /// Has a machine's cable carry no more than 256 kbit/s to it.
    fn slow_down(&self, machine: usize) {
        let args = ["-n", &self.switch, "qdisc", "add", "dev", &self.machines[machine].cable];
        let rate = ["root", "tbf", "rate", "256kbit", "burst", "16kb", "latency", "400ms"];
        let done = output(Command::new("tc").args(args).args(rate));
        assert!(done.status.success(), "tc of iproute2: {}", text(&done.stderr));
    }
}

impl Drop for TestNetwork {
    fn drop(&mut self) {
        let machines = self.machines.iter().map(|machine| &machine.namespace);
        for namespace in machines.chain([&self.switch]) {
            // After a step that failed some may be missing.
            let _ = Command::new("ip").args(["netns", "del", namespace]).output();
        }
    }
}

/// Removes the namespaces of tests that were killed.
fn remove_leftovers() {
    let listed = Command::new("ip").args(["netns", "list"]).output();
    let listed = listed.unwrap_or_else(|error| panic!("ip of iproute2: {error}"));
    for line in text(&listed.stdout).lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            // Another test may be faster.
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// Programs that run on a machine and see the directory `view` at `root`.
fn programs_on(dir: &Path, machine: &Machine, view: &Path, root: &Path) -> PathBuf {
    let programs = dir.join(format!("bin-{}", machine.cable));
    fs::create_dir(&programs).unwrap();
    for name in ["hashcluster-controller", "hashcluster-worker", "hashcluster-bridge", "hashctl"] {
        let script = format!(
            "#!/bin/sh\nexec ip netns exec {} sh -c 'mount --bind \"$0\" \"$1\" && shift && exec \"$@\"' \
             {view:?} {root:?} {:?} \"$@\"\n",
            machine.namespace,
            bin(name),
        );
        fs::write(programs.join(name), script).unwrap();
        fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    programs
}

/// Options of brokers with TLS for their addresses, which know the owner of the key alone; and of hosts with that key.
fn secure(dir: &Path, addresses: &[&str]) -> (Vec<String>, String) {
    let path = |name: &str| dir.join(name).display().to_string();
    let (cert, key, seed) = (path("cert.pem"), path("key.pem"), path("host.nk"));
    let names: Vec<String> = addresses.iter().map(|address| format!("IP:{address}")).collect();
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.args(["-nodes", "-days", "2", "-subj", "/CN=brokers", "-addext"]);
    openssl.args([&format!("subjectAltName={}", names.join(",")), "-addext"]);
    openssl.args(["basicConstraints=critical,CA:FALSE", "-keyout", &key, "-out", &cert]);
    let made = output(&mut openssl);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let made = output(Command::new(bin("hashcluster-bridge")).args(["key", &seed]));
    assert!(made.status.success(), "{}", text(&made.stderr));
    let users = format!("{{ users: [ {{ nkey: {} }} ] }}", text(&made.stdout).trim());
    let config = path("server.conf");
    let tls = format!("{{ cert_file: {cert:?}, key_file: {key:?} }}");
    fs::write(&config, format!("tls {tls}\nauthorization {users}\n")).unwrap();
    let host = format!("broker.ca = {cert:?}\nbroker.nkey = {seed:?}\nbroker.replicas = 3\n");
    (vec!["-c".to_owned(), config], host)
}

/// The number of times that a broker has lost the others.
fn times_alone(broker: &Broker) -> usize {
    broker.log().matches("no metadata leader").count()
}

/// Sends a signal to the bridges of hosts: while they stand still, no shard is taken.
fn signal_bridges(hosts: &[ServingHost], signal: Signal) {
    hosts.iter().for_each(|host| host.bridge.as_ref().unwrap().signal(signal));
}

#[test]
#[expect(clippy::print_stdout, reason = "how far it got belongs to a test that fails")]
fn three_hosts_in_networks_of_their_own_lose_nothing_while_links_are_cut_and_everything_is_killed()
{
    let started = Instant::now();
    let mut random = Random::from_entropy();
    let network = TestNetwork::of_six();
    let (machines, dir) = (&network.machines, tempfile::tempdir().unwrap());
    let original = dir.path().join("original");
    make_dataset(&original, "5f0c-3", 100, 1000);
    let want = manifest_by_sha256sum(&original);
    // Nobody but a host's own processes sees anything there.
    let root = dir.path().join("data");
    fs::create_dir(&root).unwrap();
    let addresses: Vec<&str> = machines[3..].iter().map(|m| &*m.address).collect();
    let (options, security) = secure(dir.path(), &addresses);
    let mut brokers = broker_cluster_at(
        [3, 4, 5].map(|at: usize| BrokerPlace {
            wrapper: ["ip", "netns", "exec", &machines[at].namespace].map(str::to_owned).to_vec(),
            address: machines[at].address.clone(),
            port: PORTS.0,
        }),
        [PORTS.1; 3],
        &options,
    );
    let servers: Vec<String> =
        addresses.iter().map(|address| format!("tls://{address}:{}", PORTS.0)).collect();
    let configure = |name: &str, rest: &str| {
        configure_for(dir.path(), name, &servers, &format!("{security}{rest}"))
    };
    let programs = [0, 1, 2].map(|at: usize| {
        let view = dir.path().join(format!("view{at}"));
        let copied = output(Command::new("cp").arg("-a").arg(&original).arg(&view));
        assert!(copied.status.success(), "{}", text(&copied.stderr));
        programs_on(dir.path(), &machines[at], &view, &root)
    });
    // Each step takes few shards, however fast the programs are, so that the job outlasts all of them.
    let submit_config =
        configure("h0", &format!("datasets.d = {root:?}\nsubmit.outstanding = 4\n"));
    let program = programs[0].join("hashcluster-bridge");
    until_within(LIMIT, "the brokers have a leader", || {
        let listed = output(&mut bridge_of(&program, "hosts", &submit_config));
        listed.status.success().then_some(())
    });
    let mut hosts = [0, 1, 2].map(|at: usize| {
        let mut host = ServingHost::prepare(Some(programs[at].clone()), &root, |rest| {
            configure(&format!("h{}", at + 1), rest)
        });
        host.restart_service();
        host
    });
    let (manifest, ledger) = (dir.path().join("manifest"), dir.path().join("ledger"));
    let submit = || {
        let mut submit = bridge_of(&program, "submit", &submit_config);
        submit.arg("--ledger").arg(&ledger).arg("-o").arg(&manifest).arg("d");
        Running::start(&mut submit, LIMIT)
    };
    let mut running = submit();
    let answers =
        || fs::read_to_string(&ledger).unwrap_or_default().matches("{\"answer\":").count();
    // Has the bridges work until there are some more results.
    let advance = |hosts: &[ServingHost], when: &str| {
        let before = answers();
        signal_bridges(hosts, Signal::SIGCONT);
        until_within(LIMIT, when, || (answers() >= before + 2).then_some(()));
        signal_bridges(hosts, Signal::SIGSTOP);
        println!("{:?}: {} results {when}", started.elapsed(), answers());
    };
    network.slow_down(2);
    advance(&hosts, "with a slow host");
    network.plug(1, false);
    advance(&hosts, "while a host has no network");
    hosts[1].bridge.as_ref().unwrap().signal(Signal::SIGCONT);
    hosts[1].bridge.as_mut().unwrap().wait_for("broker: disconnected");
    network.plug(1, true);
    // One broker has no word of the others; every host has one of it.
    let alone = random.index(3);
    let others = [0, 1, 2].into_iter().filter(|&other| other != alone);
    others.clone().for_each(|other| network.block(3 + alone, 3 + other, true));
    let (before, lost) = (answers(), times_alone(&brokers[alone]));
    signal_bridges(&hosts, Signal::SIGCONT);
    until_within(LIMIT, "a broker is alone", || {
        // Something may be done meanwhile, and not all.
        if answers() >= before + 2 {
            signal_bridges(&hosts, Signal::SIGSTOP);
        }
        (times_alone(&brokers[alone]) > lost).then_some(())
    });
    println!("{:?}: {} results, broker {alone} is alone", started.elapsed(), answers());
    others.for_each(|other| network.block(3 + alone, 3 + other, false));
    advance(&hosts, "after a broker was alone");
    brokers[random.index(3)].crash();
    advance(&hosts, "after a broker was killed");
    // Brokers may still elect a leader, without which a bridge does not start.
    hosts[random.index(3)].restart_service();
    advance(&hosts, "after a bridge was killed");
    let cluster = &mut hosts[random.index(3)].cluster;
    cluster.controller.kill().unwrap();
    cluster.controller.wait().unwrap();
    cluster.restart_controller();
    advance(&hosts, "after a controller was killed");
    hosts[random.index(3)].cluster.replace_worker(0);
    advance(&hosts, "after a worker was killed");
    assert!(running.is_running(), "the job is over before its bridge is killed");
    drop(running);
    signal_bridges(&hosts, Signal::SIGCONT);
    let ended = until_within(LIMIT, "a job that is done", || {
        let ended = submit().end();
        (ended.status.code() != Some(3)).then_some(ended)
    });
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(&manifest).unwrap(), want);
    // Nothing was given up on the way, and everybody is there again.
    let dead = output(&mut bridge_of(&program, "dead", &submit_config));
    assert_eq!((dead.status.code(), text(&dead.stdout)), (Some(0), String::new()));
    until_within(LIMIT, "no host is lost", || {
        let listed = output(&mut bridge_of(&program, "hosts", &submit_config));
        let serving = text(&listed.stdout).matches(" serving ").count();
        (serving == 3 && listed.status.success()).then_some(())
    });
    println!("{:?}: done", started.elapsed());
}
