//! The view in terminals of several sizes, and its answers to keys.

use super::draw::{draw, text};
use super::table::Look;
use super::view::{Focus, TopChange, TopMode, TopView, Wish};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ipc_proto::Algorithm;
use ipc_proto::message::{
    DrainStatus, JobId, JobStatus, LimitStatus, QuarantineStatus, Status, WorkerHealth,
    WorkerStatus,
};
use ratatui_core::backend::TestBackend;
use ratatui_core::buffer::Buffer;
use ratatui_core::style::{Color, Modifier};
use ratatui_core::terminal::Terminal;
use std::time::Duration;
use telemetry::is_harmful;
use unicode_width::UnicodeWidthStr;

const COLOURED: Look = Look { has_colour: true, has_blocks: true };
const SIZES: [(u16, u16); 3] = [(80, 24), (40, 10), (200, 60)];

fn worker(name: &str, health: WorkerHealth, bytes_per_s: u64) -> WorkerStatus {
    WorkerStatus {
        name: name.to_owned(),
        health,
        threads: 4,
        leases: 3,
        items_per_s: 17,
        bytes_per_s,
        ..WorkerStatus::default()
    }
}

fn job(number: u64, resolved: u64, items: u64, finished: bool) -> JobStatus {
    JobStatus {
        id: JobId { epoch: 5, number },
        uid: 1000,
        pid: 4711,
        algorithms: Algorithm::Blake3.into(),
        age_ms: 10_000,
        items,
        resolved,
        failed: number,
        leases: 2,
        finished,
        bytes: 0,
        durable: None,
    }
}

fn busy() -> Status {
    Status {
        software: "9.8.7".to_owned(),
        uptime_ms: 61_000,
        workers: vec![
            worker("w0", WorkerHealth::Ready, 300 << 20),
            worker("w1", WorkerHealth::Suspended, 0),
            worker("漢字\u{1b}[2J\u{202e}", WorkerHealth::Quarantined, 5 << 20),
        ],
        jobs: vec![job(1, 50, 200, true), job(2, 7, 1000, false)],
        limits: LimitStatus { items: 1143, ..LimitStatus::default() },
        quarantined: vec![
            QuarantineStatus {
                worker: "gone".to_owned(),
                reason: "it lied".to_owned(),
                ..QuarantineStatus::default()
            },
            QuarantineStatus {
                worker: "漢字\u{1b}[2J\u{202e}".to_owned(),
                connected: true,
                ..QuarantineStatus::default()
            },
        ],
        ..Status::default()
    }
}

fn view(status: Status) -> TopView {
    TopView::new(Duration::ZERO, Duration::from_secs(1), status)
}

fn drawn(view: &TopView, now_s: u64, look: Look, (width, height): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let now = Duration::from_secs(now_s);
    terminal.draw(|frame| draw(view, now, look, frame.buffer_mut())).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let rows = buffer.content().chunks(usize::from(buffer.area.width));
    let line = |row: &[ratatui_core::buffer::Cell]| {
        let mut text = String::new();
        let mut skipped = 0;
        for cell in row {
            if skipped > 0 {
                skipped -= 1;
                continue;
            }
            skipped = cell.symbol().width().saturating_sub(1);
            text.push_str(cell.symbol());
        }
        text.trim_end().to_owned()
    };
    rows.map(line).collect()
}

fn shown(view: &TopView, now_s: u64, size: (u16, u16)) -> String {
    lines(&drawn(view, now_s, Look::PLAIN, size)).join("\n")
}

fn press(view: &mut TopView, keys: &str) -> Wish {
    let mut wish = Wish::Nothing;
    for c in keys.chars() {
        let code = match c {
            '\t' => KeyCode::Tab,
            '\n' => KeyCode::Enter,
            '^' => KeyCode::Esc,
            '↓' => KeyCode::Down,
            c => KeyCode::Char(c),
        };
        wish = view.key(Duration::ZERO, KeyEvent::new(code, KeyModifiers::NONE));
    }
    wish
}

