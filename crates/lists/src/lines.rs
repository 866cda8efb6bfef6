//! The lines of a list, of bounded length wherever the input breaks.

use std::io::{self, BufRead, BufReader, Read};

/// Longest line in bytes: the longest path below a tree that is walked (256 names of 255 bytes, each
/// with a slash), every byte of it percent-encoded, with tag and digest.
pub const LINE_LEN_MAX: usize = 256 << 10;

/// Bytes that are read at once.
const READ_LEN: usize = 128 << 10;

/// Cuts an input into lines.
#[derive(Debug)]
pub struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    end: u8,
    /// The rest of a line that is too long comes next.
    is_inside: bool,
}

/// One line of an input.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Without its newline.
    Whole(&'a [u8]),
    /// Longer than [`LINE_LEN_MAX`].
    TooLong,
}

impl<R: Read> Lines<R> {
    /// The lines of `input`.
    pub fn new(input: R) -> Self {
        Self::with_end(input, b'\n')
    }

    /// The lines of `input`, which end with the byte `end`.
    pub fn with_end(input: R, end: u8) -> Self {
        Self::with_capacity(READ_LEN, input, end)
    }

    fn with_capacity(capacity: usize, input: R, end: u8) -> Self {
        let input = BufReader::with_capacity(capacity, input);
        Self { input, line: Vec::new(), end, is_inside: false }
    }

    /// True if the next line has to be read from the input.
    pub fn is_drained(&self) -> bool {
        self.input.buffer().is_empty()
    }

    /// Bytes that were read from the input and are of no line yet.
    #[must_use]
    pub fn unread_len(&self) -> usize {
        self.input.buffer().len()
    }

    /// True if the last line has a zero byte, which no list has.
    pub fn is_binary(&self) -> bool {
        self.line.contains(&0)
    }

    /// The next line, or `None` at the end.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        if std::mem::take(&mut self.is_inside) {
            self.input.skip_until(self.end)?;
        }
        self.line.clear();
        let mut bounded = (&mut self.input).take(LINE_LEN_MAX as u64 + 1);
        bounded.read_until(self.end, &mut self.line)?;
        match self.line.last() {
            None => return Ok(None),
            Some(&last) if last == self.end => drop(self.line.pop()),
            Some(_) if self.line.len() <= LINE_LEN_MAX => {}
            Some(_) => {
                self.is_inside = true;
                return Ok(Some(Line::TooLong));
            }
        }
        Ok(Some(Line::Whole(&self.line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_bounded_wherever_the_input_breaks() {
        let long = "x".repeat(LINE_LEN_MAX);
        let text = format!("a\n\n{long}\n{long}x\n{long}\0\nlast");
        for capacity in [1, 7, 8192] {
            let mut lines = Lines::with_capacity(capacity, text.as_bytes(), b'\n');
            let (mut got, mut binary) = (Vec::new(), 0);
            while let Some(line) = lines.next_line().unwrap() {
                got.push(match line {
                    Line::Whole(line) => line.len(),
                    Line::TooLong => usize::MAX,
                });
                binary += usize::from(lines.is_binary());
            }
            assert_eq!(binary, 1);
            assert_eq!(got, [1, 0, LINE_LEN_MAX, usize::MAX, usize::MAX, 4]);
            assert!(lines.line.capacity() <= 2 * LINE_LEN_MAX);
        }
    }

    #[test]
    fn a_line_may_end_with_a_zero_byte() {
        let mut lines = Lines::with_end(&b"a\nb\0c"[..], 0);
        assert_eq!(lines.next_line().unwrap(), Some(Line::Whole(b"a\nb")));
        assert_eq!(lines.next_line().unwrap(), Some(Line::Whole(b"c")));
        assert_eq!(lines.next_line().unwrap(), None);
    }
}
