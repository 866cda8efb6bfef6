//! Where a background process' output goes: one file a program, bounded at each start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

/// A log longer than this is moved aside, over the one moved before, when its program starts.
const LOG_LEN_MAX: u64 = 1 << 20;

/// A guest's log that is longer is moved aside while its VM runs: guests do not fill their host.
const GUEST_LOG_LEN_MAX: u64 = 4 << 20;

/// Most that is shown of a log.
const TAIL_LEN_MAX: u64 = 4096;
const TAIL_LINES_MAX: usize = 20;

/// Opens the log at `path` for appending, and says how long it is already.
pub(crate) fn open(path: &Path) -> io::Result<(File, u64)> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.len() > LOG_LEN_MAX => {
            fs::rename(path, path.with_extension("log.old"))?;
        }
        _ => {}
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    let len = file.metadata()?.len();
    Ok((file, len))
}

/// Mark of a boot in a console's log.
pub(crate) const BOOT: &str = "hashcluster-vm: boot";

/// Opens the console's log of a VM that is about to boot, marks that in it, and says where its new life
/// begins.
pub(crate) fn begin(path: &Path) -> io::Result<u64> {
    let (mut file, len) = open(path)?;
    let mark = format!("{} {BOOT}\n", telemetry::utc(SystemTime::now()));
    file.write_all(mark.as_bytes())?;
    Ok(len + mark.len() as u64)
}

/// Moves a guest's log that has grown too long aside, over the one moved before. QEMU has it open and
/// appends: its end is copied, and QEMU goes on at the start of the emptied file. False if it is short
/// enough.
pub(crate) fn limit(path: &Path) -> io::Result<bool> {
    let mut file = match File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let len = file.metadata()?.len();
    if len <= GUEST_LOG_LEN_MAX {
        return Ok(false);
    }
    let copied = file.seek(SeekFrom::Start(len - GUEST_LOG_LEN_MAX)).and_then(|_| {
        let mut old = OpenOptions::new();
        old.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut old = old.open(path.with_extension("log.old"))?;
        io::copy(&mut (&file).take(GUEST_LOG_LEN_MAX), &mut old)
    });
    // There may be no room for the copy, which is no reason to let it grow.
    file.set_len(0)?;
    copied.map(|_| true)
}

/// The bytes of the log at `path` from offset `start` on, or the last `len_max` of them; and where
/// they end.
pub(crate) fn since(path: &Path, start: u64, len_max: u64) -> io::Result<(Vec<u8>, u64)> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let from = file.seek(SeekFrom::Start(start.max(len.saturating_sub(len_max))))?;
    let mut bytes = Vec::new();
    file.take(len_max).read_to_end(&mut bytes)?;
    let end = from + bytes.len() as u64;
    Ok((bytes, end))
}

/// Text of a guest, fit for a terminal.
pub(crate) fn plain(bytes: &[u8]) -> String {
    let plain = |c: char| if telemetry::is_harmful(c) && c != '\n' { '?' } else { c };
    String::from_utf8_lossy(bytes).replace("\r\n", "\n").chars().map(plain).collect()
}

/// The last lines of the log at `path` from offset `start` on, fit for a terminal; empty if there
/// are none.
pub(crate) fn tail(path: &Path, start: u64) -> String {
    let bytes = since(path, start, TAIL_LEN_MAX).unwrap_or_default().0;
    tail_of(&bytes)
}

fn tail_of(bytes: &[u8]) -> String {
    let text = plain(bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES_MAX)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_last_lines_without_control_characters() {
        let many: String = (0..30).map(|i| format!("line {i}\n")).collect();
        assert_eq!(tail_of(many.as_bytes()).lines().count(), TAIL_LINES_MAX);
        assert!(tail_of(many.as_bytes()).ends_with("line 29"));
        assert_eq!(tail_of(b"\x1b[2Jred\n\xff"), "?[2Jred\n\u{fffd}");
        assert_eq!(tail_of(b""), "");
        assert_eq!(tail_of(b"a console\r\nends lines so\r\n"), "a console\nends lines so");
    }

    #[test]
    fn a_long_log_is_moved_aside_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w1.log");
        fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(open(&path).unwrap().1, LOG_LEN_MAX, "at the limit it stays");
        fs::write(&path, vec![b'x'; (1 << 20) + 1]).unwrap();
        assert_eq!(open(&path).unwrap().1, 0);
        assert_eq!(fs::metadata(dir.path().join("w1.log.old")).unwrap().len(), LOG_LEN_MAX + 1);
    }

    #[test]
    fn a_guest_that_writes_without_end_leaves_two_files_of_bounded_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w1.syslog.log");
        assert!(!limit(&path).unwrap(), "there is none");
        let mut guest = open(&path).unwrap().0;
        let mut write = |len: u64, byte| {
            io::copy(&mut io::repeat(byte).take(len), &mut guest).unwrap();
        };
        write(GUEST_LOG_LEN_MAX, b'a');
        assert!(!limit(&path).unwrap(), "at the limit it stays");
        write(1, b'b');
        assert!(limit(&path).unwrap());
        let old = fs::read(dir.path().join("w1.syslog.log.old")).unwrap();
        assert_eq!((old.len() as u64, old.last()), (GUEST_LOG_LEN_MAX, Some(&b'b')));
        write(3, b'c');
        assert_eq!(fs::read(&path).unwrap(), b"ccc", "the guest goes on at the start");
    }

    #[test]
    fn a_tail_starts_where_its_process_did() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "old life\nnew life\n").unwrap();
        assert_eq!([9, 18].map(|start| tail(file.path(), start)), ["new life", ""]);
    }
}
