//! Messages by whoever has a broker's credentials: each has a limit, is counted, and is taken away once.

use hashcluster_bridge::serve::{ServeAction, ServeEvent, ServeLimits, ServeRole};
use hashcluster_bridge::shard::{
    Base64Bytes, DatasetKey, JobKey, SHARD_FILES_MAX, Shard, ShardAnswer, ShardDigest, ShardFile,
    ShardKey, ShardOutcome,
};
use hashcluster_bridge::submit::{
    JobPlan, LedgerRecord, LedgerState, ShardSize, SubmitAction, SubmitEvent, SubmitLimits,
    SubmitRole,
};
use hashcluster_bridge::transport::{
    BODY_LEN_MAX, BrokerCommand, BrokerEvent, BrokerQueue, DeliveryTag,
};
use ipc_proto::Algorithm;
use ipc_proto::limits::PATH_LEN_MAX;
use ipc_proto::message::Failure;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;
use test_kit::{Broker, DEADLINE, Random, Running, program, until};

const NOW: Duration = Duration::from_secs(1);

fn dataset() -> DatasetKey {
    DatasetKey::new("d", "1").unwrap()
}

fn key(shard: u32) -> ShardKey {
    ShardKey { job: JobKey(7), shard, attempt: 1 }
}

fn shard(number: u32) -> Shard {
    let file = |path: &[u8]| ShardFile { path: Base64Bytes(path.to_vec()), size: 9, mtime_ns: -1 };
    let files = vec![file(b"a"), file(b"sub/\xff\n"), file(b"sub/c")];
    Shard { key: key(number), dataset: dataset(), algorithm: Algorithm::Sha256, files }
}

fn answer(key: ShardKey, digests_len: usize, failed: &[u32]) -> ShardAnswer {
    let failures = failed.iter().map(|&at| (at, Failure::Changed)).collect();
    let outcome = ShardOutcome::Hashed { digests: vec![3; digests_len], failures };
    let of = ShardDigest::of(&Shard { key, ..shard(0) }.encode());
    ShardAnswer { key, of, host: "h".to_owned(), outcome }
}

/// `body` with some of its bytes changed, removed, repeated, or replaced by numbers beyond any limit.
fn mutated(random: &mut Random, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    for _ in 0..=random.index(4) {
        let at = random.index(body.len().max(1)).min(body.len());
        let end = (at + random.index(12)).min(body.len());
        match random.below(6) {
            0 => body.truncate(at),
            1 => drop(body.drain(at..end)),
            2 => {
                let part = body[at..end].to_vec();
                body.splice(at..at, part);
            }
            3 => drop(body.splice(at..end, random.one_of(&WORDS).bytes())),
            _ => {
                if let Some(byte) = body.get_mut(at) {
                    *byte = random.byte();
                }
            }
        }
    }
    body
}

/// Pieces of messages that lead somewhere.
const WORDS: [&str; 12] = [
    "Li4vYQ==", // ../a
    "L2V0Yw==", // /etc
    "YQBi",     // a, NUL, b
    "18446744073709551616",
    "-1",
    "4294967296",
    "\"version\":8,",
    "null",
    "[[[[[[[[",
    "\\u0000",
    "blake3",
    ".0.0",
];

fn is_inside(path: &[u8]) -> bool {
    let is_plain = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
    path.len() <= PATH_LEN_MAX && !path.contains(&0) && path.split(|&b| b == b'/').all(is_plain)
}

#[test]
fn whatever_is_decoded_keeps_the_limits_and_travels_again() {
    let mut random = Random::from_entropy();
    let (shards, answers) = (shard(1).encode(), answer(key(1), 64, &[1]).encode());
    let (mut decoded, mut refused) = (0, 0);
    for _ in 0..20_000 {
        match Shard::decode(&mutated(&mut random, &shards)) {
            Ok(shard) => {
                decoded += 1;
                assert!((1..=SHARD_FILES_MAX).contains(&shard.files.len()));
                assert!(shard.files.iter().all(|file| is_inside(&file.path.0)), "{shard:?}");
                assert_eq!(Shard::decode(&shard.encode()).unwrap(), shard);
            }
            Err(_) => refused += 1,
        }
        match ShardAnswer::decode(&mutated(&mut random, &answers)) {
            Ok(answer) => {
                decoded += 1;
                assert_eq!(ShardAnswer::decode(&answer.encode()).unwrap(), answer);
                if answer.fits(3, Algorithm::Sha256) {
                    assert_eq!(answer.outcomes(3, Algorithm::Sha256).len(), 3);
                }
            }
            Err(_) => refused += 1,
        }
    }
    assert!(decoded > 100 && refused > 100, "{decoded} decoded, {refused} refused");
}

