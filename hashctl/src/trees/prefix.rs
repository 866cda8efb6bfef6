//! Names of a manifest as names relative to a directory.
//!
//! A manifest that was made in the directory has `a`, or `./a` as find(1) writes it; one that was
//! made from outside has `dir/a`, `../dir/a` or `/path/dir/a`, and one of another copy has that
//! copy's path. [`Prefix`] is what the names of one manifest have in front, so that what follows is
//! relative: the leading components without which most of the names are found.

use std::borrow::Cow;

/// Names of which a prefix is guessed.
const SAMPLE_LEN: usize = 1000;

/// Leading components that all names of a manifest have and that lead to its directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// Without `.` and double slashes.
    components: Vec<Vec<u8>>,
    /// Absolute paths of the directory: names below them are relative to it.
    roots: Vec<Vec<u8>>,
}

impl Prefix {
    /// The prefix of `names`, of which `is_found` tells if a relative one exists. `dir` is the
    /// directory as it was named, `roots` are its absolute paths.
    pub(crate) fn guess<'a>(
        names: &(impl ExactSizeIterator<Item = &'a [u8]> + Clone),
        dir: &[u8],
        roots: Vec<Vec<u8>>,
        is_found: impl Fn(&[u8]) -> bool,
    ) -> Self {
        let plain = Self { components: Vec::new(), roots };
        let common = common_components(names.clone().filter(|n| plain.below_root(n).is_none()));
        let named: Vec<&[u8]> = components(dir).collect();
        let stride = names.len().div_ceil(SAMPLE_LEN).max(1);
        let candidates = (0..=common.len()).map(|len| {
            let components = common[..len].iter().map(|part| part.to_vec()).collect();
            let candidate = Self { components, roots: plain.roots.clone() };
            let sample = names.clone().step_by(stride);
            let found =
                sample.filter(|name| candidate.relative(name).is_some_and(|n| is_found(&n)));
            // Where nothing decides: the directory as it was named, else names as they are.
            let is_named = len > 0 && common[..len] == named;
            ((found.count(), is_named, usize::MAX - len), candidate)
        });
        let best = candidates.max_by_key(|(rank, _)| *rank);
        best.map_or(plain, |(_, candidate)| candidate)
    }

    /// The directory that all names have in common.
    pub(crate) fn common<'a>(names: impl Iterator<Item = &'a [u8]>) -> Self {
        let components = common_components(names).into_iter().map(<[u8]>::to_vec).collect();
        Self { components, roots: Vec::new() }
    }

    /// `name` relative to the directory; `None` if it is not below it.
    pub(crate) fn relative<'a>(&self, name: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        if let Some(rest) = self.below_root(name) {
            return normal(rest);
        }
        let mut rest = name;
        if let [first, others @ ..] = &*self.components {
            let mut next = |want: &[u8]| {
                let (component, after) = split_first(rest)?;
                rest = after;
                (component == want).then_some(())
            };
            next(first)?;
            others.iter().try_for_each(|component| next(component))?;
            return normal(rest);
        }
        if name.starts_with(b"/") { None } else { normal(rest) }
    }

    fn below_root<'a>(&self, name: &'a [u8]) -> Option<&'a [u8]> {
        if !name.starts_with(b"/") {
            return None;
        }
        self.roots.iter().find_map(|root| name.strip_prefix(&**root)?.strip_prefix(b"/"))
    }
}

/// Components of the directory that all names have in common.
fn common_components<'a>(mut names: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let mut common: Vec<&[u8]> = names.next().map(components).into_iter().flatten().collect();
    // The last one is the name of the file.
    common.pop();
    for name in names {
        let len = common.iter().zip(components(name)).take_while(|(a, b)| **a == *b).count();
        // A name may be a directory's elsewhere, never its own.
        common.truncate(len.min(components(name).count().saturating_sub(1)));
    }
    common
}

