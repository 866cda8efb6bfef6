//! Files that clients passed: a table by descriptor number, with the number of holders of each.
//!
//! A file is held by the core until its item is resolved, and by frames that carry it to workers. The
//! last holder leaves its descriptor among the unneeded ones, which are closed together after each
//! step. A table instead of a reference-counted allocation per file halves the cost of a small file.

use ipc_socket::{Passed, PassedBy};
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
    unneeded: RefCell<Vec<(PassedBy, OwnedFd)>>,
}

#[derive(Debug, Default)]
struct Slot {
    descriptor: Option<OwnedFd>,
    owner: PassedBy,
    holders: u32,
}

impl FileTable {
    /// The first holder of a descriptor that came from `owner`.
    pub(super) fn hold(self: &Rc<Self>, owner: PassedBy, descriptor: Passed) -> File {
        let descriptor = descriptor.into_inner();
        let number = usize::try_from(descriptor.as_raw_fd()).expect("it is open");
        let mut slots = self.slots.borrow_mut();
        if slots.len() <= number {
            slots.resize_with(number + 1, Slot::default);
        }
        slots[number] = Slot { descriptor: Some(descriptor), owner, holders: 1 };
        File { table: Rc::clone(self), number }
    }

    /// Closes the descriptors that nobody holds any more.
    pub(super) fn close_unneeded(&self) {
        let mut unneeded = self.unneeded.take();
        while let Some(&(owner, _)) = unneeded.last() {
            // In most steps all are of one owner.
            let of_others = unneeded.extract_if(.., |(of, _)| *of != owner).collect();
            let of_owner = std::mem::replace(&mut unneeded, of_others);
            ipc_socket::close_for(owner, of_owner.into_iter().map(|(_, descriptor)| descriptor));
        }
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
            let unneeded = slot.descriptor.take().map(|descriptor| (slot.owner, descriptor));
            self.table.unneeded.borrow_mut().extend(unneeded);
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
        let files = [one, other].map(|end| table.hold(PassedBy(1), OwnedFd::from(end).into()));
        let sent = files.clone();
        File::with_descriptors(&sent, |descriptors| {
            let got: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
            assert_eq!(got, numbers);
        });
        drop(files);
        assert!(table.unneeded.borrow().is_empty(), "the frame still holds them");
        drop(sent);
        let unneeded = table.unneeded.take();
        let got: Vec<_> = unneeded.iter().map(|(_, fd)| fd.as_raw_fd()).collect();
        assert_eq!(got, numbers);
        let (again, _) = UnixStream::pair().unwrap();
        drop(table.hold(PassedBy(2), OwnedFd::from(again).into()));
        assert_eq!(table.unneeded.borrow().len(), 1, "a number is used again");
    }
}