fn delivered(queue: BrokerQueue, tag: u64, body: Vec<u8>) -> BrokerEvent {
    BrokerEvent::Delivered { queue, tag: DeliveryTag(tag), delivery: 1, body }
}

#[test]
fn a_host_answers_each_hostile_shard_once_and_holds_no_more_than_it_may() {
    let mut random = Random::from_entropy();
    let mut role = ServeRole::new("h", &[dataset()], ServeLimits { shards: 4 });
    role.step(NOW, ServeEvent::Tick);
    for tag in 0..20_000 {
        let good = shard(u32::try_from(random.below(9)).unwrap()).encode();
        let body = if random.chance(10) { random.bytes(50) } else { mutated(&mut random, &good) };
        let is_ours = Shard::decode(&body).is_ok_and(|shard| shard.dataset == dataset());
        let invalid = role.counts().invalid;
        let event = delivered(BrokerQueue::Shards(dataset()), tag, body);
        let actions = role.step(NOW, ServeEvent::Broker(event));
        assert!(role.held_len() <= 4);
        let ack = ServeAction::Send(BrokerCommand::Ack(DeliveryTag(tag)));
        let acks = actions.iter().filter(|&action| *action == ack).count();
        let is_work = |action: &&ServeAction| matches!(action, ServeAction::Work(_));
        let works = actions.iter().filter(is_work).count();
        if is_ours {
            assert_eq!((acks, role.counts().invalid), (0, invalid));
            assert!(works <= 1);
        } else {
            assert_eq!((acks, works, role.counts().invalid), (1, 0, invalid + 1));
        }
    }
    assert_eq!(role.held_len(), 4, "some were good enough to be tried");
}

#[test]
fn a_job_takes_no_result_but_that_of_its_current_attempt_that_fits() {
    let size = ShardSize::of(&shard(0).files);
    let plan = JobPlan {
        job: JobKey(7),
        dataset: dataset(),
        starts: vec![],
        algorithm: Algorithm::Sha256,
        shards: vec![size; 2],
    };
    let mut role = SubmitRole::new(plan, SubmitLimits::default(), LedgerState::default());
    for action in role.step(NOW, SubmitEvent::Tick) {
        if let SubmitAction::Publish(key) = action {
            role.publication(key, shard(0).files);
        }
    }
    let mut take = |tag: u64, body: Vec<u8>| {
        let event = delivered(BrokerQueue::Results(JobKey(7)), tag, body);
        let actions = role.step(NOW, SubmitEvent::Broker(event));
        let ack = SubmitAction::Send(BrokerCommand::Ack(DeliveryTag(tag)));
        assert_eq!(actions.iter().filter(|&action| *action == ack).count(), 1, "message {tag}");
        let is_answer =
            |action: &SubmitAction| matches!(action, SubmitAction::Record(LedgerRecord::Answer(_)));
        let counts = role.counts();
        (actions.iter().any(is_answer), counts.invalid, counts.stale)
    };
    let foreign = ShardKey { job: JobKey(8), ..key(0) };
    let (old, coming) = (ShardKey { attempt: 0, ..key(0) }, ShardKey { attempt: 2, ..key(0) });
    let mut huge = answer(key(0), 96, &[]).encode();
    huge.resize(BODY_LEN_MAX + 1, b' ');
    let invalid = [
        vec![0xff; 100],
        b"{}".to_vec(),
        vec![b'['; 100_000],
        huge,
        answer(foreign, 96, &[]).encode(),
        answer(key(2), 96, &[]).encode(),
        answer(key(u32::MAX), 96, &[]).encode(),
        answer(key(0), 95, &[]).encode(),
        answer(key(0), 128, &[]).encode(),
        answer(key(0), 0, &[]).encode(),
        answer(key(0), 32, &[2, 1]).encode(),
        answer(key(0), 32, &[1, 1]).encode(),
        answer(key(0), 64, &[u32::MAX]).encode(),
        ShardAnswer { host: "h\u{1b}[2J".to_owned(), ..answer(key(0), 96, &[]) }.encode(),
    ];
    for (body, number) in invalid.into_iter().zip(1..) {
        assert_eq!(take(number, body), (false, number, 0), "message {number}");
    }
    for (key, number) in [old, coming].into_iter().zip(1..) {
        assert_eq!(take(20 + number, answer(key, 96, &[]).encode()), (false, 14, number));
    }
    assert_eq!(take(30, answer(key(0), 96, &[]).encode()), (true, 14, 2));
    assert_eq!(take(31, answer(key(0), 96, &[]).encode()), (false, 14, 3), "once");
}

