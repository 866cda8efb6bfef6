//! Writes what is generated from the definition of hashctl's flags: man pages, and completions for
//! bash, zsh and fish. An example, so that the program itself has neither generator in it.
//!
//! Usage: documents DIR: writes DIR/man/*.1, DIR/completions/, and DIR/links, the names of the programs that
//! hashctl can stand for.

use clap_complete::{Shell, generate_to};
use std::env;
use std::fs;
use std::io;
use std::path::PathBuf;

fn main() -> io::Result<()> {
    let dir = env::args_os().nth(1).map(PathBuf::from);
    let dir = dir.ok_or_else(|| io::Error::other("usage: documents DIR"))?;
    let (man, completions) = (dir.join("man"), dir.join("completions"));
    for dir in [&man, &completions] {
        fs::create_dir_all(dir)?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut hashctl::cli::command(), "hashctl", &completions)?;
    }
    clap_mangen::generate_to(hashctl::cli::command(), &man)?;
    for page in fs::read_dir(&man)? {
        let page = page?.path();
        let text = fs::read_to_string(&page)?;
        // The last section: its lines are kept as they are.
        let text = text.replacen(".SH EXTRA\n", ".SH NOTES\n.nf\n", 1);
        let text = text.replacen(".SH NOTES\n.nf\nExamples:\n", ".SH EXAMPLES\n.nf\n", 1);
        fs::write(&page, text)?;
    }
    let names = hashctl::cli::personalities().map(|name| format!("{name}\n"));
    fs::write(dir.join("links"), names.collect::<String>())?;
    Ok(())
}
