//! Signatures of requests by [Standard Webhooks](https://www.standardwebhooks.com), version 1.

use crate::DeliveryFailure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use ipc_socket::Trust;
use sha2::Sha256;
use std::io::{self, Read};
use std::path::Path;

/// Shortest and longest secret in bytes, as the standard has it.
const SECRET_LEN_MIN: usize = 24;
const SECRET_LEN_MAX: usize = 64;

/// Longest file of a secret: in base64, with its prefix and a newline.
const FILE_LEN_MAX: u64 = 128;

/// Value of the header `webhook-signature`.
pub(crate) fn signature(secret: &[u8], id: &str, time_s: u64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of every length");
    mac.update(format!("{id}.{time_s}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// Reads the secret `name`: 24 to 64 bytes in base64 after `whsec_`, or as they are; a newline at the end is
/// ignored. It is read for each request, so that it can be replaced at any time.
pub(crate) fn secret(dir: Option<&Path>, name: &str) -> Result<Vec<u8>, DeliveryFailure> {
    let Some(dir) = dir else {
        let text = "the controller has no secrets; see its --notify-secrets";
        return Err(DeliveryFailure::lasting(text));
    };
    let path = dir.join(name);
    let mut text = Vec::new();
    Trust::Secret
        .open(&path)
        .and_then(|file| file.take(FILE_LEN_MAX + 1).read_to_end(&mut text))
        .map_err(|error: io::Error| {
        // It may be put there, or mended, at any time.
        DeliveryFailure::passing(format!("secret '{name}': {error}"))
    })?;
    parse(&text).map_err(|reason| DeliveryFailure::passing(format!("secret '{name}': {reason}")))
}

fn parse(text: &[u8]) -> Result<Vec<u8>, String> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let secret = match text.strip_prefix(b"whsec_") {
        Some(base64) => STANDARD.decode(base64).map_err(|error| error.to_string())?,
        None => text.to_vec(),
    };
    if (SECRET_LEN_MIN..=SECRET_LEN_MAX).contains(&secret.len()) {
        return Ok(secret);
    }
    Err(format!("it has {} bytes, not {SECRET_LEN_MIN} to {SECRET_LEN_MAX}", secret.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    /// The example of the standard's specification.
    #[test]
    fn signs_as_the_standard_does() {
        let secret = parse(b"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
        let body = r#"{"email":"test@example.com","username":"test_user"}"#;
        let got = signature(&secret, "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body);
        assert_eq!(got, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    }

    #[test]
    fn a_secret_is_base64_behind_its_prefix_and_bytes_without() {
        for (text, want) in [
            (&b"0123456789abcdefghijklmn\n"[..], Ok(b"0123456789abcdefghijklmn".to_vec())),
            (b"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Ok(vec![0; 24])),
            (b"short", Err("it has 5 bytes, not 24 to 64".to_owned())),
            (&[b'x'; 65], Err("it has 65 bytes, not 24 to 64".to_owned())),
        ] {
            assert_eq!(parse(text), want);
        }
        assert!(parse(b"whsec_*").is_err());
    }

    #[test]
    fn a_secret_that_others_can_read_signs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ops");
        fs::write(&path, [b'x'; 32]).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let failure = secret(Some(dir.path()), "ops").unwrap_err();
        assert!(failure.text.contains("lets others read it"), "{failure}");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(secret(Some(dir.path()), "ops"), Ok(vec![b'x'; 32]));
        assert!(secret(None, "ops").unwrap_err().is_final);
    }
}
