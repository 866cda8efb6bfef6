//! The tools of the family, and their texts of `--help` and `--version`.

use crate::engine::function::Function;
use ipc_proto::Algorithm;

/// One tool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tool {
    pub(super) name: &'static str,
    pub(super) algorithm: Algorithm,
    /// Name in BSD-style lines and in messages.
    pub(super) tag: &'static str,
    /// The digest may be shorter, by `-l`.
    pub(super) has_length: bool,
    /// Document that defines the digest.
    standard: &'static str,
    /// Node of the manual.
    manual: &'static str,
}

const fn tool(
    name: &'static str,
    algorithm: Algorithm,
    tag: &'static str,
    standard: &'static str,
    manual: &'static str,
) -> Tool {
    let has_length = matches!(algorithm, Algorithm::Blake2b);
    Tool { name, algorithm, tag, has_length, standard, manual }
}

const SHA2: &str = "sha2 utilities";

const TOOLS: [Tool; 7] = [
    tool("md5sum", Algorithm::Md5, "MD5", "RFC 1321", "md5sum invocation"),
    tool("sha1sum", Algorithm::Sha1, "SHA1", "FIPS-180-1", "sha1sum invocation"),
    tool("sha224sum", Algorithm::Sha224, "SHA224", "RFC 3874", SHA2),
    tool("sha256sum", Algorithm::Sha256, "SHA256", "FIPS-180-2", SHA2),
    tool("sha384sum", Algorithm::Sha384, "SHA384", "FIPS-180-2", SHA2),
    tool("sha512sum", Algorithm::Sha512, "SHA512", "FIPS-180-2", SHA2),
    tool("b2sum", Algorithm::Blake2b, "BLAKE2b", "RFC 7693", "b2sum invocation"),
];

/// Names of the tools.
pub(crate) const NAMES: [&str; TOOLS.len()] = {
    let mut names = [""; TOOLS.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = TOOLS[i].name;
        i += 1;
    }
    names
};

impl Tool {
    /// Longest digest of b2sum, in bytes.
    pub(super) const BLAKE2B_LEN_MAX: usize = 64;

    /// The tool of this name.
    pub(super) fn by_name(name: &str) -> Option<&'static Self> {
        TOOLS.iter().find(|tool| tool.name == name)
    }

    /// The function of a digest of `len` bytes.
    pub(super) fn function(&self, len: usize) -> Function {
        match u8::try_from(len) {
            Ok(len) if usize::from(len) < self.algorithm.digest_len() => Function::Blake2b(len),
            _ => self.algorithm.into(),
        }
    }

    /// Answer to `--version`.
    pub(super) fn version(&self) -> String {
        format!(
            "{} (hashctl) {}\nBehaves as that of GNU coreutils 9.1.\n",
            self.name,
            env!("CARGO_PKG_VERSION")
        )
    }

    /// Answer to `--help`, behind the name that the program was called by.
    pub(super) fn help(&self) -> String {
        let Self { name, tag, standard, manual, .. } = self;
        let bits = 8 * self.algorithm.digest_len();
        let mandatory = if self.has_length { MANDATORY } else { "" };
        let length = if self.has_length { LENGTH } else { "" };
        format!(
            " [OPTION]... [FILE]...\nPrint or check {tag} ({bits}-bit) checksums.\n\
             {INPUT}{mandatory}{CHECK}{length}{OPTIONS}\
             \nThe sums are computed as described in {standard}.\n{DEFAULT}\
             Full documentation <https://www.gnu.org/software/coreutils/{name}>\n\
             or available locally via: info '(coreutils) {manual}'\n"
        )
    }
}

const INPUT: &str = "\nWith no FILE, or when FILE is -, read standard input.\n";

const MANDATORY: &str =
    "\nMandatory arguments to long options are mandatory for short options too.\n";

const CHECK: &str = "  \
  -b, --binary          read in binary mode
  -c, --check           read checksums from the FILEs and check them
";

const LENGTH: &str = "  \
  -l, --length=BITS     digest length in bits; must not exceed the max for
                          the blake2 algorithm and must be a multiple of 8
";

const OPTIONS: &str = "      \
      --tag             create a BSD-style checksum
  -t, --text            read in text mode (default)
  -z, --zero            end each output line with NUL, not newline,
                          and disable file name escaping

The following five options are useful only when verifying checksums:
      --ignore-missing  don't fail or report status for missing files
      --quiet           don't print OK for each successfully verified file
      --status          don't output anything, status code shows success
      --strict          exit non-zero for improperly formatted checksum lines
  -w, --warn            warn about improperly formatted checksum lines

      --help        display this help and exit
      --version     output version information and exit
";

const DEFAULT: &str = "\
When checking, the input should be a former output of this program.
The default mode is to print a line with: checksum, a space,
a character indicating input mode ('*' for binary, ' ' for text
or where binary is insignificant), and name for each FILE.

Note: There is no difference between binary mode and text mode on GNU systems.

GNU coreutils online help: <https://www.gnu.org/software/coreutils/>
Report any translation bugs to <https://translationproject.org/team/>
";
