//! Where a controller listens and how it is reached: endpoints, and the runtime directory.
//!
//! Clients and workers have a socket each because trust differs. The environment comes in as
//! arguments: this module reads nothing and opens nothing.
//!
//! Invariant: an endpoint of UTF-8 reads back from what it is displayed as.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Name of the clients' socket in the runtime directory.
pub const CLIENT_SOCKET: &str = "client.sock";

/// Name of the workers' socket in the runtime directory.
pub const WORKER_SOCKET: &str = "worker.sock";

/// Name of the file in the runtime directory that holds the clients' endpoint, one line, for when
/// there is no [`CLIENT_SOCKET`]; a relative path in it starts in that directory.
pub const CLIENT_ENDPOINT_FILE: &str = "client.endpoint";

/// Name of the file in the runtime directory that holds the clients' token, if they need one.
pub const CLIENT_TOKEN_FILE: &str = "client.token";

/// The system-wide runtime directory.
pub const SYSTEM_RUNTIME_DIR: &str = "/run/hashcluster";

/// Longest path of a socket in bytes: `sun_path` of unix(7) without its final zero.
pub const SOCKET_PATH_LEN_MAX: usize = 107;

/// Highest port of vsock(7); the one above means any.
pub const PORT_MAX: u32 = u32::MAX - 1;

/// Highest context id of vsock(7), the number of a VM; the one above means any.
pub const CID_MAX: u32 = u32::MAX - 1;

/// A text that is not an endpoint, or not one for this use.
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
    /// Unknown scheme, or neither a scheme nor a path.
    UnknownScheme,
    /// No colon before the port.
    NoPort,
    /// A port that is not a number from 1 to [`PORT_MAX`].
    BadPort(String),
    /// A CID that is neither a number up to [`CID_MAX`] nor `any`.
    BadCid(String),
    /// `vsock:any`, which is only for listening.
    OnlyListened,
    /// `vsock-unix`, which is only for connecting: the VMM listens on its socket.
    OnlyDialled,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty socket path"),
            Self::Abstract => f.write_str("abstract sockets are not taken: they have no owner"),
            Self::TooLong { len } => {
                write!(f, "socket path of {len} bytes, at most {SOCKET_PATH_LEN_MAX} are possible")
            }
            Self::UnknownScheme => f.write_str(
                "unknown kind of endpoint; give unix:PATH, vsock:CID:PORT or vsock-unix:PATH:PORT",
            ),
            Self::NoPort => f.write_str("no port; it stands last, behind a colon"),
            Self::BadPort(text) => write!(f, "port {text:?} is not a number from 1 to {PORT_MAX}"),
            Self::BadCid(text) => write!(f, "CID {text:?} is not a number up to {CID_MAX}"),
            Self::OnlyListened => {
                f.write_str("any CID is only for listening; name the one to connect to")
            }
            Self::OnlyDialled => {
                f.write_str("vsock-unix is only for connecting; listen on vsock:any:PORT")
            }
        }
    }
}

impl std::error::Error for EndpointError {}

/// Where a controller listens, or how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket: `unix:PATH`, or a path with a `/` in it.
    Unix(PathBuf),
    /// An `AF_VSOCK` socket: `vsock:CID:PORT`.
    Vsock {
        /// CID of the peer; `None` listens for any peer.
        cid: Option<u32>,
        /// The port.
        port: u32,
    },
    /// A VM's port behind the Unix socket of its vsock device on the host: `vsock-unix:PATH:PORT`.
    VsockUnix {
        /// The device's socket.
        path: PathBuf,
        /// The port in the VM.
        port: u32,
    },
}

impl Endpoint {
    /// An endpoint to connect to.
    pub fn to_dial(text: &str) -> Result<Self, EndpointError> {
        match text.parse()? {
            Self::Vsock { cid: None, .. } => Err(EndpointError::OnlyListened),
            endpoint @ (Self::Unix(_) | Self::Vsock { .. } | Self::VsockUnix { .. }) => {
                Ok(endpoint)
            }
        }
    }

