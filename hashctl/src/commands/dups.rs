//! `hashctl dups`: groups of equal files.
//!
//! The trees are walked, then every file whose size occurs twice is hashed, once per inode, in the
//! order of the walk; then digests are sorted and groups printed. Nothing is deleted.

use crate::args::{JobArgs, SelectionArgs};
use crate::config::Config;
use crate::engine::reorder::{Item, Label, Verdict};
use crate::engine::{Printer, run};
use crate::exit::Exit;
use crate::input::selection::Selection;
use crate::json::{JsonName, put_line};
use crate::lists::hex;
use crate::lists::quote::quote;
use crate::output::Out;
use crate::problem::Problem;
use crate::say::say;
use crate::trees::format::TreeFormat;
use crate::trees::found::{FileId, FoundTree};
use crate::trees::table::BytesTable;
use ipc_proto::Algorithm;
use overview::bytes;
use serde::Serialize;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::sync::{Arc, OnceLock};

const EXAMPLES: &str = "\
Examples:
  hashctl dups photos /mnt/backup/photos        # groups, each followed by an empty line
  hashctl dups --json ~ | jq -r .files[0].name  # the first name of each group
  hashctl dups --min-size 1048576 /data

Only files whose size occurs twice are read. Hard links to one file are no duplicates: of each inode
the first name counts, the others are in the JSON as its links. Symbolic links are not followed.
Empty files are left out unless --empty is given. Nothing is deleted.

Exit status: 0 with or without duplicates, 1 something cannot be read, 2 usage, 3 no controller,
4 interrupted.";

/// Arguments of `hashctl dups`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DupsArgs {
    /// Algorithm by which contents are compared
    #[arg(short, long, value_name = "ALGO", default_value = "blake3", help_heading = "Hashing")]
    algorithm: Algorithm,
    /// Leave out files below this many bytes
    #[arg(long, value_name = "BYTES", default_value = "0")]
    min_size: u64,
    /// Empty files are duplicates, too
    #[arg(long)]
    empty: bool,
    #[command(flatten)]
    format: TreeFormat,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    pub(crate) job: JobArgs,
    /// Directories
    #[arg(value_name = "DIR", required = true)]
    pub(crate) dirs: Vec<OsString>,
}

/// Prints groups of equal files below the directories.
pub(crate) fn dups(config: &Config, args: DupsArgs) -> Exit {
    let DupsArgs { algorithm, min_size, empty, format, selection, dirs, .. } = args;
    let selection = Selection::from(selection);
    let shared = Arc::new(OnceLock::new());
    let mut printer = DupsPrinter {
        plan: Arc::clone(&shared),
        algorithm,
        format,
        next: 0,
        digests: BytesTable::default(),
        hashed: Vec::new(),
        is_ok: true,
    };
    run(config, &mut printer, Some(algorithm.into()), move |lister| {
        let mut trees = Vec::new();
        let mut unopened = Vec::new();
        for dir in dirs {
            let dir = dir.into_vec();
            match FoundTree::collect(&dir, &selection) {
                Ok(tree) => trees.push(tree),
                Err(errno) => unopened.push((dir, Problem::Io(errno as i32))),
            }
        }
        let min_size = if empty { min_size } else { min_size.max(1) };
        let plan = DupsPlan::new(trees, min_size, unopened);
        let plan = shared.get_or_init(|| plan);
        plan.files.iter().try_for_each(|file| {
            lister.long_path(Label {
                name: &plan.path(file.name),
                function: algorithm.into(),
                want: b"",
            })
        })
    })
}

/// A name: its tree and its index there.
type TreeName = (u32, u32);

/// A file that is hashed, under its first name.
#[derive(Clone, Copy, Debug)]
struct DupsFile {
    name: TreeName,
    id: FileId,
}

/// Files whose size occurs twice.
#[derive(Debug)]
struct DupsPlan {
    trees: Vec<FoundTree>,
    /// In the order of the walk.
    files: Vec<DupsFile>,
    /// Other names of files.
    links: HashMap<FileId, Vec<TreeName>>,
    /// Directories that cannot be opened.
    unopened: Vec<(Vec<u8>, Problem)>,
}

impl DupsPlan {
    fn new(trees: Vec<FoundTree>, min_size: u64, unopened: Vec<(Vec<u8>, Problem)>) -> Self {
        let mut plan = Self { trees, files: Vec::new(), links: HashMap::new(), unopened };
        let mut found: Vec<(u64, FileId, TreeName)> = Vec::new();
        for (number, tree) in (0..).zip(&plan.trees) {
            let files = tree.names.indices().filter(|&file| tree.metadata(file).size >= min_size);
            let entry = |file| (tree.metadata(file).size, tree.id(file), (number, file));
            found.extend(files.map(entry));
        }
        // Names are numbered in the order of the walk.
        found.sort_unstable();
        for same_size in found.chunk_by(|a, b| a.0 == b.0) {
            if same_size.first().map(|(_, id, _)| id) == same_size.last().map(|(_, id, _)| id) {
                continue;
            }
            for names in same_size.chunk_by(|a, b| a.1 == b.1) {
                let (_, id, name) = names[0];
                plan.files.push(DupsFile { name, id });
                // A directory that was named twice has the same paths again.
                let path = plan.path(name);
                let others = names[1..].iter().map(|(_, _, name)| *name);
                let links: Vec<_> = others.filter(|&other| plan.path(other) != path).collect();
                if !links.is_empty() {
                    plan.links.insert(id, links);
                }
            }
        }
        plan.files.sort_unstable_by_key(|file| file.name);
        plan
    }

    fn path(&self, (tree, file): TreeName) -> Vec<u8> {
        let tree = &self.trees[tree as usize];
        tree.path(tree.names.get(file))
    }
}

