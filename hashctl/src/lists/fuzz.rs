//! Body of the fuzz target `manifest`, as a plain function: `fuzz/` wraps it for libFuzzer, the test
//! below gives it seeded inputs. It panics when a manifest is read otherwise than it is written.

use crate::engine::function::Function;
use crate::engine::reorder::{Item, Label, Verdict};
use crate::lists::lines::{LINE_LEN_MAX, Line, Lines};
use crate::lists::manifest::{Claim, Parsed, Parser};
use crate::lists::quote::quote;
use crate::output::Format;
use ipc_proto::Algorithm;
use std::io::Read;

/// The algorithm that was asked for, how many bytes arrive at once, and a manifest.
pub(crate) fn manifest(input: &[u8]) {
    let Some((&[asked, piece_len], text)) = input.split_first_chunk() else { return };
    let asked = Algorithm::ALL.get(usize::from(asked) % (Algorithm::ALL.len() + 1)).copied();
    let lines = lines(text);
    let pieces = Pieces { rest: text, len: usize::from(piece_len) + 1 };
    assert_eq!(self::lines(pieces), lines, "however it arrives");
    let newlines = text.split_inclusive(|&byte| byte == b'\n').count();
    assert_eq!(lines.len(), newlines, "one line per newline, and the last");

    let mut parser = Parser::new(asked.map(Function::from), b"");
    for line in lines.iter().flatten() {
        assert!(line.len() <= LINE_LEN_MAX, "within the limit");
        if let Parsed::Claim(claim) = parser.parse(line) {
            check(&claim);
        }
    }
}

/// A claim can be written in both formats, and is read again as the same.
fn check(claim: &Claim<'_>) {
    let Claim { function, digest, name, .. } = claim;
    assert_eq!(digest.len(), function.digest_len(), "{claim:?}");
    assert!(!name.is_empty() && !name.contains(&0), "{claim:?}");
    assert!(!quote(name).chars().any(char::is_control), "{claim:?}");
    let label = Label { name, function: *function, want: b"" };
    let item =
        Item { label, size: 0, verdict: Verdict::Digest, digest, output: None, detail: None };
    for tag in [false, true] {
        let mut line = Vec::new();
        Format { tag, ..Format::default() }.digest(&item, &mut line);
        assert_eq!(line.pop(), Some(b'\n'));
        assert!(!line.contains(&b'\n'), "one line: {claim:?}");
        let read = Parser::new(Some(*function), b"").parse(&line);
        let want = Claim { size: None, ..claim.clone() };
        assert_eq!(read, Parsed::Claim(want), "with a tag: {tag}");
    }
}

/// The lines of `text`; `None` where one is too long.
fn lines(text: impl Read) -> Vec<Option<Vec<u8>>> {
    let mut lines = Lines::new(text);
    let mut found = Vec::new();
    while let Some(line) = lines.next_line().expect("it can be read") {
        found.push(match line {
            Line::Whole(line) => Some(line.to_vec()),
            Line::TooLong => None,
        });
    }
    found
}

/// Gives `len` bytes per read at most.
struct Pieces<'a> {
    rest: &'a [u8],
    len: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.len.min(buffer.len());
        let read = (&mut self.rest).take(len as u64).read(buffer)?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::manifest;
    use test_kit::{Random, fuzz};

    const RUNS: u64 = 3_000;

    /// Pieces of manifests, with a bar after each.
    const PIECES: &str = "\n|\r|\\|\\n|\\\\| |  | *|*|\t|(|)| = |#|SHA256|SHA512/256|BLAKE3|MD5|a|é|\0|\
        sha256:|sha256-|SHA2-256|Files:\n |Checksums-Sha256:\n |%%%% size,sha256,filename\n|12,|\
        SHA256 hash of |:\n|Path|Hash|Algorithm|,|\"|-----BEGIN PGP SIGNED MESSAGE-----\n|: |; x\n|\
        DIST a 1 SHA256 |47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=|\
        d41d8cd98f00b204e9800998ecf8427e|\
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_manifest_that_is_written_is_read_as_the_same_however_it_arrives() {
        let pieces: Vec<&str> = PIECES.split('|').collect();
        let random = (0..RUNS).map(|seed| {
            let mut random = Random::new(seed);
            let mut input = random.bytes(2);
            for _ in 0..random.below(40) {
                match random.below(16) {
                    0 => input.push(random.byte()),
                    _ => input.extend(random.one_of(&pieces).bytes()),
                }
            }
            (format!("seed {seed}"), input)
        });
        fuzz("manifest", manifest, random);
    }
}
