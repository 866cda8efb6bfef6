use super::*;
use crate::shard::{Base64Bytes, DatasetKey, JobKey};
use ipc_proto::Algorithm;

const SECOND: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_secs(600);

/// The files of a shard.
fn files(shard: u32) -> Vec<ShardFile> {
    let path = Base64Bytes(format!("f{shard}").into_bytes());
    vec![ShardFile { path, size: 1, mtime_ns: 0 }]
}

fn plan(shards: u32) -> JobPlan {
    JobPlan {
        starts: vec![],
        job: JobKey(7),
        dataset: DatasetKey::new("d", "i").unwrap(),
        algorithm: Algorithm::Sha256,
        shards: (0..shards).map(|shard| ShardSize::of(&files(shard))).collect(),
    }
}

fn key(shard: u32, attempt: u32) -> ShardKey {
    ShardKey { job: JobKey(7), shard, attempt }
}

fn role(shards: u32, records: &[LedgerRecord]) -> SubmitRole {
    let limits = SubmitLimits { outstanding: 2, ..Default::default() };
    SubmitRole::new(plan(shards), limits, LedgerState::of(records))
}

/// Takes an event, and publishes what is to be published.
fn step(role: &mut SubmitRole, now: Duration, event: SubmitEvent) -> Vec<SubmitAction> {
    let actions = role.step(now, event);
    for action in &actions {
        if let SubmitAction::Publish(key) = action {
            role.publication(*key, files(key.shard));
        }
    }
    actions
}

fn answer(key: ShardKey, digests_len: usize) -> ShardAnswer {
    answer_of("h", key, vec![9; digests_len])
}

/// An answer of a host to the message of this attempt.
fn answer_of(host: &str, key: ShardKey, digests: Vec<u8>) -> ShardAnswer {
    let of = ShardDigest::of(&plan(9).shard(key, files(key.shard)).encode());
    let outcome = ShardOutcome::Hashed { digests, failures: vec![] };
    ShardAnswer { key, of, host: host.to_owned(), outcome }
}

fn delivered(answer: &ShardAnswer) -> SubmitEvent {
    let (queue, tag) = (BrokerQueue::Results(answer.key.job), DeliveryTag(5));
    let body = answer.encode();
    SubmitEvent::Broker(BrokerEvent::Delivered { queue, tag, delivery: 1, body })
}

fn published(key: ShardKey, stored: bool) -> SubmitEvent {
    SubmitEvent::Broker(BrokerEvent::Published { id: key.to_string(), stored })
}

/// The actions as words.
fn words(actions: &[SubmitAction]) -> Vec<String> {
    let word = |action: &SubmitAction| match action {
        SubmitAction::Record(LedgerRecord::Attempt(key)) => {
            format!("record {}.{}", key.shard, key.attempt)
        }
        SubmitAction::Record(LedgerRecord::Answer(answer)) => {
            format!("accept {}.{}", answer.key.shard, answer.key.attempt)
        }
        SubmitAction::Record(LedgerRecord::Audited(shard)) => format!("audited {shard}"),
        SubmitAction::Record(LedgerRecord::Distrust(host)) => format!("distrust {host}"),
        SubmitAction::Record(LedgerRecord::Finished) => "finished".to_owned(),
        SubmitAction::Audit(key) => format!("hash {}.{}", key.shard, key.attempt),
        SubmitAction::Publish(key) => format!("publish {}.{}", key.shard, key.attempt),
        SubmitAction::Send(BrokerCommand::Pull { .. }) => "pull".to_owned(),
        SubmitAction::Send(BrokerCommand::Ack(_)) => "ack".to_owned(),
        SubmitAction::Send(BrokerCommand::Forget(_)) => "forget".to_owned(),
        SubmitAction::Send(command) => format!("{command:?}"),
        SubmitAction::Finish => "finish".to_owned(),
    };
    actions.iter().map(word).collect()
}

#[track_caller]
fn check(role: &mut SubmitRole, now: Duration, event: SubmitEvent, want: &[&str]) {
    assert_eq!(words(&step(role, now, event)), want, "at {now:?}");
}

