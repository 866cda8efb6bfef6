//! Counts of what a tree has besides regular files and directories.

use crate::problem::Special;
use std::fmt;

/// Words for each kind, in the order in which they are said.
const WORDS: [(Special, &str, &str); 9] = [
    (Special::Symlink, "symbolic link", "symbolic links"),
    (Special::LinkLoop, "link to a directory above it", "links to directories above them"),
    (Special::OtherFileSystem, "file system", "file systems"),
    (Special::Fifo, "FIFO", "FIFOs"),
    (Special::Socket, "socket", "sockets"),
    (Special::CharDevice, "character device", "character devices"),
    (Special::BlockDevice, "block device", "block devices"),
    (Special::Other, "other file", "other files"),
    (Special::Output, "output of this command", "outputs of this command"),
];

#[derive(Debug, Default)]
pub(super) struct LeftOut([u64; WORDS.len()]);

impl LeftOut {
    pub(super) fn count(&mut self, special: Special) {
        let kind = WORDS.iter().position(|(known, ..)| *known == special);
        self.0[kind.expect("every kind has its words")] += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|&count| count == 0)
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (&count, (_, one, many)) in self.0.iter().zip(WORDS) {
            if count > 0 {
                write!(f, "{comma}{count} {}", if count == 1 { one } else { many })?;
                comma = ", ";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_words() {
        let mut left_out = LeftOut::default();
        assert!(left_out.is_empty());
        left_out.count(Special::Fifo);
        left_out.count(Special::Symlink);
        left_out.count(Special::Symlink);
        assert_eq!(left_out.to_string(), "2 symbolic links, 1 FIFO");
        for (special, ..) in WORDS {
            left_out.count(special);
        }
    }
}
