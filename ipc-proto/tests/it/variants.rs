//! The variants of every enum on the wire, in wire order.
//!
//! Invariant: a variant that is missing here fails to compile, so no table that is built from
//! these lists (golden bytes, `docs/protocol.md`) can forget one.

use crate::samples::Any;
use ipc_proto::Algorithm;
use ipc_proto::message::{
    AuditBaseline, AuditFinding, ClientReply, ClientRequest, DifferenceKind, DrainOutcome,
    EntryKind, Failure, FileSource, HelloReply, ItemOutcome, Items, JobAct, JobKind, JobSource,
    JobSpec, JobState, JournalState, ListOutcome, LossCause, Piece, RefuseReason, RejectReason,
    ReleaseOutcome, Role, RunOutcome, ScheduleAct, ScheduleReply, ScheduleRequest, ServiceRefusal,
    ServiceReply, ServiceRequest, StepEnd, Work, WorkerHealth, WorkerReply, WorkerRequest,
};
use std::collections::BTreeSet;

/// An enum that travels.
pub(crate) trait Variants {
    /// Its name.
    const ENUM: &'static str;
    /// The names of its variants, in wire order.
    const NAMES: &'static [&'static str];
    /// The name of this value's variant.
    fn variant(&self) -> &'static str;
}

macro_rules! variants {
    ($($type:ident { $($variant:ident $(($($any:tt)*))? $({ $($rest:tt)* })?),+ $(,)? })+) => {
        $(impl Variants for $type {
            const ENUM: &'static str = stringify!($type);
            const NAMES: &'static [&'static str] = &[$(stringify!($variant)),+];

            fn variant(&self) -> &'static str {
                match self {
                    $(Self::$variant $(($($any)*))? $({ $($rest)* })? => stringify!($variant)),+
                }
            }
        })+

        /// Every enum that travels, with its variants.
        pub(crate) const ENUMS: &[(&str, &[&str])] = &[$(($type::ENUM, $type::NAMES)),+];
    };
}

