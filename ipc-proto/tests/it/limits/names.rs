//! What a file's name and a dataset's may be.

use super::{JOB, assign, check, check_refused, check_taken, text, worker};
use crate::samples::Any;
use ipc_proto::limits::{DATASET_LEN_MAX, FRAME_NAMES_MAX, NAMES_LEN_MAX, PATH_LEN_MAX};
use ipc_proto::message::{ClientRequest, Named, Stamp, Work};

pub(super) fn datasets(len: usize) -> Vec<String> {
    (0..len).map(|i| format!("d{i}")).collect()
}

#[test]
fn a_dataset_has_a_plain_name_of_its_own() {
    for (names, taken) in [
        (&["a-z_09"][..], true),
        (&["-"], true),
        (&["A"], false),
        (&["a.b"], false),
        (&["a/b"], false),
        (&["a\n"], false),
        (&["\u{e9}"], false),
        (&["a", "b"], true),
        (&["a", "b", "a"], false),
    ] {
        let datasets: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let message = Any::from(worker(|w| w.planes.datasets = datasets));
        let why = format!("{names:?}");
        if taken { check_taken(message, &why) } else { check_refused(message, &why) }
    }
}

pub(super) fn named(path: &[u8], stamp: Stamp) -> Named {
    Named { path: path.into(), stamp }
}

/// The messages that hold names, with these.
fn holding(dataset: &str, files: &[Named]) -> [Any; 2] {
    let (dataset, files) = (dataset.to_owned(), files.to_vec());
    let request =
        ClientRequest::Names { job: JOB, first: 0, dataset: dataset.clone(), files: files.clone() };
    [request.into(), assign(Work::Names { dataset, files }).into()]
}

#[test]
fn names_keep_their_limits() {
    for kind in 0..2 {
        let path = |n| named(&vec![b'x'; n], Stamp::default());
        let check = |field, min, max, make: &dyn Fn(usize) -> Vec<Named>| {
            check(field, min, max, |n| holding("d", &make(n))[kind].clone());
        };
        check("names", 1, FRAME_NAMES_MAX, &|n| vec![path(1); n]);
        check("path", 1, PATH_LEN_MAX, &|n| vec![path(n)]);
        let most = NAMES_LEN_MAX - 131 * 4000;
        let paths = |len| [vec![path(4000); 131], vec![path(len)]].concat();
        check_taken(holding("d", &paths(most))[kind].clone(), "the most bytes of paths");
        check_refused(holding("d", &paths(most + 1))[kind].clone(), "one more");
    }
    check("dataset", 1, DATASET_LEN_MAX, |n| {
        let file = named(b"x", Stamp { size: 1, ..Stamp::default() });
        assign(Work::NamedPart { dataset: text(n), file, offset: 0, len: 1 })
    });
    let longest = Stamp { size: u64::MAX, mtime_ns: i64::MIN, ctime_ns: i64::MIN };
    let files = vec![named(&[b'x'; NAMES_LEN_MAX / FRAME_NAMES_MAX], longest); FRAME_NAMES_MAX];
    holding(&text(32), &files).into_iter().for_each(|message| check_taken(message, "the most"));
}

#[test]
fn a_path_leads_nowhere_but_down() {
    for (path, taken) in [
        (&b"a"[..], true),
        (b"a/b", true),
        (b"...", true),
        (b"..a/.b/c..", true),
        (b"-", true),
        (b"\n\\\xff\x01", true),
        (b"", false),
        (b"/", false),
        (b"/a", false),
        (b"a/", false),
        (b"a//b", false),
        (b".", false),
        (b"..", false),
        (b"a/.", false),
        (b"./a", false),
        (b"a/../b", false),
        (b"../a", false),
        (b"a/..", false),
        (b"a\0b", false),
    ] {
        let file = named(path, Stamp { size: 1, ..Stamp::default() });
        let part = Work::NamedPart { dataset: text(1), file: file.clone(), offset: 0, len: 1 };
        let messages = holding("d", &[named(b"a", Stamp::default()), file]);
        for message in messages.into_iter().chain([assign(part).into()]) {
            let why = format!("{:?}", String::from_utf8_lossy(path));
            if taken { check_taken(message, &why) } else { check_refused(message, &why) }
        }
    }
}
