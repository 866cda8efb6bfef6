//! The keys of `[defaults]` and `[vm.NAME]` that become flags of the programs.

use super::super::fault::{Faults, Reason};
use super::super::flags::{BACKENDS, ControllerFlags, READINGS, WorkerFlags};
use super::super::kind::Kind;
use super::section::{Lined, Section};
use ipc_proto::limits::PROGRESS_LEN_MAX;
use ipc_proto::sample::Sample;

/// How much of a file a worker hashes before it says how far it is.
const REPORT_EVERY: Kind = Kind::Size { units: "KMG", min_kib: 1, max_kib: PROGRESS_LEN_MAX >> 10 };

const BACKEND: Kind = Kind::OneOf(BACKENDS);
const READING: Kind = Kind::OneOf(READINGS);

/// What a table says of them.
#[derive(Debug, Default)]
pub(in super::super) struct FlagSettings {
    backend: Option<Lined<String>>,
    reading: Option<Lined<String>>,
    drop_behind: Option<Lined<bool>>,
    report_every_kib: Option<Lined<u64>>,
    cross_check: Option<Lined<Sample>>,
}

impl FlagSettings {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let name = |kind: Kind| move |text: &str| kind.text(text).map(str::to_owned);
        Self {
            backend: section.text("backend", BACKEND, name(BACKEND)),
            reading: section.text("reading", READING, name(READING)),
            drop_behind: section.bool("drop_behind"),
            report_every_kib: section
                .text("report_every", REPORT_EVERY, |text| REPORT_EVERY.size_kib(text)),
            cross_check: section.text("cross_check", Kind::Sample, |text| text.parse().ok()),
        }
    }

    /// A worker's, where `defaults` stands behind what is said here.
    pub(in super::super) fn of_worker(&self, defaults: &Self) -> WorkerFlags {
        WorkerFlags {
            backend: first(&self.backend, &defaults.backend),
            reading: first(&self.reading, &defaults.reading),
            drop_behind: first(&self.drop_behind, &defaults.drop_behind).unwrap_or_default(),
            report_every_kib: first(&self.report_every_kib, &defaults.report_every_kib),
        }
    }

    /// The controller's, where `defaults` stands behind what is said here.
    pub(in super::super) fn of_controller(&self, defaults: &Self) -> ControllerFlags {
        ControllerFlags { cross_check: first(&self.cross_check, &defaults.cross_check) }
    }

    /// Refuses what is a worker's.
    pub(in super::super) fn refuse_workers(&self, faults: &mut Faults) {
        for (line, key) in [
            (line(&self.backend), "backend"),
            (line(&self.reading), "reading"),
            (line(&self.drop_behind), "drop_behind"),
            (line(&self.report_every_kib), "report_every"),
        ] {
            if let Some(line) = line {
                faults.at(line, Reason::OnlyForWorkers(key));
            }
        }
    }

    /// Refuses what is the controller's.
    pub(in super::super) fn refuse_controllers(&self, faults: &mut Faults) {
        if let Some(line) = line(&self.cross_check) {
            faults.at(line, Reason::OnlyForController("cross_check"));
        }
    }
}

fn first<T: Clone>(own: &Option<Lined<T>>, default: &Option<Lined<T>>) -> Option<T> {
    own.as_ref().or(default.as_ref()).map(|lined| lined.value.clone())
}

fn line<T>(lined: &Option<Lined<T>>) -> Option<usize> {
    lined.as_ref().map(|lined| lined.line)
}
