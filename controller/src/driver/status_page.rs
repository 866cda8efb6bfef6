//! The status page for browsers: `/`, `/events`, and the style and script of the page.
//!
//! The view is rendered here for both the page and its events, so that it can be read without scripts and
//! there is one place where words of peers are escaped. Pictures are taken only while somebody looks.

use super::hub::Hub;
use ipc_proto::message::{JobStatus, Status, WorkerHealth, WorkerStatus};
use overview::{EventSeverity, StatusHistory, age, bytes, health, one_line};
use std::cell::RefCell;
use std::fmt::Arguments;
use std::time::Duration;
use telemetry::http::{EVENT_INTERVAL, EVENT_STREAM, HTML, Page};

/// Rows of each table.
const ROWS_MAX: usize = 100;

/// Events that are shown.
const EVENTS_SHOWN: usize = 20;

const STYLE: &str = include_str!("status_page/status.css");
const SCRIPT: &str = include_str!("status_page/status.js");

/// The page around the view.
const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>hashcluster</title>\
    <link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"/status.css\">\
    <script defer src=\"/status.js\"></script>\
    <noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript></head><body>\
    <header><h1>hashcluster</h1><p id=\"link\" role=\"status\">as of now</p></header>\
    <main id=\"view\" tabindex=\"0\" aria-label=\"status\">";
const FOOT: &str = "</main></body></html>\n";

/// The pages, with the statuses that were shown lately.
#[derive(Debug, Default)]
pub(super) struct StatusPage {
    history: RefCell<StatusHistory>,
}

impl StatusPage {
    /// The page at `path`.
    pub(super) fn page(&self, path: &str, hub: &Hub) -> Option<Page> {
        let (content_type, body) = match path {
            "/" => (HTML, format!("{HEAD}{}{FOOT}", self.view(hub))),
            "/events" => (EVENT_STREAM, self.view(hub)),
            "/status.css" => ("text/css; charset=utf-8", STYLE.to_owned()),
            "/status.js" => ("text/javascript; charset=utf-8", SCRIPT.to_owned()),
            _ => return None,
        };
        Some(Page { status: 200, content_type, body })
    }

    fn view(&self, hub: &Hub) -> String {
        let (now, mut history) = (hub.now(), self.history.borrow_mut());
        // Several who look at once see the same picture, and its rates are of equal times.
        let is_new = |at: Duration| now.saturating_sub(at) < EVENT_INTERVAL * 9 / 10;
        if !history.last().is_some_and(|(at, _)| is_new(at)) {
            history.push(now, hub.picture().0);
        }
        render(&history, now)
    }
}

/// Text that is put together.
#[derive(Default)]
struct Html(String);

impl Html {
    fn put(&mut self, text: Arguments<'_>) {
        self.0.push_str(&text.to_string());
    }

    /// Adds a cell of a table.
    fn cell(&mut self, class: &str, text: &str) {
        self.put(format_args!("<td class=\"{class}\">{}</td>", escaped(text)));
    }

    fn head(&mut self, title: &str, columns: &[(&str, &str)]) {
        let name = title.to_lowercase();
        self.put(format_args!(
            "<h2 id=\"{name}\">{title}</h2><table aria-labelledby=\"{name}\"><thead><tr>"
        ));
        for (class, column) in columns {
            self.put(format_args!("<th scope=\"col\" class=\"{class}\">{column}</th>"));
        }
        self.put(format_args!("</tr></thead><tbody>"));
    }
}

/// A text as content or attribute of HTML; what would change the direction of other text is a blank.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

fn render(history: &StatusHistory, now: Duration) -> String {
    let Some((_, status)) = history.last() else { return String::new() };
    let mut html = Html::default();
    summary(&mut html, history, status);
    workers(&mut html, history, status);
    jobs(&mut html, history, status);
    html.put(format_args!("<h2>Recent events</h2><ol>"));
    for (at, event) in history.events().take(EVENTS_SHOWN) {
        let class = match event.severity {
            EventSeverity::Info => "",
            EventSeverity::Warning => "warn",
            EventSeverity::Error => "bad",
        };
        let (ago, text) = (age(now.saturating_sub(*at)), escaped(&event.to_string()));
        html.put(format_args!(
            "<li><span class=\"dim\">{ago} ago</span> <span class=\"{class}\">{text}</span></li>"
        ));
    }
    if history.events().next().is_none() {
        html.put(format_args!("<li class=\"dim\">none since this page was first looked at</li>"));
    }
    html.put(format_args!("</ol>"));
    html.0
}

