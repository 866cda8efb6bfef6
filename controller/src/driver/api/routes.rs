//! Every operation of the API, as one table: requests are carried out by it, and the OpenAPI document is made of
//! it.

use super::media::{EVENT_STREAM, JSON, JSON_LINES, TEXT};
use ipc_proto::limits::{
    FRAME_NAMES_MAX, JOB_KEY_LEN_MAX, JOB_ROWS_MAX, NAME_LEN_MAX, SCHEDULE_ROWS_MAX,
};
use ipc_proto::message::{JobAct, JobState};

/// The work of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApiTask {
    Document,
    ListJobs,
    ShowJob,
    Result,
    Findings,
    ListEvents,
    ListDead,
    ListSchedules,
    ListRuns,
    ListWorkers,
    ListDatasets,
    Submit,
    Act(JobAct),
}

/// Values of a field of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldForm {
    /// Text of at most this many bytes.
    Text(usize),
    /// A name, without which there is no answer.
    Name,
    /// The id of a job.
    JobId,
    /// The state of a job.
    State,
    /// A number from one to another.
    Number(u64, u64),
    /// `true` or `false`.
    Flag,
}

/// A field of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) form: FieldForm,
}

impl Field {
    pub(super) const fn text(name: &'static str, about: &'static str, len_max: usize) -> Self {
        Self { name, about, form: FieldForm::Text(len_max) }
    }

    pub(super) const fn number(
        name: &'static str,
        about: &'static str,
        min: u64,
        max: u64,
    ) -> Self {
        Self { name, about, form: FieldForm::Number(min, max) }
    }

    const fn flag(name: &'static str, about: &'static str) -> Self {
        Self { name, about, form: FieldForm::Flag }
    }
}

/// An operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct ApiOperation {
    pub(super) method: &'static str,
    pub(super) task: ApiTask,
    /// Its name in programs that are made from the document.
    pub(super) id: &'static str,
    pub(super) about: &'static str,
    pub(super) fields: &'static [Field],
    /// Media types of its answer, the preferred one first.
    pub(super) media: &'static [&'static str],
    /// Statuses of its answer, with what each has: the name of a schema, or nothing.
    pub(super) answers: &'static [(u16, &'static str)],
    /// Problems of its own, besides those that every operation can have.
    pub(super) problems: &'static [u16],
}

impl ApiOperation {
    /// Returns true if it changes anything, and so needs a token.
    pub(super) fn is_change(&self) -> bool {
        self.method != "GET"
    }

    /// Returns true if it says nothing about this controller.
    pub(super) fn is_public(&self) -> bool {
        self.task == ApiTask::Document
    }
}

/// A path and its operations. `{id}` stands for the id of a job.
#[derive(Clone, Copy, Debug)]
pub(super) struct ApiRoute {
    pub(super) path: &'static str,
    pub(super) operations: &'static [ApiOperation],
}

/// The place of the id of a job in a path.
pub(super) const ID: &str = "{id}";

/// Most jobs of one page.
pub(super) const JOBS_PAGE_MAX: u64 = JOB_ROWS_MAX as u64;

/// Most findings of one page.
pub(super) const FINDINGS_PAGE_MAX: u64 = FRAME_NAMES_MAX as u64;

/// Most schedules or runs of one page.
pub(super) const SCHEDULES_PAGE_MAX: u64 = SCHEDULE_ROWS_MAX as u64;

/// Most events of one page.
pub(super) const EVENTS_PAGE_MAX: u64 = 500;

/// Largest number of an item that a query can have: programs take larger ones for other ones.
pub(super) const ITEM_MAX: u64 = (1 << 53) - 1;

const GET: ApiOperation = ApiOperation {
    method: "GET",
    task: ApiTask::Document,
    id: "",
    about: "",
    fields: &[],
    media: &[JSON],
    answers: &[],
    problems: &[],
};

const fn act(path_word: &'static str, task: JobAct, about: &'static str) -> ApiOperation {
    ApiOperation {
        method: "POST",
        task: ApiTask::Act(task),
        id: path_word,
        about,
        answers: &[(200, "Job")],
        problems: &[403, 404, 409, 503],
        ..GET
    }
}

