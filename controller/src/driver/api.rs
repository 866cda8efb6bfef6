//! The HTTP API: everything below `/v1/`, from one table of operations (`routes`), which the OpenAPI document is
//! made of, too.
//!
//! A request is checked in this order, and the first fault is its answer, a problem (RFC 9457): length of the
//! head, path, method, host or token, query, media types, body. No byte of a body is read before its sender
//! has shown a token. What it asks for goes to the book as a client's request does, in the name of the token.
//!
//! Not here: who may do what (`policy`, `api_tokens`), what is done (`jobs`), connections and their limits
//! (`telemetry::http`).

mod access;
mod dead;
mod events;
mod fields;
mod findings;
mod jobs;
mod media;
mod openapi;
mod problem;
mod result;
mod routes;
mod schedules;
mod schemas;
mod submit;
mod views;

use super::hub::Hub;
use access::Access;
use fields::QueryFields;
use problem::ApiProblem;
use routes::{ApiOperation, ApiTask};
use std::rc::Rc;
use telemetry::http::{Api, ApiAnswer, ApiAnswerBody, ApiRequest, Method};

/// Longest body of a request, in bytes.
pub(super) const API_BODY_LEN_MAX: usize = 1 << 20;

/// Longest head of a request, in bytes without separators: below what the listener takes, so that the answer has
/// words.
pub(super) const API_HEAD_LEN_MAX: usize = 6 << 10;

/// Header with the key of a request to make a job, which is the job's.
const KEY_HEADER: &str = "idempotency-key";

/// The API of the controller behind `hub`.
pub(super) fn api(hub: Rc<Hub>) -> Api {
    Rc::new(move |request| {
        if request.path != "/v1" && !request.path.starts_with("/v1/") {
            return Err(Box::new(request));
        }
        let hub = Rc::clone(&hub);
        Ok(Box::pin(async move {
            let mut call = Call { hub, request };
            call.answer().await.unwrap_or_else(ApiProblem::into_answer)
        }))
    })
}

/// A request that is being answered.
struct Call {
    hub: Rc<Hub>,
    request: ApiRequest,
}

impl Call {
    async fn answer(&mut self) -> Result<ApiAnswer, ApiProblem> {
        if self.request.head_len() > API_HEAD_LEN_MAX {
            let text = format!("the head of a request has at most {API_HEAD_LEN_MAX} bytes");
            return Err(ApiProblem::new(431, text));
        }
        let path = self.request.path.clone();
        let (operations, id) = routes::find(&path)
            .ok_or_else(|| ApiProblem::new(404, "there is no such path; see /v1/openapi.json"))?;
        let is_head = self.request.method == Method::HEAD;
        let method = if is_head { "GET" } else { self.request.method.as_str() };
        let Some(operation) = operations.iter().find(|operation| operation.method == method) else {
            return Err(ApiProblem::wrong_method(operations));
        };
        let access = Access::of(&self.hub, &self.request, operation)?;
        let query = QueryFields::parse(&self.request.query, operation.fields)?;
        let media = media::accepted(&self.request.headers, operation.media)?;
        let mut answer = self.carry_out(operation, access, id, &query, media).await?;
        if is_head && matches!(answer.body, ApiAnswerBody::Stream(..)) {
            answer.body = ApiAnswerBody::Whole(Vec::new());
        }
        Ok(answer)
    }

    async fn carry_out(
        &mut self,
        operation: &ApiOperation,
        access: Access,
        id: &str,
        query: &QueryFields,
        media: &'static str,
    ) -> Result<ApiAnswer, ApiProblem> {
        match operation.task {
            ApiTask::Document => Ok(views::document()),
            ApiTask::ListJobs => jobs::list(self, &access, query).await,
            ApiTask::ShowJob => jobs::show(self, &access, id).await,
            ApiTask::Result => result::result(self, &access, id, query, media).await,
            ApiTask::Findings => findings::findings(self, &access, id, query, media).await,
            ApiTask::ListEvents => events::list(self, &access, query, media).await,
            ApiTask::ListDead => dead::list(self, &access, query).await,
            ApiTask::ListSchedules => schedules::list(self, &access, query).await,
            ApiTask::ListRuns => schedules::runs(self, &access, query).await,
            ApiTask::ListWorkers => Ok(views::workers(&self.hub)),
            ApiTask::ListDatasets => Ok(views::datasets(&self.hub, &access)),
            ApiTask::Submit => submit::submit(self, &access).await,
            ApiTask::Act(act) => jobs::act(self, &access, id, act).await,
        }
    }
}
