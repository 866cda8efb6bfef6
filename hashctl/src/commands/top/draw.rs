//! Drawing: the state as text, for a terminal of any size and for `--once`.

use super::rows::{job_table, worker_table};
use super::table::{Look, Table, Tone};
use super::view::{Focus, Link, TopMode, TopView};
use ipc_proto::message::{Status, WorkerHealth};
use overview::{EventSeverity, age, bytes, one_line};
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use std::time::Duration;

/// Lines of the help.
const HELP: [&str; 15] = [
    "tab, left, right   workers or jobs",
    "up, down, k, j     select a row; PgUp, PgDn, Home, End",
    "s                  sort by another column; S: the other way round",
    "/                  filter by name, health, job, user, process, algorithm",
    "esc                no filter",
    "r                  release the selected worker from quarantine",
    "c                  cancel the selected job, if it is durable",
    "ctrl-l             draw everything again",
    "ctrl-z             suspend",
    "q, ctrl-c          quit",
    "",
    "Rates are of the last seconds. A job has a percentage and a time left once its",
    "client has sent all items; before, a + stands behind their number.",
    "A job that is not durable is cancelled by its own client only (Ctrl-C there):",
    "the protocol lets no client end the job of another one.",
];

/// Draws the view.
pub(super) fn draw(view: &TopView, now: Duration, look: Look, buffer: &mut Buffer) {
    let area = buffer.area;
    if area.width == 0 || area.height == 0 {
        return;
    }
    let mut canvas = Canvas { buffer, look };
    let bottom = Rect { y: area.bottom() - 1, height: 1, ..area };
    let Some((asked, status)) = view.history.last() else { return };
    canvas.line(area, 0, Tone::Head, &title(status));
    let since = now.saturating_sub(asked);
    let second = match &view.link {
        Link::Lost(reason) => (Tone::Bad, format!("STALE {}, still trying: {reason}", age(since))),
        Link::Up if since > view.stale_after => {
            (Tone::Warning, format!("STALE {}: no answer yet", age(since)))
        }
        Link::Up => (Tone::Plain, counts(status)),
    };
    if area.height > 2 {
        canvas.line(area, 1, second.0, &second.1);
    }
    if area.height > 1 {
        canvas.footer(view, now, bottom);
    }
    let body =
        Rect { y: area.y + area.height.min(2), height: area.height.saturating_sub(3), ..area };
    if view.mode == TopMode::Help {
        for (line, text) in (0..body.height).zip(HELP) {
            canvas.line(body, line, Tone::Plain, text);
        }
        return;
    }
    canvas.body(view, now, body);
}

struct Canvas<'a> {
    buffer: &'a mut Buffer,
    look: Look,
}

