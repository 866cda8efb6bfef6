//! Files that others write to. The quiet rule of the engine gives them no digest; the originals do not look,
//! and print that of what they read.

use crate::engine::reorder::Item;
use crate::problem::Problem;
use engine::hash::Stream;
use ipc_proto::message::Failure;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

/// Bytes that are read at once.
const READ_LEN: usize = 64 << 10;

/// The digest of what can be read now, if `problem` is that the file of `item` did not hold still; else
/// `problem` again.
pub(super) fn reread(
    item: &Item<'_>,
    problem: Problem,
    stream: impl FnOnce() -> Stream,
) -> Result<Vec<u8>, Problem> {
    if !matches!(problem, Problem::Changed | Problem::Failure(Failure::Changed)) {
        return Err(problem);
    }
    let file = match item.label.name {
        b"-" => io::stdin().as_fd().try_clone_to_owned().map(File::from),
        name => File::open(OsStr::from_bytes(name)),
    };
    let digest = file.and_then(|file| read_all(&file, stream()));
    digest.map_err(|error| Problem::Io(error.raw_os_error().unwrap_or(libc::EIO)))
}

/// By offsets: standard input, which was read once, starts anew.
fn read_all(file: &File, mut stream: Stream) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; READ_LEN];
    let mut offset = 0;
    loop {
        match file.read_at(&mut buffer, offset) {
            Ok(0) => break,
            Ok(len) => {
                stream.update(&buffer[..len]);
                offset += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut digest = Vec::new();
    stream.finish(&mut digest);
    Ok(digest)
}
