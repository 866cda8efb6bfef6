//! `cargo xtask build`: the release binaries, fully static and stripped. They hold no path of the
//! machine that builds them, so that the same tree gives the same bytes in any directory.

use crate::packages;
use crate::target::{BuildTarget, Libc};
use crate::tools::{Failure, cargo, output, root, run, target_dir};
use std::env;
use std::env::consts::ARCH;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Packages that have one binary each, of the same name.
pub(crate) const PACKAGES: [&str; 4] =
    ["hashcluster-controller", "hashcluster-worker", "hashctl", "hashcluster-vm"];

/// The program for many hosts: apart, as a single host neither needs it nor waits for its build.
pub(crate) const BRIDGE: [&str; 1] = ["hashcluster-bridge"];

/// Those of a VM's image.
pub(crate) const FOR_IMAGE: [&str; 2] = ["hashcluster-controller", "hashcluster-worker"];

const STATIC: [&str; 2] = ["-C", "target-feature=+crt-static"];

/// The variable that every static program with glibc reads at its start, whichever functions it uses. A
/// stripped program has no names of functions.
const GLIBC: &[u8] = b"GLIBC_TUNABLES";

/// File beside the binaries with the time of the start of the build that was last up to date, by which
/// scripts/lib/programs sees that no source is newer.
const SOURCES_SEEN: &str = "sources-seen";

/// Builds outdated programs, and returns the directory of the binaries.
pub(crate) fn build() -> Result<PathBuf, Failure> {
    let wrong = |path: &Path, error: io::Error| {
        let how = "CARGO_TARGET_DIR=DIR builds in another directory";
        Failure::Wrong(format!("{}: {error}; {how}", path.display()))
    };
    let seen = target_dir()?.join(format!("{SOURCES_SEEN}.{}", std::process::id()));
    fs::write(&seen, "").map_err(|error| wrong(&seen, error))?;
    let built = build_here(&root(), None).and_then(|bin_dir| {
        let to = bin_dir.join(SOURCES_SEEN);
        fs::rename(&seen, &to).map_err(|error| wrong(&to, error))?;
        Ok(bin_dir)
    });
    if built.is_err() {
        // The failure of the build is what matters.
        let _ = fs::remove_file(&seen);
    }
    built
}

/// Builds the programs of `tree` for this machine.
fn build_here(tree: &Path, target_dir: Option<&Path>) -> Result<PathBuf, Failure> {
    let target = BuildTarget { arch: ARCH, libc: Libc::Glibc };
    Build { tree, target, packages: &PACKAGES, target_dir }.run()
}

/// `cargo xtask build --arch ARCH`: builds the programs of a VM's image for such processors, with musl as in the
/// images by Yocto, and returns their directory.
pub(crate) fn build_for_image(arch: &str) -> Result<PathBuf, Failure> {
    let target = BuildTarget { arch, libc: Libc::Musl };
    Build { tree: &root(), target, packages: &FOR_IMAGE, target_dir: None }.run()
}

/// `cargo xtask build bridge`: builds the program for many hosts, into the directory of the others.
pub(crate) fn build_bridge(libc: Libc) -> Result<PathBuf, Failure> {
    let target = BuildTarget { arch: ARCH, libc };
    Build { tree: &root(), target, packages: &BRIDGE, target_dir: None }.run()
}

/// `cargo xtask build --libc musl`: builds all programs for this machine with musl.
pub(crate) fn build_musl() -> Result<PathBuf, Failure> {
    let target = BuildTarget { arch: ARCH, libc: Libc::Musl };
    Build { tree: &root(), target, packages: &PACKAGES, target_dir: None }.run()
}

/// A build of some packages.
#[derive(Debug)]
struct Build<'a> {
    tree: &'a Path,
    target: BuildTarget<'a>,
    packages: &'a [&'a str],
    /// A target directory of its own.
    target_dir: Option<&'a Path>,
}