    /// An endpoint to listen on.
    pub fn to_listen(text: &str) -> Result<Self, EndpointError> {
        match text.parse()? {
            Self::VsockUnix { .. } => Err(EndpointError::OnlyDialled),
            endpoint @ (Self::Unix(_) | Self::Vsock { .. }) => Ok(endpoint),
        }
    }

    /// The Unix socket at `path`.
    pub fn unix(path: impl Into<PathBuf>) -> Result<Self, EndpointError> {
        let path = path.into();
        check(&path)?;
        Ok(Self::Unix(path))
    }

    /// The same, a relative path taken as one in `dir`.
    pub fn in_dir(self, dir: &Path) -> Result<Self, EndpointError> {
        match self {
            Self::Unix(path) => Self::unix(dir.join(path)),
            Self::VsockUnix { path, port } => {
                let path = dir.join(path);
                check(&path)?;
                Ok(Self::VsockUnix { path, port })
            }
            Self::Vsock { .. } => Ok(self),
        }
    }

    /// Returns true if open files can be passed over it.
    #[must_use]
    pub fn carries_descriptors(&self) -> bool {
        matches!(self, Self::Unix(_))
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix("unix:") {
            Self::unix(path)
        } else if let Some(rest) = text.strip_prefix("vsock-unix:") {
            let (path, port) = split_port(rest)?;
            check(Path::new(path))?;
            Ok(Self::VsockUnix { path: PathBuf::from(path), port })
        } else if let Some(rest) = text.strip_prefix("vsock:") {
            let (cid, port) = split_port(rest)?;
            Ok(Self::Vsock { cid: parse_cid(cid)?, port })
        } else if text.contains('/') || text.is_empty() || text.starts_with(['@', '\0']) {
            Self::unix(text)
        } else {
            Err(EndpointError::UnknownScheme)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) if path.is_absolute() => path.display().fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Vsock { cid: Some(cid), port } => write!(f, "vsock:{cid}:{port}"),
            Self::Vsock { cid: None, port } => write!(f, "vsock:any:{port}"),
            Self::VsockUnix { path, port } => write!(f, "vsock-unix:{}:{port}", path.display()),
        }
    }
}

fn split_port(text: &str) -> Result<(&str, u32), EndpointError> {
    let (before, port) = text.rsplit_once(':').ok_or(EndpointError::NoPort)?;
    match number(port) {
        Some(port @ 1..=PORT_MAX) => Ok((before, port)),
        _ => Err(EndpointError::BadPort(port.to_owned())),
    }
}

fn parse_cid(text: &str) -> Result<Option<u32>, EndpointError> {
    match number(text) {
        _ if text == "any" => Ok(None),
        Some(cid @ ..=CID_MAX) => Ok(Some(cid)),
        _ => Err(EndpointError::BadCid(text.to_owned())),
    }
}