/// All paths.
pub(super) const ROUTES: &[ApiRoute] = &[
    ApiRoute {
        path: "/v1/openapi.json",
        operations: &[ApiOperation {
            id: "getDocument",
            about: "This document.",
            answers: &[(200, "")],
            ..GET
        }],
    },
    ApiRoute {
        path: "/v1/jobs",
        operations: &[
            ApiOperation {
                task: ApiTask::ListJobs,
                id: "listJobs",
                about: "Durable jobs in ascending order of their ids, a page at a time.",
                fields: &[
                    Field { name: "state", about: "Only in this state.", form: FieldForm::State },
                    Field::text("label", "Only with this label.", NAME_LEN_MAX),
                    Field::text("key", "Only with this key.", JOB_KEY_LEN_MAX),
                    Field::number("limit", "Most jobs of the page.", 1, JOBS_PAGE_MAX),
                    Field {
                        name: "after",
                        about: "Only after this job: the last one of the page before.",
                        form: FieldForm::JobId,
                    },
                ],
                answers: &[(200, "JobPage")],
                problems: &[503],
                ..GET
            },
            ApiOperation {
                method: "POST",
                task: ApiTask::Submit,
                id: "submitJob",
                about: "Makes a job. With the same Idempotency-Key the same job is meant.",
                answers: &[(201, "Job")],
                problems: &[403, 409, 413, 415, 422, 429, 503],
                ..GET
            },
        ],
    },
    ApiRoute {
        path: "/v1/jobs/{id}",
        operations: &[
            ApiOperation {
                task: ApiTask::ShowJob,
                id: "getJob",
                about: "One durable job.",
                answers: &[(200, "Job")],
                problems: &[404, 503],
                ..GET
            },
            ApiOperation {
                method: "DELETE",
                task: ApiTask::Act(JobAct::Remove),
                id: "removeJob",
                about: "Forgets a job that has ended, with its results; the answer is its last state.",
                answers: &[(200, "Job")],
                problems: &[403, 404, 409, 503],
                ..GET
            },
        ],
    },
    ApiRoute {
        path: "/v1/jobs/{id}/result",
        operations: &[ApiOperation {
            task: ApiTask::Result,
            id: "getResult",
            about: "The results of a job in the order of its items: as the lines of hashctl sum, or as an \
                    object per line (schema Item). A stream that is cut off has no end.",
            fields: &[
                Field::number("from", "Number of the first item.", 0, ITEM_MAX),
                Field::flag("partial", "Also of a job that is not done: what there is so far."),
            ],
            media: &[TEXT, JSON_LINES],
            answers: &[(200, ""), (304, "")],
            problems: &[404, 409, 503],
            ..GET
        }],
    },
    ApiRoute {
        path: "/v1/jobs/{id}/findings",
        operations: &[ApiOperation {
            task: ApiTask::Findings,
            id: "listFindings",
            about: "What an audit that is done has found, in the order of its files: a page at a time, or all \
                    of it as the lines of hashctl audit. A stream that is cut off has no end.",
            fields: &[
                Field::number("from", "Number of the first finding.", 0, ITEM_MAX),
                Field::number("limit", "Most findings of the page.", 1, FINDINGS_PAGE_MAX),
            ],
            media: &[JSON, TEXT],
            answers: &[(200, "FindingPage")],
            problems: &[404, 409, 503],
            ..GET
        }],
    },
    ApiRoute {
        path: "/v1/jobs/{id}/cancel",
        operations: &[act("cancelJob", JobAct::Cancel, "Ends a job; the results so far stay.")],
    },
    ApiRoute {
        path: "/v1/jobs/{id}/pause",
        operations: &[act("pauseJob", JobAct::Pause, "Holds a job back.")],
    },
    ApiRoute {
        path: "/v1/jobs/{id}/resume",
        operations: &[act("resumeJob", JobAct::Resume, "Lets a job run again.")],
    },
    ApiRoute {
        path: "/v1/jobs/{id}/retry",
        operations: &[act("retryJob", JobAct::Retry, "Hashes the items again that failed.")],
    },
    ApiRoute {
        path: "/v1/events",
        operations: &[ApiOperation {
            task: ApiTask::ListEvents,
            id: "listEvents",
            about: "The audit trail, oldest first, a page at a time; or as server-sent events from now on, or \
                    after `after` or Last-Event-ID.",
            fields: &[
                Field::number("after", "Only after the event of this number.", 0, ITEM_MAX),
                Field::number("limit", "Most events of the page.", 1, EVENTS_PAGE_MAX),
            ],
            media: &[JSON, EVENT_STREAM],
            answers: &[(200, "EventPage")],
            problems: &[403, 503],
            ..GET
        }],
    },
    ApiRoute {
        path: "/v1/dead",
        operations: &[ApiOperation {
            task: ApiTask::ListDead,
            id: "listDead",
            about: "Items of durable jobs over which three workers were lost, in ascending order of their jobs, with \
                    every loss; a page at a time, which may be empty and have another one after it.",
            fields: &[
                Field { name: "job", about: "Only of this job.", form: FieldForm::JobId },
                Field::number("limit", "Most items of the page.", 1, JOBS_PAGE_MAX),
                Field {
                    name: "after",
                    about: "Only of this job and later ones, from the item `from` on.",
                    form: FieldForm::JobId,
                },
                Field::number("from", "Number of the first item of the job `after`.", 0, ITEM_MAX),
            ],
            answers: &[(200, "DeadPage")],
            problems: &[404, 503],
            ..GET
        }],
    },
    ApiRoute {
        path: "/v1/schedules",
        operations: &[ApiOperation {
            task: ApiTask::ListSchedules,
            id: "listSchedules",
            about: "Schedules, by name, a page at a time.",
            fields: &[
                Field::number("limit", "Most schedules of the page.", 1, SCHEDULES_PAGE_MAX),
                Field::text(
                    "after",
                    "Only after the schedule of this name: the last one of the page before.",
                    NAME_LEN_MAX,
                ),
            ],
            answers: &[(200, "SchedulePage")],
            problems: &[503],
            ..GET
        }],
    },
    ApiRoute {
        path: "/v1/runs",
        operations: &[ApiOperation {
            task: ApiTask::ListRuns,
            id: "listRuns",
            about: "Runs of a schedule, the newest first, a page at a time.",
            fields: &[
                Field { name: "schedule", about: "Name of the schedule.", form: FieldForm::Name },
                Field::number("limit", "Most runs of the page.", 1, SCHEDULES_PAGE_MAX),
                Field::number("before", "Only before the run of this number.", 0, ITEM_MAX),
            ],
            answers: &[(200, "RunPage")],
            problems: &[404, 503],
            ..GET
        }],
    },
    ApiRoute {
        path: "/v1/workers",
        operations: &[ApiOperation {
            task: ApiTask::ListWorkers,
            id: "listWorkers",
            about: "Connected workers, by name; then those that are drained or in quarantine and not connected.",
            answers: &[(200, "WorkerPage")],
            ..GET
        }],
    },
    ApiRoute {
        path: "/v1/datasets",
        operations: &[ApiOperation {
            task: ApiTask::ListDatasets,
            id: "listDatasets",
            about: "Datasets in which jobs may find files.",
            answers: &[(200, "DatasetPage")],
            ..GET
        }],
    },
];