impl Build<'_> {
    /// Returns the directory of the binaries.
    fn run(&self) -> Result<PathBuf, Failure> {
        let mut command = cargo(&["build", "--release", "--locked", "--target"]);
        command.arg(self.target.triple()).current_dir(self.tree);
        self.target.prepare(&mut command)?;
        command.args(self.packages.iter().flat_map(|package| ["-p", package]));
        command.arg("--message-format=json-render-diagnostics");
        if let Some(dir) = self.target_dir {
            command.arg("--target-dir").arg(dir);
        }
        command.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", flags(self.tree)?);
        let messages = output(&mut command)?;
        let binaries: Vec<PathBuf> = messages.lines().filter_map(executable).collect();
        for package in self.packages {
            let is_it = |path: &&PathBuf| path.file_name().is_some_and(|name| name == *package);
            match binaries.iter().find(is_it) {
                Some(path) => check(path, self.target.libc)?,
                None => {
                    return Err(Failure::Wrong(format!("the build produced no binary {package}")));
                }
            }
        }
        Ok(binaries[0].parent().expect("a file is in a directory").to_owned())
    }
}

/// Flags of the compiler, in cargo's form.
fn flags(tree: &Path) -> Result<String, Failure> {
    let text = |path: &Path| match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(Failure::Wrong(format!("{}: the path is not text", path.display()))),
    };
    let given = env::var("RUSTFLAGS").unwrap_or_default();
    let mut flags: Vec<String> = given.split_whitespace().map(str::to_owned).collect();
    flags.extend(STATIC.map(str::to_owned));
    for (path, name) in [(cargo_home()?, "/cargo"), (tree.to_owned(), "/hashcluster")] {
        flags.push(format!("--remap-path-prefix={}={name}", text(&path)?));
    }
    Ok(flags.join("\x1f"))
}

/// The directory in which cargo keeps the sources of crates.
fn cargo_home() -> Result<PathBuf, Failure> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))
        .ok_or_else(|| Failure::Wrong("neither CARGO_HOME nor HOME is set".into()))
}

/// `cargo xtask sbom`: an SBOM beside each release binary.
pub(crate) fn sbom() -> Result<(), Failure> {
    packages::ensure(packages::FOR_PYTHON)?;
    let bin_dir = build()?;
    let mut script = Command::new("python3");
    script.arg(root().join("xtask/release/sbom.py")).arg(root()).arg(bin_dir).arg(host()?);
    run(script.args(PACKAGES))
}

/// `cargo xtask reproduce`: two builds of the last commit, in directories of different names, give the same
/// bytes.
pub(crate) fn reproduce() -> Result<(), Failure> {
    let dir = env::temp_dir().join(format!("hashcluster-reproduce-{}", std::process::id()));
    let result = compare_builds(&dir);
    // It is a gigabyte; that it cannot be removed is no wrong result.
    let _ = fs::remove_dir_all(&dir);
    result
}

fn compare_builds(dir: &Path) -> Result<(), Failure> {
    let wrong = |error: std::io::Error| Failure::Wrong(format!("{}: {error}", dir.display()));
    let mut binaries = Vec::new();
    for name in ["one", "another-directory"] {
        let tree = dir.join(name);
        fs::create_dir_all(&tree).map_err(wrong)?;
        let mut archive = Command::new("git");
        archive.args(["archive", "--format=tar", "--output"]).arg(dir.join("tree.tar"));
        run(archive.arg("HEAD").current_dir(root()))?;
        run(Command::new("tar").arg("-xf").arg(dir.join("tree.tar")).arg("-C").arg(&tree))?;
        println!("building in {}", tree.display());
        binaries.push(build_here(&tree, Some(&tree.join("target")))?);
    }
    for package in PACKAGES {
        let [one, other] = [0, 1].map(|i| fs::read(binaries[i].join(package)));
        let (one, other) = (one.map_err(wrong)?, other.map_err(wrong)?);
        if one != other {
            return Err(Failure::Wrong(format!("two builds of {package} differ")));
        }
        println!("{package}: {} bytes, the same in both", one.len());
    }
    Ok(())
}

