//! A journal in memory that can be full, lose what was not synced, and lie.

use hashcluster_controller::journal::Query;
use hashcluster_controller::journal::{MemoryTables, Rows, Snapshot, TableId, Write};
use ipc_proto::message::{JobId, JobState};
use std::collections::BTreeSet;

fn id_of(key: &[u8]) -> JobId {
    let (epoch, number) = key.split_at(4);
    let epoch = u32::from_be_bytes(epoch.try_into().expect("4 bytes"));
    let number = u64::from_be_bytes(number.try_into().expect("8 bytes"));
    JobId { epoch, number }
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// Contents as reads see them.
    cached: MemoryTables,
    /// Contents after a crash.
    durable: MemoryTables,
    /// Jobs that were removed.
    pub(crate) removed: BTreeSet<JobId>,
}

impl Disk {
    /// Carries out a transaction; it is durable unless the fsync lies.
    pub(crate) fn commit(&mut self, writes: &[Write], lies: bool) {
        writes.iter().for_each(|write| self.note_removal(write));
        self.cached.apply(writes);
        if !lies {
            self.durable = self.cached.clone();
        }
    }

    /// Notes the removal of a job, which must have ended.
    fn note_removal(&mut self, write: &Write) {
        let Write::Delete { table: table @ TableId::Jobs, key } = write else { return };
        // The row of its progress: the form, then the state.
        let [id @ .., 1] = &key[..] else { return };
        let progress = self.cached.get(*table, key).expect("memory does not fail");
        let state = progress.expect("a job is removed once")[1];
        assert!(state >= JobState::Done as u8, "a job that has not ended is removed");
        self.removed.insert(id_of(id));
    }

    /// Jobs that are done or failed.
    pub(crate) fn ended(&self) -> impl Iterator<Item = JobId> {
        let all = Query { table: TableId::Jobs, from: vec![], to: vec![], bytes_max: usize::MAX };
        let rows = self.read(&all).rows.into_iter();
        let has_ended = |state| [JobState::Done as u8, JobState::Failed as u8].contains(&state);
        rows.filter_map(move |(key, value)| match &key[..] {
            [id @ .., 1] => has_ended(value[1]).then(|| id_of(id)),
            _ => None,
        })
    }

    pub(crate) fn rows_len(&self) -> u64 {
        self.cached.rows_len()
    }

    pub(crate) fn crash(&mut self) {
        self.cached = self.durable.clone();
    }

    pub(crate) fn read(&self, query: &Query) -> Rows {
        let Query { table, from, to, bytes_max } = query;
        self.cached.range(*table, from, to, *bytes_max).expect("memory does not fail")
    }
}