/// Publishes `bodies` to `subject` of the broker at `port`, and asks `api` until its answer has `part`.
fn publish(port: u16, subject: &str, bodies: &[Vec<u8>], api: &str, part: &str) {
    let mut broker = TcpStream::connect(("127.0.0.1", port)).unwrap();
    broker.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    broker.write_all(b"CONNECT {\"verbose\":false}\r\nSUB in 1\r\n").unwrap();
    for body in bodies {
        write!(broker, "PUB {subject} {}\r\n", body.len()).unwrap();
        broker.write_all(body).unwrap();
        broker.write_all(b"\r\n").unwrap();
    }
    let mut seen = Vec::new();
    until(part, || {
        write!(broker, "PUB {api} in 0\r\n\r\n").unwrap();
        let mut more = vec![0; 65_536];
        // Nothing yet.
        let len = broker.read(&mut more).unwrap_or(0);
        seen.extend_from_slice(&more[..len]);
        String::from_utf8_lossy(&seen).contains(part).then_some(())
    });
}

#[test]
fn a_real_broker_delivers_a_poisoned_message_once_and_the_host_goes_on() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join(".hashcluster-dataset"), "1\n").unwrap();
    let config = dir.path().join("bridge.toml");
    let text = format!(
        "host = 'h1'\nbroker.servers = ['nats://127.0.0.1:{0}']\n\
         serve.runtime_dir = '{1}'\ndatasets.d = '{1}'\n",
        broker.port(),
        dir.path().display()
    );
    fs::write(&config, text).unwrap();
    let mut serve = Command::new(program("hashcluster-bridge"));
    serve.arg("serve").arg("--config").arg(&config).stdin(Stdio::null());
    let pages = dir.path().join("pages");
    serve.arg("--http").arg(format!("unix:{}", pages.display()));
    let mut serving = Running::start(&mut serve, DEADLINE);
    serving.wait_for("serving d as h1");
    let outside = String::from_utf8(shard(1).encode()).unwrap().replace("\"YQ==\"", "\"Li4vYQ==\"");
    let bodies = [
        b"garbage".to_vec(),
        vec![],
        outside.into_bytes(),
        Shard { dataset: DatasetKey::new("other", "1").unwrap(), ..shard(1) }.encode(),
        vec![b'['; 500_000],
    ];
    let api = "$JS.API.STREAM.INFO.hashcluster-main-shards";
    publish(broker.port(), "hashcluster.main.shards.d.1", &bodies, api, "\"last_seq\":5");
    publish(broker.port(), "none", &[], api, "\"messages\":0");
    let invalid = "hashcluster_bridge_shards_total{outcome=\"invalid\"} 5";
    until(invalid, || {
        let mut page = std::os::unix::net::UnixStream::connect(&pages).unwrap();
        page.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        page.read_to_string(&mut text).unwrap();
        text.contains(invalid).then_some(())
    });
    assert!(serving.is_running(), "{}", serving.stderr());
}