/// The triple of this machine.
pub(crate) fn host() -> Result<String, Failure> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let about = output(Command::new(rustc).arg("-vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::Wrong("rustc -vV names no host".into()))
}

/// The path in a message of cargo about an executable.
pub(crate) fn executable(message: &str) -> Option<PathBuf> {
    let (_, rest) = message.split_once(r#""executable":""#)?;
    let (path, _) = rest.split_once('"')?;
    Some(PathBuf::from(path))
}

/// Checks that a binary needs no library of its host, carries no symbols, no path of this machine, and no
/// other C library.
fn check(path: &Path, libc: Libc) -> Result<(), Failure> {
    let mut readelf = Command::new("readelf");
    let about = output(readelf.args(["--segments", "--sections", "--wide"]).arg(path))?;
    let wrong = |what: &str| Failure::Wrong(format!("{} {what}", path.display()));
    if let Some(what) = fault(&about) {
        return Err(wrong(what));
    }
    let bytes = fs::read(path).map_err(|error| wrong(&error.to_string()))?;
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    for dir in [cargo_home()?, root()] {
        if has(&dir.join("").into_os_string().into_encoded_bytes()) {
            return Err(wrong("has a path of this machine in it"));
        }
    }
    if libc == Libc::Musl && has(GLIBC) {
        return Err(wrong("has glibc in it instead of musl"));
    }
    Ok(())
}

/// The C library of a static program.
pub(crate) fn libc(path: &Path) -> Result<&'static str, Failure> {
    let bytes = fs::read(path).map_err(|e| Failure::Wrong(format!("{}: {e}", path.display())))?;
    let is_glibc = bytes.windows(GLIBC.len()).any(|window| window == GLIBC);
    Ok(if is_glibc { "glibc" } else { "musl" })
}

/// The fault in the output of `readelf`, in which each row begins with a type or a name.
fn fault(about: &str) -> Option<&'static str> {
    if about.contains(" INTERP ") {
        Some("is not static: it asks for a dynamic loader")
    } else if about.contains(" SYMTAB ") {
        Some("is not stripped: it has a symbol table")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_of_executables_name_one() {
        let of = |text: &str| executable(text);
        let artifact =
            r#"{"reason":"compiler-artifact","executable":"/t/release/hashctl","fresh":true}"#;
        assert_eq!(of(artifact), Some(PathBuf::from("/t/release/hashctl")));
        assert_eq!(of(r#"{"reason":"compiler-artifact","executable":null}"#), None);
        assert_eq!(of(r#"{"reason":"build-finished","success":true}"#), None);
    }

    #[test]
    fn a_program_with_glibc_does_not_pass_for_one_with_musl() {
        let dir = env::temp_dir().join(format!("hashcluster-libc-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let (source, program) = (dir.join("a.c"), dir.join("a"));
        fs::write(&source, "int main(void) { return 0; }\n").unwrap();
        let mut cc = Command::new("cc");
        run(cc.args(["-static", "-s", "-o"]).args([&program, &source])).unwrap();
        let found = check(&program, Libc::Musl);
        check(&program, Libc::Glibc).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        let found = found.unwrap_err().to_string();
        assert!(found.ends_with("has glibc in it instead of musl"), "{found}");
    }

    #[test]
    fn only_a_static_and_stripped_binary_passes() {
        let own = check(&env::current_exe().unwrap(), Libc::Glibc).unwrap_err().to_string();
        assert!(own.contains("is not static"), "{own}");
        let stripped = "  [ 1] .text  PROGBITS  0000\n  LOAD  0x000000 0x0000\n";
        assert_eq!(fault(stripped), None);
        let symbols = fault(&format!("{stripped}  [40] .symtab  SYMTAB  0000\n"));
        assert!(symbols.unwrap().contains("is not stripped"));
        let script = root().join("Cargo.toml");
        assert!(matches!(check(&script, Libc::Glibc), Err(Failure::Status { .. })), "no binary");
    }
}
