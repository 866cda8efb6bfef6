//! Workers and jobs as rows: filtered, sorted, and as cells of a table.

use super::table::{Cell, Column, Table, Tone};
use ipc_proto::message::{JobStatus, QuarantineStatus, WorkerHealth, WorkerStatus};
use overview::{StatusHistory, age, bytes, health, one_line};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

/// A connected worker, or one in quarantine that is not connected.
#[derive(Clone, Copy, Debug)]
pub(super) struct WorkerRow<'a> {
    pub(super) name: &'a str,
    /// None while it is not connected.
    pub(super) health: Option<WorkerHealth>,
    pub(super) worker: Option<&'a WorkerStatus>,
    pub(super) quarantine: Option<&'a QuarantineStatus>,
    /// It is drained, and not connected.
    is_drained: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerSort {
    Name,
    Rate,
    Health,
    InFlight,
    Lost,
}

impl WorkerSort {
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Name => Self::Rate,
            Self::Rate => Self::Health,
            Self::Health => Self::InFlight,
            Self::InFlight => Self::Lost,
            Self::Lost => Self::Name,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Rate => "rate",
            Self::Health => "health",
            Self::InFlight => "batches in flight",
            Self::Lost => "batches lost",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobSort {
    Age,
    Left,
    Items,
    Failed,
}

impl JobSort {
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Age => Self::Left,
            Self::Left => Self::Items,
            Self::Items => Self::Failed,
            Self::Failed => Self::Age,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Left => "time left",
            Self::Items => "items",
            Self::Failed => "failed items",
        }
    }
}

fn matches(filter: &str, words: &[&str]) -> bool {
    let filter = filter.to_lowercase();
    words.iter().any(|word| word.to_lowercase().contains(&filter))
}

/// Workers whose name, health or backend has `filter` in it.
pub(super) fn worker_rows<'a>(
    history: &'a StatusHistory,
    filter: &str,
    sort: WorkerSort,
) -> Vec<WorkerRow<'a>> {
    let Some((_, status)) = history.last() else { return Vec::new() };
    let quarantine = |name: &str| status.quarantined.iter().find(|row| row.worker == name);
    let here = status.workers.iter().map(|worker| WorkerRow {
        name: &worker.name,
        health: Some(worker.health),
        worker: Some(worker),
        quarantine: match worker.health {
            WorkerHealth::Quarantined => quarantine(&worker.name),
            WorkerHealth::Ready | WorkerHealth::Suspended | WorkerHealth::Draining => None,
        },
        is_drained: false,
    });
    let gone = status.quarantined.iter().filter(|row| !row.connected).map(|row| WorkerRow {
        name: &row.worker,
        health: None,
        worker: None,
        quarantine: Some(row),
        is_drained: false,
    });
    let drained = status.drained.iter().filter(|row| !row.connected);
    let drained = drained.filter(|row| quarantine(&row.worker).is_none()).map(|row| WorkerRow {
        name: &row.worker,
        health: None,
        worker: None,
        quarantine: None,
        is_drained: true,
    });
    let gone = gone.chain(drained);
    let mut rows: Vec<WorkerRow<'a>> =
        here.chain(gone).filter(|row| matches(filter, &[row.name, row.health_text()])).collect();
    let of = |number: fn(&WorkerStatus) -> u64| {
        move |row: &WorkerRow<'_>| Reverse(row.worker.map_or(0, number))
    };
    // Stable, so that rows that are equal are in the order of names.
    rows.sort_by(|a, b| a.name.cmp(b.name));
    match sort {
        WorkerSort::Name => {}
        WorkerSort::Rate => rows.sort_by_key(of(|worker| worker.bytes_per_s)),
        WorkerSort::Health => rows.sort_by_key(|row| row.rank()),
        WorkerSort::InFlight => rows.sort_by_key(of(|worker| worker.leases.into())),
        WorkerSort::Lost => rows.sort_by_key(of(|worker| worker.leases_lost)),
    }
    rows
}

impl WorkerRow<'_> {
    fn health_text(&self) -> &'static str {
        let away = if self.is_drained { "drained, away" } else { "quarantined, away" };
        self.health.map_or(away, health)
    }

    /// The worst first.
    const fn rank(&self) -> u8 {
        match self.health {
            None if self.is_drained => 3,
            None => 0,
            Some(WorkerHealth::Quarantined) => 1,
            Some(WorkerHealth::Suspended) => 2,
            Some(WorkerHealth::Draining) => 3,
            Some(WorkerHealth::Ready) => 4,
        }
    }

    fn cells(&self, history: &StatusHistory) -> [Cell; 9] {
        let tone = match self.health {
            Some(WorkerHealth::Ready) => Tone::Good,
            None if self.is_drained => Tone::Warning,
            Some(WorkerHealth::Suspended | WorkerHealth::Draining) => Tone::Warning,
            None | Some(WorkerHealth::Quarantined) => Tone::Bad,
        };
        let number = |number: fn(&WorkerStatus) -> String| {
            Cell::plain(&self.worker.map_or_else(|| "-".to_owned(), number))
        };
        [
            Cell::plain(&one_line(self.name)),
            Cell::Text(self.health_text().to_owned(), tone),
            number(|worker| bytes(worker.bytes_per_s)),
            Cell::Spark(history.rates(self.name).collect()),
            number(|worker| worker.items_per_s.to_string()),
            number(|worker| worker.leases.to_string()),
            number(|worker| worker.threads.to_string()),
            number(|worker| worker.leases_lost.to_string()),
            number(backends),
        ]
    }
}

