//! The metrics of a program, its pages, and its reports to other hosts.

use crate::clock::seconds_since_1970;
use crate::config::BridgeConfig;
use crate::registry::{HostReport, HostState, REPORT_DATASETS_MAX, REPORT_INTERVAL};
use crate::serve::ServeRole;
use crate::submit::SubmitRole;
use crate::transport::{BrokerSurvey, Transport};
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use telemetry::http::{HttpAddress, HttpListener, Page, ReadyReport};
use telemetry::metrics::{CONTENT_TYPE, Metrics};
use telemetry::metrics_table;
use telemetry::process::{COMMON, Host};
use tokio::task::LocalSet;

metrics_table! {
    /// All metrics of a bridge, besides those of every program (`docs/metrics.md`).
    pub(crate) ALL;
    CONNECTED Gauge "hashcluster_bridge_connected" [] "1 while it is connected to the broker, else 0.";
    CONNECTIONS Counter "hashcluster_bridge_connections_total" [] "Connections to the broker.";
    HELD Gauge "hashcluster_bridge_shards_held" []
        "Shards that this host holds; of a job, those that are with the broker.";
    HELD_MAX Gauge "hashcluster_bridge_shards_max" [] "Most of these; of a job, all of its shards.";
    SHARDS Counter "hashcluster_bridge_shards_total" ["outcome"]
        "Shards and results by what became of them. Serving: answered, returned to the broker, again (delivered while it is held), dead, invalid. Submitting: done, expired (published again), stale (a result of an earlier attempt), dead, invalid.";
    BYTES Counter "hashcluster_bridge_bytes_total" [] "Bytes of the files of shards that were answered, or that have a result.";
    BACKLOG Gauge "hashcluster_bridge_backlog_shards" ["dataset"]
        "Shards of a dataset that wait at the broker for a host. After a crash of the broker it may be too high or too low.";
    DELAY Gauge "hashcluster_bridge_broker_delay_seconds" []
        "Time that the broker took to store this host's last report.";
}

/// Content of the pages.
#[derive(Debug, Default)]
struct BridgeView {
    connected: bool,
    connections: u64,
    report: Option<HostReport>,
    outcomes: Vec<(&'static str, u64)>,
    survey: BrokerSurvey,
}

/// Follows a role: what it does is shown on pages, and reported through the broker.
#[derive(Debug)]
pub(crate) struct Observer {
    report: HostReport,
    report_at: Duration,
    view: Arc<Mutex<BridgeView>>,
}

impl Observer {
    /// For a program of this state and these datasets; with pages at `http`.
    ///
    /// # Errors
    /// The address cannot be had, or the system refuses a thread.
    pub(crate) fn start(
        config: &BridgeConfig,
        state: HostState,
        datasets: impl IntoIterator<Item = String>,
        http: Option<&HttpAddress>,
    ) -> io::Result<Self> {
        let view = Arc::new(Mutex::new(BridgeView::default()));
        if let Some(address) = http {
            serve_pages(address, Arc::clone(&view))?;
        }
        let report = HostReport {
            host: config.broker.host.clone(),
            datasets: datasets.into_iter().take(REPORT_DATASETS_MAX).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state,
            clock: 0,
            held: 0,
            held_max: 0,
            done: 0,
            returned: 0,
            dead: 0,
            bytes: 0,
        };
        Ok(Self { report, report_at: Duration::ZERO, view })
    }

    /// The time of the next report, or `timer` if that is earlier.
    pub(crate) fn timer(&self, timer: Option<Duration>) -> Option<Duration> {
        timer.into_iter().chain([self.report_at]).min()
    }

    /// The connection to the broker is there, or lost.
    pub(crate) fn connected(&self, connected: bool) {
        let mut view = lock(&self.view);
        view.connections += u64::from(connected);
        view.connected = connected;
    }

    pub(crate) fn surveyed(&self, survey: BrokerSurvey) {
        lock(&self.view).survey = survey;
    }

    pub(crate) fn serving(&mut self, now: Duration, role: &ServeRole, to: &mut impl Transport) {
        let counts = role.counts();
        self.report.held = role.held_len() as u64;
        self.report.held_max = role.held_max() as u64;
        self.report.done = counts.answered;
        self.report.returned = counts.returned;
        self.report.dead = counts.dead;
        self.report.bytes = counts.bytes;
        let outcomes = vec![
            ("answered", counts.answered),
            ("returned", counts.returned),
            ("again", counts.again),
            ("dead", counts.dead),
            ("invalid", counts.invalid),
        ];
        self.show(now, outcomes, to);
    }

