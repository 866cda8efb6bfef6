//! New jobs, and items that clients store.

use super::ask::{AskRefusal, Asker};
use super::record::{
    JobOrigin, JobProgress, StoredItem, StoredItems, put_items, put_items_max, put_origin,
    put_progress,
};
use super::usage::Amount;
use super::{Book, DurableJob};
use ipc_proto::Blob;
use ipc_proto::message::{
    FileItem, FileSource, Items, JobId, JobKind, JobSpec, JobState, ServiceRefusal,
};
use std::rc::Rc;

impl Book {
    pub(super) fn submit(
        &mut self,
        asker: Asker<'_>,
        key: String,
        spec: JobSpec,
    ) -> Result<(), AskRefusal> {
        self.may_submit(asker)?;
        let Asker { caller, tag, principal, .. } = asker;
        if let Some(&id) = self.keys.get(&(principal, key.clone())) {
            if self.jobs.get(&id).is_some_and(|job| job.origin.spec == spec) {
                self.reply_job(caller, tag, id);
                return Ok(());
            }
            let text = format!("job {id} has this key, and is another one");
            return Err((ServiceRefusal::KeyTaken, text));
        }
        if let Some(name) = spec.source.dataset() {
            self.may_read(asker, name)?;
        }
        self.may_compare(asker, &spec)?;
        self.has_room()?;
        if self.jobs.len() >= super::limits::JOBS_MAX {
            let text = format!("there are {} durable jobs; remove some", self.jobs.len());
            return Err((ServiceRefusal::TooMuch, text));
        }
        let created_s = self.at.wall_s;
        let origin = JobOrigin { key, spec, principal: principal.into(), created_s };
        let progress = JobProgress::new(&origin);
        let amount = Amount::of(&origin, &progress);
        let quota = asker.rights.quota;
        if u64::from(origin.spec.priority) > quota.priority {
            let text =
                format!("{principal} may give jobs a priority of at most {}", quota.priority);
            return Err((ServiceRefusal::Forbidden, text));
        }
        let taken = self.usage.take(principal, amount, quota.into());
        taken.map_err(|text| (ServiceRefusal::TooMuch, text))?;
        // A clock that was set back must not give out an id for the second time.
        let id = if self.epoch > self.last_id.epoch {
            JobId { epoch: self.epoch, number: 0 }
        } else {
            JobId { epoch: self.last_id.epoch, number: self.last_id.number + 1 }
        };
        self.last_id = id;
        if !origin.key.is_empty() {
            self.keys.insert((principal, origin.key.clone()), id);
        }
        self.commits.write(put_origin(id, &origin));
        self.commits.write([put_progress(id, &progress)]);
        let is_running = progress.state == JobState::Running;
        let mut job = DurableJob::new(Rc::new(origin), progress);
        if quota.durable_items < u64::MAX {
            job.items_max = quota.durable_items;
            self.commits.write([put_items_max(id, quota.durable_items)]);
        }
        self.jobs.insert(id, job);
        if is_running {
            self.make_ready(id);
        }
        self.reply_job(caller, tag, id);
        Ok(())
    }

    fn may_read(&self, asker: Asker<'_>, dataset: &str) -> Result<(), AskRefusal> {
        let is_known = self.datasets.iter().any(|known| known == dataset);
        if is_known && asker.rights.datasets.includes(dataset) {
            return Ok(());
        }
        Err((ServiceRefusal::UnknownDataset, format!("there is no dataset {dataset}")))
    }

    /// Checks that the bound of the journal leaves room for something new.
    fn has_room(&self) -> Result<(), AskRefusal> {
        self.shortage().map_or(Ok(()), |text| Err((ServiceRefusal::TooMuch, text)))
    }

    /// Checks that a job can take items from `asker`.
    fn filling(&self, asker: Asker<'_>, id: JobId) -> Result<(), AskRefusal> {
        self.may_submit(asker)?;
        self.seen(asker, id)?;
        let Some(job) = self.jobs.get(&id) else { return Ok(()) };
        if !asker.may_change(job.origin.principal.into()) {
            let text = format!("job {id} is another user's");
            return Err((ServiceRefusal::Forbidden, text));
        }
        Ok(())
    }

