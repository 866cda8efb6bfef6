//! Limits of pages of a directory, and what answers one.

use super::{LEASE, assign, check, check_refused, check_taken, text, u16_of};
use crate::samples::Any;
use ipc_proto::Blob;
use ipc_proto::limits::{
    CREDIT_MAX, DATASET_LEN_MAX, LIST_ENTRIES_MAX, NAMES_LEN_MAX, PATH_LEN_MAX,
};
use ipc_proto::message::{
    DirEntry, EntryKind, ListOutcome, ListWork, Stamp, Work, WorkerReply, WorkerRequest,
};

fn work() -> ListWork {
    let (dir, after) = (Blob::default(), Blob::default());
    ListWork { dataset: text(1), dir, after, entries_max: 1 }
}

fn list(change: impl FnOnce(&mut ListWork)) -> WorkerRequest {
    let mut work = work();
    change(&mut work);
    assign(Work::List(work))
}

fn entry(name: &[u8]) -> DirEntry {
    let stamp = Stamp { size: u64::MAX, mtime_ns: i64::MIN, ctime_ns: i64::MIN };
    let kind = EntryKind::Unknown { errno: i32::MIN };
    DirEntry { name: name.into(), kind, stamp, inode: u64::MAX, device: u64::MAX }
}

fn listed(credit: u16, entries: Vec<DirEntry>) -> WorkerReply {
    let outcome = ListOutcome::Page { entries, more: false };
    WorkerReply::Listed { lease: LEASE, attempt: 1, credit, outcome }
}

#[test]
fn a_list_keeps_its_limits() {
    let path = |n| Blob(vec![b'x'; n]);
    check("dataset", 1, DATASET_LEN_MAX, |n| list(|l| l.dataset = text(n)));
    check("dir", 0, PATH_LEN_MAX, |n| list(|l| l.dir = path(n)));
    check("after", 0, PATH_LEN_MAX, |n| list(|l| l.after = path(n)));
    check("entries", 1, LIST_ENTRIES_MAX, |n| list(|l| l.entries_max = u16_of(n)));
    for (name, dir_taken, after_taken) in [
        (&b"a/b"[..], true, false),
        (b"a", true, true),
        (b"/a", false, false),
        (b"a/", false, false),
        (b".", false, false),
        (b"..", false, false),
        (b"a\0", false, false),
    ] {
        for (request, taken) in [
            (list(|l| l.dir = name.into()), dir_taken),
            (list(|l| l.after = name.into()), after_taken),
        ] {
            let why = format!("{name:?} in {request:?}");
            if taken {
                check_taken(request.into(), &why)
            } else {
                check_refused(request.into(), &why)
            }
        }
    }
}

#[test]
fn a_page_keeps_its_limits_and_the_largest_fits_a_frame() {
    check("credit", 0, CREDIT_MAX.into(), |n| listed(u16_of(n), vec![]));
    check("entries", 0, LIST_ENTRIES_MAX, |n| listed(1, vec![entry(b"x"); n]));
    check("name", 0, PATH_LEN_MAX, |n| listed(1, vec![entry(&vec![b'x'; n])]));
    let name_len = NAMES_LEN_MAX / LIST_ENTRIES_MAX;
    let most = vec![entry(&vec![b'x'; name_len]); LIST_ENTRIES_MAX];
    check_taken(Any::from(listed(1, most.clone())), "the most bytes of names");
    let more = [&most[1..], &[entry(&vec![b'x'; name_len + 1])]].concat();
    check_refused(listed(1, more).into(), "one more");
}

#[test]
fn only_plain_ascending_names_behind_the_last_one_answer_a_list() {
    let page = |names: &[&[u8]], more| {
        let entries = names.iter().map(|name| entry(name)).collect();
        ListOutcome::Page { entries, more }
    };
    let asked = ListWork { after: Blob::from(&b"b"[..]), entries_max: 3, ..work() };
    for (names, more, fits) in [
        (&[][..], false, true),
        (&[], true, false),
        (&[b"b\0"], false, false),
        (&[b"ba"], true, true),
        (&[b"c", b"d", b"e"], true, true),
        (&[b"c", b"d", b"e", b"f"], false, false),
        (&[b"c", b"c"], false, false),
        (&[b"d", b"c"], false, false),
        (&[b"b"], false, false),
        (&[b"a"], false, false),
        (&[b"c/d"], false, false),
        (&[b"\xff\n", b"\xff\xff"], false, true),
    ] as [(&[&[u8]], bool, bool); 12]
    {
        assert_eq!(page(names, more).fits(&asked), fits, "{names:?}, more: {more}");
    }
    for name in [&b""[..], b".", b".."] {
        assert!(!page(&[name], false).fits(&ListWork { entries_max: 3, ..work() }), "{name:?}");
    }
    assert!(page(&[b"...", b".a"], false).fits(&ListWork { entries_max: 3, ..work() }));
}
