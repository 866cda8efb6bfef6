//! Running commands, and reporting their failures.

use crate::oldest::cargo_of_tests;
use crate::release;
use crate::steps::TESTED;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

/// Failure of a command of xtask.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A program exited with a status other than 0.
    Status { command: String, status: ExitStatus },
    /// A program could not be started.
    NotRun { command: String, error: io::Error },
    /// Host packages are missing, and only root can install them.
    Packages { missing: String, install: String },
    /// Something that this machine lacks and cannot get, and how to run it elsewhere.
    Unavailable { what: String, how: String },
    /// A wrong result.
    Wrong(String),
    /// A step of a longer command.
    Step { name: &'static str, cause: Box<Failure> },
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Packages { .. } => ExitCode::from(3),
            Self::Unavailable { .. } => ExitCode::from(4),
            Self::Step { cause, .. } => cause.exit_code(),
            Self::Status { .. } | Self::NotRun { .. } | Self::Wrong(_) => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { command, status } => write!(f, "`{command}` failed: {status}"),
            Self::NotRun { command, error } => write!(f, "cannot run `{command}`: {error}"),
            Self::Packages { missing, install } => {
                write!(f, "missing on this machine: {missing}\n    install with: {install}")
            }
            Self::Unavailable { what, how } => {
                write!(f, "{what}, so this was not run\n    to run it: {how}")
            }
            Self::Wrong(what) => f.write_str(what),
            Self::Step { name, cause } => write!(f, "step '{name}': {cause}"),
        }
    }
}

/// The directory of the workspace: where cargo found this package, or that of the working directory. It is
/// not compiled in, as cargo takes this program of a moved or copied tree for fresh.
pub(crate) fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let places = [package, env::current_dir().ok()].into_iter().flatten();
    let dirs: Vec<PathBuf> =
        places.flat_map(|dir| dir.ancestors().map(Path::to_owned).collect::<Vec<_>>()).collect();
    let is_root = |dir: &PathBuf| dir.join("xtask/Cargo.toml").is_file();
    dirs.into_iter().find(is_root).expect("`cargo xtask` runs in the workspace")
}

/// The target directory that this program was built into.
pub(crate) fn target_dir() -> Result<PathBuf, Failure> {
    let exe =
        env::current_exe().map_err(|error| Failure::Wrong(format!("our program: {error}")))?;
    // TARGET/debug/xtask
    Ok(exe.ancestors().nth(2).expect("a program of cargo is two levels deep").to_owned())
}

/// Names a file with settings for every call of cargo, as its option `--config` does for one.
const CARGO_CONFIG: &str = "XTASK_CARGO_CONFIG";

/// The cargo that started us, in the workspace.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(cargo_config()).args(args).current_dir(root());
    command
}

/// The settings that every call of cargo is given, as its arguments.
pub(crate) fn cargo_config() -> Vec<OsString> {
    let config = env::var_os(CARGO_CONFIG);
    config.map_or(Vec::new(), |config| vec!["--config".into(), config])
}

/// Builds the program of a package in `tests/`, with the features that its dependencies have in the tests of
/// the workspace, so that those are not built again.
pub(crate) fn program_of_tests(name: &str) -> Result<Command, Failure> {
    let mut build =
        cargo_of_tests(&["build", "--quiet", "--message-format=json-render-diagnostics"]);
    let messages = output(build.args(TESTED).args(["--bin", name]))?;
    let mut built = messages.lines().filter_map(release::executable);
    let found = built.find(|path| path.file_name().is_some_and(|found| found == name));
    let mut command = Command::new(
        found.ok_or_else(|| Failure::Wrong(format!("the build produced no program {name}")))?,
    );
    command.current_dir(root());
    Ok(command)
}

/// Runs `command` to its end.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let status = command.status();
    judge(command, status)
}

fn judge(command: &Command, status: io::Result<ExitStatus>) -> Result<(), Failure> {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::Status { command: line(command), status }),
        Err(error) => Err(Failure::NotRun { command: line(command), error }),
    }
}

/// Runs `command` and returns its stdout.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    match command.stderr(Stdio::inherit()).output() {
        Ok(output) => {
            judge(command, Ok(output.status))?;
            let text = String::from_utf8(output.stdout);
            text.map_err(|_| Failure::Wrong(format!("`{}` wrote no text", line(command))))
        }
        Err(error) => Err(Failure::NotRun { command: line(command), error }),
    }
}

/// True if a program of this name is in `PATH`.
pub(crate) fn has_program(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
