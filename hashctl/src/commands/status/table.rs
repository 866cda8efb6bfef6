//! The status as text for a person.

use ipc_proto::message::{
    DrainStatus, JobStatus, JournalState, QuarantineStatus, SandboxLayers, Status, WorkerStatus,
};
use overview::{bytes, health, instruction_sets, one_line};
use std::fmt::Write;
use std::time::Duration;

const WORKER_HEAD: [&str; 11] = [
    "WORKER",
    "HEALTH",
    "BACKEND",
    "READING",
    "SANDBOX",
    "THREADS",
    "CREDITS",
    "IN FLIGHT",
    "ITEMS/S",
    "BYTES/S",
    "LOST",
];

const JOB_HEAD: [&str; 9] =
    ["JOB", "UID", "PID", "ALGORITHM", "AGE", "ITEMS", "RESOLVED", "FAILED", "IN FLIGHT"];

/// Columns before this one hold words and are aligned to the left, the others numbers.
const WORKER_WORDS: usize = 5;
const JOB_WORDS: usize = 4;

const QUARANTINE_HEAD: [&str; 4] = ["QUARANTINED", "SINCE", "HERE", "REASON"];
const DRAIN_HEAD: [&str; 4] = ["DRAINED", "SINCE", "HERE", "BY"];
const OUT_OF_SERVICE_WORDS: usize = 4;

/// The whole status.
pub(super) fn render(status: &Status) -> String {
    let mut text = format!(
        "controller {}, pid {}, up {}, sandbox {}\n\n",
        one_line(&status.software),
        status.pid,
        age(status.uptime_ms),
        sandbox(status.sandbox)
    );
    table(&mut text, WORKER_HEAD, WORKER_WORDS, status.workers.iter().map(worker_row));
    unlisted(&mut text, status.workers_unlisted, "workers");
    if !status.quarantined.is_empty() {
        text.push('\n');
        let rows = status.quarantined.iter().map(quarantine_row);
        table(&mut text, QUARANTINE_HEAD, OUT_OF_SERVICE_WORDS, rows);
    }
    unlisted(&mut text, status.quarantined_unlisted, "workers in quarantine");
    if !status.drained.is_empty() {
        text.push('\n');
        table(&mut text, DRAIN_HEAD, OUT_OF_SERVICE_WORDS, status.drained.iter().map(drain_row));
    }
    unlisted(&mut text, status.drained_unlisted, "drained workers");
    if status.journal != JournalState::Absent {
        put(&mut text, format_args!("\njournal: {}", status.journal.name()));
        if !status.journal_reason.is_empty() {
            put(&mut text, format_args!(": {}", one_line(&status.journal_reason)));
        }
        text.push('\n');
    }
    text.push('\n');
    table(&mut text, JOB_HEAD, JOB_WORDS, status.jobs.iter().map(job_row));
    unlisted(&mut text, status.jobs_unlisted, "jobs");
    let limits = &status.limits;
    let workers = status.workers.len() as u64 + u64::from(status.workers_unlisted);
    let jobs = status.jobs.len() as u64 + u64::from(status.jobs_unlisted);
    let counters = &status.counters;
    put(
        &mut text,
        format_args!(
            "\nin use: {} of {} clients, {workers} of {} workers, {jobs} of {} jobs, {} of {} items, \
         {} of {} inline\n",
            limits.clients,
            limits.clients_max,
            limits.workers_max,
            limits.jobs_max,
            limits.items,
            limits.items_max,
            bytes(limits.bytes),
            bytes(limits.bytes_max),
        ),
    );
    put(
        &mut text,
        format_args!(
            "since start: {} jobs ({} cancelled), {} items ({} failed), {} hashed, {} batches leased, \
         {} lost, {} stale answers\n",
            counters.jobs,
            counters.jobs_cancelled,
            counters.items,
            counters.items_failed,
            bytes(counters.bytes),
            counters.leases,
            counters.leases_lost,
            counters.answers_fenced,
        ),
    );
    put(
        &mut text,
        format_args!(
            "peers: {} refused, {} faulty; {} workers quarantined; {} items cross-checked, {} contradicted\n",
            counters.peers_refused,
            counters.peers_faulty,
            counters.workers_quarantined,
            counters.items_checked,
            counters.items_contradicted,
        ),
    );
    text
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("a string takes everything");
}

