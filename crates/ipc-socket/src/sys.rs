#![expect(unsafe_code, reason = "control messages are built and read through the CMSG macros")]
//! `sendmsg` and `recvmsg` with descriptors (unix(7), `SCM_RIGHTS`), retried when a signal interrupts
//! them; credentials of peers; closing descriptors.
//!
//! Lengths of control messages are `size_t` in glibc and `socklen_t` in musl: hence `as _`.

use ipc_proto::limits::FRAME_DESCRIPTORS_MAX;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{SockFlag, accept4, getsockopt, sockopt};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

const FD_LEN: usize = mem::size_of::<RawFd>();

/// Buffer for one control message with the maximum of descriptors, aligned for `cmsghdr`.
#[repr(C)]
union Control {
    _align: libc::cmsghdr,
    bytes: [u8; CONTROL_LEN],
}

/// `CMSG_SPACE` of the maximum of descriptors: a header and the descriptors, each padded to a word.
const CONTROL_LEN: usize = mem::size_of::<libc::cmsghdr>()
    + (FRAME_DESCRIPTORS_MAX * FD_LEN).next_multiple_of(mem::size_of::<usize>());

/// Result of one [`recv`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes read; 0 at the end of the stream.
    pub bytes_len: usize,
    /// Descriptors received.
    pub descriptors_len: usize,
    /// True if descriptors were lost because this process has reached its limit of open files.
    pub truncated: bool,
}

/// Credentials of the peer when the connection was made, as reported by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Process id; 0 if it has none in this namespace.
    pub pid: u32,
}

/// Sends a prefix of `bytes`, with all of `descriptors` on its first byte, and returns its length.
/// Raises no `SIGPIPE`.
///
/// # Errors
/// As sendmsg(2). `ETOOMANYREFS` means that too many descriptors of this user are in flight;
/// it ends as they are received.
///
/// # Panics
/// If there are no bytes, or more descriptors than [`FRAME_DESCRIPTORS_MAX`].
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    assert!(!bytes.is_empty(), "descriptors need a byte to ride on");
    assert!(descriptors.len() <= FRAME_DESCRIPTORS_MAX, "more descriptors than a frame takes");
    let mut control = Control { bytes: [0; CONTROL_LEN] };
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: `msghdr` is plain data for which all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    if !descriptors.is_empty() {
        let data_len = u32::try_from(descriptors.len() * FD_LEN).expect("at most 253 descriptors");
        header.msg_control = (&raw mut control).cast();
        // SAFETY: arithmetic on a length only.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(data_len) } as _;
        // SAFETY: `msg_control` points to `CONTROL_LEN` aligned bytes, at least one header long,
        // so the first header is there, and its data has room for `descriptors`.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(data_len) as _;
            let data = libc::CMSG_DATA(first).cast::<RawFd>();
            for (i, descriptor) in descriptors.iter().enumerate() {
                ptr::write_unaligned(data.add(i), descriptor.as_raw_fd());
            }
        }
    }
    // Not through the C library: musl's `sendmsg` accepts at most 1,024 bytes of control messages,
    // 252 descriptors. The fields that it would zero on 64 bits are zero here.
    retry(|| {
        // SAFETY: `header` points to `iov` and `control`, both alive and as long as it says, and is
        // of the layout that the kernel reads.
        let sent = unsafe {
            let flags = libc::MSG_NOSIGNAL;
            libc::syscall(libc::SYS_sendmsg, socket.as_raw_fd(), &raw const header, flags)
        };
        isize::try_from(sent).expect("a length of this address space")
    })
}