variants! {
    Algorithm { Sha224, Sha256, Sha384, Sha512, Sha512_256, Blake3, Md5, Sha1, Blake2b }
    Role { Client(_), Worker(_) }
    HelloReply { Welcome(_), Refused { .. } }
    RefuseReason { NotOurs, Version, Forbidden, WrongSocket, NameTaken, Busy, Timeout }
    ClientRequest {
        Open { .. }, Items { .. }, Piece { .. }, Finish { .. }, Cancel { .. }, Status,
        WaitReady { .. }, Release { .. }, Service { .. }, Drain { .. }, Undrain { .. },
    }
    ClientReply {
        Opened { .. }, Window { .. }, Results { .. }, Finished { .. }, Cancelled { .. }, Status(_),
        Ready { .. }, Rejected { .. }, Suspect { .. }, Released { .. },
        Service { .. },
        Drained { .. },
        Death { .. },
        Advanced { .. },
    }
    DrainOutcome { Drained { .. }, Undrained, NotDraining, Unknown, TooMany, Forbidden }
    ReleaseOutcome { Released, NotQuarantined, Forbidden }
    RejectReason { TooManyJobs, Forbidden }
    WorkerRequest { Assign { .. }, Revoke { .. }, Heartbeat, Leave }
    WorkerReply { Credit { .. }, Done { .. }, Heartbeat, Progress { .. }, Listed { .. }, Leaving { .. } }
    Items { Files { .. }, Inline { .. } }
    FileSource { Descriptors, Dataset { .. } }
    Work { Files { .. }, Inline { .. }, Subtree { .. }, Resume { .. }, Piece(_), List(_) }
    ListOutcome { Page { .. }, Failed { .. }, Claims { .. } }
    EntryKind {
        File, Directory, Symlink, Fifo, Socket, CharDevice, BlockDevice, Unknown { .. },
    }
    Piece { Subtree { .. }, Merge { .. }, Segment { .. } }
    Failure {
        Changed, NotRegular, Io { .. }, Invalid, Unsupported, WorkersLost { .. }, UnknownDataset,
        Disputed, Outside, NotAList, BadLines { .. },
    }
    WorkerHealth { Ready, Suspended, Quarantined, Draining }
    ServiceRequest {
        Submit { .. }, Store { .. }, Seal { .. }, Jobs { .. }, Job { .. }, Wait { .. },
        Results { .. }, Act { .. }, Deaths { .. }, Schedule(_), Events { .. }, Rules,
        Backup { .. }, Findings { .. },
    }
    JobKind { Sum, Check, Audit, Scrub }
    JobSource { Stored, Dataset { .. }, Manifest { .. }, Audit { .. } }
    AuditBaseline { Job(_), Manifest { .. } }
    AuditFinding { Matched, Modified, Older, Rotted, Moved, Copied, New, Missing, Unreadable, Changed }
    JobState { Filling, Running, Paused, Done, Cancelled, Failed }
    JobAct { Cancel, Retry, Pause, Resume, Remove }
    ServiceReply { Refused { .. }, Job(_), Jobs { .. }, Results { .. }, Deaths { .. }, Schedule(_), Events { .. }, Rules(_), Backup { .. }, Findings { .. } }
    ServiceRefusal {
        NoJournal, JournalFailed, Forbidden, UnknownJob, UnknownDataset, KeyTaken, WrongState,
        WrongItems, NotDurable, TooMuch, UnknownSchedule, BadSchedule,
    }
    ItemOutcome { Digests(_), Mismatch(_), Failed(_) }
    JournalState { Absent, Writes, Full, ReadOnly, Failed }
    LossCause { Disconnected, Silent, Expired, Violation, BadCheckpoint }
    ScheduleRequest {
        Apply { .. }, List { .. }, Show { .. }, Act { .. }, Runs { .. }, Run { .. },
        Differences { .. },
    }
    ScheduleAct { Pause, Resume, Run, Cancel, Remove }
    ScheduleReply {
        Changed(_), Started { .. }, Schedule { .. }, Schedules { .. }, Runs { .. }, Run { .. },
        Differences { .. },
    }
    RunOutcome { Succeeded, Failed, Late, Cancelled }
    DifferenceKind { New, Gone, Changed, Moved, Rotted, Older }
    StepEnd { Succeeded, Failed(_), Skipped }
}

/// The variants that a message holds, its own included, as `(enum, variant)`.
pub(crate) fn variants_in(message: &Any) -> BTreeSet<(&'static str, &'static str)> {
    let mut seen = Seen::default();
    match message {
        Any::Hello(hello) => seen.add(&hello.role),
        Any::HelloReply(reply) => {
            seen.add(reply);
            if let HelloReply::Refused { reason, .. } = reply {
                seen.add(reason);
            }
        }
        Any::ClientRequest(request) => {
            seen.add(request);
            if let ClientRequest::Open { algorithms, .. } = request {
                algorithms.iter().for_each(|algorithm| seen.add(algorithm));
            }
            if let ClientRequest::Items { items, .. } = request {
                seen.add(items);
                if let Items::Files { source, .. } = items {
                    seen.add(source);
                }
            }
            if let ClientRequest::Piece { piece, .. } = request {
                seen.add(piece);
            }
            if let ClientRequest::Service { request, .. } = request {
                seen.add_request(request);
            }
        }
        Any::ClientReply(reply) => {
            seen.add(reply);
            if let ClientReply::Results { failures, .. } = reply {
                failures.iter().for_each(|(_, failure)| seen.add(failure));
            }
            if let ClientReply::Death { losses, .. } = reply {
                losses.iter().for_each(|loss| seen.add(&loss.cause));
            }
            if let ClientReply::Status(status) = reply {
                seen.add(&status.journal);
                status.workers.iter().for_each(|worker| seen.add(&worker.health));
            }
            if let ClientReply::Released { outcome, .. } = reply {
                seen.add(outcome);
            }
            if let ClientReply::Drained { outcome, .. } = reply {
                seen.add(outcome);
            }
            if let ClientReply::Rejected { reason, .. } = reply {
                seen.add(reason);
            }
            if let ClientReply::Service { reply, .. } = reply {
                seen.add_reply(reply);
            }
        }
        Any::WorkerRequest(request) => {
            seen.add(request);
            if let WorkerRequest::Assign { work, .. } = request {
                seen.add(work);
            }
        }
        Any::WorkerReply(reply) => {
            seen.add(reply);
            if let WorkerReply::Listed { outcome, .. } = reply {
                seen.add(outcome);
                if let ListOutcome::Page { entries, .. } = outcome {
                    entries.iter().for_each(|entry| seen.add(&entry.kind));
                }
            }
        }
    }
    seen.0
}

