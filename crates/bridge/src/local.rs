//! One shard, hashed by the local controller, to which this is a client.

use crate::config::identify;
use crate::shard::{Shard, ShardOutcome};
use crate::tree::{mtime_ns, place};
use client::{Address, Client, ClientError, ConnectError, Event, JobOptions};
use ipc_proto::Blob;
use ipc_proto::message::{Failure, Stamp};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;
use thiserror::Error;

/// Longest time without a word of the controller, besides that for the longest file.
const SILENCE_MAX: Duration = Duration::from_secs(300);

/// Rate at which even a slow host hashes, in bytes per second.
const SLOW_RATE: u64 = 8 << 20;

/// Why this host cannot hash a shard, though another may.
#[derive(Debug, Error)]
pub enum ShardError {
    /// The dataset is not there, or another one is in its place.
    #[error("dataset {0} is not the one of the shard")]
    Dataset(String),
    /// A file cannot be looked at.
    #[error("cannot look at a file: {0}")]
    Stat(#[source] io::Error),
    /// The controller cannot be reached.
    #[error("controller: {0}")]
    Connect(#[source] ConnectError),
    /// The controller was lost, or refused.
    #[error("controller: {0}")]
    Client(#[source] ClientError),
    /// Nobody works.
    #[error("no worker is ready")]
    NoWorkers,
    /// Nothing has happened for too long.
    #[error("no word from the controller for {0:?}")]
    Silent(Duration),
    /// The workers cannot do it.
    #[error("the workers cannot: {0:?}")]
    Workers(Failure),
}

/// Has the files of `shard`, whose dataset is at `root`, hashed by the controller at `address`.
///
/// # Errors
/// See [`ShardError`].
pub fn hash(address: &Address, root: &Path, shard: &Shard) -> Result<ShardOutcome, ShardError> {
    // A file system that is not mounted any more leaves its empty directory.
    let here = identify(shard.dataset.name(), root);
    if !here.is_ok_and(|here| here == shard.dataset) {
        return Err(ShardError::Dataset(shard.dataset.name().to_owned()));
    }
    let mut outcomes: BTreeMap<u64, Result<Vec<u8>, Failure>> = BTreeMap::new();
    let (mut files, mut tags) = (Vec::new(), Vec::new());
    for (file, tag) in shard.files.iter().zip(0..) {
        match stamp(root, &file.path.0)? {
            Ok(stamp) if stamp.size == file.size && stamp.mtime_ns == file.mtime_ns => {
                files.push((Blob::from(file.path.0.clone()), stamp));
                tags.push(tag);
            }
            Ok(_) => {
                outcomes.insert(tag, Err(Failure::Changed));
            }
            Err(failure) => {
                outcomes.insert(tag, Err(failure));
            }
        }
    }
    if !tags.is_empty() {
        run(address, shard, files, &tags, &mut outcomes)?;
    }
    let (mut digests, mut failures) = (Vec::new(), Vec::new());
    for position in 0..shard.files.len() as u64 {
        match outcomes.remove(&position) {
            Some(Ok(digest)) => digests.extend(digest),
            Some(Err(failure)) => match failure {
                Failure::Unsupported
                | Failure::UnknownDataset
                | Failure::WorkersLost { .. }
                | Failure::Disputed => return Err(ShardError::Workers(failure)),
                // Those of manifests are of no file that a shard names.
                Failure::Changed
                | Failure::NotRegular
                | Failure::Io { .. }
                | Failure::Invalid
                | Failure::Outside
                | Failure::NotAList
                | Failure::BadLines { .. } => {
                    failures.push((u32::try_from(position).unwrap_or(u32::MAX), failure));
                }
            },
            None => {
                return Err(ShardError::Client(ClientError::Nonsense("a file without a result")));
            }
        }
    }
    Ok(ShardOutcome::Hashed { digests, failures })
}

/// The stamp of a file as this host sees it, or why it has none anywhere.
fn stamp(root: &Path, path: &[u8]) -> Result<Result<Stamp, Failure>, ShardError> {
    match fs::symlink_metadata(place(root, path)) {
        Ok(metadata) if metadata.is_file() => {
            let ctime_ns = metadata.ctime().wrapping_mul(1_000_000_000);
            Ok(Ok(Stamp {
                size: metadata.len(),
                mtime_ns: mtime_ns(&metadata),
                ctime_ns: ctime_ns.wrapping_add(metadata.ctime_nsec()),
            }))
        }
        Ok(_) => Ok(Err(Failure::NotRegular)),
        Err(error) => match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, Some(errno)) => {
                Ok(Err(Failure::Io { errno }))
            }
            _ => Err(ShardError::Stat(error)),
        },
    }
}

fn run(
    address: &Address,
    shard: &Shard,
    mut files: Vec<(Blob, Stamp)>,
    tags: &[u64],
    outcomes: &mut BTreeMap<u64, Result<Vec<u8>, Failure>>,
) -> Result<(), ShardError> {
    // As they are here: what the shard says of others is its sender's word.
    let longest = files.iter().map(|(_, stamp)| stamp.size).max().unwrap_or(0);
    let silence = SILENCE_MAX + Duration::from_secs(longest / SLOW_RATE);
    let client = Client::connect(address).map_err(ShardError::Connect)?;
    let (submitter, mut replies) = client.split();
    replies.set_timeout(Some(silence)).map_err(ShardError::Client)?;
    let mut job =
        submitter.open(shard.algorithm, JobOptions::default()).map_err(ShardError::Client)?;
    thread::scope(|scope| {
        let sending = scope.spawn(move || {
            job.send_names(shard.dataset.name(), &mut files, tags).and_then(|()| job.finish())
        });
        let received = loop {
            match replies.receive() {
                Ok(Some(Event::Opened { workers: 0, .. })) => break Err(ShardError::NoWorkers),
                Ok(Some(Event::Results(results))) => {
                    for (tag, outcome) in results.iter() {
                        outcomes.insert(tag, outcome.map(<[u8]>::to_vec));
                    }
                }
                Ok(Some(Event::Finished { .. })) => break Ok(()),
                // Digests of a worker that lies are not passed on.
                Ok(Some(Event::Suspect { .. })) => {
                    break Err(ShardError::Workers(Failure::Disputed));
                }
                Ok(Some(Event::Cancelled { .. })) => {
                    break Err(ShardError::Client(ClientError::Stopped));
                }
                Ok(Some(
                    Event::Opened { .. }
                    | Event::Window { .. }
                    | Event::Advanced { .. }
                    | Event::Death { .. },
                )) => {}
                Ok(None) => break Err(ShardError::Silent(silence)),
                Err(error) => break Err(ShardError::Client(error)),
            }
        };
        submitter.stop();
        let sent = sending.join().unwrap_or(Err(ClientError::Stopped));
        received.and_then(|()| sent.map_err(ShardError::Client))
    })
}
