#![expect(unsafe_code, reason = "the kernel writes to memory that only a queue entry names")]
//! A ring (`io_uring(7)`) that can read files, many at a time, and nothing else.
//!
//! It is made with its restrictions before it is enabled, so that an attacker who controls the process
//! can do no more with it than reading what is open. That needs `io_uring_setup` and
//! `io_uring_register` once, and then `io_uring_enter` alone.
//!
//! Invariant: [`Ring::read_many`] returns only when the kernel is done with every buffer.

use super::Read;
use io_uring::register::{Probe, Restriction};
use io_uring::{IoUring, opcode, types};
use nix::errno::Errno;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::process;

/// Most reads that are under way at once.
const ENTRIES: u32 = 64;

/// Reads many at a time.
pub(crate) struct Ring(IoUring);

impl Ring {
    /// Makes one.
    ///
    /// # Errors
    /// As `io_uring_setup(2)` and `io_uring_register(2)`, or `EOPNOTSUPP` if it cannot read.
    pub(crate) fn new() -> io::Result<Self> {
        let ring = IoUring::builder().dontfork().setup_r_disabled().build(ENTRIES)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::Read::CODE) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let mut allowed = [Restriction::sqe_op(opcode::Read::CODE)];
        ring.submitter().register_restrictions(&mut allowed)?;
        ring.submitter().register_enable_rings()?;
        Ok(Self(ring))
    }

    /// Does all of `reads`, each from the start of its file.
    pub(crate) fn read_many(&mut self, reads: &mut [Read<'_>]) {
        for reads in reads.chunks_mut(ENTRIES as usize) {
            self.read_some(reads);
        }
    }

    fn read_some(&mut self, reads: &mut [Read<'_>]) {
        let mut queue = self.0.submission();
        for (number, read) in (0..).zip(reads.iter_mut()) {
            let len = u32::try_from(read.buffer.len()).unwrap_or(u32::MAX);
            let (file, memory) = (types::Fd(read.file.as_raw_fd()), read.buffer.as_mut_ptr());
            let entry = opcode::Read::new(file, memory, len).build().user_data(number);
            // SAFETY: the memory is ours alone through `reads`, as long as `len` says, and this
            // function does not return before the entry is completed.
            unsafe { queue.push(&entry) }.expect("the queue is empty and holds as many");
        }
        drop(queue);
        let mut missing = reads.len();
        while missing > 0 {
            match self.0.submit_and_wait(missing) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => {}
                // The kernel could still write to memory that is reused for other things.
                Err(_) => process::abort(),
            }
            for done in self.0.completion() {
                let read = usize::try_from(done.user_data()).ok().and_then(|i| reads.get_mut(i));
                let read = read.expect("the kernel gives back what it was given");
                read.result = match usize::try_from(done.result()) {
                    Ok(len) => Ok(len),
                    Err(_) => Err(Errno::from_raw(-done.result())),
                };
                missing -= 1;
            }
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsFd;

    fn ring() -> Ring {
        Ring::new().expect("tests need a system that allows io_uring")
    }

    #[test]
    fn completes_more_reads_than_entries_and_matches_each() {
        let mut ring = ring();
        let files: Vec<File> = (0..3 * ENTRIES + 5)
            .map(|i| {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(&vec![u8::try_from(i).unwrap(); i as usize]).unwrap();
                file
            })
            .collect();
        let mut memory = vec![0xff; 300 * files.len()];
        for round in 0..2 {
            let buffers = memory.chunks_exact_mut(300);
            let reads = files.iter().zip(buffers);
            let mut reads: Vec<_> =
                reads.map(|(file, buffer)| Read::new(file.as_fd(), buffer)).collect();
            ring.read_many(&mut reads);
            for (i, read) in reads.iter().enumerate() {
                assert_eq!(read.result, Ok(i), "in round {round}");
                assert!(read.buffer[..i].iter().all(|&byte| usize::from(byte) == i));
            }
        }
    }

    #[test]
    fn a_failed_read_does_not_affect_the_others() {
        let mut ring = ring();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"good").unwrap();
        let dir = File::open("/").unwrap();
        let (mut first, mut second) = ([0; 10], [0; 10]);
        let mut reads = [Read::new(dir.as_fd(), &mut first), Read::new(file.as_fd(), &mut second)];
        ring.read_many(&mut reads);
        assert_eq!(reads[0].result, Err(Errno::EISDIR));
        assert_eq!((reads[1].result, &reads[1].buffer[..4]), (Ok(4), &b"good"[..]));
    }

    #[test]
    fn a_ring_can_only_read() {
        let mut ring = ring();
        let entry = opcode::Nop::new().build().user_data(7);
        // SAFETY: the entry names no memory.
        unsafe { ring.0.submission().push(&entry) }.unwrap();
        ring.0.submit_and_wait(1).unwrap();
        let done = ring.0.completion().next().unwrap();
        assert_eq!((done.user_data(), done.result()), (7, -libc::EACCES));
        assert!(ring.0.submitter().register_files(&[]).is_err(), "nothing can be registered");
    }
}
