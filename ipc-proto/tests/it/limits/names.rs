//! Limits of file names and dataset names.

use super::{assign, check, check_refused, check_taken, text, with_files, worker};
use crate::samples::Any;
use ipc_proto::Blob;
use ipc_proto::limits::{DATASET_LEN_MAX, FRAME_NAMES_MAX, NAMES_LEN_MAX, PATH_LEN_MAX};
use ipc_proto::message::{FileItem, FileSource, Stamp, Work};

pub(super) fn datasets(len: usize) -> Vec<String> {
    (0..len).map(|i| format!("d{i}")).collect()
}

#[test]
fn dataset_names_are_plain_and_distinct() {
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

/// `len` files of a dataset.
pub(super) fn source(len: usize) -> FileSource {
    FileSource::Dataset { name: text(1), paths: vec![Blob(b"a".to_vec()); len] }
}

/// The messages of both kinds that name files, with these paths.
fn with_paths(name: &str, paths: Vec<Blob>) -> [Any; 2] {
    let files = vec![FileItem::default(); paths.len()];
    with_files(&FileSource::Dataset { name: name.to_owned(), paths }, &files)
}

#[test]
fn names_keep_their_limits() {
    for kind in 0..2 {
        let path = |n| Blob(vec![b'x'; n]);
        let check = |field, min, max, make: &dyn Fn(usize) -> Vec<Blob>| {
            check(field, min, max, |n| with_paths("d", make(n))[kind].clone());
        };
        check("files", 1, FRAME_NAMES_MAX, &|n| vec![path(1); n]);
        check("path", 1, PATH_LEN_MAX, &|n| vec![path(n)]);
        let most = NAMES_LEN_MAX - 131 * 4000;
        let paths = |len| [vec![path(4000); 131], vec![path(len)]].concat();
        check_taken(with_paths("d", paths(most))[kind].clone(), "the most bytes of paths");
        check_refused(with_paths("d", paths(most + 1))[kind].clone(), "one more");
        super::check("dataset", 1, DATASET_LEN_MAX, |n| {
            with_paths(&text(n), vec![path(1)])[kind].clone()
        });
        super::check("paths of three files", 3, 3, |n| {
            with_files(&source(n), &[FileItem::default(); 3])[kind].clone()
        });
    }
}

#[test]
fn work_on_a_part_of_a_file_has_one_source() {
    let file = FileItem::from(Stamp { size: 1 << 20, ..Stamp::default() });
    check("paths of a subtree", 1, 1, |n| {
        assign(Work::Subtree { source: source(n), file, offset: 0, len: 1 << 20 })
    });
    check("paths of a file to resume", 1, 1, |n| {
        assign(Work::Resume { source: source(n), file, offset: 128, state: Blob(vec![1]) })
    });
}

#[test]
fn a_path_stays_below_its_dataset() {
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
        let file = FileItem::from(Stamp { size: 1, ..Stamp::default() });
        let paths = vec![Blob::from(path)];
        let source = FileSource::Dataset { name: text(1), paths };
        let part = Work::Subtree { source, file, offset: 0, len: 1 };
        let messages = with_paths("d", vec![Blob(b"a".to_vec()), Blob::from(path)]);
        for message in messages.into_iter().chain([assign(part).into()]) {
            let why = format!("{:?}", String::from_utf8_lossy(path));
            if taken { check_taken(message, &why) } else { check_refused(message, &why) }
        }
    }
}
