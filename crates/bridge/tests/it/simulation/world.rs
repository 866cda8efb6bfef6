//! The hosts around the broker, and the time that they share.

use super::broker::{Life, ModelBroker};
use super::counts::BridgeCounts;
use hashcluster_bridge::serve::{DELIVERIES_MAX, ServeAction, ServeEvent, ServeLimits, ServeRole};
use hashcluster_bridge::shard::{
    Base64Bytes, DatasetKey, JobKey, Shard, ShardAnswer, ShardDigest, ShardFile, ShardKey,
    ShardOutcome,
};
use hashcluster_bridge::submit::{
    AcceptedAnswer, AuditShare, DEAD_MAX, JobPlan, LedgerRecord, LedgerState, ShardSize,
    SubmitAction, SubmitEvent, SubmitLimits, SubmitRole,
};
use hashcluster_bridge::transport::{BrokerCommand, BrokerEvent, BrokerQueue};
use ipc_proto::Algorithm;
use ipc_proto::message::Failure;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use test_kit::Random;

const ALGORITHM: Algorithm = Algorithm::Sha256;

/// Faults happen until then.
const FAULTS_END: Duration = Duration::from_secs(3600);

/// The job must have ended by then: attempts have ever more time, so the last may be long.
const END: Duration = Duration::from_secs(400 * 24 * 3600);

#[derive(Clone, Debug)]
enum Happening {
    /// The broker's word reaches a host; host 0 is the one that submits.
    Broker(Life, BrokerEvent),
    /// The work of a host ends.
    Worked(Life, ShardKey, Option<ShardOutcome>),
    /// A host works itself to death.
    Killed(Life),
    Crash(usize),
    BrokerCrash,
    /// The submitting host's own hashing of a shard ends.
    Own(Life, ShardKey, Option<ShardOutcome>),
    /// Somebody else publishes.
    Noise,
    /// A host goes on after a pause in which it heard and did nothing.
    Resume(Life),
}

#[derive(Debug)]
struct Server {
    role: ServeRole,
    life: u32,
    /// Events that it did not hear while it hung.
    hung: Option<Vec<ServeEvent>>,
    /// It cannot hash until then.
    broken_until: Duration,
}

/// One history.
#[derive(Debug)]
pub(crate) struct BridgeWorld {
    random: Random,
    now: Duration,
    broker: ModelBroker,
    plan: JobPlan,
    /// The files of each shard.
    files: Vec<Vec<ShardFile>>,
    limits: SubmitLimits,
    submit: SubmitRole,
    submit_life: u32,
    ledger: Vec<LedgerRecord>,
    record: LedgerState,
    /// A host that gives wrong digests now and then.
    liar: Option<usize>,
    servers: Vec<Server>,
    /// Shards that kill whoever works on them.
    deadly: BTreeSet<u32>,
    happenings: BTreeMap<(Duration, u64), Happening>,
    next: u64,
    finished: bool,
    counts: BridgeCounts,
}

const SHARDS_HELD_MAX: usize = 3;