#[derive(Default)]
struct Seen(BTreeSet<(&'static str, &'static str)>);

impl Seen {
    fn add<T: Variants>(&mut self, value: &T) {
        self.0.insert((T::ENUM, value.variant()));
    }

    fn add_request(&mut self, request: &ServiceRequest) {
        self.add(request);
        match request {
            ServiceRequest::Submit { spec, .. } => self.add_spec(spec),
            ServiceRequest::Act { act, .. } => self.add(act),
            ServiceRequest::Schedule(request) => {
                self.add(request);
                if let ScheduleRequest::Act { act, .. } = request {
                    self.add(act);
                }
            }
            ServiceRequest::Store { .. }
            | ServiceRequest::Seal { .. }
            | ServiceRequest::Jobs { .. }
            | ServiceRequest::Job { .. }
            | ServiceRequest::Wait { .. }
            | ServiceRequest::Results { .. }
            | ServiceRequest::Deaths { .. }
            | ServiceRequest::Events { .. }
            | ServiceRequest::Rules
            | ServiceRequest::Backup { .. }
            | ServiceRequest::Findings { .. } => {}
        }
    }

    fn add_spec(&mut self, spec: &JobSpec) {
        self.add(&spec.kind);
        self.add(&spec.source);
        if let JobSource::Audit { baseline, .. } = &spec.source {
            self.add(baseline);
        }
    }

    fn add_reply(&mut self, reply: &ServiceReply) {
        self.add(reply);
        match reply {
            ServiceReply::Refused { reason, .. } => self.add(reason),
            ServiceReply::Job(row) => {
                self.add(&row.state);
                self.add_spec(&row.spec);
            }
            ServiceReply::Jobs { rows, .. } => rows.iter().for_each(|row| self.add(&row.state)),
            ServiceReply::Results { rows, .. } => {
                rows.iter().for_each(|row| self.add(&row.outcome));
            }
            ServiceReply::Deaths { rows, .. } => {
                rows.iter().flat_map(|row| &row.losses).for_each(|loss| self.add(&loss.cause));
            }
            ServiceReply::Events { .. } | ServiceReply::Rules(_) | ServiceReply::Backup { .. } => {}
            ServiceReply::Findings { rows, .. } => {
                rows.iter().for_each(|row| self.add(&row.finding));
            }
            ServiceReply::Schedule(reply) => {
                self.add(reply);
                if let ScheduleReply::Runs { rows, .. } = reply {
                    rows.iter().filter_map(|row| row.outcome.as_ref()).for_each(|o| self.add(o));
                }
                if let ScheduleReply::Run { steps, .. } = reply {
                    steps.iter().filter_map(|step| step.end.as_ref()).for_each(|e| self.add(e));
                }
                if let ScheduleReply::Differences { rows, .. } = reply {
                    rows.iter().for_each(|row| self.add(&row.kind));
                }
            }
        }
    }
}
