//! The part of the ELF format (elf(5)) that shows if a binary needs libraries of its host.

/// Segment that names the dynamic loader.
const PT_INTERP: u64 = 3;

/// Section with the symbols that strip(1) removes.
const SHT_SYMTAB: u64 = 2;

/// Offsets of the fields that we read, by class: 32-bit or 64-bit.
struct Class {
    word_len: usize,
    segments_at: usize,
    sections_at: usize,
    segment_sizes_at: usize,
    section_sizes_at: usize,
}

const CLASS_32: Class = Class {
    word_len: 4,
    segments_at: 0x1c,
    sections_at: 0x20,
    segment_sizes_at: 0x2a,
    section_sizes_at: 0x2e,
};

const CLASS_64: Class = Class {
    word_len: 8,
    segments_at: 0x20,
    sections_at: 0x28,
    segment_sizes_at: 0x36,
    section_sizes_at: 0x3a,
};

/// Properties of a release binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traits {
    /// Needs no dynamic loader, and so no library.
    pub(crate) is_static: bool,
    /// Has no symbol table.
    pub(crate) is_stripped: bool,
}

/// Reads the headers of a little-endian ELF file; `None` if it is not one.
pub(crate) fn traits(file: &[u8]) -> Option<Traits> {
    let class = match file.get(..6)? {
        [0x7f, b'E', b'L', b'F', 1, 1] => CLASS_32,
        [0x7f, b'E', b'L', b'F', 2, 1] => CLASS_64,
        _ => return None,
    };
    let segments = table(file, &class, class.segments_at, class.segment_sizes_at)?;
    let sections = table(file, &class, class.sections_at, class.section_sizes_at)?;
    // A segment begins with its type, a section with its name and then its type.
    let mut segment_types = segments.map(|at| number(file, at, 4));
    let mut section_types = sections.map(|at| number(file, at + 4, 4));
    Some(Traits {
        is_static: !segment_types.any(|kind| kind == Some(PT_INTERP)),
        is_stripped: !section_types.any(|kind| kind == Some(SHT_SYMTAB)),
    })
}

/// Offsets of the entries of a table, from the header's fields: the table's offset, and elsewhere the
/// length of an entry and their number.
fn table(
    file: &[u8],
    class: &Class,
    offset_at: usize,
    sizes_at: usize,
) -> Option<impl Iterator<Item = usize>> {
    let offset = usize::try_from(number(file, offset_at, class.word_len)?).ok()?;
    let entry_len = usize::try_from(number(file, sizes_at, 2)?).ok()?;
    let count = usize::try_from(number(file, sizes_at + 2, 2)?).ok()?;
    let is_inside = entry_len.checked_mul(count)?.checked_add(offset)? <= file.len();
    is_inside.then_some((0..count).map(move |i| offset + i * entry_len))
}

fn number(file: &[u8], at: usize, len: usize) -> Option<u64> {
    let bytes = file.get(at..at.checked_add(len)?)?;
    Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_a_dynamic_binary_with_symbols() {
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(traits(&file), Some(Traits { is_static: false, is_stripped: false }));
    }

    #[test]
    fn a_header_without_tables_is_static_and_stripped() {
        let mut header = vec![0; 64];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert_eq!(traits(&header), Some(Traits { is_static: true, is_stripped: true }));
    }

    #[test]
    fn a_truncated_file_is_not_a_binary() {
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for len in [0, 3, 6, 63, file.len() / 2] {
            assert_eq!(traits(&file[..len]), None, "{len} bytes");
        }
        assert_eq!(traits(b"#!/bin/sh\n"), None);
    }
}
