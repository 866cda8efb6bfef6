//! Fraction of items that is cross-checked, written as `1/N`.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// One item in N.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample(NonZeroU32);

/// A text that is not a [`Sample`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSample;

impl Sample {
    /// The N of 1/N.
    #[must_use]
    pub const fn every(self) -> u32 {
        self.0.get()
    }

    /// The wire form: 0 for none.
    #[must_use]
    pub fn to_wire(sample: Option<Self>) -> u32 {
        sample.map_or(0, Self::every)
    }
}

impl FromStr for Sample {
    type Err = BadSample;

    fn from_str(text: &str) -> Result<Self, BadSample> {
        let every = text.strip_prefix("1/").ok_or(BadSample)?;
        // `parse` takes a leading plus sign.
        if !every.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadSample);
        }
        every.parse().map(Self).map_err(|_| BadSample)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1/{}", self.0)
    }
}

impl fmt::Display for BadSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write a sample as 1/N, N from 1 to {}", u32::MAX)
    }
}

impl std::error::Error for BadSample {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_displayed_sample_parses_to_the_same_sample() {
        for text in ["1/1", "1/100", "1/4294967295"] {
            assert_eq!(text.parse::<Sample>().map(|sample| sample.to_string()), Ok(text.into()));
        }
        for text in ["", "1", "1/", "1/0", "2/3", "1/-1", "1/+1", "1/1.5", "1/4294967296", " 1/2"] {
            assert_eq!(text.parse::<Sample>(), Err(BadSample), "{text:?}");
        }
    }
}
