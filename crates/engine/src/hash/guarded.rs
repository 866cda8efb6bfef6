#![expect(unsafe_code, reason = "pages that may not be touched come from system calls")]
//! Memory between two pages that may not be touched, for tests: a kernel that reads a byte too many
//! ends the process.

use std::{io, ptr, slice};

/// Length of a page, in bytes, on every system that the tests run on, or a multiple of it.
const PAGE_LEN: usize = 64 << 10;

/// Some pages, and one on each side that may not be touched.
pub(super) struct Guarded {
    start: *mut u8,
    len: usize,
}

impl Guarded {
    /// At least `len` bytes.
    pub(super) fn new(len: usize) -> Self {
        let len = len.next_multiple_of(PAGE_LEN);
        let whole_len = len + 2 * PAGE_LEN;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: the kernel chooses the place, so that nothing else is there.
        let whole =
            unsafe { libc::mmap(ptr::null_mut(), whole_len, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(whole, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        let start = whole.cast::<u8>().wrapping_add(PAGE_LEN);
        // SAFETY: these are pages of the mapping made above.
        let made = unsafe { libc::mprotect(start.cast(), len, libc::PROT_READ | libc::PROT_WRITE) };
        assert_eq!(made, 0, "{}", io::Error::last_os_error());
        Self { start, len }
    }

    /// Bytes that may be accessed.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `new` made them readable and writable, the kernel zeroed them, and only `self`
        // knows where they are.
        unsafe { slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let whole = self.start.wrapping_sub(PAGE_LEN);
        // SAFETY: the mapping of `new`, to which no reference is left.
        let gone = unsafe { libc::munmap(whole.cast(), self.len + 2 * PAGE_LEN) };
        assert_eq!(gone, 0, "{}", io::Error::last_os_error());
    }
}
