//! A journal in memory that can be full, lose what was not synced, and lie.

use hashcluster_controller::journal::Query;
use hashcluster_controller::journal::{MemoryTables, Rows, Snapshot, Write};

#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// Contents as reads see them.
    cached: MemoryTables,
    /// Contents after a crash.
    durable: MemoryTables,
}

impl Disk {
    /// Carries out a transaction; it is durable unless the fsync lies.
    pub(crate) fn commit(&mut self, writes: &[Write], lies: bool) {
        self.cached.apply(writes);
        if !lies {
            self.durable = self.cached.clone();
        }
    }

    pub(crate) fn crash(&mut self) {
        self.cached = self.durable.clone();
    }

    pub(crate) fn read(&self, query: &Query) -> Rows {
        let Query { table, from, to, bytes_max } = query;
        self.cached.range(*table, from, to, *bytes_max).expect("memory does not fail")
    }
}
