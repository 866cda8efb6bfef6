//! Reads what the broker keeps for people: the last report of each host, and dead letters.

use super::{Fault, Kind, NatsError, Shared, connect};
use crate::config::BrokerSettings;
use crate::registry::{HostReport, SeenHost, host_token};
use crate::shard::{ReturnNote, Shard, ShardKey};
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use async_nats::jetstream::message::PublishMessage;
use futures_util::StreamExt;
use overview::{JsonName, one_line};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::mpsc::channel;
use std::time::{Duration, UNIX_EPOCH};
use telemetry::utc;
use tokio::time::timeout;

/// Time for all that the broker keeps of a kind.
const LOOK_LIMIT: Duration = Duration::from_secs(60);

/// Messages that are asked for at a time.
const PAGE_LEN: usize = 256;

/// Hosts that are shown at most.
const HOSTS_MAX: usize = 10_000;

/// Reasons that are shown of one dead letter at most.
const REASONS_MAX: usize = 8;

/// A message that the broker keeps.
struct Letter {
    subject: String,
    body: Vec<u8>,
    /// Its time by the broker's clock, in seconds since 1970.
    at: u64,
}

/// A shard that no host could finish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The shard.
    pub shard: Shard,
    /// The time by the broker's clock, in seconds since 1970.
    pub at: u64,
    /// Reasons of hosts that gave it back, oldest first. One that ended or fell silent has said none.
    pub reasons: Vec<ReturnNote>,
}

impl DeadLetter {
    /// The object of `dead --json`.
    #[must_use]
    pub fn object(&self) -> serde_json::Value {
        let files = self.shard.files.iter().map(|file| JsonName::new(&file.path.0));
        let reason =
            |note: &ReturnNote| serde_json::json!({ "host": note.host, "reason": note.reason });
        let reasons = self.reasons.iter().map(reason);
        serde_json::json!({
            "job": self.shard.key.job.to_string(),
            "shard": self.shard.key.shard,
            "attempt": self.shard.key.attempt,
            "dataset": self.shard.dataset.name(),
            "algorithm": self.shard.algorithm.name(),
            "at": self.at,
            "bytes": self.shard.bytes(),
            "files": files.collect::<Vec<_>>(),
            "reasons": reasons.collect::<Vec<_>>(),
        })
    }

    /// A line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let Shard { key, dataset, files, .. } = &self.shard;
        let first = files.first().map(|file| one_line(&String::from_utf8_lossy(&file.path.0)));
        let (time, len) =
            (utc(UNIX_EPOCH + Duration::from_secs(self.at)), overview::bytes(self.shard.bytes()));
        let mut line = format!(
            "{time}  {key}  {}  {} files, {len}, from {}",
            dataset.name(),
            files.len(),
            first.unwrap_or_default(),
        );
        for ReturnNote { host, reason, .. } in &self.reasons {
            let _ = write!(line, "; {host}: {reason}");
        }
        if self.reasons.is_empty() {
            line.push_str("; no host has said why");
        }
        line
    }
}

/// The hosts that have reported, by name, and the number of messages that are no reports.
///
/// # Errors
/// See [`NatsError`].
pub fn hosts(settings: &BrokerSettings) -> Result<(Vec<SeenHost>, u64), NatsError> {
    let (mut reports, mut invalid, mut now) = (Vec::new(), 0, 0);
    // A message of our own has the broker's time.
    let own = format!("hosts.{}.clock", host_token(&settings.host));
    look(settings, Kind::Hosts, Some(&own), |letter| {
        now = letter.at.max(now);
        let mut tokens = letter.subject.rsplit('.');
        let role = tokens.next().unwrap_or_default();
        match HostReport::decode(&letter.body, tokens.next().unwrap_or_default()) {
            _ if role == "clock" => {}
            Ok(report) if reports.len() < HOSTS_MAX => reports.push((report, letter.at)),
            Ok(_) | Err(_) => invalid += 1,
        }
    })?;
    let seen = |(report, at)| SeenHost { report, at, age: now.saturating_sub(at) };
    let mut hosts: Vec<SeenHost> = reports.into_iter().map(seen).collect();
    hosts.sort_by(|a, b| a.report.host.cmp(&b.report.host));
    Ok((hosts, invalid))
}

/// Shows `each` dead letter, oldest first, and returns the number of messages that are none.
///
/// # Errors
/// See [`NatsError`].
pub fn dead(settings: &BrokerSettings, mut each: impl FnMut(DeadLetter)) -> Result<u64, NatsError> {
    let (mut invalid, mut reasons) = (0, HashMap::<ShardKey, Vec<ReturnNote>>::new());
    look(settings, Kind::Reasons, None, |letter| match ReturnNote::decode(&letter.body) {
        Ok(note) => {
            let notes = reasons.entry(note.key).or_default();
            let is_said =
                notes.iter().any(|said| (&said.host, &said.reason) == (&note.host, &note.reason));
            if !is_said && notes.len() < REASONS_MAX {
                notes.push(note);
            }
        }
        Err(_) => invalid += 1,
    })?;
    look(settings, Kind::Dead, None, |letter| match Shard::decode(&letter.body) {
        Ok(shard) => {
            let reasons = reasons.get(&shard.key).cloned().unwrap_or_default();
            each(DeadLetter { shard, at: letter.at, reasons });
        }
        Err(_) => invalid += 1,
    })?;
    Ok(invalid)
}

fn look(
    settings: &BrokerSettings,
    kind: Kind,
    own: Option<&str>,
    mut each: impl FnMut(Letter),
) -> Result<(), NatsError> {
    let fail = |source| NatsError::Connect { servers: settings.servers.join(", "), source };
    super::read_auth(&settings.credentials, b"")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(NatsError::Thread)?;
    runtime.block_on(async {
        // What happens to the connection is said by the error.
        let (inputs, _events) = channel();
        let broker = connect(settings, &inputs).await.map_err(fail)?;
        let read = timeout(LOOK_LIMIT, read(&broker.shared, kind, own, &mut each)).await;
        read.map_err(Fault::from).flatten().map_err(fail)
    })
}

async fn read(
    shared: &Shared,
    kind: Kind,
    own: Option<&str>,
    each: &mut impl FnMut(Letter),
) -> Result<(), Fault> {
    let deliver_policy = match own {
        Some(name) => {
            let subject = shared.full_subject(name);
            let message = PublishMessage::build().payload(Vec::new().into());
            shared.jetstream.send_publish(subject, message).await?.await?;
            DeliverPolicy::LastPerSubject
        }
        None => DeliverPolicy::All,
    };
    let stream = shared.stream(kind).await?;
    let config = pull::Config {
        ack_policy: AckPolicy::None,
        filter_subject: shared.full_subject(&format!("{}.>", kind.word())),
        deliver_policy,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let mut pending = consumer.cached_info().num_pending;
    while pending > 0 {
        let mut page = consumer.fetch().max_messages(PAGE_LEN).messages().await?;
        let before = pending;
        while let Some(message) = page.next().await {
            let message = message?;
            let info = message.info()?;
            let at = u64::try_from(info.published.unix_timestamp()).unwrap_or(0);
            pending = info.pending;
            let subject = message.subject.to_string();
            each(Letter { subject, body: message.payload.to_vec(), at });
        }
        if pending == before {
            return Err("the broker says that there is more, and sends nothing".into());
        }
    }
    // It would end by itself.
    let _ = stream.delete_consumer(&consumer.cached_info().name).await;
    Ok(())
}
