//! Which paths a `hashctl` command line is about, so that the VMs can be shown them.
//!
//! It need not be exact: what is missed goes to the workers as bytes. But it errs on the side of
//! less, as a manifest may come from elsewhere: directories are shown if the command line names
//! them, or if they are part of a relative name, never on the word of an absolute one.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// More members than this go to the workers as bytes.
const MEMBERS_MAX: usize = 256;

/// Lines of a manifest that are looked at.
const LINES_MAX: usize = 1 << 20;

/// Bytes of a manifest that are looked at.
const LIST_LEN_MAX: u64 = 256 << 20;

/// Options of `hashctl` whose value may be the next word.
const VALUED: [&str; 26] = [
    "--algorithm",
    "--connect",
    "--cross-check",
    "--directory",
    "--exclude",
    "--files-from",
    "--include",
    "--min-size",
    "--newer-than",
    "--only",
    "--output",
    "--plane",
    "--progress",
    "--ready",
    "--restore-from",
    "--restore-to",
    "--resume",
    "--runtime-dir",
    "--state",
    "--strip-components",
    "--threads",
    "--timeout",
    "--timeout-s",
    "--token-file",
    "--verify",
    "--verify-older-than",
];

/// The same by one letter, each with its long name.
const VALUED_SHORT: [(u8, &str); 3] =
    [(b'C', "--directory"), (b'a', "--algorithm"), (b'o', "--output")];

/// A command line of `hashctl`, as far as it says where files are.
#[derive(Debug, Default)]
struct Words {
    /// The command, and its operands.
    operands: Vec<OsString>,
    /// `-C`: files of lists are named from there.
    directory: Option<PathBuf>,
    files_from: Vec<PathBuf>,
    strip_components: usize,
    /// `-c`: the operands of `sum` are lists.
    is_check: bool,
    /// `-0`: names in files are separated by zero bytes.
    is_zero: bool,
}

impl Words {
    fn parse(words: &[OsString]) -> Self {
        let mut parsed = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_bytes() {
                b"--" => parsed.operands.extend(words.by_ref().cloned()),
                b"-" => parsed.operands.push(word.clone()),
                [b'-', b'-', ..] => {
                    let (name, value) = cut_at_equals(word.as_bytes());
                    if VALUED.iter().any(|valued| valued.as_bytes() == name) {
                        let value = value.map(OsStr::from_bytes);
                        let value = value.or_else(|| words.next().map(|word| &**word));
                        parsed.set(name, value.unwrap_or_default());
                    } else {
                        parsed.set(name, OsStr::new(""));
                    }
                }
                [b'-', letters @ ..] => parsed.letters(letters, &mut words),
                _ => parsed.operands.push(word.clone()),
            }
        }
        parsed
    }

    fn letters<'a>(&mut self, letters: &[u8], words: &mut impl Iterator<Item = &'a OsString>) {
        for (at, letter) in (1..).zip(letters) {
            let valued = VALUED_SHORT.iter().find(|(short, _)| short == letter);
            if let Some((_, name)) = valued {
                let value = &letters[at..];
                let value = value.strip_prefix(b"=").unwrap_or(value);
                match value {
                    b"" => self.set(name.as_bytes(), words.next().map_or(OsStr::new(""), |w| w)),
                    value => self.set(name.as_bytes(), OsStr::from_bytes(value)),
                }
                return;
            }
            match letter {
                b'c' => self.is_check = true,
                b'0' => self.is_zero = true,
                _ => {}
            }
        }
    }

    fn set(&mut self, name: &[u8], value: &OsStr) {
        match name {
            b"--directory" => self.directory = Some(value.into()),
            b"--files-from" => self.files_from.push(value.into()),
            b"--strip-components" => {
                self.strip_components = value.to_str().and_then(|n| n.parse().ok()).unwrap_or(0);
            }
            b"--check" => self.is_check = true,
            b"--null" => self.is_zero = true,
            _ => {}
        }
    }

    /// The files and directories that are hashed, as they are named.
    fn paths(&self) -> BTreeSet<PathBuf> {
        let Some((command, operands)) = self.operands.split_first() else {
            return BTreeSet::new();
        };
        let operands: Vec<PathBuf> = operands.iter().map(PathBuf::from).collect();
        match command.to_str() {
            Some("check") => self.of_lists(&operands),
            Some("sum") if self.is_check => self.of_lists(&operands),
            Some("sum") => {
                let end = if self.is_zero { 0 } else { b'\n' };
                let listed = self.files_from.iter().flat_map(|file| lines(file, end));
                operands
                    .into_iter()
                    .chain(listed.filter_map(|name| root_of(&path_of(&name))))
                    .collect()
            }
            Some("dups") => operands.into_iter().collect(),
            // Of manifests, nothing but their own lines is read.
            Some("compare") => operands.into_iter().filter(|path| path.is_dir()).collect(),
            Some("audit" | "update") => operands.into_iter().next_back().into_iter().collect(),
            _ => BTreeSet::new(),
        }
    }

    fn of_lists(&self, lists: &[PathBuf]) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        for list in lists {
            for line in lines(list, b'\n') {
                if let Some(name) = name_of(&line) {
                    found.extend(self.stripped(&path_of(name)).as_deref().and_then(root_of));
                } else if is_digest(&line) {
                    // It is for the file that the list is named after, or for another operand.
                    let named = list.extension().map(|_| match self.directory {
                        Some(_) => PathBuf::from(list.file_stem().unwrap_or_default()),
                        None => list.with_extension(""),
                    });
                    found.extend(named);
                    found.extend(lists.iter().filter(|other| *other != list).cloned());
                }
            }
        }
        let place = |path: PathBuf| match &self.directory {
            Some(dir) => dir.join(path),
            None => path,
        };
        found.into_iter().map(place).collect()
    }

    fn stripped(&self, name: &Path) -> Option<PathBuf> {
        let mut parts = name.components().filter(|part| *part != Component::CurDir);
        if self.strip_components > 0 {
            parts.nth(self.strip_components - 1)?;
        }
        Some(parts.collect()).filter(|rest: &PathBuf| !rest.as_os_str().is_empty())
    }
}

