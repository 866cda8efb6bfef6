use crate::fake::{DESCRIPTORS, Fake};
use crate::program::{hashctl, run};
use ipc_proto::Algorithm;
use ipc_proto::message::{
    Backend, ClientReply, ClientRequest, Counters, DrainOutcome, DrainStatus, JobId, JobStatus,
    JournalState, LimitStatus, QuarantineStatus, ReleaseOutcome, SandboxLayers, Status,
    WorkerHealth, WorkerStatus,
};
use serde_json::Value;
use std::collections::BTreeMap;
use tempfile::tempdir;

fn picture() -> Status {
    let backend =
        Backend { algorithm: Algorithm::Blake3, backend: "portable".to_owned(), interleave_max: 1 };
    Status {
        software: "9.8.7".to_owned(),
        journal: JournalState::ReadOnly,
        journal_reason: "re-mounted\n it".to_owned(),
        pid: 42,
        uptime_ms: 61_000,
        sandbox: SandboxLayers::FULL,
        workers: vec![WorkerStatus {
            name: "w0".to_owned(),
            health: WorkerHealth::Quarantined,
            threads: 2,
            backends: vec![backend],
            credits: 3,
            leases: 4,
            items_per_s: 5,
            bytes_per_s: 6 << 20,
            leases_lost: 7,
            reading: "io_\nuring".to_owned(),
            sandbox: SandboxLayers(0b111_1110),
            ..WorkerStatus::default()
        }],
        jobs: vec![JobStatus {
            id: JobId { epoch: 10, number: 11 },
            uid: 12,
            pid: 13,
            algorithms: Algorithm::Sha512.into(),
            age_ms: 14_000,
            items: 15,
            resolved: 16,
            failed: 17,
            leases: 18,
            finished: true,
            bytes: 19,
            durable: None,
        }],
        limits: LimitStatus { items_max: 65_536, bytes_max: 64 << 20, ..LimitStatus::default() },
        counters: Counters { answers_fenced: 19, ..Counters::default() },
        quarantined: vec![QuarantineStatus {
            worker: "w0".to_owned(),
            reason: "it\n\u{202e}lied".to_owned(),
            age_ms: 20_000,
            connected: true,
        }],
        quarantined_unlisted: 21,
        drained: vec![DrainStatus {
            worker: "w\n9".to_owned(),
            by: "uid 7".to_owned(),
            age_ms: 22_000,
            left_ms: 23_000,
            connected: false,
        }],
        drained_unlisted: 24,
        ..Status::default()
    }
}

fn fake() -> Fake<()> {
    Fake::start(|peer| {
        peer.welcome(DESCRIPTORS);
        assert!(matches!(peer.next(), Some((ClientRequest::Status, _))));
        peer.send(&ClientReply::Status(Box::new(picture())));
    })
}

#[test]
fn status_shows_workers_jobs_and_limits() {
    let fake = fake();
    let ours = run(hashctl(fake.socket()).arg("status"));
    let text = ours.out();
    assert_eq!((ours.code, &*ours.stderr), (0, ""));
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = text.lines().map(words).collect();
    let has = |line: &str| assert!(lines.contains(&words(line)), "{line}\nis not in\n{text}");
    has("controller 9.8.7, pid 42, up 1 min 1 s, sandbox full");
    has("WORKER HEALTH BACKEND READING SANDBOX THREADS CREDITS IN FLIGHT ITEMS/S BYTES/S LOST");
    has("w0 quarantined portable io_ uring without namespaces 2 3 4 5 6.0 MiB 7");
    assert!(
        text.contains("\nw0      quarantined  portable  io_ uring  without namespaces        2"),
        "{text}"
    );
    has("w0 20 s yes it  lied");
    has("w 9 22 s no uid 7");
    has("and 24 more drained workers");
    has("journal: read-only: re-mounted  it");
    has("and 21 more workers in quarantine");
    has("10-11 12 13 sha512 14 s 15 16 17 18");
    assert!(text.contains("0 of 65536 items") && text.contains("of 64.0 MiB inline"), "{text}");
    assert!(text.contains("19 stale answers"), "{text}");
}

