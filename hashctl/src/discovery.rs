//! Where the controller is, as the runtime directory tells: a socket, else a file that names the
//! endpoint of a controller in a VM, with its token beside it.

use crate::config::ConfigError;
use crate::say::io_text;
use ipc_proto::Blob;
use ipc_proto::endpoint::{
    CLIENT_ENDPOINT_FILE, CLIENT_SOCKET, CLIENT_TOKEN_FILE, Endpoint, EndpointError,
};
use ipc_proto::token::{self, FILE_LEN_MAX, TokenError};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// So many bytes of the endpoint's file are read; a longer one has none.
const ENDPOINT_LEN_MAX: u64 = 4096;

/// A way to the controller.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) endpoint: Endpoint,
    /// Empty if there is none.
    pub(crate) token: Blob,
}

/// Why a file does not say what it is for.
#[derive(Debug)]
pub(crate) struct FileError {
    path: PathBuf,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Io(io::Error),
    NotOneLine,
    Endpoint(EndpointError),
    Token(TokenError),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.reason {
            Reason::Io(error) => f.write_str(&io_text(error)),
            Reason::NotOneLine => f.write_str("not one line of text"),
            Reason::Endpoint(error) => error.fmt(f),
            Reason::Token(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FileError {}

/// The way to the controller whose runtime directory is `dir`: its socket, also where there is
/// nothing.
pub(crate) fn find(dir: &Path) -> Result<Place, ConfigError> {
    let socket = dir.join(CLIENT_SOCKET);
    let file = dir.join(CLIENT_ENDPOINT_FILE);
    let is_socket = fs::metadata(&socket).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket || fs::symlink_metadata(&file).is_err() {
        let endpoint = Endpoint::unix(socket).map_err(ConfigError::Endpoint)?;
        return Ok(Place { endpoint, token: Blob::default() });
    }
    let endpoint = read_endpoint(&file, dir).map_err(ConfigError::Discovery)?;
    let token = match read_token(&dir.join(CLIENT_TOKEN_FILE)) {
        Err(FileError { reason: Reason::Io(error), .. })
            if error.kind() == io::ErrorKind::NotFound =>
        {
            Blob::default()
        }
        read => read.map_err(ConfigError::Discovery)?,
    };
    Ok(Place { endpoint, token })
}

fn read_endpoint(path: &Path, dir: &Path) -> Result<Endpoint, FileError> {
    let failed = |reason| FileError { path: path.to_owned(), reason };
    let content = read(path, ENDPOINT_LEN_MAX).map_err(|error| failed(Reason::Io(error)))?;
    let text = String::from_utf8(content).map_err(|_| failed(Reason::NotOneLine))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    if line.contains(char::is_control) {
        return Err(failed(Reason::NotOneLine));
    }
    let endpoint = Endpoint::to_dial(line).and_then(|endpoint| endpoint.in_dir(dir));
    endpoint.map_err(|error| failed(Reason::Endpoint(error)))
}

/// The token in the file at `path`.
pub(crate) fn read_token(path: &Path) -> Result<Blob, FileError> {
    let failed = |reason| FileError { path: path.to_owned(), reason };
    let content = read(path, FILE_LEN_MAX as u64).map_err(|error| failed(Reason::Io(error)))?;
    token::parse(&content).map_err(|error| failed(Reason::Token(error)))
}

fn read(path: &Path, len_max: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(len_max).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// What is found in a directory with these files.
    fn found(files: &[(&str, &[u8])]) -> Result<(String, Vec<u8>), String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        find_in(dir.path())
    }

    fn find_in(dir: &Path) -> Result<(String, Vec<u8>), String> {
        let short = |text: String| text.replace(&format!("{}/", dir.display()), "");
        match find(dir) {
            Ok(place) => Ok((short(place.endpoint.to_string()), place.token.0)),
            Err(error) => Err(short(error.to_string())),
        }
    }

    #[test]
    fn an_empty_directory_is_where_a_socket_would_be() {
        assert_eq!(found(&[]), Ok(("client.sock".to_owned(), vec![])));
    }

    #[test]
    fn an_endpoint_is_in_its_directory_and_its_token_beside_it() {
        let endpoint = ("client.endpoint", &b"vsock-unix:c.vsock:5001\n"[..]);
        let want = "vsock-unix:c.vsock:5001".to_owned();
        assert_eq!(found(&[endpoint]), Ok((want.clone(), vec![])));
        assert_eq!(found(&[endpoint, ("client.token", b"\x00t\n")]), Ok((want, b"\x00t".to_vec())));
        let far = ("client.endpoint", &b"vsock:3:5001"[..]);
        assert_eq!(found(&[far]), Ok(("vsock:3:5001".to_owned(), vec![])));
    }

    #[test]
    fn a_socket_comes_first_and_what_is_none_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("client.endpoint"), "vsock:3:5001\n").unwrap();
        let socket = dir.path().join("client.sock");
        fs::write(&socket, "").unwrap();
        assert_eq!(find_in(dir.path()), Ok(("vsock:3:5001".to_owned(), vec![])));
        fs::remove_file(&socket).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(find_in(dir.path()), Ok(("client.sock".to_owned(), vec![])));
    }

    #[test]
    fn files_that_say_something_else_are_named() {
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