    pub(crate) fn submitting(&mut self, now: Duration, role: &SubmitRole, to: &mut impl Transport) {
        let counts = role.counts();
        self.report.held = role.outstanding() as u64;
        self.report.held_max = role.len().into();
        self.report.done = counts.done as u64;
        self.report.returned = counts.expired;
        self.report.dead = counts.dead;
        self.report.bytes = counts.bytes;
        let outcomes = vec![
            ("done", counts.done as u64),
            ("expired", counts.expired),
            ("stale", counts.stale),
            ("dead", counts.dead),
            ("invalid", counts.invalid),
        ];
        self.show(now, outcomes, to);
    }

    /// Says that it finishes what it holds.
    pub(crate) fn drain(&mut self) {
        self.report.state = HostState::Leaving;
        self.report_at = Duration::ZERO;
    }

    /// Says that it has left.
    pub(crate) fn leave(&mut self, to: &mut impl Transport) {
        self.report.state = HostState::Left;
        self.report.held = 0;
        self.send(to);
    }

    fn show(&mut self, now: Duration, outcomes: Vec<(&'static str, u64)>, to: &mut impl Transport) {
        {
            let mut view = lock(&self.view);
            view.report = Some(self.report.clone());
            view.outcomes = outcomes;
        }
        if now >= self.report_at {
            self.report_at = now + REPORT_INTERVAL;
            self.send(to);
        }
    }

    fn send(&mut self, to: &mut impl Transport) {
        self.report.clock = seconds_since_1970();
        to.report(&self.report);
    }
}

fn lock(view: &Mutex<BridgeView>) -> MutexGuard<'_, BridgeView> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves `/metrics`, `/healthz` and `/readyz` on a thread of its own.
fn serve_pages(address: &HttpAddress, view: Arc<Mutex<BridgeView>>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _entered = runtime.enter();
        HttpListener::bind(address).map_err(|error| io::Error::other(error.to_string()))?
    };
    let metrics = Metrics::new(&[COMMON, ALL]);
    let host = Host::open(env!("CARGO_PKG_VERSION"), "");
    let pages = move |path: &str| match path {
        "/metrics" => {
            host.set(&metrics);
            set(&metrics, &lock(&view));
            Some(Page { status: 200, content_type: CONTENT_TYPE, body: metrics.render() })
        }
        "/healthz" => Some(Page::text(200, "ok\n")),
        "/readyz" => {
            let mut readiness = ReadyReport::default();
            readiness.require(lock(&view).connected, "not connected to the broker");
            Some(readiness.page())
        }
        _ => None,
    };
    thread::Builder::new().name("pages".to_owned()).spawn(move || {
        LocalSet::new().block_on(&runtime, listener.serve(Rc::new(pages)));
    })?;
    Ok(())
}

fn set(metrics: &Metrics, view: &BridgeView) {
    let count = |metric, count| metrics.set_count(metric, &[], count);
    count(&CONNECTED, view.connected.into());
    count(&CONNECTIONS, view.connections);
    if let Some(report) = &view.report {
        count(&HELD, report.held);
        count(&HELD_MAX, report.held_max);
        count(&BYTES, report.bytes);
    }
    for (outcome, number) in &view.outcomes {
        metrics.set_count(&SHARDS, &[outcome], *number);
    }
    for (dataset, shards) in &view.survey.backlog {
        metrics.set_count(&BACKLOG, &[dataset], *shards);
    }
    metrics.set(&DELAY, &[], view.survey.delay.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use telemetry::metrics::{Metric, rows_below};

    #[test]
    fn the_document_has_the_table() {
        let document = include_str!("../../../docs/metrics.md");
        let rows: Vec<String> = ALL.iter().copied().map(Metric::row).collect();
        assert_eq!(rows_below(document, "## Metrics of a bridge"), rows);
    }

    #[test]
    fn everything_that_is_known_is_on_the_page() {
        let metrics = Metrics::new(&[ALL]);
        let view = BridgeView {
            connected: true,
            connections: 2,
            outcomes: vec![("answered", 7), ("dead", 1)],
            survey: BrokerSurvey {
                delay: Duration::from_millis(500),
                backlog: BTreeMap::from([("photos".to_owned(), 9)]),
            },
            ..BridgeView::default()
        };
        set(&metrics, &view);
        let page = metrics.render();
        for line in [
            "hashcluster_bridge_connected 1",
            "hashcluster_bridge_connections_total 2",
            "hashcluster_bridge_shards_total{outcome=\"answered\"} 7",
            "hashcluster_bridge_shards_total{outcome=\"dead\"} 1",
            "hashcluster_bridge_backlog_shards{dataset=\"photos\"} 9",
            "hashcluster_bridge_broker_delay_seconds 0.5",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}: {page}");
        }
    }
}
