//! Goes on without whoever started us.

use super::log;
use nix::sys::prctl;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use std::fs::File;
use std::io;
use std::path::Path;

/// Lets go of the terminal and of our parent: input is empty, output goes to `log`, and our
/// parent's end is none of our business any more.
pub(crate) fn become_daemon(log: &Path) -> io::Result<()> {
    let (file, _) = log::open(log)?;
    let null = File::open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&file)?;
    dup2_stderr(&file)?;
    prctl::set_pdeathsig(None)?;
    Ok(())
}
