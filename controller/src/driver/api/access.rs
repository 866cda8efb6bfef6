//! Whoever asks over HTTP: the holder of a token, or a reader without one.

use super::problem::ApiProblem;
use super::routes::ApiOperation;
use crate::core::{DatasetRights, Principal, Rights};
use crate::driver::hub::Hub;
use std::rc::Rc;
use telemetry::http::ApiRequest;
use telemetry::http::header::AUTHORIZATION;

/// A principal that no token is.
const READER: Principal = Principal::Token(u16::MAX);

/// Identity and rights of whoever asks.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) principal: Principal,
    pub(super) rights: Rc<Rights>,
}

impl Access {
    /// Reading needs no token where the status page is shown, which needs none either; a token that is sent must
    /// be one all the same, and only what it may see is shown then.
    pub(super) fn of(
        hub: &Hub,
        request: &ApiRequest,
        operation: &ApiOperation,
    ) -> Result<Self, ApiProblem> {
        let Some(header) = request.headers.get(AUTHORIZATION) else {
            if !request.is_for_own_host() {
                let text = "without a token, ask by the address of this host";
                return Err(ApiProblem::new(421, text));
            }
            return match operation.is_change() {
                false if hub.settings.has_status_page || operation.is_public() => {
                    Ok(Self::reader())
                }
                _ => Err(ApiProblem::no_token("a token of --api-tokens is wanted")),
            };
        };
        let live = hub.live.borrow();
        let guess = header.as_bytes().split_at_checked("Bearer ".len());
        let guess = guess.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "));
        let holder = guess.zip(live.api_tokens.as_ref());
        let holder = holder.and_then(|((_, guess), tokens)| tokens.holder(guess.trim_ascii()));
        match holder {
            Some((principal, rights)) => Ok(Self { principal, rights }),
            None => Err(ApiProblem::no_token("this is not a token of --api-tokens")),
        }
    }

    fn reader() -> Self {
        let datasets = DatasetRights::All;
        let rights = Rights { see_jobs: true, datasets, ..Rights::default() };
        Self { principal: READER, rights: Rc::new(rights) }
    }
}
