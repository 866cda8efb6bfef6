//! Files that clients passed: a table by descriptor number, with the number of holders of each.
//!
//! A file is held by the core until its item is resolved, and by frames that carry it to workers. The
//! last holder leaves its descriptor among the unneeded ones, which are closed together after each
//! step. A table instead of a reference-counted allocation per file halves the cost of a small file.

use ipc_socket::Passed;
use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// One of the holders of a file.
#[derive(Debug)]
pub(super) struct File {
    table: Rc<FileTable>,
    number: usize,
}

#[derive(Debug, Default)]
pub(super) struct FileTable {
    slots: RefCell<Vec<Slot>>,
    unneeded: RefCell<Vec<OwnedFd>>,
}

#[derive(Debug, Default)]
struct Slot {
    descriptor: Option<OwnedFd>,
    holders: u32,
}

impl FileTable {
    /// The first holder of a descriptor that arrived.
    pub(super) fn hold(self: &Rc<Self>, descriptor: Passed) -> File {
        let descriptor = descriptor.into_inner();
        let number = usize::try_from(descriptor.as_raw_fd()).expect("it is open");
        let mut slots = self.slots.borrow_mut();
        if slots.len() <= number {
            slots.resize_with(number + 1, Slot::default);
        }
        slots[number] = Slot { descriptor: Some(descriptor), holders: 1 };
        File { table: Rc::clone(self), number }
    }

    /// The descriptors that nobody holds any more.
    pub(super) fn take_unneeded(&self) -> Vec<OwnedFd> {
        self.unneeded.take()
    }
}

impl File {
    /// Calls `f` with the descriptors of `files`, which are of one table.
    pub(super) fn with_descriptors<R>(files: &[Self], f: impl FnOnce(&[BorrowedFd<'_>]) -> R) -> R {
        let Some(first) = files.first() else { return f(&[]) };
        let slots = first.table.slots.borrow();
        let descriptor = |file: &Self| slots[file.number].descriptor.as_ref();
        let descriptors = files.iter().map(|file| descriptor(file).expect("it is held").as_fd());
        f(&descriptors.collect::<Vec<_>>())
    }
}

impl Clone for File {
    fn clone(&self) -> Self {
        self.table.slots.borrow_mut()[self.number].holders += 1;
        Self { table: Rc::clone(&self.table), number: self.number }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let slot = &mut self.table.slots.borrow_mut()[self.number];
        slot.holders -= 1;
        if slot.holders == 0 {
            self.table.unneeded.borrow_mut().extend(slot.descriptor.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_is_unneeded_once_its_last_holder_is_gone() {
        let table = Rc::new(FileTable::default());
        let (one, other) = UnixStream::pair().unwrap();
        let numbers = [one.as_raw_fd(), other.as_raw_fd()];
        let files =
            [table.hold(OwnedFd::from(one).into()), table.hold(OwnedFd::from(other).into())];
        let sent = files.clone();
        File::with_descriptors(&sent, |descriptors| {
            let got: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
            assert_eq!(got, numbers);
        });
        drop(files);
        assert!(table.take_unneeded().is_empty(), "the frame still holds them");
        drop(sent);
        let got: Vec<_> = table.take_unneeded().iter().map(AsRawFd::as_raw_fd).collect();
        assert_eq!(got, numbers);
        let (again, _) = UnixStream::pair().unwrap();
        drop(table.hold(OwnedFd::from(again).into()));
        assert_eq!(table.take_unneeded().len(), 1, "a number is used again");
    }
}
