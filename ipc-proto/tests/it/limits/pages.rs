//! Limits of pages of a directory, and what answers one.

use super::{LEASE, assign, check, check_refused, check_taken, text, u16_of};
use crate::samples::Any;
use ipc_proto::limits::{
    CLAIMS_MAX, CLAIMS_STATE_LEN_MAX, CREDIT_MAX, DATASET_LEN_MAX, LIST_ENTRIES_MAX, NAMES_LEN_MAX,
    PATH_LEN_MAX,
};
use ipc_proto::message::{
    ClaimEntry, ClaimsWork, DirEntry, EntryKind, Failure, ListOutcome, ListWork, Stamp, Work,
    WorkerReply, WorkerRequest,
};
use ipc_proto::{Algorithm, Blob};

fn work() -> ListWork {
    let (dir, after) = (Blob::default(), Blob::default());
    ListWork { dataset: text(1), dir, after, entries_max: 1, claims: None }
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

fn claims_work(change: impl FnOnce(&mut ListWork, &mut ClaimsWork)) -> WorkerRequest {
    let path = Blob::from(&b"SUMS"[..]);
    let mut claims = ClaimsWork { path, offset: 0, seen: None, state: Blob::default() };
    list(|work| {
        change(work, &mut claims);
        work.claims = Some(claims);
    })
}

fn claim(name: Blob, path: Blob) -> ClaimEntry {
    let (algorithm, digest) = (Algorithm::Md5, Blob(vec![0; 16]));
    ClaimEntry { name, path, algorithm, digest, stamp: Stamp::default(), refused: None }
}

fn claims(change: impl FnOnce(&mut ClaimEntry)) -> WorkerReply {
    let mut entry = claim(b"a"[..].into(), b"d/a"[..].into());
    change(&mut entry);
    claims_page(vec![entry], 0)
}

fn claims_page(entries: Vec<ClaimEntry>, state_len: usize) -> WorkerReply {
    let (stamp, state) = (Stamp::default(), Blob(vec![0; state_len]));
    let outcome =
        ListOutcome::Claims { stamp, entries, bad_lines: u32::MAX, offset: 0, state, more: false };
    WorkerReply::Listed { lease: LEASE, attempt: 1, credit: 1, outcome }
}

#[test]
fn pages_of_a_manifest_keep_their_limits() {
    let bytes = |n| Blob(vec![b'x'; n]);
    check("path", 1, PATH_LEN_MAX, |n| claims_work(|_, claims| claims.path = bytes(n)));
    check("after", 0, 0, |n| claims_work(|work, _| work.after = bytes(n)));
    check("claims", 1, CLAIMS_MAX, |n| claims_work(|work, _| work.entries_max = u16_of(n)));
    check("state", 0, CLAIMS_STATE_LEN_MAX, |n| claims_work(|_, claims| claims.state = bytes(n)));
    check("name", 1, PATH_LEN_MAX, |n| claims(|entry| entry.name = bytes(n)));
    check("path", 1, PATH_LEN_MAX, |n| claims(|entry| entry.path = bytes(n)));
    check("digest", 16, 16, |n| claims(|entry| entry.digest = bytes(n)));
    check("state", 0, CLAIMS_STATE_LEN_MAX, |n| claims_page(Vec::new(), n));
    let short = || claim(b"a"[..].into(), b"a"[..].into());
    check("claims", 0, CLAIMS_MAX, |n| claims_page(vec![short(); n], 0));
    check("names", 512, NAMES_LEN_MAX, |n| {
        let entries =
            (0..256).map(|i| claim(bytes(n / 256 - 1 + usize::from(i < n % 256)), bytes(1)));
        claims_page(entries.collect(), 0)
    });
    let refused = Some(Failure::Outside);
    check_taken(
        claims(|entry| (entry.path, entry.refused) = (Blob::default(), refused)).into(),
        "refused",
    );
    check_refused(claims(|entry| entry.refused = refused).into(), "a path that is refused");
    check_refused(claims(|entry| entry.path = b"../a"[..].into()).into(), "a path that leads up");
    check_refused(claims(|entry| entry.name = b"a\0"[..].into()).into(), "a zero byte in a name");
}

#[test]
fn a_page_of_a_manifest_goes_on_in_the_manifest_that_was_seen() {
    let seen = Stamp { size: 9, ..Stamp::default() };
    let asked = |offset, seen| {
        let (path, state) = (Blob::from(&b"SUMS"[..]), Blob::default());
        ListWork { claims: Some(ClaimsWork { path, offset, seen, state }), ..work() }
    };
    let page = |offset, more, entries_len| {
        let entries = vec![claim(b"a"[..].into(), b"a"[..].into()); entries_len];
        ListOutcome::Claims {
            stamp: seen,
            entries,
            bad_lines: 0,
            offset,
            state: Blob::default(),
            more,
        }
    };
    for (outcome, asked, fits) in [
        (page(5, true, 1), asked(4, None), true),
        (page(5, true, 0), asked(4, Some(seen)), true),
        (page(4, true, 1), asked(4, Some(seen)), false),
        (page(4, false, 0), asked(4, Some(seen)), true),
        (page(3, false, 0), asked(4, Some(seen)), false),
        (page(5, true, 2), asked(4, Some(seen)), false),
        (page(5, true, 1), asked(4, Some(Stamp::default())), false),
        (page(5, true, 1), work(), false),
        (ListOutcome::Page { entries: Vec::new(), more: false }, asked(4, None), false),
        (ListOutcome::Failed { failure: Failure::Changed }, asked(4, Some(seen)), true),
    ] {
        assert_eq!(outcome.fits(&asked), fits, "{outcome:?} {asked:?}");
    }
}
