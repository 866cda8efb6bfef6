//! A long list of small files through 100 hosts: the roles and the ledger of the program around a model of a broker, all in one
//! process, whose memory may not grow with the list.
//!
//! `HASHCLUSTER_SIM_ITEMS` sets how many items there are (250,000).

use crate::simulation::setting;
use hashcluster_bridge::ledger::{NewLedger, ShardLedger};
use hashcluster_bridge::serve::{ServeAction, ServeEvent, ServeLimits, ServeRole};
use hashcluster_bridge::shard::{Base64Bytes, DatasetKey, JobKey, Shard, ShardFile, ShardOutcome};
use hashcluster_bridge::submit::{
    JobPlan, LedgerRecord, SubmitAction, SubmitEvent, SubmitLimits, SubmitRole,
};
use hashcluster_bridge::transport::{BrokerCommand, BrokerEvent, BrokerQueue, DeliveryTag};
use ipc_proto::Algorithm;
use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::Path;
use std::time::Duration;
use test_kit::alone;

const HOSTS: usize = 100;

/// Shards that each holds.
const HELD: usize = 4;

/// Time for a shard.
const WORK: Duration = Duration::from_secs(1);

const FILE_LEN: u64 = 100 << 10;

/// Most memory of all roles and the broker together, however long the list.
const PEAK_MAX_KIB: u64 = 128 << 10;

fn file(number: u64) -> ShardFile {
    let path = format!("{:04}/photo-{number:08}.jpg", number / 1000).into_bytes();
    ShardFile { path: Base64Bytes(path), size: FILE_LEN, mtime_ns: 1 << 60 }
}

fn digest(path: &[u8]) -> [u8; 32] {
    *blake3::hash(path).as_bytes()
}

/// An event for a role.
enum ItemsStep {
    Submit(SubmitEvent),
    Serve(usize, ServeEvent),
}

/// A broker that loses nothing: the other simulation has one that does.
#[derive(Default)]
struct FaultlessBroker {
    shards: VecDeque<Vec<u8>>,
    results: VecDeque<Vec<u8>>,
    deliveries: u64,
    messages_max: usize,
}

impl FaultlessBroker {
    fn carry(&mut self, command: BrokerCommand) -> Vec<BrokerEvent> {
        match command {
            BrokerCommand::Publish { queue, id, body } => {
                self.messages(&queue).push_back(body);
                self.messages_max = self.messages_max.max(self.shards.len() + self.results.len());
                vec![BrokerEvent::Published { id, stored: true }]
            }
            BrokerCommand::Pull { queue, len } => {
                let mut events = Vec::new();
                while events.len() < len
                    && let Some(body) = self.messages(&queue).pop_front()
                {
                    self.deliveries += 1;
                    let (queue, tag) = (queue.clone(), DeliveryTag(self.deliveries));
                    events.push(BrokerEvent::Delivered { queue, tag, delivery: 1, body });
                }
                events.push(BrokerEvent::Pulled { queue });
                events
            }
            BrokerCommand::Ack(_) | BrokerCommand::Progress(_) | BrokerCommand::Forget(_) => vec![],
            BrokerCommand::Return(..) => panic!("every host can hash"),
        }
    }

    fn messages(&mut self, queue: &BrokerQueue) -> &mut VecDeque<Vec<u8>> {
        match queue {
            BrokerQueue::Shards(_) => &mut self.shards,
            BrokerQueue::Results(_) => &mut self.results,
            BrokerQueue::Dead(_) | BrokerQueue::Reasons(_) => panic!("nothing fails"),
        }
    }
}

/// All hosts, and the broker between them.
struct ItemsWorld {
    now: Duration,
    role: SubmitRole,
    ledger: ShardLedger,
    hosts: Vec<ServeRole>,
    broker: FaultlessBroker,
    steps: VecDeque<ItemsStep>,
    /// Work that ends at these times, first the next.
    work: VecDeque<(Duration, usize, ServeEvent)>,
    is_finished: bool,
}

impl ItemsWorld {
    fn run(&mut self) {
        let mut first = 0;
        while !self.is_finished {
            let due = self.work.iter().take_while(|(at, ..)| *at <= self.now).count();
            let worked = self.work.drain(..due);
            self.steps.extend(worked.map(|(_, host, worked)| ItemsStep::Serve(host, worked)));
            self.steps.push_back(ItemsStep::Submit(SubmitEvent::Tick));
            // Another one is the first to ask each time.
            let tick = |host| ItemsStep::Serve((first + host) % HOSTS, ServeEvent::Tick);
            self.steps.extend((0..HOSTS).map(tick));
            first += 1;
            while let Some(step) = self.steps.pop_front() {
                match step {
                    ItemsStep::Submit(event) => self.submit(event),
                    ItemsStep::Serve(host, event) => self.serve(host, event),
                }
            }
            self.now += Duration::from_millis(100);
        }
    }

