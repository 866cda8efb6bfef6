use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// Behaviour where a layer of the sandbox cannot be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforcement {
    /// The process does not start.
    #[default]
    Enforce,
    /// It starts with the layers that can be had, and says which are missing.
    BestEffort,
    /// It starts without any.
    Off,
}

impl Enforcement {
    /// Names of all, as [`Enforcement::from_str`] reads them.
    pub const NAMES: [&'static str; 3] = ["enforce", "best-effort", "off"];
}

impl FromStr for Enforcement {
    type Err = UnknownEnforcement;

    fn from_str(text: &str) -> Result<Self, UnknownEnforcement> {
        match text {
            "enforce" => Ok(Self::Enforce),
            "best-effort" => Ok(Self::BestEffort),
            "off" => Ok(Self::Off),
            _ => Err(UnknownEnforcement),
        }
    }
}

/// The text is no [`Enforcement`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownEnforcement;

impl fmt::Display for UnknownEnforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is one of {}", Enforcement::NAMES.join(", "))
    }
}

impl Error for UnknownEnforcement {}
