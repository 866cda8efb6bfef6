//! A conversation with the controller about durable jobs, which goes on after a lost connection.

use super::{WAIT_MS, remedy};
use crate::config::Config;
use crate::engine::connect;
use crate::exit::Exit;
use crate::say::say;
use client::{Address, Client};
use ipc_proto::limits::JOB_ROWS_MAX;
use ipc_proto::message::{
    JobFilter, JobId, JobRow, JobState, ServiceRefusal, ServiceReply, ServiceRequest,
};
use std::convert::Infallible;
use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

/// Time for which a lost controller is looked for.
const RECONNECT_TIME: Duration = Duration::from_secs(60);

/// Shortest and longest pause between two attempts.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A job as a person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobName {
    /// By its id.
    Id(JobId),
    /// By the key of its submission.
    Key(String),
}

impl FromStr for JobName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(JobId::parse(text).map_or_else(|| Self::Key(text.to_owned()), Self::Id))
    }
}

impl From<&OsString> for JobName {
    fn from(text: &OsString) -> Self {
        let Ok(name) = text.to_string_lossy().parse();
        name
    }
}

/// A controller's answer that is none.
pub(crate) fn nonsense() -> Exit {
    say(format_args!("the controller's answer makes no sense"));
    Exit::Unreachable
}

/// The conversation.
#[derive(Debug)]
pub(crate) struct JobSession<'a> {
    config: &'a Config,
    client: Option<Client>,
    deadline: Option<Instant>,
}

impl<'a> JobSession<'a> {
    pub(crate) fn new(config: &'a Config) -> Self {
        Self { config, client: None, deadline: None }
    }

