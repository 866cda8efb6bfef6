//! The audit trail: pages, and a stream of server-sent events (HTML standard, section 9.2).

use super::Call;
use super::access::Access;
use super::fields::QueryFields;
use super::media::EVENT_STREAM;
use super::problem::ApiProblem;
use super::routes::{EVENTS_PAGE_MAX, ITEM_MAX};
use super::views::json;
use crate::driver::hub::Hub;
use crate::driver::trail::TrailError;
use crate::events::TrailEvent;
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::Duration;
use telemetry::http::header::{CONTENT_TYPE, HeaderValue};
use telemetry::http::{ApiAnswer, ApiAnswerBody, HeaderMap, StatusCode, StreamCut};
use tokio::sync::mpsc::{Sender, channel};

/// Events of a page that does not say.
const PAGE_LEN: u64 = 100;

/// Time after which a stream without events says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Pages that wait for their reader.
const PAGES_MAX: usize = 2;

pub(super) async fn list(
    call: &Call,
    access: &Access,
    query: &QueryFields,
    media: &'static str,
) -> Result<ApiAnswer, ApiProblem> {
    if !access.rights.see_jobs {
        return Err(ApiProblem::new(403, "this token may not see what others do"));
    }
    let after = match query.get("after") {
        Some(_) => Some(query.number("after", (0, ITEM_MAX), 0)?),
        None => None,
    };
    let limit = query.number("limit", (1, EVENTS_PAGE_MAX), PAGE_LEN)?;
    if media == EVENT_STREAM {
        return stream(call, after);
    }
    let after = after.unwrap_or(0);
    let (mut events, mut more) = call.hub.events(after).await.map_err(problem)?;
    if events.len() as u64 > limit {
        events.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        more = true;
    }
    let last = events.last().map(|(number, _)| *number);
    let rows: Vec<Value> = events.iter().map(|(number, event)| object(*number, event)).collect();
    let mut page = json!({ "events": rows });
    if let Some(last) = last.filter(|_| more) {
        page["next"] = format!("/v1/events?after={last}&limit={limit}").into();
    }
    Ok(json(200, &page))
}

fn problem(error: TrailError) -> ApiProblem {
    match error {
        TrailError::NoJournal => {
            ApiProblem::new(503, "this controller keeps no journal; see --state-dir")
        }
        TrailError::Journal(text) => ApiProblem::new(503, format!("the journal: {text}")),
    }
}

fn object(number: u64, event: &TrailEvent) -> Value {
    let TrailEvent { at_s, kind, subject, by, text } = event;
    json!({
        "id": number, "time": at_s, "event": kind.name(), "subject": subject, "by": by, "text": text,
    })
}

/// Events from now on, or after one that the client has.
fn stream(call: &Call, after: Option<u64>) -> Result<ApiAnswer, ApiProblem> {
    let newest = call.hub.newest_event().map_err(problem)?;
    let seen =
        call.request.headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let Some(permit) = call.request.stream_permit() else {
        return Err(ApiProblem::new(503, "too many streams are open; try again"));
    };
    let (pages, reader) = channel(PAGES_MAX);
    let after = seen.or(after).unwrap_or(newest);
    tokio::task::spawn_local(follow(Rc::clone(&call.hub), after, pages));
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    Ok(ApiAnswer { status: StatusCode::OK, headers, body: ApiAnswerBody::Stream(reader, permit) })
}

async fn follow(hub: Rc<Hub>, mut after: u64, pages: Sender<Result<Vec<u8>, StreamCut>>) {
    // A comment, so that the head is sent at once.
    let mut text = ": events\n\n".to_owned();
    loop {
        if pages.send(Ok(text.into_bytes())).await.is_err() {
            return;
        }
        text = match tokio::time::timeout(KEEP_ALIVE, hub.event_after(after)).await {
            Err(_) => ": nothing new\n\n".to_owned(),
            Ok(Err(_)) => return,
            Ok(Ok(())) => match hub.events(after).await {
                Ok((events, _)) => {
                    let mut text = String::new();
                    for (number, event) in &events {
                        let (name, data) = (event.kind.name(), object(*number, event));
                        text.push_str(&format!("id: {number}\nevent: {name}\ndata: {data}\n\n"));
                        after = *number;
                    }
                    text
                }
                Err(_) => return drop(pages.send(Err(StreamCut)).await),
            },
        };
    }
}