/// Makes `old` another descriptor of the file of `new`; its file of before is closed, in this thread's table.
///
/// # Errors
/// As dup3(2).
pub(crate) fn replace(old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> io::Result<()> {
    retry(|| {
        // SAFETY: both are open, and whoever owns `old` owns what it is from here on.
        let number = unsafe { libc::dup3(new.as_raw_fd(), old.as_raw_fd(), libc::O_CLOEXEC) };
        isize::try_from(number).expect("an int fits")
    })
    .map(drop)
}

/// Receives bytes into `bytes` and appends the descriptors that came with them.
///
/// # Errors
/// As recvmsg(2).
pub fn recv(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<Received> {
    let mut control = Control { bytes: [0; CONTROL_LEN] };
    let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: `msghdr` is plain data for which all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = CONTROL_LEN as _;
    let bytes_len = retry(|| {
        // SAFETY: `header` points to `iov` and `control`, both alive and as long as it says.
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) }
    })?;
    let descriptors_before = descriptors.len();
    // SAFETY: the kernel filled `header` and the control messages it speaks of.
    unsafe { take_descriptors(&header, descriptors) };
    Ok(Received {
        bytes_len,
        descriptors_len: descriptors.len() - descriptors_before,
        truncated: header.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

/// Takes ownership of every descriptor in the control messages, also in a truncated one: the
/// kernel's `cmsg_len` covers exactly the descriptors that it installed.
///
/// # Safety
/// `header` must come from a `recvmsg` that succeeded, its control buffer untouched since.
unsafe fn take_descriptors(header: &libc::msghdr, descriptors: &mut Vec<OwnedFd>) {
    // SAFETY: the kernel wrote a sequence of control messages that the CMSG macros walk.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: not null, so it points to a whole header inside the control buffer.
        let head = unsafe { &*message };
        if head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: the data follows its header inside the control buffer.
            let data = unsafe { libc::CMSG_DATA(message) }.cast::<RawFd>();
            let header_len = data as usize - message as usize;
            for i in 0..(head.cmsg_len as usize).saturating_sub(header_len) / FD_LEN {
                // SAFETY: `cmsg_len` covers this element, and nobody else knows the descriptor
                // that the kernel just installed for us.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(ptr::read_unaligned(data.add(i))) });
            }
        }
        // SAFETY: as for the first one.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
}

/// Shorter runs of neighbouring numbers are closed one by one.
const CLOSE_RUN_MIN: usize = 4;

/// Closes descriptors in this thread, neighbouring numbers in one call (close_range(2)): for the files of a frame
/// this takes half the time of closing each.
pub fn close_here(descriptors: impl IntoIterator<Item = OwnedFd>) {
    let mut numbers: Vec<RawFd> = descriptors.into_iter().map(IntoRawFd::into_raw_fd).collect();
    numbers.sort_unstable();
    for run in numbers.chunk_by(|one, next| one + 1 == *next) {
        if run.len() < CLOSE_RUN_MIN || !close_run(run[0], run[run.len() - 1]) {
            for &number in run {
                // SAFETY: the number came out of an `OwnedFd` above and has not been closed.
                drop(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
}

/// Closes `first` to `last`, all owned by the caller; `false` if the system does not support it.
fn close_run(first: RawFd, last: RawFd) -> bool {
    let no_flags: libc::c_uint = 0;
    // SAFETY: takes no pointer; every descriptor in the range is the caller's to close.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, no_flags) == 0 }
}

/// Descriptor numbers for which [`reserve_descriptor_table`] makes room: of a worker of one thread that holds as many batches as it
/// may, each with a frame full of descriptors.
pub const DESCRIPTOR_TABLE_LEN: u64 = 8192;

/// Grows the kernel's table of this process's descriptors to [`DESCRIPTOR_TABLE_LEN`], or to the limit
/// of open files if that is lower.
///
/// To be called before the first thread is started: a table that grows while threads share it waits
/// for an RCU grace period, 4 to 20 ms each time that its length doubles.
///
/// # Errors
/// As getrlimit(2), pipe(2) and fcntl(2).
pub fn reserve_descriptor_table() -> io::Result<()> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let last = RawFd::try_from(limit.min(DESCRIPTOR_TABLE_LEN)).unwrap_or(RawFd::MAX) - 1;
    let (any, _other_end) = io::pipe()?;
    // SAFETY: takes no pointer.
    let copy = unsafe { libc::fcntl(any.as_raw_fd(), libc::F_DUPFD_CLOEXEC, last) };
    if copy == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made this descriptor, and nobody else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(copy) });
    Ok(())
}

/// Credentials of the peer of `socket`.
///
/// # Errors
/// As getsockopt(2).
pub fn peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    let credentials = getsockopt(&socket, sockopt::PeerCredentials)?;
    Ok(Peer {
        uid: credentials.uid(),
        gid: credentials.gid(),
        pid: u32::try_from(credentials.pid()).unwrap_or(0),
    })
}

/// Accepts a waiting peer of `listener`; its socket is close-on-exec and non-blocking.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let accepted = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(accepted) })
}

/// Takes the descriptors from 3 to the last of `len` that this process was started with, as sd_listen_fds(3)
/// defines them; none if they were taken before.
pub(crate) fn started_with(len: u16) -> Vec<OwnedFd> {
    const FIRST: RawFd = 3;
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    let numbers = FIRST..FIRST + RawFd::from(len);
    let own = |number| {
        // SAFETY: takes no pointer.
        let set = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        // SAFETY: it is open, and whoever started this process gave it to us, once.
        (set == 0).then(|| unsafe { OwnedFd::from_raw_fd(number) })
    };
    numbers.map_while(own).collect()
}

fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(len) = usize::try_from(call()) {
            return Ok(len);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_descriptor_table_has_room_up_to_its_length_or_the_limit() {
        reserve_descriptor_table().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        let size: u64 = size.trim().parse().unwrap();
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert!(size >= limit.min(DESCRIPTOR_TABLE_LEN), "{size}");
    }
}
