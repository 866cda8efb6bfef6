//! `hashctl top`: a live view of workers, jobs and events; once as text; or as a stream of JSON.
//!
//! Three threads report through one channel (`source`): answers of the controller, keys, signals. The main
//! thread keeps the state (`view`), draws it (`draw`, on `rows` and `table`) and owns the terminal
//! (`screen`).

mod draw;
mod rows;
mod screen;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod view;

use crate::cli::print;
use crate::commands::status::ask;
use crate::config::Config;
use crate::engine::connect;
use crate::examples;
use crate::exit::Exit;
use crate::say::{io_text, say};
use clap::Args as Group;
use nix::sys::signal::{Signal, raise};
use overview::status_json;
use ratatui_core::terminal::Terminal;
use screen::Ansi;
use source::News;
use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};
use view::{TopChange, TopView, Wish};

/// Pause until the picture is drawn again when nothing happens: ages change.
const REDRAW: Duration = Duration::from_secs(1);

#[derive(Debug, Group)]
#[command(after_help = examples::TOP)]
pub(crate) struct TopArgs {
    /// Print the view once, as text, and exit
    #[arg(long)]
    once: bool,
    /// Print one JSON object per line and interval, as of status --json; docs/json.md has the keys
    #[arg(long)]
    json: bool,
    /// Seconds between two pictures, 0.1 to 3600
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match seconds {
        0.1..=3600.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("not between 0.1 and 3600 seconds".to_owned()),
    }
}

pub(crate) fn top(config: Config, args: &TopArgs) -> Exit {
    match (args.once, args.json) {
        (true, true) => match ask(&config, |client| client.status()) {
            Ok(status) => print(config.stdio, &format!("{}\n", status_json(&status))),
            Err(exit) => exit,
        },
        (true, false) => match ask(&config, |client| client.status()) {
            Ok(status) => print(
                config.stdio,
                &draw::text(&TopView::new(Duration::ZERO, args.interval, status)),
            ),
            Err(exit) => exit,
        },
        (false, true) => stream(&config, args.interval),
        (false, false) => {
            if !io::stdout().is_terminal() || !io::stdin().is_terminal() || !screen::can_draw() {
                say(format_args!(
                    "top needs a terminal that can move its cursor; see --once and --json"
                ));
                return Exit::Usage;
            }
            live(config, args.interval)
        }
    }
}

/// Prints a status per interval until nobody reads them.
fn stream(config: &Config, interval: Duration) -> Exit {
    let mut client = match connect(config) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let mut due = Instant::now();
    loop {
        let status = match client.status() {
            Ok(status) => status,
            Err(error) => {
                let place = config.endpoint_text();
                say(format_args!("lost the controller at {place}: {error}"));
                return Exit::Unreachable;
            }
        };
        let printed = print(config.stdio, &format!("{}\n", status_json(&status)));
        if printed != Exit::Success {
            return printed;
        }
        due = (due + interval).max(Instant::now());
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn live(config: Config, interval: Duration) -> Exit {
    // The first connection says what is wrong with it, as for any command.
    let mut client = match connect(&config) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let status = match client.status() {
        Ok(status) => status,
        Err(error) => {
            say(format_args!("lost the controller at {}: {error}", config.endpoint_text()));
            return Exit::Unreachable;
        }
    };
    let started = Instant::now();
    let view = TopView::new(Duration::ZERO, interval, status);
    let (news, incoming) = mpsc::channel();
    let (changes, wanted) = mpsc::channel();
    screen::give_back_on_panic();
    let ready = start(&news).and_then(|()| screen::take()).and_then(|()| {
        let (news, read) = (news.clone(), news.clone());
        source::spawn(move || source::read_terminal(&read))?;
        source::spawn(move || source::poll(&config, Some(client), interval, &wanted, &news))
    });
    let exit = ready.and_then(|()| Live { view, started, changes }.run(&incoming));
    screen::give_back();
    exit.unwrap_or_else(|error| {
        say(format_args!("terminal: {}", io_text(&error)));
        Exit::Failure
    })
}

/// Starts the thread for signals, which are blocked in all others.
fn start(news: &Sender<News>) -> io::Result<()> {
    let signals = source::block_signals()?;
    let news = news.clone();
    source::spawn(move || source::wait_for_signals(&signals, &news))
}

struct Live {
    view: TopView,
    started: Instant,
    changes: Sender<TopChange>,
}

impl Live {
    fn run(mut self, incoming: &mpsc::Receiver<News>) -> io::Result<Exit> {
        let look = screen::look();
        let mut terminal = Terminal::new(Ansi::default())?;
        loop {
            let now = self.started.elapsed();
            terminal.draw(|frame| draw::draw(&self.view, now, look, frame.buffer_mut()))?;
            let first = match incoming.recv_timeout(REDRAW) {
                Ok(news) => Some(news),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(Exit::Failure),
            };
            // All that is there is one picture: keys that are held down do not queue pictures.
            for news in first.into_iter().chain(incoming.try_iter()) {
                if let Some(exit) = self.take(news, &mut terminal)? {
                    return Ok(exit);
                }
            }
        }
    }

    /// Returns the exit status if this is the end.
    fn take(&mut self, news: News, terminal: &mut Terminal<Ansi>) -> io::Result<Option<Exit>> {
        let now = self.started.elapsed();
        match news {
            News::Answer(status) => self.view.answered(now, *status),
            News::Lost(reason) => self.view.lost(now, &reason),
            News::Changed(text) => self.view.notify(now, &text),
            News::Resized => {}
            News::Hangup => return Ok(Some(Exit::Failure)),
            News::Signal(Signal::SIGTSTP) => suspend(terminal)?,
            News::Signal(Signal::SIGCONT) => resume(terminal)?,
            News::Signal(_) => return Ok(Some(Exit::Interrupted)),
            News::Key(key) => match self.view.key(now, key) {
                Wish::Nothing => {}
                Wish::Quit => return Ok(Some(Exit::Success)),
                Wish::Interrupt => return Ok(Some(Exit::Interrupted)),
                Wish::Suspend => suspend(terminal)?,
                Wish::Redraw => terminal.clear()?,
                Wish::Change(change) => {
                    // The other end lives as long as the program.
                    let _ = self.changes.send(change);
                }
            },
        }
        Ok(None)
    }
}

/// Stops the whole process until the shell continues it.
fn suspend(terminal: &mut Terminal<Ansi>) -> io::Result<()> {
    screen::give_back();
    raise(Signal::SIGSTOP)?;
    resume(terminal)
}

/// Takes the terminal again, which others may have used.
fn resume(terminal: &mut Terminal<Ansi>) -> io::Result<()> {
    screen::take()?;
    terminal.clear()
}
