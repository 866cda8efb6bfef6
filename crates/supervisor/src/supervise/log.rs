//! Where a background process' output goes: one file a program, bounded at each start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

/// A log longer than this is moved aside, over the one moved before, when its program starts.
const LOG_LEN_MAX: u64 = 1 << 20;

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

/// The last lines of the log at `path` from offset `start` on, fit for a terminal; empty if there
/// are none.
pub(crate) fn tail(path: &Path, start: u64) -> String {
    let bytes = read_end(path, start).unwrap_or_default();
    tail_of(&bytes)
}

fn read_end(path: &Path, start: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(start.max(len.saturating_sub(TAIL_LEN_MAX))))?;
    let mut bytes = Vec::new();
    file.take(TAIL_LEN_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn tail_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(TAIL_LINES_MAX)..];
    let plain = |c: char| if telemetry::is_harmful(c) && c != '\n' { '?' } else { c };
    shown.join("\n").chars().map(plain).collect()
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
    fn a_tail_starts_where_its_process_did() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "old life\nnew life\n").unwrap();
        assert_eq!([9, 18].map(|start| tail(file.path(), start)), ["new life", ""]);
    }
}
