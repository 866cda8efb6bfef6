//! Files that are read here and hashed elsewhere: their bytes are sent, if they held still.
//!
//! [`RelayedFile::read_whole`] keeps the content of a small file, and compares it with that of a second
//! read where the quiet rule wants two. A long file is sent while it is read: [`RelayedFile::start`],
//! [`Read`], then [`RelayedFile::held_still`] before the last bytes go out; if that returns false, the
//! whole is read again.

use crate::clock::StampClock;
use crate::input::open_file::{Handle, LastFileSystem, OpenFile, Validation};
use crate::input::quiet::{READS_MAX, Rule, Trial};
use ipc_proto::message::{Failure, Stamp};
use nix::errno::Errno;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// Length of the first read of a file that is made while it is read.
const SIZELESS_LEN: usize = 4 << 10;

/// An open file whose bytes are sent.
#[derive(Debug)]
pub struct RelayedFile {
    file: OpenFile<'static>,
    stamp: Stamp,
    clock: Rc<StampClock>,
    strict: bool,
    trial: Option<Trial>,
    reads: u8,
    /// Of the next byte.
    offset: u64,
}

impl RelayedFile {
    /// A file that was opened a moment ago; `strict` as the quiet rule has it.
    ///
    /// # Errors
    /// [`Failure::NotRegular`], or `EISDIR` for a directory.
    pub fn new(file: OwnedFd, clock: Rc<StampClock>, strict: bool) -> Result<Self, Failure> {
        let (file, stamp) = Handle::Owned(file).look(&mut LastFileSystem::default())?;
        Ok(Self { file, stamp, clock, strict, trial: None, reads: 0, offset: 0 })
    }

    /// Its length as last seen; `None` if it is made while it is read.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        (self.file.validation() != Validation::Sizeless).then_some(self.stamp.size)
    }

    /// Starts a read from the first byte.
    ///
    /// # Errors
    /// [`Failure::Changed`] after the last read that the quiet rule permits.
    pub fn start(&mut self) -> Result<(), Failure> {
        if self.reads == READS_MAX {
            return Err(Failure::Changed);
        }
        let rule = Rule { clock: &self.clock, strict: self.strict };
        if self.reads > 0 {
            rule.wait_for_next_tick(self.file.stamp()?, self.file.validation());
        }
        self.reads += 1;
        self.stamp = self.file.stamp()?;
        self.trial = Some(Trial::of(rule, &self.file, self.stamp));
        self.offset = 0;
        Ok(())
    }

    /// Returns true if the read that ends now held still. What a first read had is not kept, so that a
    /// later one counts by itself if no write was in progress when it began, and none began since.
    ///
    /// # Errors
    /// Why the file has no digest.
    pub fn held_still(&self) -> Result<bool, Failure> {
        let after = self.file.stamp()?;
        Ok(self.is_good(after)
            || (self.reads > 1 && self.is_complete(after) && self.is_unwritten(self.trial, after)))
    }

    /// Its content; `None` if that is longer than `len_max`.
    ///
    /// # Errors
    /// Why the file has no digest.
    pub fn read_whole(&mut self, len_max: usize) -> Result<Option<Vec<u8>>, Failure> {
        let mut last: Option<(Option<Trial>, Vec<u8>)> = None;
        loop {
            self.start()?;
            let Some(data) = self.fill(len_max)? else { return Ok(None) };
            self.offset = data.len() as u64;
            let after = self.file.stamp()?;
            if self.is_good(after) {
                return Ok(Some(data));
            }
            if let Some((first, same)) = last
                && same == data
                && self.is_complete(after)
                && self.is_unwritten(first, after)
            {
                return Ok(Some(data));
            }
            last = Some((self.trial, data));
        }
    }

    fn fill(&self, len_max: usize) -> Result<Option<Vec<u8>>, Failure> {
        let is_sizeless = self.file.validation() == Validation::Sizeless;
        let size = usize::try_from(self.stamp.size).unwrap_or(usize::MAX);
        let mut want_len = if is_sizeless { SIZELESS_LEN.min(len_max) } else { size };
        if want_len > len_max {
            return Ok(None);
        }
        let (mut data, mut len) = (Vec::new(), 0);
        loop {
            // A byte more shows that there is more.
            data.resize(want_len + 1, 0);
            len = self.file.fill_at(&mut data, len, 0)?;
            if len <= want_len || !is_sizeless {
                data.truncate(len);
                return Ok(Some(data));
            }
            if want_len == len_max {
                return Ok(None);
            }
            want_len = (2 * want_len).min(len_max);
        }
    }

    fn is_complete(&self, after: Stamp) -> bool {
        self.file.validation() == Validation::Sizeless || self.offset == after.size
    }

    fn is_good(&self, after: Stamp) -> bool {
        let rule = Rule { clock: &self.clock, strict: self.strict };
        let is_good = |trial: Trial| trial.is_good(rule, self.file.validation(), after);
        self.is_complete(after) && self.trial.is_some_and(is_good)
    }

    fn is_unwritten(&self, since: Option<Trial>, after: Stamp) -> bool {
        let rule = Rule { clock: &self.clock, strict: self.strict };
        since.is_some_and(|trial| trial.is_unwritten(rule, self.file.validation(), after))
    }
}

