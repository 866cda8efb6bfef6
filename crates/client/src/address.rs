//! Controller addresses: an endpoint and the token that it wants. A runtime directory leads to one
//! by its socket, else by a file that names the endpoint of a controller in a VM, with the token in
//! its own file.

use ipc_proto::Blob;
use ipc_proto::endpoint::{
    CLIENT_ENDPOINT_FILE, CLIENT_SOCKET, CLIENT_TOKEN_FILE, Endpoint, EndpointError,
};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Most bytes that are read of the endpoint file; a longer one is invalid.
const ENDPOINT_LEN_MAX: u64 = 4096;

/// Where a controller listens for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Its client socket.
    pub endpoint: Endpoint,
    /// Proof of identity; empty where the kernel provides credentials.
    pub token: Blob,
}

/// Why a directory or a file leads to no controller.
#[derive(Debug, Error)]
pub enum AddressError {
    /// Not the path of a socket.
    #[error("the controller's socket: {0}")]
    Socket(#[source] EndpointError),
    /// The file cannot be read, or is a token's and holds none.
    #[error("{path}: {1}", path = .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// The endpoint file is not one line of text.
    #[error("{}: not one line of text", .0.display())]
    NotOneLine(PathBuf),
    /// The file holds no endpoint.
    #[error("{path}: {1}", path = .0.display())]
    Endpoint(PathBuf, #[source] EndpointError),
}

impl Address {
    /// An endpoint without a token: the kernel provides credentials, or the token is set later.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, token: Blob::default() }
    }

    /// The controller that listens on the Unix socket `path`.
    ///
    /// # Errors
    /// [`AddressError::Socket`].
    pub fn unix(path: impl Into<PathBuf>) -> Result<Self, AddressError> {
        Endpoint::unix(path.into()).map(Self::new).map_err(AddressError::Socket)
    }

    /// The controller whose runtime directory is `dir`: its socket, also where nothing is there.
    pub fn in_dir(dir: &Path) -> Result<Self, AddressError> {
        let socket = dir.join(CLIENT_SOCKET);
        let file = dir.join(CLIENT_ENDPOINT_FILE);
        let is_socket =
            fs::metadata(&socket).is_ok_and(|metadata| metadata.file_type().is_socket());
        if is_socket || fs::symlink_metadata(&file).is_err() {
            return Self::unix(socket);
        }
        let endpoint = read_endpoint(file, dir)?;
        let token = match read_token(&dir.join(CLIENT_TOKEN_FILE)) {
            Err(AddressError::Io(_, error)) if error.kind() == io::ErrorKind::NotFound => {
                Blob::default()
            }
            read => read?,
        };
        Ok(Self { endpoint, token })
    }
}

fn read_endpoint(path: PathBuf, dir: &Path) -> Result<Endpoint, AddressError> {
    let mut content = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(ENDPOINT_LEN_MAX).read_to_end(&mut content))
        .map_err(|error| AddressError::Io(path.clone(), error))?;
    let Ok(text) = String::from_utf8(content) else { return Err(AddressError::NotOneLine(path)) };
    let line = text.strip_suffix('\n').unwrap_or(&text);
    if line.contains(char::is_control) {
        return Err(AddressError::NotOneLine(path));
    }
    let endpoint = Endpoint::to_dial(line).and_then(|endpoint| endpoint.in_dir(dir));
    endpoint.map_err(|error| AddressError::Endpoint(path, error))
}

/// The token in the file at `path`.
///
/// # Errors
/// [`AddressError::Io`].
pub fn read_token(path: &Path) -> Result<Blob, AddressError> {
    ipc_socket::read_token(path).map_err(|error| AddressError::Io(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    /// The address to which a directory with these files leads.
    fn found(files: &[(&str, &[u8])]) -> Result<(String, Vec<u8>), String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            // A token that others can read is refused.
            fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        }
        found_in(dir.path())
    }

    fn found_in(dir: &Path) -> Result<(String, Vec<u8>), String> {
        let short = |text: String| text.replace(&format!("{}/", dir.display()), "");
        match Address::in_dir(dir) {
            Ok(address) => Ok((short(address.endpoint.to_string()), address.token.0)),
            Err(error) => Err(short(error.to_string())),
        }
    }

    #[test]
    fn an_empty_directory_resolves_to_its_socket() {
        assert_eq!(found(&[]), Ok(("client.sock".to_owned(), vec![])));
    }

    #[test]
    fn an_endpoint_is_relative_to_its_directory_and_uses_the_token_there() {
        let endpoint = ("client.endpoint", &b"vsock-unix:c.vsock:5001\n"[..]);
        let want = "vsock-unix:c.vsock:5001".to_owned();
        assert_eq!(found(&[endpoint]), Ok((want.clone(), vec![])));
        assert_eq!(found(&[endpoint, ("client.token", b"\x00t\n")]), Ok((want, b"\x00t".to_vec())));
        let far = ("client.endpoint", &b"vsock:3:5001"[..]);
        assert_eq!(found(&[far]), Ok(("vsock:3:5001".to_owned(), vec![])));
    }

    #[test]
    fn a_socket_is_preferred_and_other_files_of_its_name_are_ignored() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("client.endpoint"), "vsock:3:5001\n").unwrap();
        let socket = dir.path().join("client.sock");
        fs::write(&socket, "").unwrap();
        assert_eq!(found_in(dir.path()), Ok(("vsock:3:5001".to_owned(), vec![])));
        fs::remove_file(&socket).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(found_in(dir.path()), Ok(("client.sock".to_owned(), vec![])));
    }

    #[test]
    fn invalid_files_are_named_with_the_reason() {
        let good = ("client.endpoint", &b"vsock:3:5001\n"[..]);
        for (files, want) in [
            (vec![("client.endpoint", &b""[..])], "client.endpoint: empty socket path"),
            (vec![("client.endpoint", b"\xff")], "client.endpoint: not one line of text"),
            (vec![("client.endpoint", b"/a\n/b\n")], "client.endpoint: not one line of text"),
            (vec![("client.endpoint", b"vsock:3\n")], "client.endpoint: no port"),
            (vec![("client.endpoint", b"vsock:any:1")], "client.endpoint: any CID is only"),
            (
                vec![("client.endpoint", &[b'/'; 5000])],
                "client.endpoint: socket path of 4096 bytes",
            ),
            (vec![good, ("client.token", b"\n")], "client.token: no token in it"),
            (vec![good, ("client.token", &[1; 80])], "client.token: a token has at most 64 bytes"),
        ] {
            let error = found(&files).unwrap_err();
            assert!(error.starts_with(want), "{error}");
        }
    }
}
