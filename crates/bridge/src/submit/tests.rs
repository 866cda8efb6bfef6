use super::*;
use crate::shard::Base64Bytes;

const SECOND: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_secs(600);

fn plan(shards: usize) -> JobPlan {
    let file = |n: usize| ShardFile {
        path: Base64Bytes(format!("f{n}").into_bytes()),
        size: 1,
        mtime_ns: 0,
    };
    JobPlan {
        starts: vec![],
        job: JobKey(7),
        dataset: DatasetKey::new("d", "i").unwrap(),
        algorithm: Algorithm::Sha256,
        shards: (0..shards).map(|n| vec![file(n)]).collect(),
    }
}

fn key(shard: u32, attempt: u32) -> ShardKey {
    ShardKey { job: JobKey(7), shard, attempt }
}

fn role(shards: usize, records: &[LedgerRecord]) -> SubmitRole {
    SubmitRole::new(plan(shards), SubmitLimits { outstanding: 2, ..Default::default() }, records)
}

fn answer(key: ShardKey, digests_len: usize) -> ShardAnswer {
    let outcome = ShardOutcome::Hashed { digests: vec![9; digests_len], failures: vec![] };
    ShardAnswer { key, host: "h".to_owned(), outcome }
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
        SubmitAction::Send(BrokerCommand::Publish { id, .. }) => {
            let key: ShardKey = id.parse().unwrap();
            format!("publish {}.{}", key.shard, key.attempt)
        }
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
    assert_eq!(words(&role.step(now, event)), want, "at {now:?}");
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
    role.step(SECOND, SubmitEvent::Tick);
    role.step(SECOND, published(key(0, 1), true));
    role.step(SECOND, published(key(1, 1), true));
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
        &["accept 1.2", "ack", "forget", "finish"],
    );
    check(&mut role, late, delivered(&answer(key(1, 2), 32)), &["ack"]);
}

#[test]
fn what_is_no_result_of_the_job_is_dropped() {
    let mut role = role(1, &[]);
    role.step(SECOND, SubmitEvent::Tick);
    let other = ShardKey { job: JobKey(8), ..key(0, 1) };
    for answer in
        [answer(other, 32), answer(key(0, 1), 31), answer(key(0, 1), 64), answer(key(9, 1), 32)]
    {
        check(&mut role, SECOND, delivered(&answer), &["ack"]);
    }
    assert_eq!((role.counts().invalid, role.counts().done), (4, 0));
}

#[test]
fn the_time_for_an_attempt_doubles_so_that_no_result_is_fenced_for_ever() {
    let mut role = role(1, &[]);
    role.step(Duration::ZERO, SubmitEvent::Tick);
    let mut now = Duration::ZERO;
    for attempt in 1..=6 {
        role.step(now, published(key(0, attempt), true));
        role.step(
            now,
            SubmitEvent::Broker(BrokerEvent::Pulled { queue: BrokerQueue::Results(JobKey(7)) }),
        );
        role.step(now + SECOND, SubmitEvent::Tick);
        let next = role.next_timer().unwrap();
        assert_eq!(next - now, AGAIN * (1 << (attempt - 1)), "attempt {attempt}");
        now = next;
        role.step(now, SubmitEvent::Tick);
    }
}

#[test]
fn a_publication_without_an_answer_is_made_again_as_the_same_attempt() {
    let mut role = role(1, &[]);
    role.step(SECOND, SubmitEvent::Tick);
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
fn dead_letters_are_tried_again_and_the_third_is_final() {
    let mut role = role(1, &[]);
    role.step(SECOND, SubmitEvent::Tick);
    let dead = |attempt| {
        let outcome = ShardOutcome::Dead;
        delivered(&ShardAnswer { key: key(0, attempt), host: "h".to_owned(), outcome })
    };
    check(&mut role, SECOND, dead(1), &["record 0.2", "publish 0.2", "ack"]);
    check(&mut role, SECOND, dead(2), &["record 0.3", "publish 0.3", "ack"]);
    check(&mut role, SECOND, dead(3), &["accept 0.3", "ack", "forget", "finish"]);
}

#[test]
fn a_job_without_files_is_done() {
    check(&mut role(0, &[]), SECOND, SubmitEvent::Tick, &["forget", "finish"]);
}
