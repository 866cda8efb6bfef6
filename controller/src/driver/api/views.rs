//! Answers that need nothing but the present state of the controller.

use super::access::Access;
use super::media::JSON;
use super::openapi;
use crate::driver::hub::Hub;
use overview::worker_objects;
use serde::Serialize;
use serde_json::json;
use telemetry::http::header::{CONTENT_TYPE, HeaderValue};
use telemetry::http::{ApiAnswer, ApiAnswerBody, HeaderMap, StatusCode};

/// An answer in JSON.
pub(super) fn json(status: u16, value: &impl Serialize) -> ApiAnswer {
    let mut body = serde_json::to_vec(value).expect("a vector takes everything");
    body.push(b'\n');
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    let status = StatusCode::from_u16(status).expect("our own statuses");
    ApiAnswer { status, headers, body: ApiAnswerBody::Whole(body) }
}

pub(super) fn document() -> ApiAnswer {
    json(200, &openapi::document())
}

pub(super) fn workers(hub: &Hub) -> ApiAnswer {
    let (status, _) = hub.picture();
    json(200, &json!({ "workers": worker_objects(&status), "unlisted": status.workers_unlisted }))
}

pub(super) fn datasets(hub: &Hub, access: &Access) -> ApiAnswer {
    let live = hub.live.borrow();
    let names = live.datasets.iter().filter(|name| access.rights.datasets.includes(name));
    let datasets: Vec<_> = names.map(|name| json!({ "name": name })).collect();
    json(200, &json!({ "datasets": datasets }))
}
