//! Directories of datasets, looked at in a thread of its own: a file system that does not answer holds up
//! nobody else.

use nix::sys::stat::stat;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, PipeWriter, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Interval between looks. What is new counts when it was seen twice.
const INTERVAL: Duration = Duration::from_secs(1);

/// Identity of a directory, which another one at the same place does not have, and the mounts below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DirIdentity {
    device: u64,
    inode: u64,
    /// Mount points below it, with the numbers of their mounts.
    mounts: Vec<(u64, PathBuf)>,
}

impl DirIdentity {
    /// The directory at `dir`, if there is one that can be listed.
    fn of(dir: &Path, mountinfo: &[u8]) -> Option<Self> {
        fs::read_dir(dir).ok()?;
        let found = stat(dir).ok()?;
        Some(Self {
            device: found.st_dev,
            inode: found.st_ino,
            mounts: mounts_below(dir, mountinfo),
        })
    }

    /// True for a directory that took the place of another one.
    pub(crate) fn replaces(&self, other: &Self) -> bool {
        (self.device, self.inode) != (other.device, other.inode)
    }

    /// The first mount point below it that `other` does not have.
    pub(crate) fn new_mount(&self, other: &Self) -> Option<&Path> {
        let fresh = self.mounts.iter().find(|mount| !other.mounts.contains(mount));
        fresh.map(|(_, path)| path.as_path())
    }
}

/// Where the thread looks, and what it saw: none where nothing is.
#[derive(Debug, Default)]
struct FollowedPlaces {
    places: HashMap<PathBuf, FollowedPlace>,
}

#[derive(Debug, Default)]
struct FollowedPlace {
    identity: Option<DirIdentity>,
    /// Its last look, if that is another one.
    candidate: Option<Option<DirIdentity>>,
}

/// The supervisor's end.
#[derive(Debug)]
pub(crate) struct Sight {
    seen: Arc<Mutex<FollowedPlaces>>,
    /// The thread ends when it is dropped.
    _end: mpsc::Sender<()>,
}

impl Sight {
    /// Starts the thread, which writes to `waker` when something has changed.
    pub(crate) fn start(waker: PipeWriter) -> io::Result<Self> {
        let (end, ended) = mpsc::channel::<()>();
        let seen = Arc::new(Mutex::new(FollowedPlaces::default()));
        let shared = Arc::clone(&seen);
        thread::Builder::new().name("sight".to_owned()).spawn(move || {
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if look(&shared) && (&waker).write_all(b"s").is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { seen, _end: end })
    }

    /// Looks at these places only from now on; at new ones at once.
    pub(crate) fn follow(&self, dirs: &[PathBuf]) {
        let mountinfo = mountinfo();
        let new =
            |dir: &PathBuf| !self.seen.lock().expect("no holder panics").places.contains_key(dir);
        let fresh: Vec<(PathBuf, FollowedPlace)> = dirs
            .iter()
            .filter(|dir| new(dir))
            .map(|dir| {
                let place =
                    FollowedPlace { identity: DirIdentity::of(dir, &mountinfo), candidate: None };
                (dir.clone(), place)
            })
            .collect();
        let mut seen = self.seen.lock().expect("no holder panics");
        seen.places.retain(|dir, _| dirs.contains(dir));
        seen.places.extend(fresh);
    }

    /// The directory that is at `dir`, which is followed.
    pub(crate) fn at(&self, dir: &Path) -> Option<DirIdentity> {
        self.seen.lock().expect("no holder panics").places.get(dir)?.identity.clone()
    }
}

/// Looks at every place once; true if one has changed.
fn look(seen: &Mutex<FollowedPlaces>) -> bool {
    let dirs: Vec<PathBuf> =
        seen.lock().expect("no holder panics").places.keys().cloned().collect();
    let mountinfo = if dirs.is_empty() { Vec::new() } else { mountinfo() };
    let mut has_changed = false;
    for dir in dirs {
        let found = DirIdentity::of(&dir, &mountinfo);
        if let Some(place) = seen.lock().expect("no holder panics").places.get_mut(&dir) {
            has_changed |= place.take(found);
        }
    }
    has_changed
}

impl FollowedPlace {
    /// Takes what was seen; true if that was seen twice, and is another one than before.
    fn take(&mut self, found: Option<DirIdentity>) -> bool {
        if found == self.identity {
            self.candidate = None;
        } else if self.candidate.as_ref() == Some(&found) {
            (self.identity, self.candidate) = (found, None);
            return true;
        } else {
            self.candidate = Some(found);
        }
        false
    }
}

fn mountinfo() -> Vec<u8> {
    // Without it nothing is known of mounts, and all else is.
    fs::read("/proc/self/mountinfo").unwrap_or_default()
}

/// Mount points below `dir`, of proc_pid_mountinfo(5).
fn mounts_below(dir: &Path, mountinfo: &[u8]) -> Vec<(u64, PathBuf)> {
    let lines = mountinfo.split(|&byte| byte == b'\n');
    let mount = |line: &[u8]| {
        let mut fields = line.split(|&byte| byte == b' ');
        let id = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let path = PathBuf::from(OsString::from_vec(unescaped(fields.nth(3)?)));
        (path.starts_with(dir) && path != dir).then_some((id, path))
    };
    lines.filter_map(mount).collect()
}

/// A field in which space, tab, newline and backslash are `\` and three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) if byte == b'\\' => {
                bytes.push(code);
                rest = &after[3..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_directory_are_found_whatever_their_names() {
        let text = b"22 1 0:20 / / rw - ext4 x rw\n30 22 0:21 / /data rw - tmpfs x rw\n\
                     31 30 0:22 / /data/a\\040b\\134 rw - tmpfs x rw\n32 22 0:23 / /database rw - x x rw\n\
                     rubbish\n33 30\n";
        let found = mounts_below(Path::new("/data"), text);
        assert_eq!(found, [(31, PathBuf::from("/data/a b\\"))]);
        assert_eq!(mounts_below(Path::new("/"), text).len(), 3);
    }

    #[test]
    fn a_directory_in_the_place_of_another_one_counts_when_it_was_seen_twice() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("data");
        fs::create_dir(&dir).unwrap();
        let (wake, waker) = io::pipe().unwrap();
        let sight = Sight::start(waker).unwrap();
        sight.follow(std::slice::from_ref(&dir));
        let first = sight.at(&dir).expect("it is there");
        // Made before the old one goes, as else it may get its number.
        fs::create_dir(parent.path().join("new")).unwrap();
        fs::remove_dir(&dir).unwrap();
        fs::rename(parent.path().join("new"), &dir).unwrap();
        look(&sight.seen);
        io::Read::read(&mut { wake }, &mut [0]).unwrap();
        let second = sight.at(&dir).expect("it is there again");
        assert!(second.replaces(&first) && !second.replaces(&second.clone()));
        assert_eq!(second.new_mount(&first), None);
        sight.follow(&[]);
        assert_eq!(sight.at(&dir), None, "nobody looks there");
    }

    #[test]
    fn what_is_seen_once_is_not_believed() {
        let mut place = FollowedPlace::default();
        let identity = |inode| Some(DirIdentity { inode, ..DirIdentity::default() });
        for (found, want) in [(1, false), (2, false), (2, true), (2, false), (3, false), (2, false)]
        {
            assert_eq!(place.take(identity(found)), want, "{found}");
        }
        assert_eq!(place.identity, identity(2));
    }
}
