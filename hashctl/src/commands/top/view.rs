//! State of the view, and its answer to keys. It reads no clock and no terminal.

use super::rows::{JobSort, WorkerRow, WorkerSort, job_rows, worker_rows};
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ipc_proto::message::{JobId, JobStatus, Status, WorkerHealth};
use overview::{ClusterEvent, EventSeverity, StatusHistory, age, one_line};
use std::time::Duration;

/// Longest filter.
const FILTER_LEN_MAX: usize = 64;

/// Time that a notice is shown.
const NOTICE_TIME: Duration = Duration::from_secs(8);

/// Time in which a controller is expected to answer.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// State of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Up,
    /// Lost, for this reason.
    Lost(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Focus {
    Workers,
    Jobs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TopMode {
    Tables,
    Help,
    /// The filter is typed.
    Filter,
    /// Something is to be changed, once that is confirmed.
    Confirm(TopChange),
}

/// Action that a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    Quit,
    Interrupt,
    Suspend,
    Redraw,
    Change(TopChange),
}

/// A change of the cluster that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TopChange {
    /// Release this worker from quarantine.
    Release(String),
    /// Cancel this durable job.
    Cancel(JobId),
}

impl TopChange {
    /// The question before it.
    pub(super) fn question(&self) -> String {
        match self {
            Self::Release(name) => format!("release {} from quarantine? y or n", one_line(name)),
            Self::Cancel(id) => format!("cancel job {id}? what it has found stays. y or n"),
        }
    }
}

#[derive(Debug)]
pub(super) struct TopView {
    pub(super) history: StatusHistory,
    pub(super) link: Link,
    pub(super) focus: Focus,
    pub(super) mode: TopMode,
    pub(super) worker_sort: WorkerSort,
    pub(super) job_sort: JobSort,
    pub(super) is_reversed: bool,
    pub(super) filter: String,
    /// A picture that is older than this is called stale.
    pub(super) stale_after: Duration,
    notice: Option<(Duration, String)>,
    worker: Option<String>,
    job: Option<JobId>,
}

impl TopView {
    pub(super) fn new(now: Duration, interval: Duration, status: Status) -> Self {
        let mut history = StatusHistory::default();
        history.push(now, status);
        Self {
            history,
            link: Link::Up,
            focus: Focus::Workers,
            mode: TopMode::Tables,
            worker_sort: WorkerSort::Name,
            job_sort: JobSort::Age,
            is_reversed: false,
            filter: String::new(),
            stale_after: interval + ANSWER_TIME,
            notice: None,
            worker: None,
            job: None,
        }
    }

    pub(super) fn answered(&mut self, now: Duration, status: Status) {
        if matches!(self.link, Link::Lost(_)) {
            let gone = now.saturating_sub(self.history.last().map_or(now, |(asked, _)| asked));
            let text = format!("the controller answers again, after {}", age(gone));
            self.history.record(now, ClusterEvent::new(EventSeverity::Info, &text));
        }
        self.link = Link::Up;
        self.history.push(now, status);
    }

    /// The connection is lost, or a new one failed.
    pub(super) fn lost(&mut self, now: Duration, reason: &str) {
        if self.link == Link::Up {
            let text = format!("lost the controller: {reason}");
            self.history.record(now, ClusterEvent::new(EventSeverity::Error, &text));
        }
        self.link = Link::Lost(one_line(reason));
    }

    pub(super) fn notify(&mut self, now: Duration, text: &str) {
        self.notice = Some((now, one_line(text)));
    }

    pub(super) fn notice(&self, now: Duration) -> Option<&str> {
        let (at, text) = self.notice.as_ref()?;
        (now.saturating_sub(*at) < NOTICE_TIME).then_some(text)
    }

