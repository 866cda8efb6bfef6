use super::*;
use crate::shard::{Base64Bytes, JobKey, ShardFile};
use ipc_proto::Algorithm;

const SECOND: Duration = Duration::from_secs(1);

fn dataset(name: &str) -> DatasetKey {
    DatasetKey::new(name, "i").unwrap()
}

fn key(shard: u32) -> ShardKey {
    ShardKey { job: JobKey(7), shard, attempt: 1 }
}

fn shard(shard: u32) -> Shard {
    let file = ShardFile { path: Base64Bytes(b"f".to_vec()), size: 1, mtime_ns: 0 };
    Shard {
        key: key(shard),
        dataset: dataset("d"),
        algorithm: Algorithm::Sha256,
        files: vec![file],
    }
}

fn hashed() -> Result<ShardOutcome, String> {
    Ok(ShardOutcome::Hashed { digests: vec![1; 32], failures: vec![] })
}

fn delivered(shard: &Shard, tag: u64, delivery: u64) -> ServeEvent {
    let queue = BrokerQueue::Shards(dataset("d"));
    let (tag, body) = (DeliveryTag(tag), shard.encode());
    ServeEvent::Broker(BrokerEvent::Delivered { queue, tag, delivery, body })
}

fn published(id: &str, stored: bool) -> ServeEvent {
    ServeEvent::Broker(BrokerEvent::Published { id: id.to_owned(), stored })
}

fn pulled() -> ServeEvent {
    ServeEvent::Broker(BrokerEvent::Pulled { queue: BrokerQueue::Shards(dataset("d")) })
}

fn role() -> ServeRole {
    ServeRole::new("h", &[dataset("d")], ServeLimits { shards: 2 })
}

fn words(actions: &[ServeAction]) -> Vec<String> {
    let word = |action: &ServeAction| match action {
        ServeAction::Send(BrokerCommand::Publish { id, queue, .. }) => {
            let short = |text: &str| text.replace(&JobKey(7).to_string(), "J");
            format!("publish {} {}", short(&queue.to_string()), short(id))
        }
        ServeAction::Send(BrokerCommand::Pull { len, .. }) => format!("pull {len}"),
        ServeAction::Send(BrokerCommand::Ack(tag)) => format!("ack {}", tag.0),
        ServeAction::Send(BrokerCommand::Progress(tag)) => format!("progress {}", tag.0),
        ServeAction::Send(BrokerCommand::Return(tag, pause)) => {
            format!("return {} {}", tag.0, pause.as_secs())
        }
        ServeAction::Send(BrokerCommand::Forget(queue)) => format!("forget {queue}"),
        ServeAction::Work(shard) => format!("work {}", shard.key.shard),
    };
    actions.iter().map(word).collect()
}

#[track_caller]
fn check(role: &mut ServeRole, now: Duration, event: ServeEvent, want: &[&str]) {
    assert_eq!(words(&role.step(now, event)), want, "at {now:?}");
}

#[test]
fn a_delivery_is_acknowledged_after_its_answer_is_stored() {
    let mut role = role();
    check(&mut role, SECOND, ServeEvent::Tick, &["pull 2"]);
    check(&mut role, SECOND, delivered(&shard(0), 1, 1), &["work 0"]);
    let answer = ["publish results.J answer.J.0.1"];
    check(&mut role, SECOND, ServeEvent::Worked(key(0), hashed()), &answer);
    let id = format!("answer.{}", key(0));
    check(&mut role, SECOND, published(&id, false), &[]);
    check(&mut role, SECOND * 2, ServeEvent::Tick, &answer);
    check(&mut role, SECOND * 2, published(&id, true), &["ack 1"]);
    check(&mut role, SECOND * 2, published(&id, true), &[]);
    assert_eq!(role.counts().answered, 1);
}

#[test]
fn who_drains_takes_nothing_more_and_finishes_what_it_holds() {
    let mut role = role();
    role.step(SECOND, ServeEvent::Tick);
    assert_eq!(words(&role.step(SECOND, delivered(&shard(1), 1, 1))), ["work 1"]);
    assert_eq!(words(&role.step(SECOND, ServeEvent::Drain)), [""; 0]);
    assert_eq!(words(&role.step(SECOND, delivered(&shard(2), 2, 1))), ["return 2 0"]);
    assert_eq!(words(&role.step(2 * SECOND, pulled())), [""; 0], "no other pull");
    assert_eq!(words(&role.step(15 * SECOND, ServeEvent::Tick)), ["progress 1"]);
    let id = format!("answer.{}", key(1));
    role.step(16 * SECOND, ServeEvent::Worked(key(1), hashed()));
    assert_eq!(words(&role.step(16 * SECOND, published(&id, true))), ["ack 1"]);
    assert_eq!((role.held_len(), role.counts().answered), (0, 1));
}