#[test]
fn an_attempt_is_recorded_before_it_is_published_and_the_window_is_kept() {
    let mut role = role(3, &[]);
    let want = ["record 0.1", "publish 0.1", "record 1.1", "publish 1.1", "pull"];
    check(&mut role, SECOND, SubmitEvent::Tick, &want);
    check(&mut role, SECOND, published(key(0, 1), true), &[]);
    let done = delivered(&answer(key(0, 1), 32));
    check(&mut role, SECOND, done, &["accept 0.1", "ack", "record 2.1", "publish 2.1"]);
}

#[test]
fn a_result_is_accepted_once_and_only_of_the_current_attempt() {
    let mut role = role(2, &[]);
    step(&mut role, SECOND, SubmitEvent::Tick);
    step(&mut role, SECOND, published(key(0, 1), true));
    step(&mut role, SECOND, published(key(1, 1), true));
    let late = SECOND + AGAIN;
    let again = ["record 0.2", "publish 0.2", "record 1.2", "publish 1.2"];
    check(&mut role, late, SubmitEvent::Tick, &again);
    check(&mut role, late, delivered(&answer(key(0, 1), 32)), &["ack"]);
    check(&mut role, late, delivered(&answer(key(0, 2), 32)), &["accept 0.2", "ack"]);
    check(&mut role, late, delivered(&answer(key(0, 2), 32)), &["ack"]);
    check(&mut role, late, delivered(&answer(key(0, 3), 32)), &["ack"]);
    assert_eq!((role.counts().stale, role.counts().expired), (3, 2));
    check(
        &mut role,
        late,
        delivered(&answer(key(1, 2), 32)),
        &["accept 1.2", "ack", "finished", "forget", "finish"],
    );
    check(&mut role, late, delivered(&answer(key(1, 2), 32)), &["ack"]);
}

#[test]
fn what_is_no_result_of_the_job_is_dropped() {
    let mut role = role(1, &[]);
    step(&mut role, SECOND, SubmitEvent::Tick);
    let other = ShardKey { job: JobKey(8), ..key(0, 1) };
    for answer in
        [answer(other, 32), answer(key(0, 1), 31), answer(key(0, 1), 64), answer(key(8, 1), 32)]
    {
        check(&mut role, SECOND, delivered(&answer), &["ack"]);
    }
    assert_eq!((role.counts().invalid, role.counts().done), (4, 0));
}

#[test]
fn the_time_for_an_attempt_doubles_so_that_no_result_is_fenced_for_ever() {
    let mut role = role(1, &[]);
    step(&mut role, Duration::ZERO, SubmitEvent::Tick);
    let mut now = Duration::ZERO;
    for attempt in 1..=6 {
        step(&mut role, now, published(key(0, attempt), true));
        step(
            &mut role,
            now,
            SubmitEvent::Broker(BrokerEvent::Pulled { queue: BrokerQueue::Results(JobKey(7)) }),
        );
        step(&mut role, now + SECOND, SubmitEvent::Tick);
        let next = role.next_timer().unwrap();
        assert_eq!(next - now, AGAIN * (1 << (attempt - 1)), "attempt {attempt}");
        now = next;
        step(&mut role, now, SubmitEvent::Tick);
    }
}

#[test]
fn a_publication_without_an_answer_is_made_again_as_the_same_attempt() {
    let mut role = role(1, &[]);
    step(&mut role, SECOND, SubmitEvent::Tick);
    check(&mut role, SECOND, published(key(0, 1), false), &[]);
    check(&mut role, SECOND * 2, SubmitEvent::Tick, &["publish 0.1"]);
    check(&mut role, SECOND * 2 + ACK_WAIT, SubmitEvent::Tick, &["publish 0.1"]);
}

