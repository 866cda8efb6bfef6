//! Pages of the controller over HTTP: `/metrics`, `/healthz`, `/readyz`.
//!
//! Everything is read from the core when somebody asks, the same that `hashctl status` reads: nothing is
//! counted twice, and a controller that nobody asks pays nothing.

use super::hub::Hub;
use std::rc::Rc;
use telemetry::http::{Page, Pages};
use telemetry::metrics::CONTENT_TYPE;

/// The pages of the controller behind `hub`, by their paths.
pub(super) fn pages(hub: Rc<Hub>) -> Pages {
    Rc::new(move |path| match path {
        "/metrics" => {
            let body = hub.instruments.as_ref()?.render(&hub);
            Some(Page { status: 200, content_type: CONTENT_TYPE, body })
        }
        "/healthz" => Some(Page::text(200, "ok\n")),
        "/readyz" => Some(readiness(hub.picture().1)),
        _ => None,
    })
}

/// Ready is a controller that can have work done.
fn readiness(ready: usize) -> Page {
    match ready {
        0 => Page::json(503, "{\"ready\":false,\"reasons\":[\"no worker is ready\"]}\n"),
        _ => Page::json(200, "{\"ready\":true,\"reasons\":[]}\n"),
    }
}