/// Problems that every operation can have.
pub(super) fn common_problems(operation: &ApiOperation) -> Vec<u16> {
    let mut problems = vec![400, 401, 406, 421, 431];
    problems.extend(operation.problems);
    problems.sort_unstable();
    problems
}

/// The operations of `path`, and the id in it, if it has one.
pub(super) fn find(path: &str) -> Option<(&'static [ApiOperation], &str)> {
    ROUTES.iter().find_map(|route| {
        let Some((before, after)) = route.path.split_once(ID) else {
            return (route.path == path).then_some((route.operations, ""));
        };
        let id = path.strip_prefix(before)?.strip_suffix(after)?;
        (!id.is_empty() && !id.contains('/')).then_some((route.operations, id))
    })
}

/// All states of a job.
pub(super) const STATES: [JobState; 6] = [
    JobState::Filling,
    JobState::Running,
    JobState::Paused,
    JobState::Done,
    JobState::Cancelled,
    JobState::Failed,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_its_operations() {
        let ids = |path: &str| {
            let (operations, id) = find(path)?;
            let ids: Vec<&str> = operations.iter().map(|operation| operation.id).collect();
            Some(format!("{} of {id}", ids.join(", ")))
        };
        assert_eq!(ids("/v1/jobs").as_deref(), Some("listJobs, submitJob of "));
        assert_eq!(ids("/v1/jobs/1-2").as_deref(), Some("getJob, removeJob of 1-2"));
        assert_eq!(ids("/v1/jobs/1-2/result").as_deref(), Some("getResult of 1-2"));
        for path in
            ["/v1", "/v1/", "/v1/jobs/", "/v1/jobs/1-2/", "/v1/jobs//result", "/v1/jobs/1/x"]
        {
            assert_eq!(ids(path), None, "{path}");
        }
    }
}
