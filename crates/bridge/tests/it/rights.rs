//! The rights that the document gives a host at the broker: they are enough, and a key is replaced without a restart.

use crate::program::{SecureBroker, serve};
use hashcluster_bridge::config::BridgeConfig;
use hashcluster_bridge::drive::Input;
use hashcluster_bridge::nats::NatsTransport;
use hashcluster_bridge::shard::{DatasetKey, JobKey};
use hashcluster_bridge::transport::{BrokerCommand, BrokerEvent, BrokerQueue, Transport};
use nix::sys::signal::Signal;
use nkeys::KeyPair;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use test_kit::{DEADLINE, Running, output, text, until, write_secret};

/// Subjects in the row of this name in the table of rights of docs/hosts.md.
fn subjects(right: &str) -> String {
    let document = include_str!("../../../../docs/hosts.md");
    let start = format!("| {right} |");
    let row = document.lines().find(|line| line.starts_with(&start)).unwrap();
    let subjects: Vec<String> =
        row.split('`').skip(1).step_by(2).map(|s| format!("{s:?}")).collect();
    subjects.join(", ").replace("DEPLOYMENT", "main")
}

/// A user of the broker's configuration with exactly the rights of the document.
fn user(pair: &KeyPair) -> String {
    let (publish, subscribe) = (subjects("publish"), subjects("subscribe"));
    let rights = format!("{{ publish: [{publish}], subscribe: [{subscribe}] }}");
    format!("{{ nkey: {}, permissions: {rights} }}", pair.public_key())
}

/// The next event of the broker that `pick` takes; what is said goes to `said`.
fn next<T>(
    inputs: &Receiver<Input>,
    said: &mut Vec<String>,
    pick: impl Fn(&BrokerEvent) -> Option<T>,
) -> T {
    loop {
        match inputs.recv_timeout(DEADLINE).unwrap() {
            Input::Broker(event) => {
                if let Some(picked) = pick(&event) {
                    return picked;
                }
            }
            Input::Say(line) => said.push(line),
            Input::Worked(..) | Input::Connected(_) | Input::Surveyed(_) | Input::Leave => {}
        }
    }
}

#[test]
fn the_rights_of_the_document_are_enough_for_both_roles() {
    let broker = SecureBroker::start(user);
    let own = broker.dir.path().join("own.nk");
    write_secret(&own, broker.user.seed().unwrap());
    let config = BridgeConfig::read(&broker.config(&own, &broker.ca())).unwrap();
    let (sender, inputs) = channel();
    let mut transport = NatsTransport::connect(&config.broker, sender).unwrap();
    let mut said = Vec::new();
    let dataset = DatasetKey::new("d", "1").unwrap();
    let queues = [
        BrokerQueue::Shards(dataset),
        BrokerQueue::Results(JobKey(1)),
        BrokerQueue::Dead(JobKey(1)),
    ];
    for queue in queues {
        let (id, body) = (format!("id.{queue}"), b"body".to_vec());
        transport.send(BrokerCommand::Publish { queue: queue.clone(), id, body });
        let stored = next(&inputs, &mut said, |event| match event {
            BrokerEvent::Published { stored, .. } => Some(*stored),
            BrokerEvent::Delivered { .. } | BrokerEvent::Pulled { .. } => None,
        });
        assert!(stored, "{queue}: {said:?}");
        if matches!(queue, BrokerQueue::Dead(_)) {
            continue;
        }
        let delivery = |delivery: u64| {
            move |event: &BrokerEvent| match event {
                BrokerEvent::Delivered { tag, delivery: number, .. } if *number == delivery => {
                    Some(*tag)
                }
                BrokerEvent::Delivered { .. }
                | BrokerEvent::Published { .. }
                | BrokerEvent::Pulled { .. } => None,
            }
        };
        transport.send(BrokerCommand::Pull { queue: queue.clone(), len: 2 });
        let tag = next(&inputs, &mut said, delivery(1));
        transport.send(BrokerCommand::Progress(tag));
        transport.send(BrokerCommand::Return(tag, Duration::ZERO));
        let tag = next(&inputs, &mut said, delivery(2));
        transport.send(BrokerCommand::Ack(tag));
        transport.send(BrokerCommand::Forget(queue));
    }
    drop(transport);
    said.extend(inputs.try_iter().filter_map(|input| match input {
        Input::Say(line) => Some(line),
        Input::Broker(_)
        | Input::Worked(..)
        | Input::Connected(_)
        | Input::Surveyed(_)
        | Input::Leave => None,
    }));
    assert!(!said.iter().any(|line| line.to_lowercase().contains("violation")), "{said:?}");
}

#[test]
fn a_key_is_replaced_without_a_restart_and_the_old_one_sees_nothing_any_more() {
    let broker = SecureBroker::start(user);
    let (own, old) = (broker.dir.path().join("own.nk"), broker.dir.path().join("old.nk"));
    write_secret(&own, broker.user.seed().unwrap());
    write_secret(&old, broker.user.seed().unwrap());
    let config = broker.config(&own, &broker.ca());
    let mut serving = Running::start(&mut serve(&config), DEADLINE);
    serving.wait_for("serving d as h1");
    let connected = |serving: &Running| serving.stderr().matches("broker: connected").count();
    until("it is connected", || (connected(&serving) == 1).then_some(()));
    let new = KeyPair::new_user();
    write_secret(&own, new.seed().unwrap());
    broker.reload(&[user(&new)]);
    until("it is connected again", || (connected(&serving) == 2).then_some(()));
    assert!(serving.is_running());
    let refused = output(&mut serve(&broker.config(&old, &broker.ca())));
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("authorization violation"), "{said}");
    serving.signal(Signal::SIGTERM);
    let ended = serving.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.to_lowercase().contains("violation"), "{}", ended.stderr);
}
