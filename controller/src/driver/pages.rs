//! Pages of the controller over HTTP: `/metrics`, `/status.json`, `/healthz`, `/readyz`, and those for browsers
//! (`status_page`).
//!
//! Everything is read from the core when somebody asks, the same that `hashctl status` reads: nothing is
//! counted twice, and a controller that nobody asks pays nothing.

use super::hub::Hub;
use super::status_page::StatusPage;
use std::rc::Rc;
use telemetry::http::{Page, Pages, ReadyReport};
use telemetry::metrics::CONTENT_TYPE;

/// The pages of the controller behind `hub`, by their paths.
pub(super) fn pages(hub: Rc<Hub>, has_status_page: bool) -> Pages {
    let status_page = has_status_page.then(StatusPage::default);
    Rc::new(move |path| match path {
        "/metrics" => {
            let body = hub.instruments.as_ref()?.render(&hub);
            Some(Page { status: 200, content_type: CONTENT_TYPE, body })
        }
        "/status.json" if has_status_page => {
            Some(Page::json(200, format!("{}\n", overview::status_json(&hub.picture().0))))
        }
        "/healthz" => Some(Page::text(200, "ok\n")),
        "/readyz" => Some(readiness(&hub).page()),
        path => status_page.as_ref()?.page(path, &hub),
    })
}

/// Ready is a controller that can have work done: it listens, as it answers here.
fn readiness(hub: &Hub) -> ReadyReport {
    let mut readiness = ReadyReport::default();
    readiness.require(hub.core.borrow().ready_workers() > 0, "no worker is ready");
    let health = hub.journal.health();
    let journal =
        health.reason().map(|reason| format!("the journal is {}: {reason}", health.name()));
    readiness.require(journal.is_none(), journal.as_deref().unwrap_or_default());
    readiness
}