#[test]
fn signs_of_life_are_given_while_a_shard_is_held_and_no_longer() {
    let mut role = role();
    role.step(SECOND, ServeEvent::Tick);
    role.step(SECOND, delivered(&shard(0), 1, 1));
    assert_eq!(role.next_timer(), Some(SECOND + PROGRESS_INTERVAL));
    check(&mut role, SECOND * 11, ServeEvent::Tick, &["progress 1"]);
    check(&mut role, SECOND * 12, ServeEvent::Tick, &[]);
    role.step(SECOND * 12, ServeEvent::Worked(key(0), hashed()));
    check(&mut role, SECOND * 21, ServeEvent::Tick, &["progress 1"]);
    role.step(SECOND * 21, published(&format!("answer.{}", key(0)), true));
    check(&mut role, SECOND * 60, ServeEvent::Tick, &[]);
}

#[test]
fn no_more_is_held_than_the_limit_whatever_the_broker_delivers() {
    let mut role = role();
    role.step(SECOND, ServeEvent::Tick);
    role.step(SECOND, delivered(&shard(0), 1, 1));
    role.step(SECOND, delivered(&shard(1), 2, 1));
    check(&mut role, SECOND, delivered(&shard(2), 3, 1), &["return 3 0"]);
    check(&mut role, SECOND, pulled(), &[]);
    assert_eq!(role.held_len(), 2);
}

#[test]
fn a_second_delivery_of_what_is_held_is_the_one_that_is_acknowledged() {
    let mut role = role();
    role.step(SECOND, ServeEvent::Tick);
    role.step(SECOND, delivered(&shard(0), 1, 1));
    check(&mut role, SECOND, delivered(&shard(0), 2, 2), &[]);
    role.step(SECOND, ServeEvent::Worked(key(0), hashed()));
    check(&mut role, SECOND, published(&format!("answer.{}", key(0)), true), &["ack 2"]);
    assert_eq!(role.counts().begun, 1);
}

#[test]
fn what_a_host_cannot_do_goes_back_and_it_pauses_longer_each_time() {
    let mut role = role();
    role.step(SECOND, ServeEvent::Tick);
    let mut now = SECOND;
    for (tag, pause) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (7, 30)] {
        role.step(now, delivered(&shard(0), tag, 1));
        let back = format!("return {tag} {pause}");
        let failed = ServeEvent::Worked(key(0), Err("no worker is ready".to_owned()));
        check(&mut role, now, failed, &[&back, "publish reasons.J reason.J.0.1.1"]);
        check(&mut role, now, pulled(), &[]);
        now += SECOND * pause;
        check(&mut role, now - SECOND / 2, ServeEvent::Tick, &[]);
        check(&mut role, now, ServeEvent::Tick, &["pull 2"]);
    }
}

#[test]
fn after_five_deliveries_a_shard_is_dead_and_kept_for_people() {
    let mut role = role();
    role.step(SECOND, ServeEvent::Tick);
    check(&mut role, SECOND, delivered(&shard(0), 1, 5), &["work 0"]);
    let want = ["publish dead.J dead.J.1.1", "publish results.J answer.J.1.1"];
    check(&mut role, SECOND, delivered(&shard(1), 2, 6), &want);
}

#[test]
fn what_is_no_shard_of_the_dataset_is_taken_away() {
    let mut role = role();
    role.step(SECOND, ServeEvent::Tick);
    let other = Shard { dataset: dataset("other"), ..shard(0) };
    check(&mut role, SECOND, delivered(&other, 1, 1), &["ack 1"]);
    let queue = BrokerQueue::Shards(dataset("d"));
    let noise =
        BrokerEvent::Delivered { queue, tag: DeliveryTag(2), delivery: 1, body: vec![0xff] };
    check(&mut role, SECOND, ServeEvent::Broker(noise), &["ack 2"]);
    assert_eq!(role.counts().invalid, 2);
}

#[test]
fn a_host_that_leaves_gives_back_what_it_holds_and_takes_nothing() {
    let mut role = role();
    role.step(SECOND, ServeEvent::Tick);
    role.step(SECOND, delivered(&shard(0), 1, 1));
    check(&mut role, SECOND, ServeEvent::Leave, &["return 1 0"]);
    check(&mut role, SECOND, delivered(&shard(1), 2, 1), &["return 2 0"]);
    check(&mut role, SECOND * 60, ServeEvent::Worked(key(0), hashed()), &[]);
}

#[test]
fn datasets_are_asked_in_turn_for_one_shard_at_a_time() {
    let datasets = [dataset("a"), dataset("b"), dataset("c")];
    let mut role = ServeRole::new("h", &datasets, ServeLimits { shards: 2 });
    let queues = |actions: Vec<ServeAction>| -> Vec<String> {
        let queue = |action| match action {
            ServeAction::Send(BrokerCommand::Pull { queue, len: 1 }) => queue.to_string(),
            other @ (ServeAction::Send(_) | ServeAction::Work(_)) => panic!("{other:?}"),
        };
        actions.into_iter().map(queue).collect()
    };
    assert_eq!(queues(role.step(SECOND, ServeEvent::Tick)), ["shards.a.i", "shards.b.i"]);
    let pulled = |name| BrokerEvent::Pulled { queue: BrokerQueue::Shards(dataset(name)) };
    assert_eq!(queues(role.step(SECOND, ServeEvent::Broker(pulled("a")))), ["shards.c.i"]);
}
