//! Findings of an audit: pages in JSON, or all of them as the lines of `hashctl audit`, in bounded memory.

use super::Call;
use super::access::Access;
use super::fields::QueryFields;
use super::jobs::job_id;
use super::media::TEXT;
use super::problem::ApiProblem;
use super::result::{PAGES_MAX, hex};
use super::routes::{FINDINGS_PAGE_MAX, ITEM_MAX};
use super::views::json;
use crate::driver::hub::Hub;
use ipc_proto::limits::FRAME_NAMES_MAX;
use ipc_proto::message::{
    AuditFinding, AuditRow, JobId, JobKind, JobState, ServiceReply, ServiceRequest,
};
use overview::{FindingObject, JsonName, failure_text};
use serde::Serialize;
use std::borrow::Cow;
use std::rc::Rc;
use telemetry::http::header::{CONTENT_TYPE, HeaderValue, VARY};
use telemetry::http::{ApiAnswer, ApiAnswerBody, HeaderMap, StatusCode, StreamCut};
use tokio::sync::mpsc::{Sender, channel};

/// Findings of a page that does not say.
const PAGE_LEN: u64 = 100;

#[derive(Serialize)]
struct FindingPage<'a> {
    findings: Vec<FindingObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(super) async fn findings(
    call: &Call,
    access: &Access,
    id: &str,
    query: &QueryFields,
    media: &'static str,
) -> Result<ApiAnswer, ApiProblem> {
    let job = job_id(id)?;
    let from = query.number("from", (0, ITEM_MAX), 0)?;
    let limit = query.number("limit", (1, FINDINGS_PAGE_MAX), PAGE_LEN)?;
    let row = call.ask_for_job(access, ServiceRequest::Job { job }).await?;
    if row.spec.kind != JobKind::Audit {
        let text = format!("job {job} is no audit; it has results");
        return Err(ApiProblem::new(409, text).with_path(format!("/v1/jobs/{job}/result")));
    }
    if row.state != JobState::Done {
        let text = format!("job {job} is {}; it has findings when it is done", row.state.name());
        return Err(ApiProblem::new(409, text));
    }
    if media == TEXT {
        return lines(call, access, job, from);
    }
    let limit = u16::try_from(limit).unwrap_or(u16::MAX);
    let request = ServiceRequest::Findings { job, from, limit };
    let ServiceReply::Findings { rows, more } = call.ask(access, request).await? else {
        unreachable!("the book answers with findings");
    };
    let next = from.saturating_add(rows.len() as u64);
    let next = more.then(|| format!("/v1/jobs/{job}/findings?from={next}&limit={limit}"));
    let errors: Vec<_> = rows.iter().map(error).collect();
    let rows = rows.iter().zip(&errors);
    let findings = rows.map(|(row, error)| object(row, error.as_deref())).collect();
    let mut answer = json(200, &FindingPage { findings, next });
    answer.headers.insert(VARY, HeaderValue::from_static("accept"));
    Ok(answer)
}

fn error(row: &AuditRow) -> Option<Cow<'static, str>> {
    row.failure.map(failure_text)
}

/// A finding with its words for an error.
pub(super) fn object<'a>(row: &'a AuditRow, error: Option<&'a str>) -> FindingObject<'a> {
    let is_here = !matches!(row.finding, AuditFinding::Missing | AuditFinding::Unreadable);
    let algorithm = row.algorithm.filter(|_| !row.digest.is_empty());
    FindingObject {
        name: JsonName::new(&row.name),
        status: row.finding.name(),
        from: (!row.from.is_empty()).then_some(JsonName { key: "from", bytes: &row.from }),
        size: is_here.then_some(row.size),
        algorithm: algorithm.map(|algorithm| Cow::Borrowed(algorithm.name())),
        digest: algorithm.map(|_| hex(&row.digest)),
        expected: (!row.expected.is_empty()).then(|| hex(&row.expected)),
        error,
    }
}

/// All findings from one on, as lines.
fn lines(call: &Call, access: &Access, job: JobId, from: u64) -> Result<ApiAnswer, ApiProblem> {
    let mut headers = HeaderMap::new();
    headers.insert(VARY, HeaderValue::from_static("accept"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    let Some(permit) = call.request.stream_permit() else {
        return Err(ApiProblem::new(503, "too many streams are open; try again"));
    };
    let (pages, reader) = channel(PAGES_MAX);
    tokio::task::spawn_local(write_lines(Rc::clone(&call.hub), access.clone(), job, from, pages));
    Ok(ApiAnswer { status: StatusCode::OK, headers, body: ApiAnswerBody::Stream(reader, permit) })
}

/// Reads findings page by page, as fast as their reader takes them.
async fn write_lines(
    hub: Rc<Hub>,
    access: Access,
    job: JobId,
    mut from: u64,
    pages: Sender<Result<Vec<u8>, StreamCut>>,
) {
    let limit = u16::try_from(FRAME_NAMES_MAX).unwrap_or(u16::MAX);
    loop {
        let request = ServiceRequest::Findings { job, from, limit };
        let reply = hub.ask_book(access.principal, Rc::clone(&access.rights), request).await;
        let ServiceReply::Findings { rows, more } = reply else {
            // It was removed meanwhile, or the journal cannot be read.
            return drop(pages.send(Err(StreamCut)).await);
        };
        let mut page = Vec::new();
        for row in &rows {
            object(row, error(row).as_deref()).put_text(false, &mut page);
            page.push(b'\n');
        }
        from = from.saturating_add(rows.len() as u64);
        if pages.send(Ok(page)).await.is_err() || !more {
            return;
        }
    }
}
