//! Schedules and their runs: lists.

use super::Call;
use super::access::Access;
use super::fields::{QueryFields, encoded};
use super::problem::ApiProblem;
use super::routes::{ITEM_MAX, SCHEDULES_PAGE_MAX};
use super::views::json;
use ipc_proto::limits::NAME_LEN_MAX;
use ipc_proto::message::{ScheduleReply, ScheduleRequest, ServiceReply, ServiceRequest};
use overview::{RunObject, ScheduleObject};
use serde::Serialize;
use telemetry::http::ApiAnswer;

/// Rows of a page that does not say.
const PAGE_LEN: u64 = 100;

#[derive(Serialize)]
struct SchedulePage<'a> {
    schedules: Vec<ScheduleObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Serialize)]
struct RunPage<'a> {
    runs: Vec<RunObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(super) async fn list(
    call: &Call,
    access: &Access,
    query: &QueryFields,
) -> Result<ApiAnswer, ApiProblem> {
    let after = name(query, "after")?;
    let limit = limit(query)?;
    let request = ServiceRequest::Schedule(ScheduleRequest::List { after, limit });
    let ServiceReply::Schedule(ScheduleReply::Schedules { rows, more }) =
        call.ask(access, request).await?
    else {
        unreachable!("the planner answers with schedules");
    };
    let last = rows.last().filter(|_| more);
    let next =
        last.map(|last| format!("/v1/schedules?after={}&limit={limit}", encoded(&last.name)));
    Ok(json(200, &SchedulePage { schedules: rows.iter().map(ScheduleObject::new).collect(), next }))
}

pub(super) async fn runs(
    call: &Call,
    access: &Access,
    query: &QueryFields,
) -> Result<ApiAnswer, ApiProblem> {
    let name = name(query, "schedule")?;
    if name.is_empty() {
        return Err(ApiProblem::new(400, "schedule is the name of a schedule"));
    }
    let limit = limit(query)?;
    let before = match query.get("before") {
        Some(_) => Some(query.number("before", (0, ITEM_MAX), 0)?),
        None => None,
    };
    let request =
        ServiceRequest::Schedule(ScheduleRequest::Runs { name: name.clone(), before, limit });
    let ServiceReply::Schedule(ScheduleReply::Runs { rows, more }) =
        call.ask(access, request).await?
    else {
        unreachable!("the planner answers with runs");
    };
    let last = rows.last().filter(|_| more);
    let next = last.map(|last| {
        format!("/v1/runs?schedule={}&before={}&limit={limit}", encoded(&name), last.run)
    });
    let runs = rows.iter().map(|run| RunObject::new(Some(&name), run)).collect();
    Ok(json(200, &RunPage { runs, next }))
}

fn name(query: &QueryFields, field: &str) -> Result<String, ApiProblem> {
    match query.get(field).unwrap_or_default() {
        text if text.len() <= NAME_LEN_MAX => Ok(text.to_owned()),
        _ => Err(ApiProblem::new(400, format!("{field} has at most {NAME_LEN_MAX} bytes"))),
    }
}

fn limit(query: &QueryFields) -> Result<u16, ApiProblem> {
    let limit = query.number("limit", (1, SCHEDULES_PAGE_MAX), PAGE_LEN)?;
    Ok(u16::try_from(limit).unwrap_or(u16::MAX))
}