#[test]
fn a_drained_worker_that_has_left_is_shown_as_away() {
    let drained = |worker: &str, connected| DrainStatus {
        worker: worker.to_owned(),
        connected,
        ..DrainStatus::default()
    };
    let drained = vec![drained("off", false), drained("gone", false), drained("w0", true)];
    let view = view(Status { drained, ..busy() });
    let names: Vec<&str> = view.workers().iter().map(|row| row.name).collect();
    assert_eq!(names.iter().filter(|name| ["off", "gone", "w0"].contains(name)).count(), 3);
    let text = shown(&view, 0, (80, 24));
    let of = |name: &str| text.lines().find(|line| line.contains(name)).map(str::to_owned);
    assert!(of("off  ").is_some_and(|line| line.contains("drained, away")), "{text}");
    assert!(of("gone  ").is_some_and(|line| line.contains("quarantined, away")), "{text}");
}

#[test]
fn a_terminal_of_80_columns_shows_workers_jobs_and_events() {
    let mut view = view(Status::default());
    view.answered(Duration::from_secs(4), busy());
    let text = shown(&view, 6, (80, 24));
    for line in [
        "1/3 workers ready, 2 jobs, 305 MiB/s; controller 9.8.7 up 1 min 1 s",
        "1143 items wait; since start 0 items (0 failed), 0 B, 0 batches lost",
        "> WORKERS 4, by name",
        "gone       quarantined, away        -                         -          -     -",
        "w1         suspended              0 B                        17          3     0",
        "  JOBS 2, by age",
        "5-1  ████░░░░░░░░░░░░░░  25%   50/200  30 s       1  1000  4711  10 s  blake3",
        "5-2                        -  7/1000+     -       2  1000  4711  10 s  blake3",
        "          2 s ago  worker w0 connected",
        "q quit  ? help  tab workers/jobs  s sort  / filter  r release  c cancel",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn every_size_has_what_matters_and_nothing_harmful() {
    let mut states = [view(busy()), view(busy()), view(busy()), view(Status::default())];
    states[1].lost(Duration::from_secs(9), "connection\nrefused");
    states[2].mode = TopMode::Help;
    for size in SIZES {
        for (i, state) in states.iter().enumerate() {
            let text = shown(state, 12, size);
            assert!(!text.contains(|c| c != '\n' && is_harmful(c)), "{size:?}: {text:?}");
            let ready = if i == 3 { "0/0 workers ready" } else { "1/3 workers ready" };
            assert!(text.starts_with(ready), "{size:?}: {text}");
        }
        let stale = shown(&states[1], 12, size);
        assert!(stale.contains("STALE 12 s, still trying: connection"), "{size:?}: {stale}");
        assert!(shown(&states[0], 12, size).contains("STALE 12 s: no answer yet"));
        assert!(shown(&states[2], 12, size).contains("select a row"), "{size:?}");
        for text in [shown(&states[0], 1, size), stale] {
            for part in ["WORKERS", "w0", "JOBS", "5-1"] {
                assert!(text.contains(part), "{part}, {size:?}: {text}");
            }
        }
    }
}

#[test]
fn no_size_is_too_small_to_draw() {
    let mut view = view(busy());
    for mode in [
        TopMode::Tables,
        TopMode::Help,
        TopMode::Filter,
        TopMode::Confirm(TopChange::Release("x".repeat(64))),
    ] {
        view.mode = mode;
        for width in 1..=90 {
            for height in [1, 2, 3, 4, 5, 9, 30] {
                drawn(&view, 1, Look::PLAIN, (width, height));
            }
        }
    }
}

#[test]
fn colours_are_there_only_where_the_terminal_has_them() {
    let view = view(busy());
    let colours = |look: Look| {
        let buffer = drawn(&view, 1, look, (80, 24));
        let mut colours: Vec<Color> = buffer.content().iter().map(|cell| cell.fg).collect();
        colours.sort_by_key(|colour| format!("{colour:?}"));
        colours.dedup();
        colours
    };
    assert_eq!(colours(Look::PLAIN), [Color::Reset]);
    assert!(colours(COLOURED).contains(&Color::Red), "the one in quarantine");
    let ascii = Look { has_colour: false, has_blocks: false };
    let text = lines(&drawn(&view, 1, ascii, (80, 24))).join("\n");
    assert!(text.is_ascii() && text.contains("##") && text.contains("?? [2J"), "{text}");
}

#[test]
fn rows_are_sorted_filtered_and_selected_by_keys() {
    let mut view = view(busy());
    let names = |view: &TopView| -> Vec<String> {
        view.workers().iter().map(|row| row.name.chars().take(2).collect()).collect()
    };
    assert_eq!(names(&view), ["go", "w0", "w1", "漢字"]);
    press(&mut view, "s");
    assert_eq!(names(&view)[..2], ["w0", "漢字"], "by rate");
    press(&mut view, "S");
    assert_eq!(names(&view)[2..], ["漢字", "w0"], "reversed");
    press(&mut view, "s");
    assert_eq!(names(&view), ["go", "漢字", "w1", "w0"], "the worst health first");
    press(&mut view, "/W\n");
    assert_eq!(names(&view), ["go", "w1", "w0"], "away has a w too");
    assert!(shown(&view, 0, (80, 24)).contains("with \"W\""));
    press(&mut view, "^");
    assert_eq!(names(&view).len(), 4);
    press(&mut view, "\t");
    assert_eq!(view.focus, Focus::Jobs);
    press(&mut view, "↓");
    let rows = view.jobs();
    assert_eq!(view.selected_job(&rows), Some(1));
    let buffer = drawn(&view, 0, Look::PLAIN, (80, 24));
    let reversed = buffer.content().iter().filter(|c| c.modifier.contains(Modifier::REVERSED));
    assert_eq!(reversed.count(), 80, "one whole row");
}

#[test]
fn only_a_worker_in_quarantine_is_released_and_only_once_confirmed() {
    let mut view = view(busy());
    assert_eq!(press(&mut view, "r"), Wish::Nothing);
    assert_eq!(
        view.mode,
        TopMode::Confirm(TopChange::Release("gone".to_owned())),
        "also one that is not connected"
    );
    assert!(shown(&view, 0, (80, 24)).contains("release gone from quarantine? y or n"));
    assert_eq!(press(&mut view, "n"), Wish::Nothing);
    assert_eq!(press(&mut view, "ry"), Wish::Change(TopChange::Release("gone".to_owned())));
    assert_eq!(press(&mut view, "↓ry"), Wish::Nothing);
    assert!(shown(&view, 0, (80, 24)).contains("w0 is not in quarantine"));
    assert_eq!(press(&mut view, "q"), Wish::Quit);
}

#[test]
fn a_durable_job_is_known_by_its_own_id_and_cancelled_once_confirmed() {
    let durable = JobId { epoch: 1_800_000_000, number: 7 };
    let mut status = busy();
    status.jobs.truncate(1);
    status.jobs[0].durable = Some(durable);
    let mut view = view(status);
    let text = shown(&view, 0, (80, 24));
    assert!(text.contains("1800000000-7") && !text.contains("5-1 "), "{text}");
    assert_eq!(press(&mut view, "\tc"), Wish::Nothing);
    let text = shown(&view, 0, (80, 24));
    assert!(text.ends_with("cancel job 1800000000-7? what it has found stays. y or n"), "{text}");
    assert_eq!(press(&mut view, "n"), Wish::Nothing);
    assert_eq!(press(&mut view, "cy"), Wish::Change(TopChange::Cancel(durable)));
}

#[test]
fn cancel_says_how_as_the_protocol_has_no_message_for_it() {
    let mut view = view(busy());
    press(&mut view, "\tc");
    let text = shown(&view, 0, (80, 24));
    let want = "job 5-1: only its client cancels it: Ctrl-C there, or kill 4711";
    assert!(text.ends_with(want), "{text}");
}

#[test]
fn lost_and_found_again_are_events() {
    let mut view = view(busy());
    view.lost(Duration::from_secs(2), "refused");
    view.lost(Duration::from_secs(3), "refused again");
    let text = shown(&view, 5, (80, 24));
    assert!(text.contains("STALE 5 s, still trying: refused again"), "{text}");
    assert_eq!(text.matches("lost the controller").count(), 1, "{text}");
    view.answered(Duration::from_secs(8), busy());
    let text = shown(&view, 8, (80, 24));
    assert!(text.contains("the controller answers again, after 8 s"), "{text}");
    assert!(!text.contains("STALE"), "{text}");
}

#[test]
fn once_is_plain_text_with_every_column() {
    let text = text(&view(busy()));
    assert!(!text.contains(|c| c != '\n' && is_harmful(c)), "{text:?}");
    for part in ["BACKEND", "ALGORITHM", "gone is in quarantine: it lied", "blake3", "25%"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("LAST RATES"), "one picture has none: {text}");
}