    pub(super) fn workers(&self) -> Vec<WorkerRow<'_>> {
        let mut rows = worker_rows(&self.history, &self.filter, self.worker_sort);
        if self.is_reversed && self.focus == Focus::Workers {
            rows.reverse();
        }
        rows
    }

    pub(super) fn jobs(&self) -> Vec<&JobStatus> {
        let mut rows = job_rows(&self.history, &self.filter, self.job_sort);
        if self.is_reversed && self.focus == Focus::Jobs {
            rows.reverse();
        }
        rows
    }

    /// Number of the selected worker among `rows`.
    pub(super) fn selected_worker(&self, rows: &[WorkerRow<'_>]) -> Option<usize> {
        let at = rows.iter().position(|row| Some(row.name) == self.worker.as_deref());
        at.or((!rows.is_empty()).then_some(0)).filter(|_| self.focus == Focus::Workers)
    }

    pub(super) fn selected_job(&self, rows: &[&JobStatus]) -> Option<usize> {
        let at = rows.iter().position(|row| Some(row.id) == self.job);
        at.or((!rows.is_empty()).then_some(0)).filter(|_| self.focus == Focus::Jobs)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "other keys mean nothing")]
    pub(super) fn key(&mut self, now: Duration, key: KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Wish::Interrupt,
                KeyCode::Char('z') => Wish::Suspend,
                KeyCode::Char('l') => Wish::Redraw,
                _ => Wish::Nothing,
            };
        }
        match std::mem::replace(&mut self.mode, TopMode::Tables) {
            TopMode::Tables => return self.key_of_tables(now, key.code),
            TopMode::Help => {
                if key.code == KeyCode::Char('q') {
                    return Wish::Quit;
                }
            }
            TopMode::Filter => self.key_of_filter(key.code),
            TopMode::Confirm(change) => match (key.code, &change) {
                (KeyCode::Char('y' | 'Y'), _) => return Wish::Change(change),
                (_, TopChange::Release(_)) => self.notify(now, "nothing was released"),
                (_, TopChange::Cancel(_)) => self.notify(now, "nothing was cancelled"),
            },
        }
        Wish::Nothing
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "other keys mean nothing")]
    fn key_of_filter(&mut self, code: KeyCode) {
        self.mode = TopMode::Filter;
        match code {
            KeyCode::Enter => self.mode = TopMode::Tables,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = TopMode::Tables;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(c) if self.filter.len() + c.len_utf8() <= FILTER_LEN_MAX => {
                self.filter.push_str(&one_line(&c.to_string()));
            }
            _ => {}
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "other keys mean nothing")]
    fn key_of_tables(&mut self, now: Duration, code: KeyCode) -> Wish {
        match code {
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = TopMode::Help,
            KeyCode::Tab | KeyCode::BackTab | KeyCode::Left | KeyCode::Right => {
                self.is_reversed = false;
                self.focus = match self.focus {
                    Focus::Workers => Focus::Jobs,
                    Focus::Jobs => Focus::Workers,
                };
            }
            KeyCode::Char('s') => {
                self.is_reversed = false;
                match self.focus {
                    Focus::Workers => self.worker_sort = self.worker_sort.next(),
                    Focus::Jobs => self.job_sort = self.job_sort.next(),
                }
            }
            KeyCode::Char('S') => self.is_reversed = !self.is_reversed,
            KeyCode::Char('/') => self.mode = TopMode::Filter,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Up | KeyCode::Char('k') => self.select(-1),
            KeyCode::Down | KeyCode::Char('j') => self.select(1),
            KeyCode::PageUp => self.select(-10),
            KeyCode::PageDown => self.select(10),
            KeyCode::Home => self.select(isize::MIN),
            KeyCode::End => self.select(isize::MAX),
            KeyCode::Char('r') => self.ask_to_release(now),
            KeyCode::Char('c') => self.ask_to_cancel(now),
            _ => {}
        }
        Wish::Nothing
    }

    /// Moves the selection by this many rows.
    fn select(&mut self, by: isize) {
        let moved = |at: Option<usize>, len: usize| {
            at.map(|at| at.saturating_add_signed(by).min(len.saturating_sub(1)))
        };
        match self.focus {
            Focus::Workers => {
                let rows = self.workers();
                let at = moved(self.selected_worker(&rows), rows.len());
                self.worker = at.map(|at| rows[at].name.to_owned());
            }
            Focus::Jobs => {
                let rows = self.jobs();
                let at = moved(self.selected_job(&rows), rows.len());
                self.job = at.map(|at| rows[at].id);
            }
        }
    }

    fn ask_to_release(&mut self, now: Duration) {
        let rows = self.workers();
        let selected = self.selected_worker(&rows).map(|at| &rows[at]);
        let (mode, notice) = match selected {
            Some(row)
                if row.quarantine.is_some() || row.health == Some(WorkerHealth::Quarantined) =>
            {
                (TopMode::Confirm(TopChange::Release(row.name.to_owned())), None)
            }
            Some(row) => (TopMode::Tables, Some(format!("{} is not in quarantine", row.name))),
            None => {
                (TopMode::Tables, Some("select a worker in quarantine (tab, arrows)".to_owned()))
            }
        };
        self.mode = mode;
        if let Some(text) = notice {
            self.notify(now, &text);
        }
    }

    /// A durable job is cancelled by whoever may; no message of the protocol ends that of another connection.
    fn ask_to_cancel(&mut self, now: Duration) {
        let rows = self.jobs();
        let text = match self.selected_job(&rows).map(|at| rows[at]) {
            Some(JobStatus { durable: Some(id), .. }) => {
                self.mode = TopMode::Confirm(TopChange::Cancel(*id));
                return;
            }
            Some(JobStatus { id, pid: pid @ 1.., .. }) => {
                format!("job {id}: only its client cancels it: Ctrl-C there, or kill {pid}")
            }
            Some(JobStatus { id, .. }) => {
                format!("job {id}: only its client cancels it: Ctrl-C there")
            }
            None => "select a job (tab, arrows)".to_owned(),
        };
        self.notify(now, &text);
    }
}
