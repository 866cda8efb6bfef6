//! Where a controller listens: the runtime directory and the two sockets in it.
//!
//! Clients and workers have a socket each because trust differs. The environment comes in as
//! arguments: this module reads nothing and opens nothing.

use std::fmt;
use std::path::{Path, PathBuf};

/// Name of the clients' socket in the runtime directory.
pub const CLIENT_SOCKET: &str = "client.sock";

/// Name of the workers' socket in the runtime directory.
pub const WORKER_SOCKET: &str = "worker.sock";

/// The system-wide runtime directory.
pub const SYSTEM_RUNTIME_DIR: &str = "/run/hashcluster";

/// Longest path of a socket in bytes: `sun_path` of unix(7) without its final zero.
pub const SOCKET_PATH_LEN_MAX: usize = 107;

/// Why a text names no socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointError {
    /// Nothing but a prefix.
    Empty,
    /// A name in the abstract namespace, which has no owner and no permissions.
    Abstract,
    /// Longer than [`SOCKET_PATH_LEN_MAX`].
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A prefix other than `unix:`.
    UnknownScheme,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty socket path"),
            Self::Abstract => f.write_str("abstract sockets are not taken: they have no owner"),
            Self::TooLong { len } => {
                write!(f, "socket path of {len} bytes, at most {SOCKET_PATH_LEN_MAX} are possible")
            }
            Self::UnknownScheme => f.write_str("unknown kind of endpoint; give unix:PATH"),
        }
    }
}

impl std::error::Error for EndpointError {}

/// The path of a Unix socket, written `unix:PATH` or as a path with a `/` in it.
///
/// # Errors
/// See [`EndpointError`].
pub fn parse(text: &str) -> Result<PathBuf, EndpointError> {
    let path = match text.strip_prefix("unix:") {
        Some(path) => path,
        None if text.starts_with('@') || text.starts_with('\0') => text,
        None if text.contains('/') => text,
        None if text.is_empty() => text,
        None => return Err(EndpointError::UnknownScheme),
    };
    check(Path::new(path))?;
    Ok(PathBuf::from(path))
}

/// Whether `path` can be the path of a socket.
///
/// # Errors
/// See [`EndpointError`].
pub fn check(path: &Path) -> Result<(), EndpointError> {
    match path.as_os_str().as_encoded_bytes() {
        [] => Err(EndpointError::Empty),
        [b'@' | 0, ..] => Err(EndpointError::Abstract),
        bytes if bytes.len() > SOCKET_PATH_LEN_MAX => {
            Err(EndpointError::TooLong { len: bytes.len() })
        }
        _ => Ok(()),
    }
}

/// The runtime directory: what was asked for, else [`SYSTEM_RUNTIME_DIR`] where it `exists`, else
/// `hashcluster` in `$XDG_RUNTIME_DIR`, else the system's.
#[must_use]
pub fn runtime_dir(
    asked: Option<PathBuf>,
    system_dir_exists: bool,
    xdg_runtime_dir: Option<PathBuf>,
) -> PathBuf {
    match (asked, xdg_runtime_dir) {
        (Some(dir), _) => dir,
        (None, Some(xdg)) if !system_dir_exists && xdg.is_absolute() => xdg.join("hashcluster"),
        (None, _) => PathBuf::from(SYSTEM_RUNTIME_DIR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_with_and_without_its_scheme() {
        for text in ["unix:/run/x/client.sock", "/run/x/client.sock"] {
            assert_eq!(parse(text), Ok(PathBuf::from("/run/x/client.sock")));
        }
        assert_eq!(parse("unix:here"), Ok(PathBuf::from("here")));
    }

    #[test]
    fn what_is_no_socket_path_is_refused() {
        let long = format!("unix:/{}", "x".repeat(107));
        for (text, want) in [
            ("", EndpointError::Empty),
            ("unix:", EndpointError::Empty),
            ("@hashcluster", EndpointError::Abstract),
            ("unix:@hashcluster", EndpointError::Abstract),
            (long.as_str(), EndpointError::TooLong { len: 108 }),
            ("tcp:1234", EndpointError::UnknownScheme),
        ] {
            assert_eq!(parse(text), Err(want), "{text}");
        }
    }

    #[test]
    fn the_runtime_directory_is_the_asked_one_then_the_systems_then_the_users() {
        let dir = |asked: Option<&str>, exists, xdg: Option<&str>| {
            runtime_dir(asked.map(PathBuf::from), exists, xdg.map(PathBuf::from))
        };
        let user = Some("/run/user/7");
        assert_eq!(dir(Some("/a"), true, user), Path::new("/a"));
        assert_eq!(dir(None, true, user), Path::new("/run/hashcluster"));
        assert_eq!(dir(None, false, user), Path::new("/run/user/7/hashcluster"));
        assert_eq!(dir(None, false, None), Path::new("/run/hashcluster"));
        assert_eq!(dir(None, false, Some("relative")), Path::new("/run/hashcluster"));
    }
}
