//! Tables that fit: columns are left out, least important first, until the others have room.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style};
use std::iter::repeat_n;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Blanks between two columns.
const GAP: usize = 2;

/// A kind of text, as a colour where there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Dim,
    Head,
    Good,
    Warning,
    Bad,
}

/// Characters and attributes that the terminal has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) has_colour: bool,
    /// The locale is UTF-8.
    pub(super) has_blocks: bool,
}

impl Look {
    /// Plain text.
    pub(super) const PLAIN: Self = Self { has_colour: false, has_blocks: true };

    pub(super) fn style(self, tone: Tone) -> Style {
        let style = Style::new();
        match (tone, self.has_colour) {
            (Tone::Plain, _) => style,
            (Tone::Head, _) => style.add_modifier(Modifier::BOLD),
            (Tone::Dim, true) => style.fg(Color::DarkGray),
            (Tone::Good, true) => style.fg(Color::Green),
            (Tone::Warning, true) => style.fg(Color::Yellow),
            (Tone::Bad, true) => style.fg(Color::Red).add_modifier(Modifier::BOLD),
            (Tone::Dim | Tone::Good, false) => style,
            (Tone::Warning | Tone::Bad, false) => style.add_modifier(Modifier::BOLD),
        }
    }

    /// `text` in at most `width` columns; its end is an ellipsis if it is longer.
    pub(super) fn cut(self, text: &str, width: usize) -> String {
        let text: String = match self.has_blocks {
            true => text.to_owned(),
            false => text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect(),
        };
        if text.width() <= width {
            return text;
        }
        let mut cut = String::new();
        let mut left = width.saturating_sub(1);
        for c in text.chars() {
            let columns = c.width().unwrap_or(0);
            if columns > left {
                break;
            }
            left -= columns;
            cut.push(c);
        }
        if width > 0 {
            cut.push(if self.has_blocks { '…' } else { '~' });
        }
        cut
    }

    /// The newest of `rates` as a line of bars, one column each, the highest as high as a line.
    fn spark(self, rates: &[u64], width: usize) -> String {
        let levels: &[char] = match self.has_blocks {
            true => &[' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
            false => &[' ', '.', ':', '-', '=', '+', '*', '#', '@'],
        };
        let shown = &rates[rates.len().saturating_sub(width)..];
        let top = u128::from(shown.iter().copied().max().unwrap_or(0).max(1));
        let bar = |&rate: &u64| {
            let steps = u128::try_from(levels.len() - 1).unwrap_or(1);
            // Every rate but none is visible.
            let level = (u128::from(rate) * steps).div_ceil(top);
            levels[usize::try_from(level).unwrap_or(0).min(levels.len() - 1)]
        };
        repeat_n(' ', width - shown.len()).chain(shown.iter().map(bar)).collect()
    }

    /// A bar of `width` columns that is full at 1.
    fn bar(self, part: f64, width: usize) -> String {
        let (full, empty) = if self.has_blocks { ('█', '░') } else { ('#', '.') };
        let filled = (0..width).filter(|&i| as_float(i) + 1.0 <= part * as_float(width)).count();
        repeat_n(full, filled).chain(repeat_n(empty, width - filled)).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "columns of a terminal")]
fn as_float(count: usize) -> f64 {
    count as f64
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) is_number: bool,
    /// Columns of the highest rank are left out first; those of rank 0 stay.
    pub(super) rank: u8,
    /// Most columns of the terminal; a graphic takes all of them that are free.
    pub(super) width_max: usize,
}

/// Content of a column in one row.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    Text(String, Tone),
    Spark(Vec<u64>),
    /// Done part of a whole, if the whole is known.
    Bar(Option<f64>),
}

impl Cell {
    pub(super) fn plain(text: &(impl ToString + ?Sized)) -> Self {
        Self::Text(text.to_string(), Tone::Plain)
    }

    fn text(&self, look: Look, width: usize) -> String {
        match self {
            Self::Text(text, _) => look.cut(text, width),
            Self::Spark(rates) => look.spark(rates, width),
            Self::Bar(Some(part)) => look.bar(*part, width),
            Self::Bar(None) => String::new(),
        }
    }

    const fn tone(&self) -> Tone {
        match self {
            Self::Text(_, tone) => *tone,
            Self::Spark(_) | Self::Bar(_) => Tone::Good,
        }
    }
}

