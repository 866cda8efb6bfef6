//! Lists of digests as the items of one job, which has one algorithm: that of the first claim.

use crate::engine::function::Function;
use crate::exit::Exit;
use crate::lists::lines::{LINE_LEN_MAX, Line, Lines};
use crate::lists::manifest::{Claim, Parsed, Parser};
use crate::lists::quote::quote;
use crate::say::{io_text, say};
use ipc_proto::Algorithm;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

/// Lists that are read once for their algorithm, and once for their claims.
#[derive(Debug)]
pub(super) struct ClaimLists<'a> {
    paths: &'a [OsString],
    algorithm: Algorithm,
}

/// Lines of a list that are not in the job.
#[derive(Debug, Default)]
struct Faults {
    bad: u64,
    unsupported: u64,
    too_long: u64,
    other_algorithm: u64,
}

impl<'a> ClaimLists<'a> {
    /// Finds the algorithm of the lists.
    pub(super) fn open(paths: &'a [OsString]) -> Result<Self, Exit> {
        if let Some(stdin) = paths.iter().find(|path| *path == "-") {
            say(format_args!(
                "{}: --check reads a list twice; name a file",
                quote(stdin.as_bytes())
            ));
            return Err(Exit::Usage);
        }
        for path in paths {
            let mut found = None;
            read(path, |parsed| {
                if let Some(Parsed::Claim(claim)) = parsed {
                    found = Some(claim.function);
                }
                Ok(found.is_none())
            })?;
            match found.map(Function::standard) {
                Some(Some(algorithm)) => return Ok(Self { paths, algorithm }),
                Some(None) => {
                    let name = quote(path.as_bytes());
                    say(format_args!("{name}: no worker computes the digests of this list"));
                    return Err(Exit::Failure);
                }
                None => {}
            }
        }
        say(format_args!("no properly formatted checksum lines found"));
        Err(Exit::Failure)
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Calls `take` for the name and digest of each claim, in order; false if that was, or a line is no claim
    /// of the algorithm.
    pub(super) fn each(
        &self,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<bool, Exit>,
    ) -> Result<bool, Exit> {
        let mut is_whole = true;
        for path in self.paths {
            let mut faults = Faults::default();
            read(path, |parsed| {
                match parsed {
                    Some(Parsed::Claim(Claim { function, digest, name, .. })) => {
                        if function.standard() == Some(self.algorithm) {
                            is_whole &= take(&name, &digest)?;
                        } else {
                            faults.other_algorithm += 1;
                        }
                    }
                    Some(Parsed::Bad | Parsed::Digest(..) | Parsed::Refused(_)) => faults.bad += 1,
                    Some(Parsed::Unsupported) => faults.unsupported += 1,
                    Some(Parsed::Nothing | Parsed::Signed) => {}
                    None => faults.too_long += 1,
                }
                Ok(true)
            })?;
            is_whole &= faults.say(path, self.algorithm);
        }
        Ok(is_whole)
    }
}

impl Faults {
    /// Says what is not in the job; true if there is nothing.
    fn say(&self, path: &OsString, algorithm: Algorithm) -> bool {
        let name = quote(path.as_bytes());
        let other =
            format!("digests of another algorithm than {algorithm}, which need a job of their own");
        let too_long = format!("lines longer than {LINE_LEN_MAX} bytes");
        for (len, what) in [
            (self.bad, "improperly formatted lines"),
            (self.unsupported, "digests of an algorithm that is not supported"),
            (self.too_long, &too_long),
            (self.other_algorithm, &other),
        ] {
            if len > 0 {
                say(format_args!("{name}: not in the job: {len} {what}"));
            }
        }
        self.bad + self.unsupported + self.too_long + self.other_algorithm == 0
    }
}

/// Gives each line of a list to `take`, as what it is, `None` if it is too long, until that returns false.
fn read(
    path: &OsString,
    mut take: impl FnMut(Option<Parsed<'_>>) -> Result<bool, Exit>,
) -> Result<(), Exit> {
    let failed = |error: &std::io::Error| {
        say(format_args!("{}: {}", quote(path.as_bytes()), io_text(error)));
        Exit::Failure
    };
    let file = File::open(path).map_err(|error| failed(&error))?;
    let mut lines = Lines::with_end(&file, b'\n');
    let mut parser = Parser::new(None, path.as_bytes());
    while let Some(line) = lines.next_line().map_err(|error| failed(&error))? {
        let parsed = match line {
            Line::Whole(line) => Some(parser.parse(line)),
            Line::TooLong => None,
        };
        if !take(parsed)? {
            break;
        }
    }
    Ok(())
}