#[test]
fn after_a_crash_what_was_out_is_published_as_the_attempt_that_it_was() {
    let records = [
        LedgerRecord::Attempt(key(0, 1)),
        LedgerRecord::Attempt(key(1, 1)),
        LedgerRecord::Answer(answer(key(0, 1), 32)),
        LedgerRecord::Attempt(key(1, 2)),
    ];
    let mut role = role(3, &records);
    let want = ["publish 1.2", "record 2.1", "publish 2.1", "pull"];
    check(&mut role, SECOND, SubmitEvent::Tick, &want);
    check(&mut role, SECOND, delivered(&answer(key(1, 1), 32)), &["ack"]);
    check(&mut role, SECOND, delivered(&answer(key(1, 2), 32)), &["accept 1.2", "ack"]);
}

#[test]
fn no_new_shard_is_published_while_many_wait_for_a_confirmation() {
    let limits = SubmitLimits { outstanding: 1000, ..Default::default() };
    let publications = |actions: &[SubmitAction]| {
        actions.iter().filter(|action| matches!(action, SubmitAction::Publish(_))).count()
    };
    let mut role = SubmitRole::new(plan(500), limits, LedgerState::default());
    assert_eq!(publications(&step(&mut role, SECOND, SubmitEvent::Tick)), UNCONFIRMED_MAX);
    assert_eq!(publications(&step(&mut role, SECOND, published(key(0, 1), false))), 0);
    assert_eq!(publications(&step(&mut role, SECOND, published(key(1, 1), true))), 1);
    // Nor after a crash, and no result is asked for before all that was out is out again.
    let attempts: Vec<_> = (0..100).map(|shard| LedgerRecord::Attempt(key(shard, 1))).collect();
    let mut role = SubmitRole::new(plan(500), limits, LedgerState::of(&attempts));
    let mut actions = step(&mut role, SECOND, SubmitEvent::Tick);
    assert_eq!(actions.len(), UNCONFIRMED_MAX);
    for shard in 0..100 {
        assert!(!words(&actions).contains(&"pull".to_owned()), "shard {shard}");
        actions = step(&mut role, SECOND, published(key(shard, 1), true));
        if role.outstanding() == 100 {
            break;
        }
    }
    assert_eq!(words(&actions), ["publish 99.1", "pull"]);
}

#[test]
fn dead_letters_are_tried_again_and_the_third_is_final() {
    let mut role = role(1, &[]);
    step(&mut role, SECOND, SubmitEvent::Tick);
    let dead = |attempt| {
        let outcome = ShardOutcome::Dead;
        delivered(&ShardAnswer { outcome, ..answer(key(0, attempt), 0) })
    };
    check(&mut role, SECOND, dead(1), &["record 0.2", "publish 0.2", "ack"]);
    check(&mut role, SECOND, dead(2), &["record 0.3", "publish 0.3", "ack"]);
    check(&mut role, SECOND, dead(3), &["accept 0.3", "ack", "finished", "forget", "finish"]);
}

#[test]
fn a_job_without_files_is_done() {
    check(&mut role(0, &[]), SECOND, SubmitEvent::Tick, &["finished", "forget", "finish"]);
}

/// A role that compares every result with this host's own.
fn auditor(shards: u32, records: &[LedgerRecord]) -> SubmitRole {
    let audit = AuditShare { share: 1.0, secret: 5 };
    let limits = SubmitLimits { outstanding: 9, audit, ..Default::default() };
    SubmitRole::new(plan(shards), limits, LedgerState::of(records))
}

/// This host's own digests of a shard, which differ from those of a host that lies.
fn own(role: &SubmitRole, shard: u32) -> SubmitEvent {
    let ours = answer_of("own", key(shard, role.states[shard as usize].attempt), vec![9; 32]);
    let agrees = role.record.answers.get(&shard).is_none_or(|theirs| {
        let digests = vec![if &*theirs.host == "liar" { 8 } else { 9 }; 32];
        role.agree(&ours, &answer_of(&theirs.host, key(shard, theirs.attempt), digests))
    });
    SubmitEvent::Audited { shard, local: Some((ours, agrees)) }
}

