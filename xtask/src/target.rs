//! Targets of the compiler, and what building for them needs.

use crate::packages;
use crate::tools::{Failure, has_program, output};
use std::env;
use std::path::Path;
use std::process::Command;

/// A C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Libc {
    Glibc,
    Musl,
}

/// A kind of processor, and the C library of programs for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BuildTarget<'a> {
    pub(crate) arch: &'a str,
    pub(crate) libc: Libc,
}

impl BuildTarget<'_> {
    pub(crate) fn triple(self) -> String {
        let libc = match self.libc {
            Libc::Glibc => "gnu",
            Libc::Musl => "musl",
        };
        format!("{}-unknown-linux-{libc}", self.arch)
    }

    /// Provides the standard library and the C compiler, and tells a cargo about the latter. It links, and
    /// compiles kernels, which need no C library: so with musl it need not be one for musl.
    pub(crate) fn prepare(self, command: &mut Command) -> Result<(), Failure> {
        let triple = self.triple();
        ensure_standard_library(&triple)?;
        let compiler = if self.arch == env::consts::ARCH {
            "cc".to_owned()
        } else {
            packages::ensure(packages::FOR_CROSS)?;
            format!("{}-linux-gnu-gcc", self.arch)
        };
        let triple = triple.replace('-', "_");
        command.env(format!("CC_{triple}"), &compiler);
        command.env(format!("CARGO_TARGET_{}_LINKER", triple.to_uppercase()), &compiler);
        Ok(())
    }
}

/// Provides the standard library for `triple`, by rustup if it is missing.
pub(crate) fn ensure_standard_library(triple: &str) -> Result<(), Failure> {
    if has_standard_library(triple)? {
        return Ok(());
    }
    if has_program("rustup") {
        // The check below shows if it worked. rustup's stdout is for people, and ours for scripts.
        let _ = output(Command::new("rustup").args(["target", "add", triple]));
    }
    if has_standard_library(triple)? {
        return Ok(());
    }
    let what = format!("the standard library of Rust for {triple} is missing");
    Err(Failure::Wrong(format!("{what}; `rustup target add {triple}` installs it")))
}

/// True if the compiler finds one; it names the directory even if that does not exist.
pub(crate) fn has_standard_library(triple: &str) -> Result<bool, Failure> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = ["--print", "target-libdir", "--target", triple];
    let dir = output(Command::new(rustc).args(asked))?;
    Ok(Path::new(dir.trim()).is_dir())
}