    fn submit(&mut self, event: SubmitEvent) {
        let actions = self.role.step(self.now, event);
        let records: Vec<LedgerRecord> = actions
            .iter()
            .filter_map(|action| match action {
                SubmitAction::Record(record) => Some(record.clone()),
                SubmitAction::Send(_)
                | SubmitAction::Publish(_)
                | SubmitAction::Audit(_)
                | SubmitAction::Finish => None,
            })
            .collect();
        if !records.is_empty() {
            self.ledger.append(&records).unwrap();
        }
        for action in actions {
            let command = match action {
                SubmitAction::Record(_) => continue,
                SubmitAction::Send(command) => command,
                SubmitAction::Publish(key) => {
                    self.role.publication(key, self.ledger.files(key.shard).unwrap())
                }
                SubmitAction::Audit(_) => panic!("nothing is audited"),
                SubmitAction::Finish => {
                    self.is_finished = true;
                    continue;
                }
            };
            let events = self.broker.carry(command).into_iter();
            self.steps.extend(events.map(|event| ItemsStep::Submit(SubmitEvent::Broker(event))));
        }
    }

    fn serve(&mut self, host: usize, event: ServeEvent) {
        for action in self.hosts[host].step(self.now, event) {
            match action {
                ServeAction::Send(command) => {
                    let events = self.broker.carry(command).into_iter();
                    let step = |event| ItemsStep::Serve(host, ServeEvent::Broker(event));
                    self.steps.extend(events.map(step));
                }
                ServeAction::Work(shard) => {
                    let worked = ServeEvent::Worked(shard.key, Ok(hashed(&shard)));
                    self.work.push_back((self.now + WORK, host, worked));
                }
            }
        }
    }
}

fn hashed(shard: &Shard) -> ShardOutcome {
    let digests = shard.files.iter().flat_map(|file| digest(&file.path.0)).collect();
    ShardOutcome::Hashed { digests, failures: vec![] }
}

/// Compares every digest with what it must be; returns the number of hosts that gave some.
fn check(ledger: &ShardLedger, plan: &JobPlan, items: u64) -> usize {
    let (mut number, mut hosts) = (0, BTreeSet::new());
    for (shard, _) in (0..).zip(&plan.shards) {
        let (files, answer) = (ledger.files(shard).unwrap(), ledger.answer(shard).unwrap());
        for (found, outcome) in files.iter().zip(answer.outcomes(files.len(), plan.algorithm)) {
            assert_eq!(*found, file(number));
            assert_eq!(outcome.unwrap(), digest(&found.path.0), "{found:?}");
            number += 1;
        }
        hosts.insert(answer.host);
    }
    assert_eq!(number, items);
    hosts.len()
}

/// Largest resident memory of this process so far, in KiB.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

#[expect(clippy::print_stdout, reason = "the figures are the result of a long run")]
fn simulate(path: &Path, items: u64) {
    let dataset = DatasetKey::new("d", "1").unwrap();
    let plan = JobPlan {
        job: JobKey(7),
        dataset: dataset.clone(),
        starts: vec![],
        algorithm: Algorithm::Blake3,
        shards: vec![],
    };
    let mut list = NewLedger::begin(path, plan).unwrap();
    (0..items).for_each(|number| list.push(file(number)).unwrap());
    let opened = list.finish().unwrap();
    println!("{items} items in {} shards; peak {} KiB", opened.plan.shards.len(), peak_kib());
    let limits = ServeLimits { shards: HELD };
    let host =
        |number| ServeRole::new(&format!("h{number}"), std::slice::from_ref(&dataset), limits);
    let mut simulation = ItemsWorld {
        now: Duration::ZERO,
        role: SubmitRole::new(opened.plan, SubmitLimits::default(), opened.record),
        ledger: opened.ledger,
        hosts: (0..HOSTS).map(host).collect(),
        broker: FaultlessBroker::default(),
        steps: VecDeque::new(),
        work: VecDeque::new(),
        is_finished: false,
    };
    simulation.run();
    println!(
        "hashed; at most {} messages with the broker; peak {} KiB",
        simulation.broker.messages_max,
        peak_kib()
    );
    drop(simulation);
    // As after a restart.
    let opened = ShardLedger::open(path).unwrap();
    assert!(opened.record.is_finished);
    let attempts: u64 = opened.record.attempts.values().map(|&attempt| u64::from(attempt)).sum();
    assert_eq!(attempts, opened.plan.shards.len() as u64, "nothing was published twice");
    let hosts = check(&opened.ledger, &opened.plan, items);
    let peak = peak_kib();
    let len = fs::metadata(path).unwrap().len();
    assert!(hosts == HOSTS || opened.plan.shards.len() < 10 * HOSTS, "of {hosts} hosts");
    println!("every digest is right, by {hosts} hosts; ledger {len} B; peak {peak} KiB");
    assert!(peak <= PEAK_MAX_KIB, "more than {PEAK_MAX_KIB} KiB");
}

#[test]
fn simulation_of_a_long_list_through_100_hosts_is_right_in_bounded_memory() {
    let test = "items::simulation_of_a_long_list_through_100_hosts_is_right_in_bounded_memory";
    let items = setting("HASHCLUSTER_SIM_ITEMS", 250_000);
    // In a process of its own, whose memory is that of nothing else.
    alone(test, |dir| simulate(&dir.join("job"), items));
}