#[test]
fn a_host_that_lies_is_found_and_nothing_of_it_counts() {
    let mut role = auditor(3, &[]);
    step(&mut role, SECOND, SubmitEvent::Tick);
    let lie = |shard| delivered(&answer_of("liar", key(shard, 1), vec![8; 32]));
    check(&mut role, SECOND, lie(0), &["accept 0.1", "ack", "hash 0.1"]);
    check(&mut role, SECOND, lie(1), &["accept 1.1", "ack"]);
    check(&mut role, SECOND, delivered(&answer(key(2, 1), 32)), &["accept 2.1", "ack"]);
    assert_eq!(role.counts().done, 3);
    let event = own(&role, 0);
    let want =
        ["distrust liar", "accept 0.1", "audited 0", "record 1.2", "publish 1.2", "hash 2.1"];
    check(&mut role, SECOND, event, &want);
    let event = own(&role, 2);
    check(&mut role, SECOND, event, &["audited 2"]);
    // Whoever is not trusted gets three tries, and then it is this host's own work.
    for attempt in 2..4 {
        let late = delivered(&answer_of("liar", key(1, attempt), vec![8; 32]));
        let next = attempt + 1;
        let want = [format!("record 1.{next}"), format!("publish 1.{next}"), "ack".to_owned()];
        assert_eq!(words(&step(&mut role, SECOND, late)), want);
    }
    let last = delivered(&answer_of("liar", key(1, 4), vec![8; 32]));
    check(&mut role, SECOND, last, &["ack", "hash 1.4"]);
    // What it cannot hash itself goes to the others again.
    let cannot = SubmitEvent::Audited { shard: 1, local: None };
    check(&mut role, SECOND, cannot, &["record 1.5", "publish 1.5"]);
    for attempt in 5..8 {
        let late = delivered(&answer_of("liar", key(1, attempt), vec![8; 32]));
        step(&mut role, SECOND * 7, late);
    }
    let event = own(&role, 1);
    check(
        &mut role,
        SECOND * 7,
        event,
        &["accept 1.7", "audited 1", "finished", "forget", "finish"],
    );
}

#[test]
fn what_was_withdrawn_stays_so_after_a_crash_and_what_was_confirmed_counts() {
    let records = [
        LedgerRecord::Attempt(key(0, 1)),
        LedgerRecord::Attempt(key(1, 1)),
        LedgerRecord::Answer(answer(key(0, 1), 32)),
        LedgerRecord::Answer(answer(key(1, 1), 32)),
        LedgerRecord::Audited(0),
        LedgerRecord::Distrust("h".to_owned()),
    ];
    let mut role = auditor(2, &records);
    assert_eq!(role.counts().done, 1);
    check(&mut role, SECOND, SubmitEvent::Tick, &["publish 1.1", "pull"]);
    let other = delivered(&answer_of("other", key(1, 1), vec![9; 32]));
    check(&mut role, SECOND, other, &["accept 1.1", "ack", "hash 1.1"]);
    let event = own(&role, 1);
    check(&mut role, SECOND, event, &["audited 1", "finished", "forget", "finish"]);
}

#[test]
fn an_answer_to_other_files_under_the_same_key_is_none() {
    let mut role = role(1, &[]);
    step(&mut role, SECOND, SubmitEvent::Tick);
    let mut others = files(0);
    others[0].path = Base64Bytes(b"another".to_vec());
    let of = ShardDigest::of(&plan(1).shard(key(0, 1), others).encode());
    let answer = ShardAnswer { of, ..answer(key(0, 1), 32) };
    check(&mut role, SECOND, delivered(&answer), &["ack"]);
    assert_eq!((role.counts().invalid, role.counts().done), (1, 0));
}

#[test]
fn about_the_share_that_is_asked_for_is_audited() {
    let chosen = |share, secret| {
        let audit = AuditShare { share, secret };
        (0..10_000).filter(|&shard| audit.has(shard)).count()
    };
    assert_eq!((chosen(0.0, 7), chosen(1.0, 7)), (0, 10_000));
    for secret in 0..20 {
        let some = chosen(0.01, secret);
        assert!((50..200).contains(&some), "{some} of 10,000 with secret {secret}");
    }
}
