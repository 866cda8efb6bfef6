//! Shards and their results: what they are, how files are packed into them, and how they travel.
//!
//! Messages are JSON, as brokers have tools that show it. Invariant: what [`Shard::decode`] and
//! [`ShardAnswer::decode`] return keeps the limits, whoever wrote it.

use crate::transport::BODY_LEN_MAX;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipc_proto::Algorithm;
use ipc_proto::limits::{NAME_LEN_MAX, PATH_LEN_MAX};
use ipc_proto::message::{Failure, check_dataset};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Shortest target length of a shard, in bytes.
pub const SHARD_LEN_MIN: u64 = 64 << 20;

/// Longest target length of a shard, in bytes. A longer file is a shard of its own.
pub const SHARD_LEN_MAX: u64 = 256 << 20;

/// Shards that a job should have at least, before their length grows: enough for the tail to be short.
const SHARDS_WANTED: u64 = 1024;

/// Most files of a shard.
pub const SHARD_FILES_MAX: usize = 2048;

/// Most bytes of the paths of a shard: with their encoding and metadata they fit a message of the broker.
pub const SHARD_PATHS_LEN_MAX: usize = 384 << 10;

/// Longest reason in a [`ReturnNote`], in bytes.
pub const REASON_LEN_MAX: usize = 512;

/// Longest identity of a dataset, in bytes.
pub const IDENTITY_LEN_MAX: usize = 64;

/// Bytes, in base64 where they are written.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Base64Bytes(pub Vec<u8>);

impl fmt::Debug for Base64Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(&self.0))
    }
}

impl Serialize for Base64Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A job, by a random number that its submitter chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey(pub u128);

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for JobKey {
    type Err = WrongMessage;

    fn from_str(text: &str) -> Result<Self, WrongMessage> {
        let is_ours = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = is_ours.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map(Self).ok_or(WrongMessage::Limit("job"))
    }
}

/// A dataset as many hosts have it: its name, and the identity in its marker file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatasetKey {
    name: String,
    identity: String,
}

impl DatasetKey {
    /// The dataset of this name and identity.
    ///
    /// # Errors
    /// [`WrongMessage::Limit`] for a name that the protocol does not allow, or an identity that is not 1 to
    /// [`IDENTITY_LEN_MAX`] letters, digits and hyphens.
    pub fn new(name: &str, identity: &str) -> Result<Self, WrongMessage> {
        check_dataset(name).map_err(|_| WrongMessage::Limit("dataset"))?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if identity.is_empty()
            || identity.len() > IDENTITY_LEN_MAX
            || !identity.bytes().all(is_plain)
        {
            return Err(WrongMessage::Limit("identity"));
        }
        Ok(Self { name: name.to_owned(), identity: identity.to_owned() })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The content of its marker file.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }
}

impl fmt::Display for DatasetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.identity)
    }
}

/// One attempt at one shard of one job: what a result has to name to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardKey {
    /// The job.
    pub job: JobKey,
    /// Number of the shard in it.
    pub shard: u32,
    /// Number of the attempt, from 1.
    pub attempt: u32,
}

impl fmt::Display for ShardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.job, self.shard, self.attempt)
    }
}

impl FromStr for ShardKey {
    type Err = WrongMessage;

    fn from_str(text: &str) -> Result<Self, WrongMessage> {
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or(WrongMessage::Limit("key"));
        let job = part()?.parse()?;
        let number = |text: &str| text.parse().map_err(|_| WrongMessage::Limit("key"));
        let key = Self { job, shard: number(part()?)?, attempt: number(part()?)? };
        if parts.next().is_some() { Err(WrongMessage::Limit("key")) } else { Ok(key) }
    }
}

/// A file of a shard, as the submitting host saw it. Its times of status changes are its host's alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardFile {
    /// Path from the dataset's root.
    pub path: Base64Bytes,
    /// Length in bytes.
    pub size: u64,
    /// Time of the last modification, in nanoseconds since 1970.
    pub mtime_ns: i64,
}

/// Files to hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The attempt.
    pub key: ShardKey,
    /// Where the files are.
    pub dataset: DatasetKey,
    /// The digest of each.
    pub algorithm: Algorithm,
    /// The files: 1 to [`SHARD_FILES_MAX`].
    pub files: Vec<ShardFile>,
}

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardOutcome {
    /// Every file was tried.
    Hashed {
        /// Digests of the files that did not fail, back to back, in order.
        digests: Vec<u8>,
        /// The files that failed, by position, in ascending order.
        failures: Vec<(u32, Failure)>,
    },
    /// It was delivered as often as is allowed, and no host finished it.
    Dead,
}

/// The BLAKE3 digest of a shard's message: names exactly what was asked for, as a key alone does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardDigest(pub [u8; 32]);