/// Each kernel that it uses for anything.
fn backends(worker: &WorkerStatus) -> String {
    let names: BTreeSet<&str> = worker.backends.iter().flat_map(|b| b.backend.split('/')).collect();
    one_line(&names.into_iter().collect::<Vec<_>>().join(","))
}

/// Jobs whose id, uid, pid or algorithm has `filter` in it.
pub(super) fn job_rows<'a>(
    history: &'a StatusHistory,
    filter: &str,
    sort: JobSort,
) -> Vec<&'a JobStatus> {
    let Some((_, status)) = history.last() else { return Vec::new() };
    let wanted = |job: &&JobStatus| {
        let (id, pid) = (job.known_id().to_string(), job.pid.to_string());
        matches(filter, &[&id, &uid(job), &pid, &job.algorithms.to_string()])
    };
    let mut rows: Vec<&JobStatus> = status.jobs.iter().filter(wanted).collect();
    match sort {
        JobSort::Age => rows.sort_by_key(|job| Reverse(job.age_ms)),
        JobSort::Left => {
            rows.sort_by_key(|job| history.time_left(job).unwrap_or(Duration::MAX));
        }
        JobSort::Items => rows.sort_by_key(|job| Reverse(job.items)),
        JobSort::Failed => rows.sort_by_key(|job| Reverse(job.failed)),
    }
    rows
}

fn uid(job: &JobStatus) -> String {
    job.uid().map_or_else(|| "-".to_owned(), |uid| uid.to_string())
}

fn job_cells(history: &StatusHistory, job: &JobStatus) -> [Cell; 10] {
    let part = part(job);
    let failed = if job.failed == 0 { Tone::Plain } else { Tone::Bad };
    let dash = || "-".to_owned();
    [
        Cell::plain(&job.known_id()),
        Cell::Bar(part),
        Cell::plain(&part.map_or_else(dash, |part| format!("{:.0}%", (part * 100.0).floor()))),
        Cell::plain(&format!(
            "{}/{}{}",
            job.resolved,
            job.items,
            if job.finished { "" } else { "+" }
        )),
        Cell::plain(&history.time_left(job).map_or_else(dash, age)),
        Cell::Text(job.failed.to_string(), failed),
        Cell::plain(&uid(job)),
        Cell::plain(&job.pid),
        Cell::plain(&age(Duration::from_millis(job.age_ms))),
        Cell::plain(&job.algorithms),
    ]
}

/// Done part of a job, once its client has sent all items.
#[expect(clippy::cast_precision_loss, reason = "a part for people")]
fn part(job: &JobStatus) -> Option<f64> {
    let is_known = job.finished && job.items > 0;
    is_known.then(|| job.resolved.min(job.items) as f64 / job.items as f64)
}

const fn column(title: &'static str, is_number: bool, rank: u8, width_max: usize) -> Column {
    Column { title, is_number, rank, width_max }
}

pub(super) fn worker_table(history: &StatusHistory, rows: &[WorkerRow<'_>]) -> Table<9> {
    Table {
        columns: [
            column("WORKER", false, 0, 24),
            column("HEALTH", false, 1, 17),
            column("BYTES/S", true, 2, 9),
            column("LAST RATES", false, 3, 60),
            column("ITEMS/S", true, 5, 12),
            column("IN FLIGHT", true, 6, 9),
            column("THREADS", true, 7, 7),
            column("LOST", true, 4, 8),
            column("BACKEND", false, 8, 40),
        ],
        rows: rows.iter().map(|row| row.cells(history)).collect(),
    }
}

pub(super) fn job_table(history: &StatusHistory, rows: &[&JobStatus]) -> Table<10> {
    Table {
        columns: [
            column("JOB", false, 0, 24),
            column("PROGRESS", false, 4, 30),
            column("%", true, 1, 4),
            column("ITEMS", true, 3, 25),
            column("LEFT", true, 2, 12),
            column("FAILED", true, 5, 12),
            column("UID", true, 6, 10),
            column("PID", true, 7, 10),
            column("AGE", true, 8, 12),
            column("ALGORITHM", false, 9, 32),
        ],
        rows: rows.iter().map(|job| job_cells(history, job)).collect(),
    }
}
