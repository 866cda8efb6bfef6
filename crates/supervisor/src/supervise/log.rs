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

/// Most that is copied of a console at once.
const COPY_LEN_MAX: u64 = 1 << 20;

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

/// Makes an empty file of nobody else's, for QEMU to append to.
pub(crate) fn empty(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new();
    file.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    file.open(path).map(drop)
}

/// Appends the lines of a console at `raw` to the log at `path`, each behind `time`. Returns how much of the
/// console was copied, `copied` included; of more than [`COPY_LEN_MAX`] bytes the first are left out. The last
/// line waits for its end, unless `all` is to be copied. A long console is emptied: its writer appends.
pub(crate) fn copy_with_time(
    raw: &Path,
    copied: u64,
    path: &Path,
    time: &str,
    all: bool,
) -> io::Result<u64> {
    let len = match fs::metadata(raw) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        found => found?.len(),
    };
    let copied = if len < copied { 0 } else { copied };
    if len == copied {
        return Ok(copied);
    }
    let (bytes, end) = since(raw, copied, COPY_LEN_MAX)?;
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    let is_cut = all || bytes.len() as u64 == COPY_LEN_MAX && whole == 0;
    let used = if is_cut { bytes.len() } else { whole };
    let left_out = end - bytes.len() as u64 - copied;
    let mut lines = Vec::new();
    if left_out > 0 {
        lines.extend(format!("{time} ({left_out} bytes left out)\n").into_bytes());
    }
    // Empty lines say nothing, and a flood of them would be one of times.
    let said = bytes[..used].split(|&byte| byte == b'\n');
    for line in said.map(|line| line.strip_suffix(b"\r").unwrap_or(line)) {
        if !line.is_empty() {
            lines.extend([time.as_bytes(), b" ", line, b"\n"].concat());
        }
    }
    let mut log = OpenOptions::new();
    log.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    log.open(path)?.write_all(&lines)?;
    let copied = end - (bytes.len() - used) as u64;
    if len > GUEST_LOG_LEN_MAX && copied == len {
        File::options().write(true).open(raw)?.set_len(0)?;
        return Ok(0);
    }
    Ok(copied)
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
    fn a_line_of_a_console_has_a_time_in_the_log_and_waits_for_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let (raw, path) = (dir.path().join("w1.console"), dir.path().join("w1.console.log"));
        let copy = |copied, all| copy_with_time(&raw, copied, &path, "T", all).unwrap();
        let log = || fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(copy(7, false), 0, "there is none yet");
        fs::write(&raw, "one\r\n\r\ntw").unwrap();
        assert_eq!((copy(0, false), log()), (7, "T one\n".to_owned()));
        fs::write(&raw, "one\r\n\r\ntwo\nthr").unwrap();
        assert_eq!((copy(7, false), log()), (11, "T one\nT two\n".to_owned()));
        assert_eq!((copy(11, true), log()), (14, "T one\nT two\nT thr\n".to_owned()));
        fs::write(&raw, "").unwrap();
        assert_eq!(copy(14, false), 0, "emptied");
        // Its guest forges no start: the mark is not at the begin of the line.
        fs::write(&raw, format!("T {BOOT}\n")).unwrap();
        copy(0, false);
        assert!(log().ends_with(&format!("\nT T {BOOT}\n")), "{}", log());
    }

    #[test]
    fn a_guest_that_floods_its_console_leaves_a_short_file_and_a_mark() {
        let dir = tempfile::tempdir().unwrap();
        let (raw, path) = (dir.path().join("w1.console"), dir.path().join("w1.console.log"));
        let lines = "a line of the flood\n".repeat(1 << 18);
        fs::write(&raw, &lines).unwrap();
        assert_eq!(copy_with_time(&raw, 0, &path, "T", false).unwrap(), 0);
        assert_eq!(fs::metadata(&raw).unwrap().len(), 0);
        let log = fs::read_to_string(&path).unwrap();
        let left_out = lines.len() - usize::try_from(COPY_LEN_MAX).unwrap();
        assert!(log.starts_with(&format!("T ({left_out} bytes left out)\n")));
        fs::write(&raw, vec![b'x'; 2 << 20]).unwrap();
        assert_eq!(
            copy_with_time(&raw, 0, &path, "T", false).unwrap(),
            2 << 20,
            "no end of a line"
        );
    }

    #[test]
    fn a_tail_starts_where_its_process_did() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "old life\nnew life\n").unwrap();
        assert_eq!([9, 18].map(|start| tail(file.path(), start)), ["new life", ""]);
    }
}