    pub(super) fn store(
        &mut self,
        asker: Asker<'_>,
        (id, first): (JobId, u64),
        (names, expected): (Vec<Blob>, Vec<Blob>),
        items: Items,
    ) -> Result<(), AskRefusal> {
        self.filling(asker, id)?;
        let (dataset, contents) = contents(items)?;
        if !dataset.is_empty() {
            self.may_read(asker, &dataset)?;
        }
        let Some(job) = self.jobs.get(&id) else { return Ok(()) };
        if !self.is_stored(id)
            || (job.progress.state != JobState::Filling && first >= job.progress.items)
        {
            let text = format!("job {id} takes no items any more");
            return Err((ServiceRefusal::WrongState, text));
        }
        let spec = &job.origin.spec;
        let digests_len = spec.algorithms.digests_len();
        let wanted = if spec.kind == JobKind::Check { names.len() } else { 0 };
        if expected.len() != wanted || expected.iter().any(|digests| digests.len() != digests_len) {
            let text = format!(
                "{wanted} expected digests of {digests_len} bytes are wanted for {} items",
                names.len()
            );
            return Err((ServiceRefusal::WrongItems, text));
        }
        let stored = job.progress.items;
        if first > stored {
            let text = format!("items {stored} to {} were left out", first - 1);
            return Err((ServiceRefusal::WrongItems, text));
        }
        // Those that came before, by a request whose answer was lost.
        let known = usize::try_from(stored - first).unwrap_or(usize::MAX);
        let expected = expected.into_iter().map(Some).chain(std::iter::repeat(None));
        let items: Vec<StoredItem> = names
            .into_iter()
            .zip(expected)
            .zip(contents)
            .skip(known)
            .map(|((name, expected), (file, content))| StoredItem {
                name,
                expected: expected.unwrap_or_default(),
                file,
                content,
                ..StoredItem::default()
            })
            .collect();
        if !items.is_empty() {
            self.has_room()?;
            let bytes = items.iter().map(StoredItem::stored_len).sum();
            let amount = Amount { items: items.len() as u64, bytes, ..Amount::default() };
            self.usage
                .take(job.origin.principal.into(), amount, job.held_max())
                .map_err(|text| (ServiceRefusal::TooMuch, text))?;
            let write = put_items(id, stored, &StoredItems { dataset, items });
            self.commits.write([write]);
            let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
            job.progress.items += amount.items;
            job.progress.stored_len += amount.bytes;
            self.write_progress(id);
        }
        self.reply_job(asker.caller, asker.tag, id);
        Ok(())
    }

    pub(super) fn seal(&mut self, asker: Asker<'_>, id: JobId) -> Result<(), AskRefusal> {
        self.filling(asker, id)?;
        if let Some(job) =
            self.jobs.get_mut(&id).filter(|job| job.progress.state == JobState::Filling)
        {
            job.progress.state = JobState::Running;
            job.progress.is_complete = true;
            self.write_progress(id);
            self.make_ready(id);
        }
        self.reply_job(asker.caller, asker.tag, id);
        Ok(())
    }
}

/// The dataset of items, and what each is.
fn contents(items: Items) -> Result<(String, Vec<(FileItem, Blob)>), AskRefusal> {
    match items {
        Items::Files { source: FileSource::Descriptors, .. } => {
            let text = "a passed descriptor ends with its connection, and a durable job does not: \
                        name files of a dataset, or send their bytes";
            Err((ServiceRefusal::NotDurable, text.to_owned()))
        }
        Items::Files { source: FileSource::Dataset { name, paths }, files } => {
            Ok((name, files.into_iter().zip(paths).collect()))
        }
        Items::Inline { lens, data } => {
            let mut rest = &data[..];
            let bytes = lens.iter().map(|&len| {
                let (bytes, after) = rest.split_at(len as usize);
                rest = after;
                (FileItem::default(), Blob::from(bytes))
            });
            Ok((String::new(), bytes.collect()))
        }
    }
}
