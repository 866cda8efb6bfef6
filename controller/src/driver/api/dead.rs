//! Dead letters of all durable jobs, a page at a time.

use super::Call;
use super::access::Access;
use super::fields::QueryFields;
use super::problem::ApiProblem;
use super::routes::{ITEM_MAX, JOBS_PAGE_MAX};
use super::views::json;
use ipc_proto::limits::JOB_ROWS_MAX;
use ipc_proto::message::{JobFilter, JobId, JobRow, ServiceReply, ServiceRequest};
use overview::DeadObject;
use serde::Serialize;
use serde_json::Value;
use telemetry::http::ApiAnswer;

/// Items of a page that does not say.
const PAGE_LEN: u64 = 100;

#[derive(Serialize)]
struct DeadPage {
    dead: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(super) async fn list(
    call: &Call,
    access: &Access,
    query: &QueryFields,
) -> Result<ApiAnswer, ApiProblem> {
    let id = |name: &'static str| {
        let parse = |text| {
            let is_none = || ApiProblem::new(400, format!("{name} is the id of a job"));
            JobId::parse(text).ok_or_else(is_none)
        };
        query.get(name).map(parse).transpose()
    };
    let (only, start) = (id("job")?, id("after")?);
    let limit = query.number("limit", (1, JOBS_PAGE_MAX), PAGE_LEN)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut from = query.number("from", (0, ITEM_MAX), 0)?;
    let path = |job: JobId, from: u64| {
        let only = only.map(|job| format!("&job={job}")).unwrap_or_default();
        format!("/v1/dead?after={job}&from={from}&limit={limit}{only}")
    };
    let (jobs, more) = match only {
        Some(job) => (vec![call.ask_for_job(access, ServiceRequest::Job { job }).await?], false),
        None => jobs(call, access, start).await?,
    };
    let mut dead = Vec::new();
    for job in jobs.iter().filter(|job| job.failed > 0) {
        // The job may be gone by now, and another one is the first.
        let mut first = if start == Some(job.id) { std::mem::take(&mut from) } else { 0 };
        loop {
            let room = u16::try_from(limit - dead.len()).unwrap_or(u16::MAX);
            if room == 0 {
                return Ok(json(200, &DeadPage { dead, next: Some(path(job.id, first)) }));
            }
            let request = ServiceRequest::Deaths { job: job.id, from: first, limit: room };
            let reply = match call.ask(access, request).await {
                // It was removed meanwhile.
                Err(problem) if problem.is_missing() && only.is_none() => break,
                reply => reply?,
            };
            let ServiceReply::Deaths { rows, more } = reply else {
                unreachable!("the book answers with dead items");
            };
            let object = |item| serde_json::to_value(DeadObject::of(job, item)).unwrap_or_default();
            dead.extend(rows.iter().map(object));
            match rows.last() {
                Some(last) if more => first = last.index + 1,
                _ => break,
            }
        }
    }
    let last = jobs.last().filter(|_| more);
    // Behind the last item that any job can have.
    let next = last.map(|last| path(last.id, ITEM_MAX));
    Ok(json(200, &DeadPage { dead, next }))
}

/// A page of jobs that starts with `start`, if there is such a job, and true if there are more after it.
async fn jobs(
    call: &Call,
    access: &Access,
    start: Option<JobId>,
) -> Result<(Vec<JobRow>, bool), ApiProblem> {
    // The one before `start`: ids are two numbers.
    let before = start.map(|JobId { epoch, number }| match number.checked_sub(1) {
        Some(number) => JobId { epoch, number },
        None => JobId { epoch: epoch.saturating_sub(1), number: u64::MAX },
    });
    let filter = JobFilter::default();
    let limit = u16::try_from(JOB_ROWS_MAX).unwrap_or(u16::MAX);
    let request = ServiceRequest::Jobs { filter, after: before, limit };
    let ServiceReply::Jobs { rows, more } = call.ask(access, request).await? else {
        unreachable!("the book answers with jobs");
    };
    Ok((rows, more))
}