#[test]
fn the_keys_of_json_are_a_promise() {
    let fake = fake();
    let ours = run(hashctl(fake.socket()).args(["status", "--json"]));
    assert_eq!(ours.out().lines().count(), 1);
    let json: Value = serde_json::from_slice(&ours.stdout).unwrap();
    let keys =
        |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        keys(&json),
        "controller counters drained drained_unlisted jobs jobs_unlisted journal limits quarantined \
         quarantined_unlisted version workers workers_unlisted"
    );
    assert_eq!(keys(&json["journal"]), "reason state");
    assert_eq!(json["journal"]["state"], "read-only");
    assert_eq!(keys(&json["controller"]), "image pid sandbox uptime_ms version");
    assert_eq!(
        keys(&json["workers"][0]),
        "attempts_lost backends bytes bytes_per_s cpu credits health host image in_flight items \
         items_per_s lanes name pid reading sandbox speeds threads uptime_ms version"
    );
    assert_eq!(
        keys(&json["jobs"][0]),
        "age_ms algorithms bytes durable failed finished id in_flight items pid resolved uid"
    );
    assert_eq!(keys(&json["quarantined"][0]), "age_ms connected reason worker");
    assert_eq!(keys(&json["drained"][0]), "age_ms by connected left_ms worker");
    assert_eq!(json["quarantined"][0]["reason"], "it\n\u{202e}lied");
    assert_eq!(
        keys(&json["limits"]),
        "bytes bytes_max clients clients_max items items_max jobs_max workers_max"
    );
    assert_eq!(
        keys(&json["counters"]),
        "answers_stale attempts_lost bytes items items_checked items_contradicted items_failed jobs jobs_cancelled leases \
         peers_faulty peers_refused workers_quarantined"
    );
    assert_eq!(json["workers"][0]["backends"]["blake3"], "portable");
    assert_eq!(json["workers"][0]["health"], "quarantined");
    assert_eq!(json["workers"][0]["in_flight"], 4);
    assert_eq!(json["workers"][0]["sandbox"]["missing"].to_string(), "[\"namespaces\"]");
    assert_eq!(json["controller"]["sandbox"]["missing"].to_string(), "[]");
}

/// Adds the type of each key in `value`, by its path from `at`.
fn types(value: &Value, at: &str, found: &mut BTreeMap<String, &'static str>) {
    let below = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    let kind = match value {
        Value::Object(object) => {
            // Keys of these are names of algorithms.
            let is_map = at.ends_with("backends") || at.ends_with("lanes");
            object.iter().filter(|_| !is_map).for_each(|(key, value)| {
                types(value, &below(key), found);
            });
            "object"
        }
        Value::Array(array) => {
            array
                .iter()
                .filter(|v| v.is_object())
                .for_each(|v| types(v, &format!("{at}[]"), found));
            "array"
        }
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "boolean",
        Value::Null => panic!("{at} is null"),
    };
    if !at.is_empty() && !at.ends_with("[]") {
        found.insert(at.to_owned(), kind);
    }
}

#[test]
fn every_key_of_the_status_is_documented_with_its_type() {
    let mut found = BTreeMap::new();
    types(&overview::status_json(&picture()), "", &mut found);
    let text = include_str!("../../../docs/json.md");
    let (_, section) = text.split_once("\n## Status of a cluster\n").expect("a section");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeMap<String, &str> = rows
        .flat_map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let keys = cells[1].split(", ").map(|key| key.trim_matches('`').to_owned());
            keys.map(|key| (key, cells[2])).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(found, documented);
}

#[test]
fn ready_asks_the_controller_and_sets_the_exit_status() {
    for (ready, code, stderr) in
        [(3, 0, ""), (1, 1, "hashctl: 1 of 3 workers are ready after 7 s\n")]
    {
        let fake = Fake::start(move |peer| {
            peer.welcome(DESCRIPTORS);
            let asked = peer.next().map(|(request, _)| request);
            // The time until the connection stood is part of it.
            let Some(ClientRequest::WaitReady { workers: 3, timeout_ms: 1..=7000 }) = asked else {
                panic!("{asked:?}")
            };
            peer.send(&ClientReply::Ready { workers: ready, enough: ready >= 3 });
        });
        let args = ["status", "--ready", "3", "--timeout-s", "7"];
        let ours = run(hashctl(fake.socket()).args(args));
        assert_eq!((ours.code, &*ours.stderr, &*ours.out()), (code, stderr, ""));
    }
}

