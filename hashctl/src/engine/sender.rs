//! Items on their way to the controller, sent in the order of tasks.
//!
//! Invariant: one job at a time takes items. A thread that waited for the window of a second job
//! while the first is open could wait for ever, because windows are shares of one user's total.

use crate::input::datasets::Name;
use crate::input::plane::Served;
use client::{ClientError, Job, JobOptions, Submitter};
use ipc_proto::message::Stamp;
use ipc_proto::{Algorithms, Blob};
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Sends items in frames.
#[derive(Debug)]
pub(crate) struct ItemSender {
    submitter: Submitter,
    options: JobOptions,
    /// The job that takes items.
    job: Option<(Algorithms, Job)>,
    pub(crate) served: Served,
    /// The task that is sent next.
    pub(crate) turn: u64,
    /// Nothing can be sent any more.
    pub(crate) has_failed: bool,
}

/// Opened files that are not sent yet, by algorithms.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: Vec<(Algorithms, Lane)>,
    /// Items in all of them.
    len: usize,
    /// Inline bytes in all of them.
    pub(crate) data_len: usize,
    /// Sent, but not closed yet.
    sent: Vec<OwnedFd>,
}

#[derive(Debug, Default)]
struct Lane {
    stamps: Vec<Stamp>,
    files: Vec<OwnedFd>,
    file_tags: Vec<u64>,
    lens: Vec<u32>,
    data: Vec<u8>,
    message_tags: Vec<u64>,
    /// By dataset, in the order in which they came.
    names: Vec<(Arc<str>, Names)>,
}

#[derive(Debug, Default)]
struct Names {
    files: Vec<(Blob, Stamp)>,
    tags: Vec<u64>,
}

impl ItemSender {
    pub(crate) fn new(submitter: Submitter, options: JobOptions) -> Self {
        let served = Served::default();
        Self { submitter, options, job: None, served, turn: 0, has_failed: false }
    }

    pub(crate) fn has_job(&self) -> bool {
        self.job.is_some()
    }

    /// The job of `algorithms`; that of others ends first.
    pub(crate) fn job(&mut self, algorithms: Algorithms) -> Result<&mut Job, ClientError> {
        let job = match self.job.take() {
            Some((open, job)) if open == algorithms => job,
            other => {
                if let Some((_, job)) = other {
                    job.finish()?;
                }
                self.submitter.open(algorithms, self.options)?
            }
        };
        Ok(&mut self.job.insert((algorithms, job)).1)
    }

    pub(crate) fn finish_job(&mut self) -> Result<(), ClientError> {
        self.job.take().map_or(Ok(()), |(_, job)| job.finish())
    }

    /// Sends everything in `lanes`, first what the open job takes.
    pub(crate) fn send(&mut self, lanes: &mut Lanes) -> Result<(), ClientError> {
        (lanes.len, lanes.data_len) = (0, 0);
        let open = self.job.as_ref().map(|(algorithms, _)| *algorithms);
        for is_open in [true, false] {
            for (algorithms, lane) in &mut lanes.lanes {
                if (Some(*algorithms) == open) == is_open && !lane.is_empty() {
                    lane.send(self.job(*algorithms)?)?;
                    self.served.descriptors += lane.files.len() as u64;
                    self.served.inline += lane.message_tags.len() as u64;
                    for (dataset, names) in &lane.names {
                        self.served.count_names(dataset, names.tags.len() as u64);
                    }
                    lanes.sent.append(&mut lane.files);
                    lane.clear();
                }
            }
        }
        Ok(())
    }
}

impl Lanes {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The lane of algorithms, which gets an item.
    fn add(&mut self, algorithms: Algorithms) -> &mut Lane {
        self.len += 1;
        let known = self.lanes.iter().position(|(of, _)| *of == algorithms);
        let position = known.unwrap_or_else(|| {
            self.lanes.push((algorithms, Lane::default()));
            self.lanes.len() - 1
        });
        &mut self.lanes[position].1
    }

    pub(crate) fn add_file(
        &mut self,
        algorithms: Algorithms,
        tag: u64,
        file: OwnedFd,
        stamp: Stamp,
    ) {
        let lane = self.add(algorithms);
        lane.stamps.push(stamp);
        lane.files.push(file);
        lane.file_tags.push(tag);
    }

    pub(crate) fn add_bytes(&mut self, algorithms: Algorithms, tag: u64, data: &[u8]) {
        self.data_len += data.len();
        let lane = self.add(algorithms);
        lane.lens.push(u32::try_from(data.len()).expect("a small file"));
        lane.data.extend_from_slice(data);
        lane.message_tags.push(tag);
    }

    pub(crate) fn add_name(&mut self, algorithms: Algorithms, tag: u64, name: Name, stamp: Stamp) {
        let Name { dataset, path } = name;
        let datasets = &mut self.add(algorithms).names;
        let at = datasets.iter().position(|(known, _)| *known == dataset).unwrap_or_else(|| {
            datasets.push((dataset, Names::default()));
            datasets.len() - 1
        });
        let names = &mut datasets[at].1;
        names.files.push((Blob(path), stamp));
        names.tags.push(tag);
    }

    /// Closes the files that are sent.
    pub(crate) fn close_sent(&mut self) {
        ipc_socket::close_all(self.sent.drain(..));
    }
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.files.is_empty()
            && self.lens.is_empty()
            && self.names.iter().all(|(_, names)| names.tags.is_empty())
    }

    fn send(&mut self, job: &mut Job) -> Result<(), ClientError> {
        if !self.files.is_empty() {
            job.send_files(&self.stamps, &self.files, &self.file_tags)?;
        }
        if !self.lens.is_empty() {
            let (lens, data) = (mem::take(&mut self.lens), mem::take(&mut self.data));
            job.send_messages(lens, data, &self.message_tags)?;
        }
        for (dataset, names) in &mut self.names {
            job.send_names(dataset, &mut names.files, &names.tags)?;
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.stamps.clear();
        self.file_tags.clear();
        self.message_tags.clear();
        self.names.iter_mut().for_each(|(_, names)| names.tags.clear());
    }
}
