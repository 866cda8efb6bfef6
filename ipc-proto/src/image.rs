//! The digest of the image that a program runs from, which its environment tells it.

use crate::limits::NAME_LEN_MAX;
use std::ffi::OsString;
use std::fmt;

/// The variable that holds it, such as `sha256:` and 40 digits; not set outside an image.
pub const IMAGE_VARIABLE: &str = "HASHCLUSTER_IMAGE";

/// Why the value of [`IMAGE_VARIABLE`] is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// Longer than [`NAME_LEN_MAX`].
    TooLong,
    /// Other than printable ASCII.
    NotPrintable,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "{IMAGE_VARIABLE} is longer than {NAME_LEN_MAX} bytes"),
            Self::NotPrintable => write!(f, "{IMAGE_VARIABLE} is not printable ASCII"),
        }
    }
}

impl std::error::Error for ImageError {}

/// The image that the variable's value names; empty if it is not set.
pub fn parse(value: Option<OsString>) -> Result<String, ImageError> {
    let image = value.unwrap_or_default().into_string().map_err(|_| ImageError::NotPrintable)?;
    if image.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(ImageError::NotPrintable);
    }
    if image.len() > NAME_LEN_MAX {
        return Err(ImageError::TooLong);
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_short_and_printable() {
        let long = "x".repeat(NAME_LEN_MAX);
        for (value, want) in [
            ("sha256:00ff", Ok("sha256:00ff")),
            ("", Ok("")),
            (long.as_str(), Ok(long.as_str())),
            (&format!("{long}x"), Err(ImageError::TooLong)),
            ("a b", Err(ImageError::NotPrintable)),
            ("a\n", Err(ImageError::NotPrintable)),
            ("é", Err(ImageError::NotPrintable)),
        ] {
            assert_eq!(parse(Some(value.into())), want.map(str::to_owned), "{value:?}");
        }
        assert_eq!(parse(None), Ok(String::new()));
    }
}
