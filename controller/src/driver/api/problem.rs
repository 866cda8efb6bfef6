//! Problems: every answer that is an error, as `application/problem+json` (RFC 9457).

use super::routes::ApiOperation;
use ipc_proto::message::ServiceRefusal;
use serde_json::json;
use telemetry::http::header::{
    ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use telemetry::http::{ApiAnswer, ApiAnswerBody, HeaderMap, StatusCode};

/// Media type of a problem.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// An error that is an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiProblem {
    status: u16,
    detail: String,
    /// Path of what the client may have meant.
    see: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiProblem {
    pub(super) fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), see: None, headers: Vec::new() }
    }

    /// The same with the path of what the client may have meant.
    pub(super) fn with_path(self, path: String) -> Self {
        Self { see: Some(path), ..self }
    }

    /// Returns true if there is no such thing.
    pub(super) fn is_missing(&self) -> bool {
        self.status == 404
    }

    /// No operation of this path has the method.
    pub(super) fn wrong_method(operations: &[ApiOperation]) -> Self {
        let methods = operations.iter().flat_map(|operation| match operation.method {
            "GET" => vec!["GET", "HEAD"],
            method => vec![method],
        });
        let methods = methods.collect::<Vec<_>>().join(", ");
        let mut problem = Self::new(405, format!("this path takes {methods}"));
        problem.headers.extend(HeaderValue::from_str(&methods).map(|value| (ALLOW, value)));
        problem
    }

    /// A token is missing, or is not one of ours.
    pub(super) fn no_token(detail: &str) -> Self {
        let mut problem = Self::new(401, detail);
        problem.headers.push((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        problem
    }

    /// The book refused a request.
    pub(super) fn refused(reason: ServiceRefusal, text: String) -> Self {
        let status = match reason {
            ServiceRefusal::NoJournal | ServiceRefusal::JournalFailed => 503,
            ServiceRefusal::Forbidden => 403,
            ServiceRefusal::UnknownJob | ServiceRefusal::UnknownSchedule => 404,
            ServiceRefusal::KeyTaken | ServiceRefusal::WrongState => 409,
            ServiceRefusal::UnknownDataset
            | ServiceRefusal::WrongItems
            | ServiceRefusal::NotDurable
            | ServiceRefusal::BadSchedule => 422,
            ServiceRefusal::TooMuch => 429,
        };
        let mut problem = Self::new(status, text);
        if reason == ServiceRefusal::JournalFailed {
            problem.headers.push((RETRY_AFTER, HeaderValue::from_static("5")));
        }
        problem
    }

    pub(super) fn into_answer(self) -> ApiAnswer {
        let Self { status, detail, see, headers } = self;
        let mut headers: HeaderMap = headers.into_iter().collect();
        let status = StatusCode::from_u16(status).expect("our own statuses");
        let title = status.canonical_reason().unwrap_or("Error");
        let mut body = json!({ "title": title, "status": status.as_u16(), "detail": detail });
        if let Some(path) = see {
            body["see"] = path.into();
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        ApiAnswer { status, headers, body: ApiAnswerBody::Whole(format!("{body}\n").into()) }
    }
}
