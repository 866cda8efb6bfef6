//! Durable jobs: lists, one of them, and changes.

use super::Call;
use super::access::Access;
use super::fields::{QueryFields, encoded};
use super::problem::ApiProblem;
use super::routes::{JOBS_PAGE_MAX, STATES};
use super::views::json;
use ipc_proto::limits::{JOB_KEY_LEN_MAX, NAME_LEN_MAX};
use ipc_proto::message::{
    JobAct, JobFilter, JobId, JobRow, JobState, ServiceReply, ServiceRequest,
};
use overview::JobObject;
use serde::Serialize;
use std::rc::Rc;
use telemetry::http::ApiAnswer;

/// Jobs of a page that does not say.
const PAGE_LEN: u64 = 100;

#[derive(Serialize)]
struct JobPage<'a> {
    jobs: Vec<JobObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl Call {
    /// Asks the book in the name of `access`.
    pub(super) async fn ask(
        &self,
        access: &Access,
        request: ServiceRequest,
    ) -> Result<ServiceReply, ApiProblem> {
        // Others' requests are checked by the codec.
        request.check().map_err(|error| ApiProblem::new(422, error.to_string()))?;
        let rights = Rc::clone(&access.rights);
        let reply = self.hub.ask_book(access.principal, rights, request).await;
        if let ServiceReply::Refused { reason, text } = reply {
            return Err(ApiProblem::refused(reason, text));
        }
        Ok(reply)
    }

    /// The same, for the job that is the answer.
    pub(super) async fn ask_for_job(
        &self,
        access: &Access,
        request: ServiceRequest,
    ) -> Result<JobRow, ApiProblem> {
        let ServiceReply::Job(row) = self.ask(access, request).await? else {
            unreachable!("the book answers with a job");
        };
        Ok(*row)
    }
}

/// The job of an id in a path, which looks as if there were none if it is not an id.
pub(super) fn job_id(text: &str) -> Result<JobId, ApiProblem> {
    JobId::parse(text).ok_or_else(|| ApiProblem::new(404, "there is no job of this id"))
}

pub(super) async fn list(
    call: &Call,
    access: &Access,
    query: &QueryFields,
) -> Result<ApiAnswer, ApiProblem> {
    let state = query.get("state").map(state).transpose()?;
    let text = |name, len_max| match query.get(name).unwrap_or_default() {
        text if text.len() <= len_max => Ok(text.to_owned()),
        _ => Err(ApiProblem::new(400, format!("{name} has at most {len_max} bytes"))),
    };
    let (label, key) = (text("label", NAME_LEN_MAX)?, text("key", JOB_KEY_LEN_MAX)?);
    let after = query.get("after").map(|text| {
        JobId::parse(text).ok_or_else(|| ApiProblem::new(400, "after is the id of a job"))
    });
    let after = after.transpose()?;
    let limit = query.number("limit", (1, JOBS_PAGE_MAX), PAGE_LEN)?;
    let limit = u16::try_from(limit).unwrap_or(u16::MAX);
    let filter = JobFilter { state, label, key };
    let request = ServiceRequest::Jobs { filter, after, limit };
    let ServiceReply::Jobs { rows, more } = call.ask(access, request).await? else {
        unreachable!("the book answers with jobs");
    };
    let next = rows.last().filter(|_| more).map(|last| {
        let mut next = format!("/v1/jobs?after={}", last.id);
        for name in ["state", "label", "key", "limit"] {
            if let Some(value) = query.get(name) {
                next.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        next
    });
    Ok(json(200, &JobPage { jobs: rows.iter().map(JobObject::new).collect(), next }))
}

fn state(text: &str) -> Result<JobState, ApiProblem> {
    STATES.into_iter().find(|state| state.name() == text).ok_or_else(|| {
        let names: Vec<&str> = STATES.into_iter().map(JobState::name).collect();
        ApiProblem::new(400, format!("state is one of {}", names.join(", ")))
    })
}

pub(super) async fn show(call: &Call, access: &Access, id: &str) -> Result<ApiAnswer, ApiProblem> {
    let job = job_id(id)?;
    let row = call.ask_for_job(access, ServiceRequest::Job { job }).await?;
    Ok(json(200, &JobObject::new(&row)))
}

pub(super) async fn act(
    call: &Call,
    access: &Access,
    id: &str,
    act: JobAct,
) -> Result<ApiAnswer, ApiProblem> {
    let job = job_id(id)?;
    let row = call.ask_for_job(access, ServiceRequest::Act { job, act }).await?;
    Ok(json(200, &JobObject::new(&row)))
}