fn summary(html: &mut Html, history: &StatusHistory, status: &Status) {
    let ready = status.workers.iter().filter(|w| w.health == WorkerHealth::Ready).count();
    let workers = status.workers.len() as u64 + u64::from(status.workers_unlisted);
    let jobs = status.jobs.len() as u64 + u64::from(status.jobs_unlisted);
    let rates: Vec<u64> = history.total_rates().collect();
    let rate = bytes(rates.last().copied().unwrap_or(0));
    let class = if ready == 0 { "bad" } else { "good" };
    html.put(format_args!(
        "<p><strong class=\"{class}\">{ready} of {workers} workers ready</strong>, {jobs} jobs, \
         {} items wait, {rate}/s; controller {} up {}</p>",
        status.limits.items,
        escaped(&status.software),
        age(Duration::from_millis(status.uptime_ms)),
    ));
    spark(html, "all workers", &rates);
    let counters = &status.counters;
    html.put(format_args!(
        "<p class=\"dim\">Since the start: {} items ({} failed), {}, {} batches lost</p>",
        counters.items,
        counters.items_failed,
        bytes(counters.bytes),
        counters.leases_lost
    ));
}

fn workers(html: &mut Html, history: &StatusHistory, status: &Status) {
    html.head(
        "Workers",
        &[
            ("", "Worker"),
            ("", "Health"),
            ("n", "Bytes/s"),
            ("", "Last rates"),
            ("n", "Items/s"),
            ("n", "In flight"),
            ("n", "Threads"),
            ("n", "Lost"),
        ],
    );
    for worker in status.workers.iter().take(ROWS_MAX) {
        worker_row(html, history, worker);
    }
    for row in status.quarantined.iter().filter(|row| !row.connected).take(ROWS_MAX) {
        html.put(format_args!("<tr><th scope=\"row\">{}</th>", escaped(&row.worker)));
        html.put(format_args!(
            "<td class=\"bad\">quarantined, away</td><td colspan=\"6\">{}</td></tr>",
            escaped(&row.reason)
        ));
    }
    for row in status.drained.iter().filter(|row| !row.connected).take(ROWS_MAX) {
        html.put(format_args!("<tr><th scope=\"row\">{}</th>", escaped(&row.worker)));
        html.put(format_args!(
            "<td class=\"warn\">drained, away</td><td colspan=\"6\">by {}</td></tr>",
            escaped(&row.by)
        ));
    }
    let listed = status.workers.len().min(ROWS_MAX) as u64;
    end_table(html, status.workers.len() as u64 + u64::from(status.workers_unlisted) - listed, 8);
}

fn worker_row(html: &mut Html, history: &StatusHistory, worker: &WorkerStatus) {
    let class = match worker.health {
        WorkerHealth::Ready => "good",
        WorkerHealth::Suspended | WorkerHealth::Draining => "warn",
        WorkerHealth::Quarantined => "bad",
    };
    html.put(format_args!("<tr><th scope=\"row\">{}</th>", escaped(&worker.name)));
    html.cell(class, health(worker.health));
    html.cell("n", &bytes(worker.bytes_per_s));
    html.put(format_args!("<td>"));
    spark(html, &worker.name, &history.rates(&worker.name).collect::<Vec<_>>());
    html.put(format_args!("</td>"));
    for number in
        [worker.items_per_s, worker.leases.into(), worker.threads.into(), worker.leases_lost]
    {
        html.cell("n", &number.to_string());
    }
    html.put(format_args!("</tr>"));
}

fn jobs(html: &mut Html, history: &StatusHistory, status: &Status) {
    html.head(
        "Jobs",
        &[
            ("", "Job"),
            ("", "Progress"),
            ("n", "Items"),
            ("n", "Left"),
            ("n", "Failed"),
            ("n", "User"),
            ("n", "Age"),
            ("", "Algorithm"),
        ],
    );
    for job in status.jobs.iter().take(ROWS_MAX) {
        job_row(html, history, job);
    }
    if status.jobs.is_empty() {
        html.put(format_args!("<tr><td colspan=\"8\" class=\"dim\">none</td></tr>"));
    }
    let listed = status.jobs.len().min(ROWS_MAX) as u64;
    end_table(html, status.jobs.len() as u64 + u64::from(status.jobs_unlisted) - listed, 8);
}

