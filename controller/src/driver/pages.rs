//! Pages of the controller over HTTP: `/metrics`, `/status.json`, `/healthz`, `/readyz`, and those for browsers
//! (`status_page`).
//!
//! Everything is read from the core when somebody asks, the same that `hashctl status` reads: nothing is
//! counted twice, and a controller that nobody asks pays nothing.

use super::hub::Hub;
use super::status_page::StatusPage;
use std::rc::Rc;
use telemetry::http::{Page, Pages};
use telemetry::metrics::CONTENT_TYPE;

/// The pages of the controller behind `hub`, by their paths.
pub(super) fn pages(hub: Rc<Hub>, has_status_page: bool) -> Pages {
    let status_page = has_status_page.then(StatusPage::default);
    Rc::new(move |path| match path {
        "/metrics" => {
            let body = hub.instruments.as_ref()?.render(&hub);
            Some(Page { status: 200, content_type: CONTENT_TYPE, body })
        }
        "/status.json" => {
            Some(Page::json(200, format!("{}\n", overview::status_json(&hub.picture().0))))
        }
        "/healthz" => Some(Page::text(200, "ok\n")),
        "/readyz" => Some(readiness(hub.picture().1)),
        path => status_page.as_ref()?.page(path, &hub),
    })
}

/// Ready is a controller that can have work done.
fn readiness(ready: usize) -> Page {
    match ready {
        0 => Page::json(503, "{\"ready\":false,\"reasons\":[\"no worker is ready\"]}\n"),
        _ => Page::json(200, "{\"ready\":true,\"reasons\":[]}\n"),
    }
}
