//! How many items are cross-checked, as a person writes it: `1/N`.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// One item in so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample(NonZeroU32);

/// A text that is no [`Sample`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSample;

impl Sample {
    /// The N of 1/N.
    #[must_use]
    pub const fn every(self) -> u32 {
        self.0.get()
    }

    /// As it travels: 0 for none.
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
    fn a_sample_is_read_as_it_is_written() {
        for text in ["1/1", "1/100", "1/4294967295"] {
            assert_eq!(text.parse::<Sample>().map(|sample| sample.to_string()), Ok(text.into()));
        }
        for text in ["", "1", "1/", "1/0", "2/3", "1/-1", "1/+1", "1/1.5", "1/4294967296", " 1/2"] {
            assert_eq!(text.parse::<Sample>(), Err(BadSample), "{text:?}");
        }
    }
}