/// Digits only: no sign, no blanks.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Checks that `path` can be the path of a socket.
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

    fn parse(text: &str) -> Result<Endpoint, EndpointError> {
        text.parse()
    }

    fn vsock_unix(path: &str, port: u32) -> Endpoint {
        Endpoint::VsockUnix { path: PathBuf::from(path), port }
    }

    #[test]
    fn parses_a_path_with_and_without_its_scheme() {
        for text in ["unix:/run/x/client.sock", "/run/x/client.sock"] {
            assert_eq!(parse(text), Ok(Endpoint::Unix("/run/x/client.sock".into())));
        }
        assert_eq!(parse("unix:here"), Ok(Endpoint::Unix("here".into())));
        assert_eq!(parse("./here"), Ok(Endpoint::Unix("./here".into())));
    }

    #[test]
    fn parses_the_port_after_the_last_colon() {
        assert_eq!(parse("vsock:2:5000"), Ok(Endpoint::Vsock { cid: Some(2), port: 5000 }));
        assert_eq!(parse("vsock:any:1"), Ok(Endpoint::Vsock { cid: None, port: 1 }));
        assert_eq!(parse("vsock-unix:c.vsock:5001"), Ok(vsock_unix("c.vsock", 5001)));
        assert_eq!(parse("vsock-unix:/a:1/b:2"), Ok(vsock_unix("/a:1/b", 2)));
    }

    #[test]
    fn a_displayed_endpoint_parses_to_the_same_endpoint() {
        for text in [
            "unix:/run/x",
            "unix:here",
            "./here",
            "unix:vsock:2:5000",
            "unix:unix:/x",
            "vsock:0:1",
            "vsock:4294967294:4294967294",
            "vsock:any:5000",
            "vsock-unix:c.vsock:5001",
            "vsock-unix:/a:1/b:2",
        ] {
            let endpoint = parse(text).unwrap();
            assert_eq!(parse(&endpoint.to_string()), Ok(endpoint), "{text}");
        }
    }

    #[test]
    fn rejects_invalid_endpoints() {
        let long = format!("unix:/{}", "x".repeat(107));
        let long_device = format!("vsock-unix:/{}:5000", "x".repeat(107));
        let port = |text: &str| EndpointError::BadPort(text.to_owned());
        let cid = |text: &str| EndpointError::BadCid(text.to_owned());
        for (text, want) in [
            ("", EndpointError::Empty),
            ("unix:", EndpointError::Empty),
            ("@hashcluster", EndpointError::Abstract),
            ("unix:@hashcluster", EndpointError::Abstract),
            ("vsock-unix:@hashcluster:5000", EndpointError::Abstract),
            (long.as_str(), EndpointError::TooLong { len: 108 }),
            (long_device.as_str(), EndpointError::TooLong { len: 108 }),
            ("tcp:1234", EndpointError::UnknownScheme),
            ("vsock", EndpointError::UnknownScheme),
            ("vsock:2", EndpointError::NoPort),
            ("vsock-unix:/x", EndpointError::NoPort),
            ("vsock-unix::5000", EndpointError::Empty),
            ("vsock:2:", port("")),
            ("vsock:2:0", port("0")),
            ("vsock:2:+5", port("+5")),
            ("vsock:2: 5", port(" 5")),
            ("vsock:2:4294967295", port("4294967295")),
            ("vsock-unix:/x:y", port("y")),
            ("vsock::5000", cid("")),
            ("vsock:-1:5000", cid("-1")),
            ("vsock:any:2:5000", cid("any:2")),
            ("vsock:4294967295:5000", cid("4294967295")),
        ] {
            assert_eq!(parse(text), Err(want), "{text}");
        }
    }

    #[test]
    fn any_is_only_for_listening_and_a_device_only_for_connecting() {
        assert_eq!(Endpoint::to_dial("vsock:any:1"), Err(EndpointError::OnlyListened));
        assert_eq!(Endpoint::to_listen("vsock-unix:/x:1"), Err(EndpointError::OnlyDialled));
        for text in ["/x", "vsock:1:1"] {
            assert_eq!(Endpoint::to_dial(text), Endpoint::to_listen(text));
        }
        assert!(Endpoint::to_listen("vsock:any:1").is_ok());
        assert!(Endpoint::to_dial("vsock-unix:/x:1").is_ok());
    }

    #[test]
    fn resolves_a_relative_path_in_the_directory() {
        let in_dir = |text| parse(text).unwrap().in_dir(Path::new("/run/x")).unwrap().to_string();
        assert_eq!(in_dir("unix:c.sock"), "/run/x/c.sock");
        assert_eq!(in_dir("vsock-unix:c.vsock:1"), "vsock-unix:/run/x/c.vsock:1");
        assert_eq!(in_dir("vsock-unix:/c.vsock:1"), "vsock-unix:/c.vsock:1");
        assert_eq!(in_dir("vsock:2:1"), "vsock:2:1");
        let deep = format!("/{}", "d".repeat(100));
        let too_long = parse("vsock-unix:c.vsock:1").unwrap().in_dir(Path::new(&deep));
        assert_eq!(too_long, Err(EndpointError::TooLong { len: 109 }));
    }

    #[test]
    fn the_runtime_directory_is_the_given_one_then_the_systems_then_the_users() {
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