/// The regular files and directories that `command` names, canonical, none inside another.
pub(crate) fn of(command: &[OsString]) -> Vec<PathBuf> {
    let found = Words::parse(command.get(1..).unwrap_or_default()).paths();
    let canonical: BTreeSet<PathBuf> = found
        .iter()
        .filter_map(|path| fs::canonicalize(path).ok())
        .filter(|p| is_data(p))
        .collect();
    let mut members: Vec<PathBuf> = Vec::new();
    for path in canonical {
        // Sorted: what contains a path comes before it.
        if !members.iter().any(|member| path.starts_with(member)) {
            members.push(path);
        }
    }
    members.truncate(MEMBERS_MAX);
    members
}

fn is_data(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() || metadata.is_dir())
}

fn cut_at_equals(word: &[u8]) -> (&[u8], Option<&[u8]>) {
    match word.iter().position(|&byte| byte == b'=') {
        Some(at) => (&word[..at], Some(&word[at + 1..])),
        None => (word, None),
    }
}

fn path_of(name: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(name))
}

/// The first lines of a regular file; none if it cannot be read.
fn lines(path: &Path, end: u8) -> impl Iterator<Item = Vec<u8>> {
    let file = File::open(path).ok();
    let file = file.filter(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()));
    let lines = file.map(|file| BufReader::new(file.take(LIST_LEN_MAX)).split(end));
    lines.into_iter().flatten().map_while(Result::ok).take(LINES_MAX)
}

/// True for a line with nothing but hexadecimal digits.
fn is_digest(line: &[u8]) -> bool {
    let digest = line.trim_ascii();
    digest.len() >= 32 && digest.iter().all(u8::is_ascii_hexdigit)
}

/// The name in a line of the usual form, or of the BSD one.
fn name_of(line: &[u8]) -> Option<&[u8]> {
    if let Some(at) = line.windows(4).rposition(|window| window == b") = ") {
        let start = line.iter().position(|&byte| byte == b'(')? + 1;
        return line.get(start..at);
    }
    let at = line.iter().position(|&byte| byte == b' ')?;
    line.get(at + 2..).filter(|name| !name.is_empty())
}