struct DupsPrinter {
    plan: Arc<OnceLock<DupsPlan>>,
    algorithm: Algorithm,
    format: TreeFormat,
    /// Files that are done.
    next: usize,
    digests: BytesTable,
    /// Per digest: its file's index in the plan, and its size.
    hashed: Vec<(usize, u64)>,
    is_ok: bool,
}

/// The line of JSON for a group.
#[derive(Serialize)]
struct GroupJson<'a> {
    size: u64,
    algorithm: &'static str,
    digest: String,
    files: Vec<GroupFileJson<'a>>,
}

#[derive(Serialize)]
struct GroupFileJson<'a> {
    #[serde(flatten)]
    name: JsonName<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<JsonName<'a>>,
}

#[derive(Serialize)]
struct DupsErrorJson<'a> {
    #[serde(flatten)]
    name: JsonName<'a>,
    error: String,
}

impl Printer for DupsPrinter {
    fn print(&mut self, item: &Item<'_>, out: &mut Out) -> io::Result<()> {
        match item.verdict {
            Verdict::Digest => {
                self.digests.push(item.digest);
                self.hashed.push((self.next, item.size));
            }
            // It was there for a moment only.
            Verdict::Problem(Problem::Io(libc::ENOENT)) => {}
            Verdict::Problem(problem) => self.problem(item.label.name, problem, out)?,
            Verdict::Waiting | Verdict::Skipped(_) | Verdict::Mark(_) => {}
        }
        self.next += 1;
        Ok(())
    }

    fn finish(&mut self, out: &mut Out) -> io::Result<()> {
        let shared = Arc::clone(&self.plan);
        let plan = shared.get().expect("the lister made it");
        for (path, problem) in &plan.unopened {
            self.problem(path, *problem, out)?;
        }
        for tree in &plan.trees {
            for at in tree.problem_names.indices() {
                let path = tree.path(tree.problem_names.get(at));
                self.problem(&path, tree.problem_at(at), out)?;
            }
        }
        let (mut duplicates, mut freed, mut links) = (0, 0, 0);
        let groups = self.groups();
        for group in &groups {
            let (_, size) = self.hashed[group[0] as usize];
            duplicates += group.len() as u64 - 1;
            freed += (group.len() as u64 - 1) * size;
            let files = || group.iter().map(|&hashed| &plan.files[self.hashed[hashed as usize].0]);
            links +=
                files().map(|file| plan.links.get(&file.id).map_or(0, Vec::len)).sum::<usize>();
            let files: Vec<&DupsFile> = files().collect();
            self.put_group(plan, size, self.digests.get(group[0]), &files, out);
            out.flush_if_full()?;
        }
        self.summary(groups.len(), duplicates, freed, links, out)
    }

    fn is_ok(&self) -> bool {
        self.is_ok
    }

    fn is_quiet(&self) -> bool {
        self.format.quiet
    }
}

impl DupsPrinter {
    /// Indices of equal digests, groups and files in the order of the walk.
    fn groups(&mut self) -> Vec<Vec<u32>> {
        self.digests.sort();
        let groups = self.digests.groups().filter(|group| group.len() > 1);
        let mut groups: Vec<Vec<u32>> = groups.map(<[u32]>::to_vec).collect();
        groups.sort_unstable();
        groups
    }

    fn put_group(
        &self,
        plan: &DupsPlan,
        size: u64,
        digest: &[u8],
        files: &[&DupsFile],
        out: &mut Out,
    ) {
        let paths: Vec<Vec<u8>> = files.iter().map(|file| plan.path(file.name)).collect();
        let out = out.buffer();
        if !self.format.json {
            for path in &paths {
                self.format.put_name(path, out);
                self.format.end_line(out);
            }
            return self.format.end_line(out);
        }
        let links_of = |file: &&DupsFile| -> Vec<Vec<u8>> {
            let names = plan.links.get(&file.id).into_iter().flatten();
            names.map(|name| plan.path(*name)).collect()
        };
        let links: Vec<Vec<Vec<u8>>> = files.iter().map(links_of).collect();
        let files = paths.iter().zip(&links).map(|(path, links)| GroupFileJson {
            name: JsonName::new(path),
            links: links.iter().map(|path| JsonName::new(path)).collect(),
        });
        let (algorithm, digest) = (self.algorithm.name(), hex::text(digest));
        put_line(&GroupJson { size, algorithm, digest, files: files.collect() }, out);
    }

    fn problem(&mut self, path: &[u8], problem: Problem, out: &mut Out) -> io::Result<()> {
        self.is_ok = false;
        if self.format.json {
            let name = JsonName::new(path);
            put_line(&DupsErrorJson { name, error: problem.to_string() }, out.buffer());
        }
        // What goes to one terminal or file stays in order.
        out.flush()?;
        say(format_args!("{}: {problem}", quote(path)));
        Ok(())
    }

    fn summary(
        &self,
        groups: usize,
        duplicates: u64,
        freed: u64,
        links: usize,
        out: &mut Out,
    ) -> io::Result<()> {
        if self.format.quiet {
            return Ok(());
        }
        if self.format.json {
            let counts = serde_json::json!({
                "groups": groups, "duplicates": duplicates, "bytes": freed, "links": links,
            });
            put_line(&serde_json::json!({ "counts": counts }), out.buffer());
            return Ok(());
        }
        out.flush()?;
        let left_out = match links {
            0 => String::new(),
            _ => format!("; {links} hard links left out"),
        };
        say(format_args!("{groups} groups, {duplicates} duplicates of {}{left_out}", bytes(freed)));
        Ok(())
    }
}