    pub(crate) fn config(&self) -> &'a Config {
        self.config
    }

    /// Gives up waiting after this many seconds.
    pub(super) fn set_limit(&mut self, seconds: Option<u32>) {
        let limit = seconds.map(|seconds| Duration::from_secs(seconds.into()));
        self.deadline = limit.map(|limit| Instant::now() + limit);
    }

    /// The connection, made if there is none.
    pub(super) fn client(&mut self) -> Result<&mut Client, Exit> {
        match &mut self.client {
            Some(client) => Ok(client),
            none => Ok(none.insert(connect(self.config)?)),
        }
    }

    /// The controller's answer to a request, which is repeated after a lost connection. A refusal is
    /// reported.
    pub(crate) fn ask(&mut self, request: &ServiceRequest) -> Result<ServiceReply, Exit> {
        let mut lost: Option<Instant> = None;
        let mut pause = PAUSE_MIN;
        loop {
            let answer = match &mut self.client {
                Some(client) => client.service(request.clone()).map_err(|error| error.to_string()),
                None if lost.is_none() => {
                    self.client()?;
                    continue;
                }
                None => match Client::connect(&self.address()) {
                    Ok(client) => {
                        self.client = Some(client);
                        continue;
                    }
                    Err(error) => Err(error.to_string()),
                },
            };
            let text = match answer {
                Ok(ServiceReply::Refused { reason, .. })
                    if reason == ServiceRefusal::UnknownJob
                        && lost.is_some()
                        && removes(request) =>
                {
                    // Its first answer was lost.
                    return Err(Exit::Success);
                }
                Ok(ServiceReply::Refused { reason, text }) => {
                    let is_of_jobs = !matches!(
                        request,
                        ServiceRequest::Schedule(_) | ServiceRequest::Backup { .. }
                    );
                    let remedy = if is_of_jobs { remedy(reason) } else { "" };
                    say(format_args!("{text}{remedy}"));
                    return Err(Exit::Failure);
                }
                Ok(reply) => return Ok(reply),
                Err(text) => text,
            };
            self.client = None;
            let since = *lost.get_or_insert_with(Instant::now);
            if since.elapsed() > RECONNECT_TIME {
                let place = self.config.endpoint_text();
                say(format_args!("lost the controller at {place}: {text}"));
                return Err(Exit::Unreachable);
            }
            // All that lost it do not come back at the same moment.
            let jitter = RandomState::new().hash_one(since) % 50;
            thread::sleep(
                pause.mul_f64(0.75 + f64::from(u32::try_from(jitter).unwrap_or(0)) / 100.0),
            );
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Where the controller is now: after a restart it can have another token.
    fn address(&self) -> Address {
        let dir = self.config.rediscovered_in.as_ref();
        let found = dir.and_then(|dir| Address::in_dir(dir).ok());
        found.unwrap_or_else(|| self.config.address.clone())
    }

    /// The id of a job.
    pub(super) fn id(&mut self, name: &JobName) -> Result<JobId, Exit> {
        match name {
            JobName::Id(id) => Ok(*id),
            JobName::Key(_) => self.find(name).map(|row| row.id),
        }
    }

    /// A job.
    pub(crate) fn find(&mut self, name: &JobName) -> Result<JobRow, Exit> {
        let key = match name {
            JobName::Id(job) => return self.job(&ServiceRequest::Job { job: *job }),
            JobName::Key(key) => key,
        };
        let filter = JobFilter { key: key.clone(), ..JobFilter::default() };
        let request = ServiceRequest::Jobs { filter, after: None, limit: 2 };
        let ServiceReply::Jobs { rows, .. } = self.ask(&request)? else { return Err(nonsense()) };
        match <[JobRow; 1]>::try_from(rows) {
            Ok([row]) => Ok(row),
            Err(rows) if rows.is_empty() => {
                say(format_args!("there is no job with the key {key}; see hashctl jobs"));
                Err(Exit::Failure)
            }
            Err(_) => {
                say(format_args!("several jobs have the key {key}; name one by its id"));
                Err(Exit::Failure)
            }
        }
    }

    /// All jobs that fit a filter.
    pub(crate) fn jobs(&mut self, filter: &JobFilter) -> Result<Vec<JobRow>, Exit> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let limit = u16::try_from(JOB_ROWS_MAX).unwrap_or(u16::MAX);
            let request = ServiceRequest::Jobs { filter: filter.clone(), after, limit };
            let ServiceReply::Jobs { rows, more } = self.ask(&request)? else {
                return Err(nonsense());
            };
            after = rows.last().map(|row| row.id);
            all.extend(rows);
            if !more || after.is_none() {
                return Ok(all);
            }
        }
    }

    /// The job in the answer to a request.
    pub(super) fn job(&mut self, request: &ServiceRequest) -> Result<JobRow, Exit> {
        let ServiceReply::Job(row) = self.ask(request)? else { return Err(nonsense()) };
        Ok(*row)
    }

    /// A job after its end, or as it is when the time is over.
    pub(super) fn wait_for(&mut self, mut row: JobRow) -> Result<JobRow, Exit> {
        while !row.state.has_ended() {
            let left =
                self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                say(format_args!("job {} has not ended in time", row.id));
                return Err(Exit::Failure);
            }
            if matches!(row.state, JobState::Filling | JobState::Paused) && self.deadline.is_none()
            {
                let state = row.state.name();
                say(format_args!("job {} is {state}: it does not end by itself", row.id));
                return Err(Exit::Failure);
            }
            let left_ms = left.map_or(u128::from(WAIT_MS), |left| left.as_millis().max(1));
            let timeout_ms = u32::try_from(left_ms).unwrap_or(WAIT_MS).min(WAIT_MS);
            row = self.job(&ServiceRequest::Wait { job: row.id, timeout_ms })?;
        }
        Ok(row)
    }
}

/// True for a request that a job does not outlive.
fn removes(request: &ServiceRequest) -> bool {
    matches!(request, ServiceRequest::Act { act: ipc_proto::message::JobAct::Remove, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_two_numbers_and_anything_else_a_key() {
        for (text, want) in [
            ("1800000000-7", Some((1_800_000_000, 7))),
            ("0-0", Some((0, 0))),
            ("nightly", None),
            ("2026-11-27", None),
            ("1-+2", None),
            ("-", None),
            ("99999999999-1", None),
        ] {
            let want = want.map(|(epoch, number)| JobId { epoch, number });
            assert_eq!(JobId::parse(text), want, "{text}");
        }
    }
}