#[test]
fn drain_and_undrain_print_their_outcome() {
    let forbidden =
        "hashctl: you may not drain 'w 1', nor undrain it; see the controller's --policy\n";
    let unknown = "hashctl: no worker 'w 1' is connected; see hashctl status\n";
    let many = "hashctl: 'w 1' is not drained: too many workers are; undrain others first\n";
    let passed = "'w 1' is drained; 2 batches went to others at the deadline\n";
    let drain =
        |deadline_ms| ClientRequest::Drain { worker: "w 1".to_owned(), deadline_ms, lasts: true };
    let undrain = ClientRequest::Undrain { worker: "w 1".to_owned() };
    for (args, request, outcome, want) in [
        (
            &["drain"][..],
            drain(30_000),
            DrainOutcome::Drained { passed_on: 0 },
            (0, "'w 1' is drained\n", ""),
        ),
        (
            &["drain", "--deadline", "2m"],
            drain(120_000),
            DrainOutcome::Drained { passed_on: 2 },
            (0, passed, ""),
        ),
        (&["drain", "--deadline=0"], drain(0), DrainOutcome::Unknown, (1, "", unknown)),
        (&["drain"], drain(30_000), DrainOutcome::TooMany, (1, "", many)),
        (&["drain"], drain(30_000), DrainOutcome::Forbidden, (1, "", forbidden)),
        (
            &["undrain"],
            undrain.clone(),
            DrainOutcome::Undrained,
            (0, "'w 1' is given work again\n", ""),
        ),
        (
            &["undrain"],
            undrain,
            DrainOutcome::NotDraining,
            (1, "", "hashctl: 'w 1' is not drained; see hashctl status\n"),
        ),
    ] {
        let fake = Fake::start(move |peer| {
            peer.welcome(DESCRIPTORS);
            assert_eq!(peer.next().map(|(asked, _)| asked), Some(request.clone()));
            peer.send(&ClientReply::Drained { worker: "w 1".to_owned(), outcome });
        });
        let ours = run(hashctl(fake.socket()).args(args).arg("w 1"));
        assert_eq!((ours.code, &*ours.out(), &*ours.stderr), want, "{args:?}, {outcome:?}");
    }
    for time in ["", "s", "-1", "1.5s", "25h", "1d", "99999999999999999999h"] {
        let deadline = format!("--deadline={time}");
        let ours = run(hashctl(std::path::Path::new("/nowhere")).args(["drain", &deadline, "w"]));
        assert_eq!(ours.code, 2, "{time}: {}", ours.stderr);
    }
}

#[test]
fn release_prints_its_outcome() {
    let forbidden = "hashctl: you may not release 'w 1'; see the controller's --policy\n";
    let unknown = "hashctl: 'w 1' is not in quarantine; see hashctl status\n";
    for (outcome, want) in [
        (ReleaseOutcome::Released, (0, "'w 1' is released\n", "")),
        (ReleaseOutcome::NotQuarantined, (1, "", unknown)),
        (ReleaseOutcome::Forbidden, (1, "", forbidden)),
    ] {
        let fake = Fake::start(move |peer| {
            peer.welcome(DESCRIPTORS);
            let asked = peer.next().map(|(request, _)| request);
            assert_eq!(asked, Some(ClientRequest::Release { worker: "w 1".to_owned() }));
            peer.send(&ClientReply::Released { worker: "w 1".to_owned(), outcome });
        });
        let ours = run(hashctl(fake.socket()).args(["release", "w 1"]));
        assert_eq!((ours.code, &*ours.out(), &*ours.stderr), want, "{outcome:?}");
    }
    for name in [String::new(), "x".repeat(65)] {
        let ours = run(hashctl(std::path::Path::new("/nowhere")).args(["release", &name]));
        assert_eq!(ours.code, 2, "{}", ours.stderr);
        assert!(ours.stderr.contains("a worker's name has 1 to 64"), "{}", ours.stderr);
    }
}

#[test]
fn a_controller_that_leaves_without_an_answer_is_lost() {
    let fake = Fake::start(|peer| {
        peer.welcome(DESCRIPTORS);
        assert!(peer.next().is_some());
    });
    let ours = run(hashctl(fake.socket()).arg("status"));
    let socket = fake.socket().display();
    let want = format!("hashctl: lost the controller at {socket}: the connection was closed\n");
    assert_eq!((ours.code, ours.stderr), (3, want));
}

#[test]
fn version_is_ours_and_the_controllers_if_it_runs() {
    let ours_version = env!("CARGO_PKG_VERSION");
    let fake = Fake::start(|peer| peer.welcome(DESCRIPTORS));
    let ours = run(hashctl(fake.socket()).arg("version"));
    let socket = fake.socket().display();
    let want = format!("hashctl {ours_version}\ncontroller 9.8.7 at {socket}, protocol 7\n");
    assert_eq!((ours.out(), ours.code), (want, 0));

    let fake = Fake::start(|peer| peer.welcome_from("sha256:00ff", DESCRIPTORS));
    let ours = run(hashctl(fake.socket()).arg("version"));
    assert!(ours.out().ends_with(", protocol 7, image sha256:00ff\n"), "{}", ours.out());

    let dir = tempdir().unwrap();
    let socket = dir.path().join("client.sock");
    let ours = run(hashctl(&socket).arg("version"));
    let want = format!(
        "hashctl {ours_version}\ncontroller not reached at {} (No such file or directory)\n",
        socket.display()
    );
    assert_eq!((ours.out(), ours.code, &*ours.stderr), (want, 0, ""));
}
