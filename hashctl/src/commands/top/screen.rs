//! The terminal: raw, on its alternate screen, and given back as it was however the program ends.

use super::table::Look;
use crossterm::terminal::{disable_raw_mode, enable_raw_mode, size};
use ratatui_core::backend::{Backend, ClearType, WindowSize};
use ratatui_core::buffer::Cell;
use ratatui_core::layout::{Position, Size};
use ratatui_core::style::{Color, Modifier};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, panic};

/// Alternate screen, no cursor, no wrapping.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Set while the terminal is ours.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the terminal.
pub(super) fn take() -> io::Result<()> {
    if IS_TAKEN.load(Ordering::SeqCst) {
        // Others may have changed it while the process was stopped.
        disable_raw_mode()?;
    }
    enable_raw_mode()?;
    IS_TAKEN.store(true, Ordering::SeqCst);
    put(ENTER)
}

/// Gives it back; does nothing if it is not ours.
pub(super) fn give_back() {
    if IS_TAKEN.swap(false, Ordering::SeqCst) {
        // A terminal that is gone needs nothing.
        let _ = put(LEAVE);
        let _ = disable_raw_mode();
    }
}

/// Gives it back before a panic is reported, which would otherwise be lost with the screen.
pub(super) fn give_back_on_panic() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        give_back();
        report(info);
    }));
}

fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The look of this terminal, by its environment.
pub(super) fn look() -> Look {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let term = variable("TERM");
    let is_plain = ["dumb", "vt"].iter().any(|known| term.starts_with(known))
        || term.ends_with("-m")
        || term.ends_with("-mono");
    // As setlocale(3) chooses.
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(variable);
    let locale = locale.into_iter().find(|value| !value.is_empty()).unwrap_or_default();
    let locale = locale.to_lowercase();
    Look {
        has_colour: variable("NO_COLOR").is_empty() && !is_plain,
        has_blocks: locale.contains("utf-8") || locale.contains("utf8"),
    }
}

/// False where the cursor cannot be moved.
pub(super) fn can_draw() -> bool {
    env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Draws by the control sequences that every terminal of today has (ECMA-48).
#[derive(Debug, Default)]
pub(super) struct Ansi {
    /// Written by `flush` at once, so that no half of a picture is seen.
    pending: String,
}

impl Ansi {
    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        self.pending.write_fmt(text).expect("a string takes everything");
    }
}

impl Backend for Ansi {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let (mut last, mut cursor) = (None, None);
        for (x, y, cell) in content {
            // A wide character is followed by a cell that is not drawn.
            if cursor != Some((x, y)) {
                self.add(format_args!("\x1b[{};{}H", y + 1, x + 1));
            }
            cursor = Some((x + 1, y));
            let style = (cell.fg, cell.modifier);
            if last != Some(style) {
                self.pending.push_str("\x1b[0");
                for (modifier, code) in [(Modifier::BOLD, ";1"), (Modifier::REVERSED, ";7")] {
                    if cell.modifier.contains(modifier) {
                        self.pending.push_str(code);
                    }
                }
                let colours = [
                    (Color::Red, ";31"),
                    (Color::Green, ";32"),
                    (Color::Yellow, ";33"),
                    (Color::DarkGray, ";90"),
                ];
                let colour = colours.iter().find(|(colour, _)| *colour == cell.fg);
                self.pending.push_str(colour.map_or("", |(_, code)| code));
                self.pending.push('m');
                last = Some(style);
            }
            self.pending.push_str(cell.symbol());
        }
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.pending.push_str("\x1b[?25l");
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.pending.push_str("\x1b[?25h");
        Ok(())
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        self.add(format_args!("\x1b[{};{}H", y + 1, x + 1));
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.pending.push_str("\x1b[0m\x1b[2J");
        Ok(())
    }

    fn clear_region(&mut self, _region: ClearType) -> io::Result<()> {
        self.clear()
    }

    fn size(&self) -> io::Result<Size> {
        let (width, height) = size()?;
        // Some terminals say 0 while they start.
        Ok(if width == 0 || height == 0 { Size::new(80, 24) } else { Size::new(width, height) })
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::default() })
    }

    fn flush(&mut self) -> io::Result<()> {
        let text = std::mem::take(&mut self.pending);
        put(&text)
    }
}
