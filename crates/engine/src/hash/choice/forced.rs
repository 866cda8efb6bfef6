//! Backend that the operator forces, in place of a measurement.

use crate::hash::{Backend, BackendError};
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// A backend of this machine, by its name, that is to be taken for everything that it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forced(pub(super) &'static str);

impl FromStr for Forced {
    type Err = ForceError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Backend::check().map_err(ForceError::Backends)?;
        let mut names = Backend::available().iter().map(|backend| backend.name());
        names.find(|known| *known == name).map(Self).ok_or(ForceError::Missing)
    }
}

/// A backend cannot be forced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForceError {
    /// There is none of that name on this machine.
    Missing,
    /// It is not even known which there are.
    Backends(BackendError),
}

impl fmt::Display for ForceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => {
                f.write_str("it is not available here; these are:")?;
                let names: BTreeSet<_> = Backend::available().iter().map(|b| b.name()).collect();
                names.iter().try_for_each(|name| write!(f, " {name}"))
            }
            Self::Backends(error) => error.fmt(f),
        }
    }
}

impl Error for ForceError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cannot_force_an_unavailable_backend() {
        for name in ["", "fast", "Portable", "neon_x2"] {
            let text = name.parse::<Forced>().unwrap_err().to_string();
            assert!(text.starts_with("it is not available here; these are: "), "{text}");
            assert!(Backend::available().iter().all(|b| text.contains(b.name())), "{text}");
        }
    }
}