fn digest(path: &[u8]) -> Vec<u8> {
    let seed = path.iter().fold(7_u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let mut random = Random::new(seed);
    (0..4).flat_map(|_| random.next_u64().to_le_bytes()).collect()
}

/// A file whose name ends with this has changed for whoever reads it.
const CHANGED: &[u8] = b"!";

fn hashed(shard: &Shard) -> ShardOutcome {
    let (mut digests, mut failures) = (Vec::new(), Vec::new());
    for (file, position) in shard.files.iter().zip(0..) {
        if file.path.0.ends_with(CHANGED) {
            failures.push((position, Failure::Changed));
        } else {
            digests.extend(digest(&file.path.0));
        }
    }
    ShardOutcome::Hashed { digests, failures }
}

impl BridgeWorld {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let shards_len = 1 + random.index(24);
        let files: Vec<Vec<ShardFile>> = (0..shards_len)
            .map(|shard| {
                let file = |file: usize, changed: bool| {
                    let mut path = format!("s{shard}/f{file}").into_bytes();
                    path.extend(if changed { CHANGED } else { b"" });
                    ShardFile { path: Base64Bytes(path), size: 1, mtime_ns: 0 }
                };
                (0..=random.index(3)).map(|number| file(number, random.chance(10))).collect()
            })
            .collect();
        let deadly =
            (0..files.len()).filter(|_| random.chance(3)).filter_map(|n| u32::try_from(n).ok());
        let deadly = deadly.collect();
        let dataset = DatasetKey::new("d", "i").expect("a plain name");
        let job = JobKey(u128::from(random.next_u64()));
        let shards = files.iter().map(|files| ShardSize::of(files)).collect();
        let plan =
            JobPlan { job, dataset: dataset.clone(), starts: vec![], algorithm: ALGORITHM, shards };
        let limits = SubmitLimits {
            outstanding: 1 + random.index(10),
            republish_after: Duration::from_secs(5 + random.below(600)),
            audit: AuditShare::default(),
        };
        let hosts = 1 + random.index(5);
        // With a liar everything is audited: nothing wrong may be left.
        let liar = random.chance(30).then(|| 1 + random.index(hosts));
        let share = if liar.is_some() { 1.0 } else { [0.0, 0.3][random.index(2)] };
        let limits =
            SubmitLimits { audit: AuditShare { share, secret: random.next_u64() }, ..limits };
        let server = |number: usize| Server {
            role: ServeRole::new(
                &format!("h{number}"),
                std::slice::from_ref(&dataset),
                ServeLimits { shards: SHARDS_HELD_MAX },
            ),
            life: 0,
            hung: None,
            broken_until: Duration::ZERO,
        };
        let mut world = Self {
            now: Duration::ZERO,
            broker: ModelBroker::new(),
            submit: SubmitRole::new(plan.clone(), limits, LedgerState::default()),
            limits,
            submit_life: 0,
            ledger: Vec::new(),
            record: LedgerState::default(),
            liar,
            servers: (1..=hosts).map(server).collect(),
            deadly,
            happenings: BTreeMap::new(),
            next: 0,
            finished: false,
            counts: BridgeCounts { shards: plan.shards.len() as u64, ..BridgeCounts::default() },
            plan,
            files,
            random,
        };
        world.plan_faults();
        world
    }

    /// Trouble, at any time before the faults end.
    fn plan_faults(&mut self) {
        let hosts = self.servers.len();
        for _ in 0..self.random.index(20) {
            let happening = match self.random.below(4) {
                0 => Happening::BrokerCrash,
                1 => Happening::Noise,
                _ => Happening::Crash(self.random.index(hosts + 1)),
            };
            // Most of it early, when there is work.
            let span = if self.random.chance(80) { 300 } else { FAULTS_END.as_secs() };
            let at = Duration::from_millis(self.random.below(span * 1000));
            self.at(at, happening);
        }
    }

    fn at(&mut self, time: Duration, happening: Happening) {
        self.happenings.insert((time, self.next), happening);
        self.next += 1;
    }

    fn soon(&mut self, happening: Happening) {
        let most_ms = if self.random.chance(10) { 5000 } else { 50 };
        let pause = Duration::from_millis(1 + self.random.below(most_ms));
        self.at(self.now + pause, happening);
    }

    /// Runs to the end of the job and checks its result.
    pub(crate) fn run(mut self) -> BridgeCounts {
        self.step_submit(SubmitEvent::Tick);
        for host in 1..=self.servers.len() {
            self.step_server(host, ServeEvent::Tick);
        }
        while !self.finished {
            let next = self.happenings.first_key_value().map(|(&(at, _), _)| at);
            let servers = self.servers.iter().filter(|server| server.hung.is_none());
            let timers = servers.filter_map(|server| server.role.next_timer());
            let timer = timers.chain(self.submit.next_timer()).min();
            let time = next.into_iter().chain(timer).min().expect("pulls go on for ever");
            self.now = self.now.max(time);
            assert!(self.now < END, "seed {}: the job does not end", self.random.seed());
            if self.now >= FAULTS_END {
                self.broker.faulty = false;
            }
            match self.happenings.first_entry() {
                Some(entry) if entry.key().0 <= self.now => {
                    let happening = entry.remove();
                    self.happen(happening);
                }
                Some(_) | None => self.tick(),
            }
        }
        self.check();
        let counts = self.submit.counts();
        self.add_counts();
        assert_eq!(counts.done, self.plan.shards.len());
        self.counts.broker = self.broker.counts;
        self.counts
    }

    /// Time passes for whoever waits for it. Long waits are cut short, as nothing happens in them but pulls.
    fn tick(&mut self) {
        let idle = self.now > FAULTS_END && self.servers.iter().all(|s| s.role.held_len() == 0);
        if idle && self.random.chance(30) {
            self.now += self.limits.republish_after / 4;
        }
        self.step_submit(SubmitEvent::Tick);
        for host in 1..=self.servers.len() {
            self.step_server(host, ServeEvent::Tick);
        }
    }

    fn add_counts(&mut self) {
        let counts = self.submit.counts();
        self.counts.stale += counts.stale;
        self.counts.expired += counts.expired;
        self.counts.invalid += counts.invalid;
        self.counts.dead += counts.dead;
        for server in &self.servers {
            let counts = server.role.counts();
            self.counts.returned += counts.returned;
            self.counts.again += counts.again;
        }
    }

    fn is_alive(&self, life: Life) -> bool {
        match life.host {
            0 => life.life == self.submit_life,
            host => life.life == self.servers[host - 1].life,
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Broker(life, event) if self.is_alive(life) => match life.host {
                0 => self.step_submit(SubmitEvent::Broker(event)),
                host => self.step_server(host, ServeEvent::Broker(event)),
            },
            Happening::Worked(life, key, outcome) if self.is_alive(life) => {
                self.step_server(
                    life.host,
                    ServeEvent::Worked(key, outcome.ok_or_else(|| "broken".to_owned())),
                );
            }
            Happening::Own(life, key, outcome) if self.is_alive(life) => self.own(key, outcome),
            Happening::Killed(life) if self.is_alive(life) => self.restart_server(life.host),
            Happening::Resume(life) if self.is_alive(life) => {
                let missed = self.servers[life.host - 1].hung.take();
                for event in missed.into_iter().flatten() {
                    self.step_server(life.host, event);
                }
            }
            // Of a life that is over.
            Happening::Broker(..)
            | Happening::Worked(..)
            | Happening::Own(..)
            | Happening::Killed(_)
            | Happening::Resume(_) => {}
            Happening::Crash(host) => self.crash(host),
            Happening::BrokerCrash => {
                self.counts.crashes[2] += 1;
                self.broker.crash(self.now, &mut self.random);
            }
            Happening::Noise => self.noise(),
        }
    }

    fn crash(&mut self, host: usize) {
        if host == 0 {
            self.counts.crashes[0] += 1;
            return self.restart_submit();
        }
        let hangs = self.now < FAULTS_END && self.random.chance(50);
        let now = self.now;
        let server = &mut self.servers[host - 1];
        if hangs && server.hung.is_none() {
            server.hung = Some(Vec::new());
            let life = Life { host, life: server.life };
            let pause = Duration::from_secs(self.random.below(200));
            return self.at(now + pause, Happening::Resume(life));
        }
        self.restart_server(host);
    }

    fn restart_server(&mut self, host: usize) {
        let (now, broken) = (self.now, self.random.chance(30));
        let broken_until = now + Duration::from_secs(self.random.below(120));
        let server = &mut self.servers[host - 1];
        self.counts.crashes[1] += 1;
        let counts = server.role.counts();
        self.counts.returned += counts.returned;
        self.counts.again += counts.again;
        server.life += 1;
        server.hung = None;
        if broken && now < FAULTS_END {
            server.broken_until = broken_until;
        }
        let limits = ServeLimits { shards: SHARDS_HELD_MAX };
        let dataset = std::slice::from_ref(&self.plan.dataset);
        server.role = ServeRole::new(&format!("h{host}"), dataset, limits);
        self.step_server(host, ServeEvent::Tick);
    }

    fn restart_submit(&mut self) {
        let counts = self.submit.counts();
        self.counts.stale += counts.stale;
        self.counts.expired += counts.expired;
        self.counts.invalid += counts.invalid;
        self.counts.dead += counts.dead;
        self.submit_life += 1;
        let record = LedgerState::of(&self.ledger);
        assert_eq!(record, self.record, "seed {}", self.random.seed());
        self.submit = SubmitRole::new(self.plan.clone(), self.limits, record);
        self.step_submit(SubmitEvent::Tick);
    }

    /// Publishes noise, and results that must not count.
    fn noise(&mut self) {
        let key = ShardKey {
            job: if self.random.chance(50) { self.plan.job } else { JobKey(1) },
            shard: u32::try_from(self.random.below(30)).unwrap_or(0),
            attempt: 0,
        };
        let digests = vec![0xee; 32 * self.random.index(4)];
        let outcome = ShardOutcome::Hashed { digests, failures: vec![] };
        let of = ShardDigest::default();
        let answer = ShardAnswer { key, of, host: "stranger".to_owned(), outcome };
        let bodies = [answer.encode(), b"{}".to_vec(), vec![0xff; 10]];
        for (body, number) in bodies.into_iter().zip(0..) {
            for queue in [
                BrokerQueue::Results(self.plan.job),
                BrokerQueue::Shards(self.plan.dataset.clone()),
            ] {
                let id = format!("noise.{}.{number}.{queue}", self.next);
                self.broker.publish(self.now, queue, &id, body.clone(), &mut self.random);
            }
        }
        self.next += 1;
    }

    fn step_submit(&mut self, event: SubmitEvent) {
        let actions = self.submit.step(self.now, event);
        let life = Life { host: 0, life: self.submit_life };
        for action in actions {
            if self.now < FAULTS_END && self.random.chance(1) && self.random.chance(30) {
                self.counts.crashes[0] += 1;
                return self.restart_submit();
            }
            match action {
                SubmitAction::Record(record) => self.record(record),
                SubmitAction::Send(command) => self.send(life, command),
                SubmitAction::Publish(key) => {
                    let files = self.files[key.shard as usize].clone();
                    let command = self.submit.publication(key, files);
                    self.send(life, command);
                }
                SubmitAction::Audit(key) => {
                    let shard = self.plan.shard(key, self.files[key.shard as usize].clone());
                    let is_deadly = self.deadly.contains(&shard.key.shard);
                    let fails = is_deadly || self.now < FAULTS_END && self.random.chance(10);
                    let outcome = (!fails).then(|| hashed(&shard));
                    self.soon(Happening::Own(life, shard.key, outcome));
                }
                SubmitAction::Finish => {
                    assert!(!self.finished, "seed {}: finished twice", self.random.seed());
                    self.finished = true;
                }
            }
        }
        let out = self.submit.outstanding();
        let seed = self.random.seed();
        assert!(out <= self.limits.outstanding, "seed {seed}: {out} shards are out");
    }

    fn record(&mut self, record: LedgerRecord) {
        let seed = self.random.seed();
        match &record {
            LedgerRecord::Attempt(key) => {
                let used = self.ledger.contains(&record);
                assert!(!used, "seed {seed}: attempt {key} twice");
            }
            LedgerRecord::Answer(answer) => {
                let has_one = self.record.answers.contains_key(&answer.key.shard);
                assert!(!has_one, "seed {seed}: {} twice", answer.key);
                let is_digest = answer.outcome != ShardOutcome::Dead;
                let lies = is_digest && self.record.distrusted.contains(&answer.host);
                assert!(!lies, "seed {seed}: {} of a host that lied", answer.key);
                assert_ne!(answer.host, "stranger", "seed {seed}");
                let mut attempts = self.ledger.iter().filter_map(|record| match record {
                    LedgerRecord::Attempt(key) if key.shard == answer.key.shard => Some(*key),
                    LedgerRecord::Attempt(_)
                    | LedgerRecord::Answer(_)
                    | LedgerRecord::Audited(_)
                    | LedgerRecord::Distrust(_)
                    | LedgerRecord::Finished => None,
                });
                assert_eq!(
                    attempts.next_back(),
                    Some(answer.key),
                    "seed {seed}: not of the last attempt"
                );
            }
            LedgerRecord::Audited(shard) => {
                assert!(self.record.answers.contains_key(shard), "seed {seed}: nothing to confirm");
            }
            LedgerRecord::Finished => {
                assert_eq!(self.record.answers.len(), self.plan.shards.len(), "seed {seed}");
            }
            LedgerRecord::Distrust(host) => {
                let liar = self.liar.map(|liar| format!("h{liar}"));
                assert_eq!(Some(host), liar.as_ref(), "seed {seed}: an honest host is accused");
                let of = |answer: &&AcceptedAnswer| *answer.host == **host;
                self.counts.withdrawn += self.record.answers.values().filter(of).count() as u64;
            }
        }
        self.record.add(&record);
        self.ledger.push(record);
    }

    fn send(&mut self, life: Life, command: BrokerCommand) {
        if let BrokerCommand::Publish { queue: BrokerQueue::Shards(_), id, .. } = &command {
            let key: ShardKey = id.parse().expect("the key is the id");
            let known = self.ledger.contains(&LedgerRecord::Attempt(key));
            assert!(known, "seed {}: {id} is published before it is recorded", self.random.seed());
        }
        let events = self.broker.command(self.now, command, &mut self.random);
        for event in events {
            // A pull's end comes last, what else there is in any order.
            match event {
                BrokerEvent::Pulled { .. } => {
                    let at = self.now + Duration::from_secs(1 + self.random.below(5));
                    self.at(at, Happening::Broker(life, event));
                }
                BrokerEvent::Published { .. } | BrokerEvent::Delivered { .. } => {
                    self.soon(Happening::Broker(life, event));
                }
            }
        }
    }

    fn step_server(&mut self, host: usize, event: ServeEvent) {
        let now = self.now;
        let server = &mut self.servers[host - 1];
        if let Some(missed) = &mut server.hung {
            if !matches!(event, ServeEvent::Tick) {
                missed.push(event);
            }
            return;
        }
        let life = Life { host, life: server.life };
        let actions = server.role.step(now, event);
        let held = server.role.held_len();
        assert!(held <= SHARDS_HELD_MAX, "seed {}: {held} are held", self.random.seed());
        for action in actions {
            match action {
                ServeAction::Send(command) => self.send(life, command),
                ServeAction::Work(shard) => self.work(life, &shard),
            }
        }
    }

    /// The answer to a shard that counts.
    fn answer(&self, shard: u32) -> Option<&ShardAnswer> {
        self.record.answers.get(&shard)?;
        self.ledger.iter().rev().find_map(|record| match record {
            LedgerRecord::Answer(answer) if answer.key.shard == shard => Some(answer),
            LedgerRecord::Answer(_)
            | LedgerRecord::Attempt(_)
            | LedgerRecord::Audited(_)
            | LedgerRecord::Distrust(_)
            | LedgerRecord::Finished => None,
        })
    }

    /// The submitting host has hashed a shard itself, or could not.
    fn own(&mut self, key: ShardKey, outcome: Option<ShardOutcome>) {
        let of = ShardDigest::default();
        let answer = |outcome| ShardAnswer { key, of, host: "own".to_owned(), outcome };
        let local = outcome.map(answer).map(|ours| {
            let theirs = self.answer(key.shard);
            let agrees = theirs.is_none_or(|theirs| self.submit.agree(&ours, theirs));
            (ours, agrees)
        });
        self.step_submit(SubmitEvent::Audited { shard: key.shard, local });
    }

    /// The outcome of a host's work, wrong now and then if it lies.
    fn outcome(&mut self, host: usize, shard: &Shard) -> ShardOutcome {
        let mut outcome = hashed(shard);
        if self.liar == Some(host)
            && self.random.chance(40)
            && let ShardOutcome::Hashed { digests, .. } = &mut outcome
            && let Some(byte) = digests.last_mut()
        {
            *byte ^= 1;
            self.counts.lies += 1;
        }
        outcome
    }

    fn work(&mut self, life: Life, shard: &Shard) {
        let secs = if self.random.chance(10) { 100 } else { 5 };
        let end = self.now + Duration::from_millis(self.random.below(secs * 1000));
        let broken = self.servers[life.host - 1].broken_until > self.now;
        let happening = if self.deadly.contains(&shard.key.shard) {
            Happening::Killed(life)
        } else {
            let outcome = (!broken).then(|| self.outcome(life.host, shard));
            Happening::Worked(life, shard.key, outcome)
        };
        self.at(end, happening);
    }

    /// Compares the ledger with what every file must give.
    fn check(&mut self) {
        let seed = self.random.seed();
        for (files, number) in self.files.iter().zip(0..) {
            let answer = self.answer(number);
            let answer = answer.unwrap_or_else(|| panic!("seed {seed}: no result of {number}"));
            if answer.outcome == ShardOutcome::Dead {
                let attempts = u64::from(answer.key.attempt);
                self.counts.given_up += 1;
                assert!(
                    attempts >= u64::from(DEAD_MAX),
                    "seed {seed}: {number} was given up early"
                );
                // A shard that is not deadly can have this only by bad luck, on hosts that all fail.
                continue;
            }
            assert!(
                !self.deadly.contains(&number),
                "seed {seed}: {number} kills whoever hashes it"
            );
            for (file, outcome) in files.iter().zip(answer.outcomes(files.len(), ALGORITHM)) {
                let want = digest(&file.path.0);
                let want = if file.path.0.ends_with(CHANGED) {
                    Err(Failure::Changed)
                } else {
                    Ok(&want[..])
                };
                assert_eq!(outcome, want, "seed {seed}: {file:?}");
            }
        }
        assert_eq!(DELIVERIES_MAX, 5, "as docs/hosts.md says");
    }
}
