//! Random invocations: lists with lines of every form and damage, and names of every byte.

mod b3sum;
mod lists;
mod names;

use crate::programs::Side;
use crate::suite::Suite;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use test_kit::Random;

/// Locales of messages; what they print of a name depends on its characters.
const LOCALES: [&str; 2] = ["C", "C.UTF-8"];

/// Random lists and random names for the GNU tools.
pub(crate) fn gnu(suite: &mut Suite<'_>, count: usize, random: &mut Random) {
    let files = make_files(suite, b"a\n", random);
    for _ in 0..count {
        let tool = random.one_of(suite.family.tools);
        let locale = random.one_of(&LOCALES);
        let args = names::args(tool, &files, random);
        invoke(suite, tool, locale, &args, b"");
        let tool = random.one_of(suite.family.tools);
        let args = lists::args(random);
        let list = lists::list(tool, &files, random);
        invoke(suite, tool, locale, &args, &list);
    }
}

/// Random options, lists and names for b3sum.
pub(crate) fn b3sum(suite: &mut Suite<'_>, count: usize, random: &mut Random) {
    let files = make_files(suite, b"a", random);
    for _ in 0..count {
        let locale = random.one_of(&LOCALES);
        let args = b3sum::args(&files, random);
        // A key, or nearly.
        let len = random.one_of(&[32, 32, 32, 31, 33, 0]);
        let key = random.bytes(len);
        invoke(suite, "b3sum", locale, &args, &key);
        let args = b3sum::check_args(random);
        let list = b3sum::list(&files, random);
        invoke(suite, "b3sum", locale, &args, &list);
    }
}

/// Makes files of random names, and returns the names.
fn make_files(suite: &Suite<'_>, bytes: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    let files = names::files(random);
    let work = suite.programs.work();
    // Missing if no case ran.
    let _ = fs::remove_dir_all(&work);
    fs::create_dir(&work).expect("a directory in our own one");
    for name in &files {
        fs::write(work.join(OsStr::from_bytes(name)), bytes).expect("room for a small file");
    }
    files
}

/// Runs `tool` on both sides, with `list` in the file `LIST` and as standard input.
fn invoke(suite: &mut Suite<'_>, tool: &str, locale: &str, args: &[Vec<u8>], list: &[u8]) {
    let work = suite.programs.work();
    let path = work.join("LIST");
    fs::write(&path, list).expect("room for a list");
    let [want, got] = Side::BOTH.map(|side| {
        let mut command = Command::new(suite.programs.choose(side).join(tool));
        command.arg0(tool).args(args.iter().map(|arg| OsStr::from_bytes(arg)));
        let stdin = fs::File::open(&path).expect("it was just written");
        suite.run(command.env("LC_ALL", locale).current_dir(&work).stdin(Stdio::from(stdin)))
    });
    let args: Vec<String> = args.iter().map(|arg| arg.escape_ascii().to_string()).collect();
    let name = format!("LC_ALL={locale} {tool} '{}' <<'{}'", args.join("' '"), list.escape_ascii());
    suite.judge(&name, &want, &got, None);
}
