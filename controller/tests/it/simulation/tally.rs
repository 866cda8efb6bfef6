//! Counts of events in the simulation.

/// Counts over a run, so that a simulation in which nothing happens cannot pass.
#[derive(Debug, Default)]
pub(super) struct CoreCounts {
    pub(super) resolved: u64,
    pub(super) failed: u64,
    pub(super) lost_items: u64,
    pub(super) finished: u64,
    pub(super) cancelled: u64,
    pub(super) deaths: u64,
    pub(super) hangs: u64,
    pub(super) stale: u64,
    pub(super) quarantined: u64,
    pub(super) doubted: u64,
    pub(super) back_in_quarantine: u64,
    pub(super) released: u64,
    pub(super) merges: u64,
    pub(super) closed_clients: u64,
    pub(super) waited_windows: u64,
    pub(super) grown_windows: u64,
    pub(super) named: u64,
    pub(super) named_parts: u64,
    pub(super) unknown_datasets: u64,
    pub(super) checks: u64,
    pub(super) lies: u64,
    pub(super) contradicted: u64,
    pub(super) disputed: u64,
    pub(super) progress: u64,
    pub(super) resumed: u64,
    pub(super) started_over: u64,
    pub(super) found_out: u64,
    pub(super) pages: u64,
    pub(super) failed_pages: u64,
    pub(super) lost_pages: u64,
    pub(super) dropped_pages: u64,
    pub(super) page_lies: u64,
    pub(super) drained: u64,
    pub(super) drains_ended: u64,
    pub(super) left: u64,
    pub(super) trace: Vec<String>,
}

impl CoreCounts {
    pub(super) fn add(&mut self, other: &Self) {
        for (sum, value) in self.counts_mut().into_iter().zip(other.counts()) {
            *sum += value;
        }
    }

    pub(super) fn assert_everything_happened(&self) {
        assert!(self.counts().iter().all(|&count| count > 0), "something never happened: {self:?}");
    }

    fn counts(&self) -> [u64; 35] {
        [
            self.resolved,
            self.failed,
            self.lost_items,
            self.finished,
            self.cancelled,
            self.deaths,
            self.hangs,
            self.stale,
            self.quarantined,
            self.doubted,
            self.back_in_quarantine,
            self.released,
            self.merges,
            self.closed_clients,
            self.waited_windows,
            self.grown_windows,
            self.named,
            self.named_parts,
            self.unknown_datasets,
            self.disputed,
            self.contradicted,
            self.lies,
            self.checks,
            self.progress,
            self.resumed,
            self.started_over,
            self.found_out,
            self.pages,
            self.failed_pages,
            self.lost_pages,
            self.dropped_pages,
            self.page_lies,
            self.drained,
            self.drains_ended,
            self.left,
        ]
    }

    fn counts_mut(&mut self) -> [&mut u64; 35] {
        [
            &mut self.resolved,
            &mut self.failed,
            &mut self.lost_items,
            &mut self.finished,
            &mut self.cancelled,
            &mut self.deaths,
            &mut self.hangs,
            &mut self.stale,
            &mut self.quarantined,
            &mut self.doubted,
            &mut self.back_in_quarantine,
            &mut self.released,
            &mut self.merges,
            &mut self.closed_clients,
            &mut self.waited_windows,
            &mut self.grown_windows,
            &mut self.named,
            &mut self.named_parts,
            &mut self.unknown_datasets,
            &mut self.disputed,
            &mut self.contradicted,
            &mut self.lies,
            &mut self.checks,
            &mut self.progress,
            &mut self.resumed,
            &mut self.started_over,
            &mut self.found_out,
            &mut self.pages,
            &mut self.failed_pages,
            &mut self.lost_pages,
            &mut self.dropped_pages,
            &mut self.page_lies,
            &mut self.drained,
            &mut self.drains_ended,
            &mut self.left,
        ]
    }
}