impl ShardDigest {
    /// The digest of the message `body`.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        Self(*blake3::hash(body).as_bytes())
    }
}

/// A host's answer to a [`Shard`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardAnswer {
    /// The attempt.
    pub key: ShardKey,
    /// The message that it answers.
    pub of: ShardDigest,
    /// Name of the host.
    pub host: String,
    /// The outcome.
    pub outcome: ShardOutcome,
}

/// Note of a host that gave a shard back, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnNote {
    /// The attempt.
    pub key: ShardKey,
    /// Name of the host.
    pub host: String,
    /// The reason, in words.
    pub reason: String,
}

/// Why bytes from the broker are no message.
#[derive(Debug, Error)]
pub enum WrongMessage {
    /// It is no JSON of the expected form.
    #[error("not the expected JSON")]
    Json(#[source] serde_json::Error),
    /// A field is beyond its limit.
    #[error("{0}: beyond its limit, or not of its form")]
    Limit(&'static str),
}

/// A shard as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShardForm {
    key: String,
    dataset: String,
    identity: String,
    algorithm: String,
    files: Vec<ShardFile>,
}

/// An answer as it is written. Without digests and failures the attempt is dead.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerForm {
    key: String,
    of: Base64Bytes,
    host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digests: Option<Base64Bytes>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    failures: Vec<(u32, Failure)>,
}

/// A note as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoteForm {
    key: String,
    host: String,
    reason: String,
}

/// The bytes of a form: all its keys are text and all its numbers finite.
pub(crate) fn to_json(form: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(form).expect("keys of our own objects are text")
}

/// The form in a message. A broker may be configured for longer ones than are written here.
fn from_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, WrongMessage> {
    if body.len() > BODY_LEN_MAX {
        return Err(WrongMessage::Limit("length"));
    }
    serde_json::from_slice(body).map_err(WrongMessage::Json)
}

/// Bytes of files together.
#[must_use]
pub fn files_len(files: &[ShardFile]) -> u64 {
    files.iter().fold(0, |len, file| file.size.saturating_add(len))
}

impl Shard {
    /// Bytes of its files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        files_len(&self.files)
    }

    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(&ShardForm {
            key: self.key.to_string(),
            dataset: self.dataset.name.clone(),
            identity: self.dataset.identity.clone(),
            algorithm: self.algorithm.name().to_owned(),
            files: self.files.clone(),
        })
    }

    /// The shard in a message.
    ///
    /// # Errors
    /// See [`WrongMessage`].
    pub fn decode(body: &[u8]) -> Result<Self, WrongMessage> {
        let form: ShardForm = from_json(body)?;
        let algorithm = form.algorithm.parse().map_err(|_| WrongMessage::Limit("algorithm"))?;
        if form.files.is_empty() || form.files.len() > SHARD_FILES_MAX {
            return Err(WrongMessage::Limit("files"));
        }
        if !form.files.iter().all(|file| is_path(&file.path.0)) {
            return Err(WrongMessage::Limit("path"));
        }
        Ok(Self {
            key: form.key.parse()?,
            dataset: DatasetKey::new(&form.dataset, &form.identity)?,
            algorithm,
            files: form.files,
        })
    }
}

/// True for a path that leads below a dataset's root and nowhere else.
fn is_path(path: &[u8]) -> bool {
    let is_plain = |component: &[u8]| !matches!(component, b"" | b"." | b"..");
    !path.is_empty()
        && path.len() <= PATH_LEN_MAX
        && !path.contains(&0)
        && path.split(|&byte| byte == b'/').all(is_plain)
}

fn check_host(host: &str) -> Result<(), WrongMessage> {
    if host.is_empty() || host.len() > NAME_LEN_MAX || host.contains(char::is_control) {
        return Err(WrongMessage::Limit("host"));
    }
    Ok(())
}

impl ReturnNote {
    /// The message; a reason that is too long is cut off.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let plain = self.reason.replace(char::is_control, " ");
        let reason = plain[..plain.floor_char_boundary(REASON_LEN_MAX)].to_owned();
        to_json(&NoteForm { key: self.key.to_string(), host: self.host.clone(), reason })
    }

    /// The note in a message.
    ///
    /// # Errors
    /// See [`WrongMessage`].
    pub fn decode(body: &[u8]) -> Result<Self, WrongMessage> {
        let NoteForm { key, host, reason } = from_json(body)?;
        check_host(&host)?;
        if reason.len() > REASON_LEN_MAX || reason.contains(char::is_control) {
            return Err(WrongMessage::Limit("reason"));
        }
        Ok(Self { key: key.parse()?, host, reason })
    }
}

