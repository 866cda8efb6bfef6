//! Tokens in files.

use crate::trusted::Trust;
use ipc_proto::Blob;
use ipc_proto::token::{self, FILE_LEN_MAX};
use std::io::{self, Read};
use std::path::Path;

/// Reads the token in the file at `path`.
///
/// # Errors
/// As [`Trust::open`] and read(2); of kind `InvalidData`, with a [`TokenError`], if that is not a token.
///
/// [`TokenError`]: ipc_proto::token::TokenError
pub fn read_token(path: &Path) -> io::Result<Blob> {
    let mut content = Vec::new();
    Trust::Secret.open(path)?.take(FILE_LEN_MAX as u64).read_to_end(&mut content)?;
    token::parse(&content).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_token_of_a_file_is_read_and_nothing_else_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for (content, want) in [
            (&b"secret\n"[..], Ok(&b"secret"[..])),
            (b"\n", Err("no token in it")),
            (&[b'x'; 1000], Err("a token has at most 64 bytes")),
        ] {
            std::fs::write(&path, content).unwrap();
            let permissions = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&path, permissions).unwrap();
            let read = read_token(&path).map_err(|error| error.to_string());
            assert_eq!(read, want.map(Blob::from).map_err(str::to_owned));
        }
        assert_eq!(read_token(dir.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }
}