fn job_row(html: &mut Html, history: &StatusHistory, job: &JobStatus) {
    let id = job.known_id().to_string();
    html.put(format_args!("<tr><th scope=\"row\">{id}</th><td>"));
    if job.finished && job.items > 0 {
        let percent = u128::from(job.resolved.min(job.items)) * 100 / u128::from(job.items);
        html.put(format_args!(
            "<progress max=\"100\" value=\"{percent}\" aria-label=\"job {id}\">{percent}%</progress> {percent}%"
        ));
    } else {
        html.put(format_args!("<span class=\"dim\">more items may come</span>"));
    }
    html.put(format_args!("</td>"));
    let more = if job.finished { "" } else { "+" };
    html.cell("n", &format!("{} of {}{more}", job.resolved, job.items));
    html.cell("n", &history.time_left(job).map_or_else(|| "-".to_owned(), age));
    html.cell(if job.failed > 0 { "n bad" } else { "n" }, &job.failed.to_string());
    html.cell("n", &job.uid().map_or_else(|| "-".to_owned(), |uid| uid.to_string()));
    html.cell("n", &age(Duration::from_millis(job.age_ms)));
    html.cell("", &job.algorithms.to_string());
    html.put(format_args!("</tr>"));
}

fn end_table(html: &mut Html, unlisted: u64, columns: usize) {
    if unlisted > 0 {
        html.put(format_args!("<tr><td colspan=\"{columns}\">and {unlisted} more</td></tr>"));
    }
    html.put(format_args!("</tbody></table>"));
}

/// Rates as a line of at most [`overview::RATES_MAX`] points, the newest at the right.
fn spark(html: &mut Html, of: &str, rates: &[u64]) {
    let top = rates.iter().copied().max().unwrap_or(0);
    let first = overview::RATES_MAX.saturating_sub(rates.len());
    let y = |rate: u64| 19 - u128::from(rate) * 18 / u128::from(top.max(1));
    let points = rates.iter().enumerate().map(|(i, &rate)| format!("{},{}", first + i, y(rate)));
    html.put(format_args!(
        "<svg role=\"img\" aria-label=\"bytes per second of {}: highest {}, now {}\" viewBox=\"0 0 {} 20\" \
         preserveAspectRatio=\"none\"><polyline vector-effect=\"non-scaling-stroke\" points=\"{}\"/></svg>",
        escaped(of),
        bytes(top),
        bytes(rates.last().copied().unwrap_or(0)),
        overview::RATES_MAX,
        points.collect::<Vec<_>>().join(" "),
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::message::QuarantineStatus;

    fn hostile(len: usize) -> Status {
        let name = "<script>alert('\"&\u{202e}')</script>";
        let worker = WorkerStatus { name: name.to_owned(), ..WorkerStatus::default() };
        Status {
            software: name.to_owned(),
            workers: vec![worker; len],
            quarantined: vec![QuarantineStatus {
                worker: name.to_owned(),
                reason: "</td><img src=x onerror=alert(1)>\n".to_owned(),
                ..QuarantineStatus::default()
            }],
            ..Status::default()
        }
    }

    #[test]
    fn the_words_of_peers_are_text_and_never_markup() {
        let mut history = StatusHistory::default();
        history.push(Duration::ZERO, Status::default());
        history.push(Duration::from_secs(1), hostile(1));
        let html = render(&history, Duration::from_secs(2));
        for harmful in ["<script", "<img", "\u{202e}", "\n", "'\""] {
            assert!(!html.contains(harmful), "{harmful:?} in {html}");
        }
        let want = "&lt;script&gt;alert(&#39;&quot;&amp; &#39;)&lt;/script&gt;";
        // As a row, the label of its rates, in quarantine, in events, and as the controller's version.
        assert!(html.matches(want).count() >= 5, "{html}");
    }

    #[test]
    fn the_page_is_small_and_its_rows_are_bounded() {
        let page = HEAD.len() + FOOT.len() + STYLE.len() + SCRIPT.len();
        assert!(page < 8 << 10, "{page} bytes without the view");
        let mut history = StatusHistory::default();
        history.push(Duration::ZERO, hostile(10));
        assert!(page + render(&history, Duration::ZERO).len() < 30 << 10);
        let mut history = StatusHistory::default();
        history.push(Duration::ZERO, hostile(2048));
        let html = render(&history, Duration::ZERO);
        assert!(html.contains("and 1948 more"), "{html}");
    }
}