impl ShardAnswer {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (digests, failures) = match &self.outcome {
            ShardOutcome::Hashed { digests, failures } => {
                (Some(Base64Bytes(digests.clone())), failures.clone())
            }
            ShardOutcome::Dead => (None, Vec::new()),
        };
        to_json(&AnswerForm {
            key: self.key.to_string(),
            of: Base64Bytes(self.of.0.to_vec()),
            host: self.host.clone(),
            digests,
            failures,
        })
    }

    /// The answer in a message.
    ///
    /// # Errors
    /// See [`WrongMessage`].
    pub fn decode(body: &[u8]) -> Result<Self, WrongMessage> {
        let form: AnswerForm = from_json(body)?;
        check_host(&form.host)?;
        let outcome = match form.digests {
            Some(Base64Bytes(digests)) => ShardOutcome::Hashed { digests, failures: form.failures },
            None if form.failures.is_empty() => ShardOutcome::Dead,
            None => return Err(WrongMessage::Limit("failures")),
        };
        let of = form.of.0.try_into().map_err(|_| WrongMessage::Limit("of"))?;
        Ok(Self { key: form.key.parse()?, of: ShardDigest(of), host: form.host, outcome })
    }

    /// True if it has one outcome for each of `files_len` files, and digests of that length.
    #[must_use]
    pub fn fits(&self, files_len: usize, algorithm: Algorithm) -> bool {
        let ShardOutcome::Hashed { digests, failures } = &self.outcome else { return true };
        let mut next = 0;
        let ascend = failures.iter().all(|&(position, _)| {
            let position = position as usize;
            let fits = position >= next && position < files_len;
            next = position + 1;
            fits
        });
        ascend && digests.len() == (files_len - failures.len()) * algorithm.digest_len()
    }

    /// True unless it is a dead letter.
    #[must_use]
    pub fn is_of_digests(&self) -> bool {
        self.outcome != ShardOutcome::Dead
    }

    /// True if this and `other`, which both [fit](Self::fits), have no file with two different digests. A file that only one
    /// of them could hash contradicts nothing: it may have changed in between.
    #[must_use]
    pub fn agrees(&self, other: &Self, files_len: usize, algorithm: Algorithm) -> bool {
        let (ours, theirs) =
            (self.outcomes(files_len, algorithm), other.outcomes(files_len, algorithm));
        ours.iter().zip(&theirs).all(|pair| match pair {
            (Ok(one), Ok(another)) => one == another,
            (Ok(_) | Err(_), Ok(_) | Err(_)) => true,
        })
    }

    /// The outcome of each of `files_len` files, of an answer that [fits](Self::fits).
    pub fn outcomes(&self, files_len: usize, algorithm: Algorithm) -> Vec<Result<&[u8], Failure>> {
        let ShardOutcome::Hashed { digests, failures } = &self.outcome else {
            let attempts = self.key.attempt;
            return vec![Err(Failure::WorkersLost { attempts }); files_len];
        };
        let mut failures = failures.iter().peekable();
        let mut digests = digests.chunks_exact(algorithm.digest_len());
        let outcome = |position: usize| match failures.next_if(|(at, _)| *at as usize == position) {
            Some(&(_, failure)) => Err(failure),
            None => digests.next().ok_or(Failure::Invalid),
        };
        (0..files_len).map(outcome).collect()
    }
}

/// The target length of shards after `total` bytes of a job: a power of two.
#[must_use]
pub fn shard_len(total: u64) -> u64 {
    let wanted = (total / SHARDS_WANTED).checked_next_power_of_two().unwrap_or(SHARD_LEN_MAX);
    wanted.clamp(SHARD_LEN_MIN, SHARD_LEN_MAX)
}

/// Packs files into shards, in their order. Their target grows with the job: [`shard_len`] of the bytes so far.
#[derive(Debug, Default)]
pub struct ShardPacker {
    files: Vec<ShardFile>,
    len: u64,
    paths_len: usize,
    total: u64,
}

impl ShardPacker {
    /// Takes the next file; returns the shard that is full because of it.
    pub fn push(&mut self, file: ShardFile) -> Option<Vec<ShardFile>> {
        let fits = self.files.is_empty()
            || self.files.len() < SHARD_FILES_MAX
                && self.len.saturating_add(file.size) <= shard_len(self.total)
                && self.paths_len + file.path.0.len() <= SHARD_PATHS_LEN_MAX;
        let full = if fits { None } else { self.finish() };
        self.len = self.len.saturating_add(file.size);
        self.paths_len += file.path.0.len();
        self.total = self.total.saturating_add(file.size);
        self.files.push(file);
        full
    }

    /// The last shard; none without files.
    pub fn finish(&mut self) -> Option<Vec<ShardFile>> {
        (self.len, self.paths_len) = (0, 0);
        let files = std::mem::take(&mut self.files);
        (!files.is_empty()).then_some(files)
    }
}

#[cfg(test)]
mod tests;
