//! Remedies, and the command lines in them: as typed into a shell in the current directory.

use crate::quote;
use crate::run_dir::RUNTIME_DIR_VARIABLE;
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Remedy for a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remedy {
    /// A command line for a shell, if one is enough.
    pub(super) command: Option<String>,
    /// Advice where there is no command, or a note to it.
    pub(super) text: String,
}

impl Remedy {
    /// A command line.
    pub(super) fn run(command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), text: String::new() }
    }

    /// Something that no command does.
    pub(super) fn say(text: impl Into<String>) -> Self {
        Self { command: None, text: text.into() }
    }

    /// Adds a note: one line, which a shell takes for a comment.
    pub(super) fn note(self, text: impl Into<String>) -> Self {
        Self { text: text.into(), ..self }
    }
}

/// Makes command lines for the cluster that is examined.
#[derive(Debug)]
pub(super) struct Commands {
    /// The tree with `run.sh` and `scripts/`, if there is one.
    pub(super) root: Option<PathBuf>,
    own: PathBuf,
    /// Run directory, unless it is the default one.
    runtime: Option<PathBuf>,
    /// Options of the start.
    start: Vec<String>,
}

impl Commands {
    /// `root` is what the command line says; without it, the tree in which our program was built.
    pub(super) fn new(root: Option<&Path>, runtime: Option<PathBuf>, start: Vec<String>) -> Self {
        let own = env::current_exe().unwrap_or_else(|_| "hashcluster-vm".into());
        let root = match root {
            Some(root) => is_root(root).then(|| root.to_owned()),
            None => own.ancestors().skip(1).find(|dir| is_root(dir)).map(Path::to_owned),
        };
        Self { root, own, runtime, start }
    }

    /// One of our scripts, or the same command of this program where there are none.
    pub(super) fn script(&self, name: &str, args: &[&str]) -> String {
        let program = match &self.root {
            Some(root) => in_root(root, &format!("scripts/{name}.sh")),
            None => format!("{} {name}", quote::path(&self.own)),
        };
        let args = args.iter().map(|arg| quote::shell(OsStr::new(arg)));
        [program].into_iter().chain(self.runtime_option()).chain(args).collect::<Vec<_>>().join(" ")
    }

    /// Starts the cluster with the options that it has.
    pub(super) fn start(&self) -> String {
        let program = match &self.root {
            Some(root) => in_root(root, "run.sh"),
            None => format!("{} up", quote::path(&self.own)),
        };
        let mut words: Vec<String> = match self.start.iter().any(|word| word == "--local") {
            // A cluster of processes is told by its environment.
            true => {
                let dir = self.runtime.iter().map(|dir| quote::path(dir));
                dir.map(|dir| format!("{RUNTIME_DIR_VARIABLE}={dir}")).chain([program]).collect()
            }
            false => [program].into_iter().chain(self.runtime_option()).collect(),
        };
        words.extend(self.start.iter().cloned());
        words.join(" ")
    }

    /// `monitoring COMMAND` of this program for a monitoring that was started with these directories.
    pub(super) fn monitoring(&self, command: &str, files: &Path, settings: &Path) -> String {
        if self.root.is_some() {
            return self.script("monitoring", &[command]);
        }
        let (files, settings) = (quote::path(files), quote::path(settings));
        let own = self.script("monitoring", &[command]);
        format!("{own} --files {files} --settings {settings}")
    }

    /// Stops the cluster, and starts it with the same options.
    pub(super) fn start_again(&self) -> String {
        format!("{} && {}", self.script("stop", &[]), self.start())
    }

    /// A program of the tree, by its path in it.
    pub(super) fn of_tree(&self, path: &str) -> String {
        self.root.as_deref().map_or_else(|| path.to_owned(), |root| in_root(root, path))
    }

    /// A command that has to run in the root of the tree.
    pub(super) fn at_root(&self, command: &str) -> String {
        match &self.root {
            Some(root) if !is_here(root) => format!("(cd {} && {command})", quote::path(root)),
            _ => command.to_owned(),
        }
    }

    fn runtime_option(&self) -> Option<String> {
        self.runtime.as_ref().map(|dir| format!("--runtime-dir {}", quote::path(dir)))
    }
}

fn in_root(root: &Path, path: &str) -> String {
    match is_here(root) {
        true => format!("./{path}"),
        false => quote::path(&root.join(path)),
    }
}

fn is_here(root: &Path) -> bool {
    env::current_dir().is_ok_and(|dir| dir == root)
}

fn is_root(dir: &Path) -> bool {
    dir.join("run.sh").is_file() && dir.join("scripts").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_the_run_directory_and_the_options_of_the_start() {
        let mut commands = Commands {
            root: Some("/a tree".into()),
            own: "/bin/hashcluster-vm".into(),
            runtime: Some("/r".into()),
            start: vec!["--ports".into(), "p".into()],
        };
        assert_eq!(
            commands.script("restart", &["worker1"]),
            "'/a tree/scripts/restart.sh' --runtime-dir /r worker1"
        );
        assert_eq!(
            commands.start_again(),
            "'/a tree/scripts/stop.sh' --runtime-dir /r && \
             '/a tree/run.sh' --runtime-dir /r --ports p"
        );
        assert_eq!(commands.at_root("cargo xtask build"), "(cd '/a tree' && cargo xtask build)");
        commands = Commands { root: None, runtime: None, ..commands };
        assert_eq!(commands.script("stop", &[]), "/bin/hashcluster-vm stop");
    }
}