/// A table with all of its rows.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    pub(super) columns: [Column; N],
    pub(super) rows: Vec<[Cell; N]>,
}

/// Narrowest graphic.
const GRAPHIC_MIN: usize = 6;

impl<const N: usize> Table<N> {
    /// Width of each column in `room`, 0 for those that are left out.
    fn widths(&self, room: usize) -> [usize; N] {
        let mut widths = [0; N];
        for (i, (column, width)) in self.columns.iter().zip(&mut widths).enumerate() {
            *width = column.title.width();
            for row in &self.rows {
                *width = (*width).max(match &row[i] {
                    Cell::Text(text, _) => text.width(),
                    Cell::Spark(_) | Cell::Bar(_) => GRAPHIC_MIN,
                });
            }
            *width = (*width).min(column.width_max.max(column.title.width()));
        }
        let sum = |widths: &[usize; N]| -> usize {
            let shown = widths.iter().filter(|width| **width > 0);
            shown.map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
        };
        while sum(&widths) > room {
            let shown = (0..N).filter(|&i| widths[i] > 0 && self.columns[i].rank > 0);
            match shown.max_by_key(|&i| self.columns[i].rank) {
                Some(i) => widths[i] = 0,
                // The first column gets what the others leave.
                None => {
                    widths[0] = widths[0].saturating_sub(sum(&widths) - room).max(1);
                    break;
                }
            }
        }
        let graphic = (0..N).find(|&i| {
            widths[i] > 0
                && matches!(self.rows.first().map(|r| &r[i]), Some(Cell::Spark(_) | Cell::Bar(_)))
        });
        if let Some(i) = graphic {
            let free = room.saturating_sub(sum(&widths));
            widths[i] = widths[i].saturating_add(free).min(self.columns[i].width_max);
        }
        widths
    }

    /// Draws the head and the rows from number `first`; the row `selected` is highlighted.
    pub(super) fn draw(
        &self,
        buffer: &mut Buffer,
        area: Rect,
        look: Look,
        first: usize,
        selected: Option<usize>,
    ) {
        if area.height == 0 || area.width == 0 {
            return;
        }
        let widths = self.widths(area.width.into());
        let head = self.columns.map(|column| Cell::Text(column.title.to_owned(), Tone::Dim));
        self.draw_row(buffer, Rect { height: 1, ..area }, look, &widths, &head);
        let rows = self.rows.iter().enumerate().skip(first);
        for ((i, row), y) in rows.zip(area.y + 1..area.bottom()) {
            let line = Rect { y, height: 1, ..area };
            self.draw_row(buffer, line, look, &widths, row);
            if selected == Some(i) {
                buffer.set_style(line, Style::new().add_modifier(Modifier::REVERSED));
            }
        }
    }

    fn draw_row(
        &self,
        buffer: &mut Buffer,
        area: Rect,
        look: Look,
        widths: &[usize; N],
        row: &[Cell; N],
    ) {
        let mut x = area.x;
        for (i, cell) in row.iter().enumerate().filter(|(i, _)| widths[*i] > 0) {
            let text = self.aligned(i, widths[i], cell, look);
            let room = area.right().saturating_sub(x);
            buffer.set_stringn(x, area.y, &text, room.into(), look.style(cell.tone()));
            let taken = u16::try_from(widths[i] + GAP).unwrap_or(u16::MAX);
            x = x.saturating_add(taken).min(area.right());
        }
    }

    fn aligned(&self, column: usize, width: usize, cell: &Cell, look: Look) -> String {
        let text = cell.text(look, width);
        let blanks = " ".repeat(width.saturating_sub(text.width()));
        if self.columns[column].is_number { blanks + &text } else { text + &blanks }
    }

    /// The whole table as lines.
    pub(super) fn lines(&self, look: Look) -> Vec<String> {
        let widths = self.widths(usize::MAX);
        let head = self.columns.map(|column| Cell::plain(column.title));
        let line = |row: &[Cell; N]| {
            // One picture has no rates over time.
            let is_spark =
                |i: usize| matches!(self.rows.first().map(|r| &r[i]), Some(Cell::Spark(_)));
            let shown = (0..N).filter(|&i| widths[i] > 0 && !is_spark(i));
            let cells: Vec<_> = shown.map(|i| self.aligned(i, widths[i], &row[i], look)).collect();
            cells.join(&" ".repeat(GAP)).trim_end().to_owned()
        };
        [head].iter().chain(&self.rows).map(line).collect()
    }
}