fn root_of(name: &Path) -> Option<PathBuf> {
    if name.is_absolute() {
        return Some(name.to_owned());
    }
    let mut components = name.components().filter(|part| *part != Component::CurDir);
    let first = components.next()?;
    if first == Component::ParentDir {
        // Its directory may hold much else; the file alone is enough.
        return Some(name.to_owned());
    }
    Some(PathBuf::from(first.as_os_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_leads_to_the_places_of_its_files() {
        let root = |line: &[u8]| root_of(&path_of(name_of(line).unwrap()));
        assert_eq!(root(b"abc  ./tree/a"), Some("tree".into()));
        assert_eq!(root(b"abc *tree/b c"), Some("tree".into()));
        assert_eq!(root(b"SHA256 (x/y) = abc"), Some("x".into()));
        assert_eq!(root(b"abc  /a/b/c"), Some("/a/b/c".into()));
        assert_eq!(name_of(b"rubbish"), None);
        assert_eq!(name_of(b"a "), None);
    }

    #[test]
    fn options_and_what_is_not_there_are_left_out() {
        let command =
            ["hashctl", "sum", "-r", "/proc/self/status-not", "-", "/"].map(OsString::from);
        assert_eq!(of(&command), [PathBuf::from("/")]);
        assert!(of(&["hashctl".into(), "status".into(), "/".into()]).is_empty());
    }

    /// `tree/{a,b/c}`, `other/x`, and lists of them.
    fn host() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for sub in ["tree/b", "other"] {
            fs::create_dir_all(root.join(sub)).unwrap();
        }
        let digest = "0".repeat(64);
        for (file, text) in [
            ("tree/a", ""),
            ("tree/b/c", ""),
            ("other/x", ""),
            ("list", &*format!("{digest}  tree/a\n{digest}  other/x\n")),
            ("deep", &*format!("{digest}  v1/dist/tree/b/c\n")),
            ("lone", &*digest),
            ("other/x.sha256", &*format!("{digest}\n")),
            ("zero", &*format!("{0}/other/x\0{0}/tree/a\0", root.display())),
            ("out", ""),
        ] {
            fs::write(root.join(file), text).unwrap();
        }
        dir
    }

    #[test]
    fn each_command_shows_what_it_hashes_and_nothing_else() {
        let host = host();
        let root = host.path().canonicalize().unwrap();
        for (command, want) in [
            ("sum @/tree/a -- @/other", "other tree/a"),
            ("--plane auto -v sum -r @/tree", "tree"),
            ("sum -o @/out --newer-than @/list -a sha256 @/tree/a", "tree/a"),
            ("sum --output=@/out @/tree/a", "tree/a"),
            ("sum --files-from @/zero -0", "other/x tree/a"),
            ("sum --files-from=@/zero --null @/tree", "other/x tree"),
            ("sum -c -C @ @/list", "other tree"),
            ("check -C @ @/list", "other tree"),
            ("check -C@ @/list", "other tree"),
            ("check -wC @ @/list", "other tree"),
            ("check --directory=@ @/list", "other tree"),
            ("check --directory @ --strip-components 2 @/deep", "tree"),
            ("check --resume @/out -C @ @/list", "other tree"),
            ("check @/lone @/tree/a", "tree/a"),
            ("check @/other/x.sha256", "other/x"),
            ("check -C @/other @/other/x.sha256", "other/x"),
            ("audit --state @/out @/list @/tree", "tree"),
            ("audit @/list @/deep @/tree", "tree"),
            ("update --verify 5% -n @/list @/tree", "tree"),
            (
                "compare --restore-to @/other --restore-from @/tree @/list @/tree @/other",
                "other tree",
            ),
            ("dups --min-size 5 @/tree @/other", "other tree"),
            ("status @/tree", ""),
            ("", ""),
        ] {
            let words =
                command.split_whitespace().map(|word| word.replace('@', root.to_str().unwrap()));
            let words: Vec<OsString> =
                ["hashctl".to_owned()].into_iter().chain(words).map(OsString::from).collect();
            let shown: Vec<_> = of(&words)
                .iter()
                .map(|path| path.strip_prefix(&root).unwrap().display().to_string())
                .collect();
            assert_eq!(shown.join(" "), want, "{command}");
        }
    }
}
