//! Counted events of worlds.

/// Events of worlds, counted.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) crashes: u64,
    pub(crate) crashes_in_recovery: u64,
    pub(crate) crashes_in_commit: u64,
    pub(crate) full: u64,
    pub(crate) commits: u64,
    pub(crate) retries: u64,
    pub(crate) items: u64,
    pub(crate) late: u64,
    pub(crate) repeated: u64,
    pub(crate) lost_workers: u64,
    pub(crate) pages: u64,
    pub(crate) claims: u64,
    pub(crate) findings: u64,
    pub(crate) ended: u64,
    pub(crate) retired: u64,
    pub(crate) short: u64,
}

impl Totals {
    fn fields(&self) -> [u64; 16] {
        let Self { crashes, crashes_in_recovery, crashes_in_commit, full, commits, .. } = self;
        let Self { retries, items, late, repeated, lost_workers, pages, .. } = self;
        let Self { claims, findings, ended, retired, short, .. } = self;
        [
            *crashes,
            *crashes_in_recovery,
            *crashes_in_commit,
            *full,
            *commits,
            *retries,
            *items,
            *late,
            *repeated,
            *lost_workers,
            *pages,
            *claims,
            *findings,
            *ended,
            *retired,
            *short,
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.crashes_in_recovery += other.crashes_in_recovery;
        self.crashes_in_commit += other.crashes_in_commit;
        self.full += other.full;
        self.commits += other.commits;
        self.retries += other.retries;
        self.items += other.items;
        self.late += other.late;
        self.repeated += other.repeated;
        self.lost_workers += other.lost_workers;
        self.pages += other.pages;
        self.claims += other.claims;
        self.findings += other.findings;
        self.ended += other.ended;
        self.retired += other.retired;
        self.short += other.short;
    }

    pub(crate) fn assert_everything_happened(&self) {
        assert!(self.fields().iter().all(|&count| count > 0), "{self:?}");
    }
}