fn worker_row(worker: &WorkerStatus) -> [String; 11] {
    [
        one_line(&worker.name),
        health(worker.health).to_owned(),
        // All of them are in `--json`, and in `hashctl get workers NAME`.
        instruction_sets(worker),
        one_line(&worker.reading),
        sandbox(worker.sandbox),
        worker.threads.to_string(),
        worker.credits.to_string(),
        worker.leases.to_string(),
        worker.items_per_s.to_string(),
        bytes(worker.bytes_per_s),
        worker.leases_lost.to_string(),
    ]
}

/// A sandbox in a word, or the layers that it lacks.
fn sandbox(layers: SandboxLayers) -> String {
    match layers {
        SandboxLayers::FULL => "full".to_owned(),
        SandboxLayers(0) => "off".to_owned(),
        _ => format!("without {}", layers.names(false).collect::<Vec<_>>().join(", ")),
    }
}

fn drain_row(row: &DrainStatus) -> [String; 4] {
    [one_line(&row.worker), age(row.age_ms), yes_or_no(row.connected), one_line(&row.by)]
}

fn yes_or_no(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}

fn quarantine_row(row: &QuarantineStatus) -> [String; 4] {
    [one_line(&row.worker), age(row.age_ms), yes_or_no(row.connected), one_line(&row.reason)]
}

fn job_row(job: &JobStatus) -> [String; 9] {
    [
        job.known_id().to_string(),
        job.uid().map_or_else(|| "-".to_owned(), |uid| uid.to_string()),
        job.pid.to_string(),
        job.algorithms.to_string(),
        age(job.age_ms),
        format!("{}{}", job.items, if job.finished { "" } else { "+" }),
        job.resolved.to_string(),
        job.failed.to_string(),
        job.leases.to_string(),
    ]
}

fn table<const N: usize>(
    text: &mut String,
    head: [&str; N],
    words: usize,
    rows: impl Iterator<Item = [String; N]>,
) {
    let rows: Vec<[String; N]> = [head.map(str::to_owned)].into_iter().chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let mut line = String::new();
        for (i, (cell, width)) in row.iter().zip(widths).enumerate() {
            if i > 0 {
                line.push_str("  ");
            }
            if i < words {
                put(&mut line, format_args!("{cell:<width$}"));
            } else {
                put(&mut line, format_args!("{cell:>width$}"));
            }
        }
        put(text, format_args!("{}\n", line.trim_end()));
    }
}

fn unlisted(text: &mut String, count: u32, what: &str) {
    if count > 0 {
        put(text, format_args!("and {count} more {what}\n"));
    }
}

fn age(ms: u64) -> String {
    overview::age(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::Algorithm;
    use ipc_proto::message::Backend;

    #[test]
    fn a_sandbox_is_full_or_off_or_lacks_something() {
        for (layers, want) in [
            (SandboxLayers::FULL, "full"),
            (SandboxLayers(0), "off"),
            (SandboxLayers(0b110_1110), "without namespaces, Landlock"),
        ] {
            assert_eq!(sandbox(layers), want);
        }
    }

    fn backend_of(name: &str) -> Backend {
        Backend { algorithm: Algorithm::Sha256, backend: name.into(), interleave_max: 1 }
    }

    #[test]
    fn shows_each_instruction_set_once_however_many_backends_use_it() {
        let chosen = [
            (Algorithm::Sha256, "sha256_sha_ni_x2"),
            (Algorithm::Sha512, "portable"),
            (Algorithm::Blake3, "blake3_avx512_x16/portable/blake3_avx512_x16"),
        ];
        let backend = |(algorithm, name)| Backend { algorithm, ..backend_of(name) };
        let worker =
            WorkerStatus { backends: chosen.map(backend).into(), ..WorkerStatus::default() };
        assert_eq!(worker_row(&worker)[2], "avx512,sha_ni");
        for (backend, want) in [
            ("portable", "portable"),
            ("sha256_aarch64_x2", "aarch64"),
            ("odd\n_name", "name"),
            (&"y".repeat(60), &format!("{}…", "y".repeat(24))),
        ] {
            let backends = vec![backend_of(backend)];
            let worker = WorkerStatus { backends, ..WorkerStatus::default() };
            assert_eq!(worker_row(&worker)[2], want);
        }
    }
}