impl Canvas<'_> {
    fn line(&mut self, area: Rect, line: u16, tone: Tone, text: &str) {
        if line < area.height {
            let text = self.look.cut(text, area.width.into());
            let style = self.look.style(tone);
            self.buffer.set_stringn(area.x, area.y + line, text, area.width.into(), style);
        }
    }

    /// Keys, a question, or the latest notice.
    fn footer(&mut self, view: &TopView, now: Duration, area: Rect) {
        let (tone, text) = match &view.mode {
            TopMode::Filter => (Tone::Head, format!("filter: {}_ (enter, esc)", view.filter)),
            TopMode::Confirm(change) => (Tone::Warning, change.question()),
            TopMode::Help => (Tone::Dim, "any key: back   q quit".to_owned()),
            TopMode::Tables => match view.notice(now) {
                Some(notice) => (Tone::Warning, notice.to_owned()),
                None => {
                    let keys =
                        "q quit  ? help  tab workers/jobs  s sort  / filter  r release  c cancel";
                    (Tone::Dim, keys.to_owned())
                }
            },
        };
        self.line(area, 0, tone, &text);
    }

    fn body(&mut self, view: &TopView, now: Duration, area: Rect) {
        let (workers, jobs) = (view.workers(), view.jobs());
        let heights = share(area.height, workers.len(), jobs.len());
        let (mut rest, mut parts) = (area, [area; 3]);
        for (part, height) in parts.iter_mut().zip(heights) {
            *part = Rect { height, ..rest };
            rest = Rect { y: rest.y + height, height: rest.height - height, ..rest };
        }
        let [workers_area, jobs_area, events_area] = parts;
        let table = worker_table(&view.history, &workers);
        let head = self.heading(view, Focus::Workers, "WORKERS", workers.len());
        self.table(workers_area, &head, &table, view.selected_worker(&workers));
        let table = job_table(&view.history, &jobs);
        let head = self.heading(view, Focus::Jobs, "JOBS", jobs.len());
        self.table(jobs_area, &head, &table, view.selected_job(&jobs));
        self.events(view, now, events_area);
    }

    fn heading(&self, view: &TopView, focus: Focus, what: &str, len: usize) -> String {
        let by = match focus {
            Focus::Workers => view.worker_sort.name(),
            Focus::Jobs => view.job_sort.name(),
        };
        let is_here = view.focus == focus;
        let mark = if is_here { "> " } else { "  " };
        let turned = if is_here && view.is_reversed { ", reversed" } else { "" };
        let filter = match &*view.filter {
            "" => String::new(),
            filter => format!(", with \"{filter}\""),
        };
        format!("{mark}{what} {len}, by {by}{turned}{filter}")
    }

    fn table<const N: usize>(
        &mut self,
        area: Rect,
        head: &str,
        table: &Table<N>,
        selected: Option<usize>,
    ) {
        self.line(area, 0, Tone::Head, head);
        let rows = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        // The selected row is the last one that is shown, if it is further down.
        let visible = usize::from(rows.height.saturating_sub(1));
        let first = selected.map_or(0, |at| (at + 1).saturating_sub(visible));
        table.draw(self.buffer, rows, self.look, first, selected);
    }

    fn events(&mut self, view: &TopView, now: Duration, area: Rect) {
        self.line(area, 0, Tone::Head, "  EVENTS, newest first");
        for (line, (at, event)) in (1..area.height).zip(view.history.events()) {
            let tone = match event.severity {
                EventSeverity::Info => Tone::Plain,
                EventSeverity::Warning => Tone::Warning,
                EventSeverity::Error => Tone::Bad,
            };
            let text = format!("{:>13} ago  {event}", age(now.saturating_sub(*at)));
            self.line(area, line, tone, &text);
        }
    }
}

/// Lines of workers, jobs and events in `height`: each gets a heading and its rows, and where there is no
/// room for all, jobs and events get at least a third and a fifth.
fn share(height: u16, workers: usize, jobs: usize) -> [u16; 3] {
    let wish = |rows: usize| u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(3);
    let events_min = if height >= 15 { height / 5 } else { 0 };
    let room = height - events_min;
    let jobs_min = wish(jobs).min(room.div_ceil(3));
    let workers = wish(workers).min(room - jobs_min);
    let jobs = wish(jobs).min(room - workers);
    [workers, jobs, height - workers - jobs]
}

fn title(status: &Status) -> String {
    let rate = status.workers.iter().fold(0, |sum: u64, w| sum.saturating_add(w.bytes_per_s));
    let ready = status.workers.iter().filter(|w| w.health == WorkerHealth::Ready).count();
    let workers = status.workers.len() as u64 + u64::from(status.workers_unlisted);
    let jobs = status.jobs.len() as u64 + u64::from(status.jobs_unlisted);
    format!(
        "{ready}/{workers} workers ready, {jobs} jobs, {}/s; controller {} up {}",
        bytes(rate),
        one_line(&status.software),
        age(Duration::from_millis(status.uptime_ms)),
    )
}

fn counts(status: &Status) -> String {
    let (limits, counters) = (&status.limits, &status.counters);
    let unlisted = u64::from(status.workers_unlisted) + u64::from(status.jobs_unlisted);
    let unlisted =
        if unlisted > 0 { format!(", {unlisted} rows not listed") } else { String::new() };
    format!(
        "{} items wait; since start {} items ({} failed), {}, {} batches lost{unlisted}",
        limits.items,
        counters.items,
        counters.items_failed,
        bytes(counters.bytes),
        counters.leases_lost,
    )
}

/// The view as plain text, of any width.
pub(super) fn text(view: &TopView) -> String {
    let Some((_, status)) = view.history.last() else { return String::new() };
    let mut lines = vec![title(status), counts(status), String::new()];
    lines.extend(worker_table(&view.history, &view.workers()).lines(Look::PLAIN));
    for row in &status.quarantined {
        lines.push(one_line(&format!("{} is in quarantine: {}", row.worker, row.reason)));
    }
    lines.push(String::new());
    lines.extend(job_table(&view.history, &view.jobs()).lines(Look::PLAIN));
    lines.join("\n") + "\n"
}