impl Read for RelayedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.file.fill_at(buffer, 0, self.offset).map_err(|failure| {
            let Failure::Io { errno } = failure else { return io::Error::from(Errno::EIO) };
            io::Error::from_raw_os_error(errno)
        })?;
        self.offset += len as u64;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::open_file::failure;
    use std::fs::{self, File};
    use std::io::Write;
    use std::path::Path;

    fn relayed(path: &Path) -> RelayedFile {
        RelayedFile::new(File::open(path).unwrap().into(), Rc::default(), false).unwrap()
    }

    #[test]
    fn a_file_that_was_just_written_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for len in [0, 1, 5000] {
            fs::write(&path, vec![b'x'; len]).unwrap();
            assert_eq!(relayed(&path).read_whole(5000).unwrap().unwrap(), vec![b'x'; len]);
        }
        fs::write(&path, [0; 5001]).unwrap();
        assert_eq!(relayed(&path).read_whole(5000).unwrap(), None, "too long");
    }

    /// Somebody has it open for writing: two equal reads count.
    #[test]
    fn a_file_that_could_be_written_to_is_read_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut writer = File::create(&path).unwrap();
        writer.write_all(b"content").unwrap();
        let mut file = relayed(&path);
        assert_eq!(file.read_whole(100).unwrap().unwrap(), b"content");
        assert!(file.reads > 1, "{}", file.reads);
    }

    #[test]
    fn metadata_that_changes_costs_another_read_and_a_write_the_digest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "content").unwrap();
        let mut file = relayed(&path);
        let mut data = [0; 100];
        file.start().unwrap();
        assert_eq!(file.read(&mut data).unwrap(), 7);
        fs::hard_link(&path, dir.path().join("g")).unwrap();
        assert!(!file.held_still().unwrap());
        file.start().unwrap();
        assert_eq!((file.read(&mut data).unwrap(), file.read(&mut data).unwrap()), (7, 0));
        assert!(file.held_still().unwrap());
        let mut file = relayed(&path);
        for _ in 0..READS_MAX {
            file.start().unwrap();
            fs::write(&path, "changed").unwrap();
            assert_eq!(file.read(&mut data).unwrap(), 7);
            fs::write(&path, "CHANGED").unwrap();
            assert!(!file.held_still().unwrap());
        }
        assert_eq!(file.start(), Err(Failure::Changed));
    }

    #[test]
    fn a_file_that_is_made_while_it_is_read_is_read_to_its_end() {
        let path = Path::new("/proc/self/limits");
        let want = fs::read(path).unwrap();
        assert_eq!(relayed(path).size(), None);
        assert_eq!(relayed(path).read_whole(1 << 16).unwrap().unwrap(), want);
        assert_eq!(relayed(path).read_whole(10).unwrap(), None);
    }

    #[test]
    fn what_is_no_file_is_reported() {
        let dir = File::open("/").unwrap();
        let error = RelayedFile::new(dir.into(), Rc::default(), false).unwrap_err();
        assert_eq!(error, failure(Errno::EISDIR));
    }
}