/// The first component of a path and what follows it; a slash at the start is a component.
fn split_first(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.starts_with(b"/") {
        let start = path.iter().position(|&byte| byte != b'/').unwrap_or(path.len());
        return Some((b"/", &path[start..]));
    }
    let mut rest = path;
    while !rest.is_empty() {
        let len = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
        let (component, after) = rest.split_at(len);
        let start = after.iter().position(|&byte| byte != b'/').unwrap_or(after.len());
        rest = &after[start..];
        if component != b"." {
            return Some((component, rest));
        }
    }
    None
}

/// Components of a path without `.`.
fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = path;
    std::iter::from_fn(move || {
        let (component, after) = split_first(rest)?;
        rest = after;
        Some(component)
    })
}

/// `path` without `.`, `..` and double slashes; `None` if it leads out, or nowhere.
fn normal(path: &[u8]) -> Option<Cow<'_, [u8]>> {
    let is_plain = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
    let trimmed = path.strip_prefix(b"./").unwrap_or(path);
    if trimmed.split(|&byte| byte == b'/').all(is_plain) {
        return Some(trimmed.into());
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    for component in components(path) {
        match component {
            b".." => drop(kept.pop()?),
            b"/" => {}
            component => kept.push(component),
        }
    }
    (!kept.is_empty()).then(|| kept.join(&b'/').into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative names of `names` in the directory `dir`, in which `found` exist.
    #[track_caller]
    fn check(dir: &str, names: &[&str], found: &[&str], want: &[Option<&str>]) {
        let is_found = |name: &[u8]| found.iter().any(|found| found.as_bytes() == name);
        let bytes = names.iter().map(|name| name.as_bytes());
        let prefix = Prefix::guess(&bytes, dir.as_bytes(), vec![b"/srv/d".to_vec()], is_found);
        let relative = |name: &&str| {
            let relative = prefix.relative(name.as_bytes());
            relative.map(|name| String::from_utf8(name.into_owned()).unwrap())
        };
        let got: Vec<Option<String>> = names.iter().map(relative).collect();
        let want: Vec<Option<String>> = want.iter().map(|name| name.map(str::to_owned)).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn names_may_be_relative_to_the_directory_or_begin_with_its_path() {
        let found = &["a", "b/c"];
        for names in [
            ["a", "b/c"],
            ["./a", "./b/c"],
            ["d/a", "d/b/c"],
            ["./d//a", "./d/./b/c"],
            ["../x/d/a", "../x/d/b/c"],
            ["/srv/d/a", "/srv/d/b/c"],
            ["/mnt/other/copy/a", "/mnt/other/copy/b/c"],
            ["a", "/srv/d/b/c"],
            ["x/../a", "b/../b/c"],
        ] {
            check("d", &names, found, &[Some("a"), Some("b/c")]);
        }
    }

    #[test]
    fn names_outside_the_directory_are_not_below_it() {
        check("d", &["a", "/etc/passwd"], &["a"], &[Some("a"), None]);
        check("d", &["a", "../b"], &["a"], &[Some("a"), None]);
        check("d", &["a", "/srv/dd/a"], &["a"], &[Some("a"), None]);
    }

    #[test]
    fn the_reading_that_finds_more_names_wins() {
        // A directory of the same name inside.
        check("d", &["d/a", "d/b"], &["d/a", "d/b"], &[Some("d/a"), Some("d/b")]);
        check("d", &["d/a", "d/b"], &["a", "b"], &[Some("a"), Some("b")]);
        // Nothing is left: names begin with the directory as it was named, or are what they are.
        check("d", &["d/a", "d/b"], &[], &[Some("a"), Some("b")]);
        check("x", &["d/a", "d/b"], &[], &[Some("d/a"), Some("d/b")]);
        check("d", &["sub/a", "sub/b"], &["sub/a"], &[Some("sub/a"), Some("sub/b")]);
        check("d", &["d/d/a"], &["d/a"], &[Some("d/a")]);
        check("d", &["a"], &["a"], &[Some("a")]);
        check("d", &[], &["a"], &[]);
    }
}
