//! The socket of a syslog collector, over which each line is a datagram.
//!
//! A collector that starts again makes its socket anew. Unix datagrams are therefore sent to a path, not
//! over a connection, and there is nothing to reconnect. The socket is opened before a sandbox is entered;
//! one that hides paths keeps the socket's directory as the working directory of the thread that sends
//! ([`Collector::enter_directory`]).

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where programs find the collector of their host.
const DEV_LOG: &str = "/dev/log";
/// It is journald's where the target of `/dev/log` is here; journald does not know RFC 5424, and has
/// standard error already.
const JOURNALD: &str = "/run/systemd/journal";

/// Place of a syslog collector, as an option names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SyslogTarget {
    /// `/dev/log`, if that is a socket and not journald's.
    #[default]
    Auto,
    /// None.
    Off,
    /// A Unix datagram socket.
    Unix(PathBuf),
    /// `HOST:PORT` over UDP.
    Udp(String),
}

impl fmt::Display for SyslogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str(DEV_LOG),
            Self::Off => f.write_str("off"),
            Self::Unix(path) => path.display().fmt(f),
            Self::Udp(address) => write!(f, "udp:{address}"),
        }
    }
}

impl FromStr for SyslogTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix("unix:").unwrap_or(text);
        if text == "off" {
            return Ok(Self::Off);
        }
        if let Some(address) = text.strip_prefix("udp:") {
            let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            return match port {
                Some(Ok(1..)) => Ok(Self::Udp(address.to_owned())),
                _ => Err("udp: is followed by HOST:PORT, such as udp:127.0.0.1:514".to_owned()),
            };
        }
        if path.contains('/') {
            return Ok(Self::Unix(path.into()));
        }
        Err("neither the path of a socket, such as /dev/log, nor udp:HOST:PORT, nor off".to_owned())
    }
}

/// An open way to a collector.
#[derive(Debug)]
pub(crate) enum Collector {
    Unix {
        socket: UnixDatagram,
        path: PathBuf,
        /// The socket's directory, until it is entered.
        dir: Option<File>,
    },
    Udp(UdpSocket),
}

impl Collector {
    /// Opens the way to `target`, where a collector need not be yet; `None` if there is to be none.
    pub(crate) fn open(target: &SyslogTarget) -> io::Result<Option<Self>> {
        match target {
            SyslogTarget::Off => Ok(None),
            SyslogTarget::Auto => {
                let dev_log = Path::new(DEV_LOG);
                let is_socket =
                    fs::metadata(dev_log).is_ok_and(|found| found.file_type().is_socket());
                let is_journald =
                    fs::canonicalize(dev_log).is_ok_and(|path| path.starts_with(JOURNALD));
                if is_socket && !is_journald { Self::unix(dev_log).map(Some) } else { Ok(None) }
            }
            SyslogTarget::Unix(path) => Self::unix(path).map(Some),
            SyslogTarget::Udp(address) => {
                let address = address
                    .to_socket_addrs()?
                    .next()
                    .ok_or_else(|| io::Error::other("the name has no address"))?;
                Self::udp(address).map(Some)
            }
        }
    }

    fn unix(path: &Path) -> io::Result<Self> {
        // A link to a socket that is not there yet is not followed: its directory may not exist.
        let path = fs::canonicalize(path).or_else(|_| std::path::absolute(path))?;
        let (Some(parent), Some(_)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let dir = Some(File::open(parent)?);
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self::Unix { socket, path, dir })
    }

    fn udp(address: SocketAddr) -> io::Result<Self> {
        let any = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self::Udp(socket))
    }

    /// The socket's directory, which whoever sends can make its working directory; at most once.
    pub(crate) fn enter_directory(&mut self) -> Option<File> {
        let Self::Unix { path, dir, .. } = self else { return None };
        let name = path.file_name().expect("a socket has a name").into();
        let dir = dir.take()?;
        *path = name;
        Some(dir)
    }

    /// Sends a line.
    ///
    /// # Errors
    /// The line did not arrive; it may if it is sent again.
    pub(crate) fn send(&self, line: &str) -> io::Result<()> {
        match self {
            Self::Unix { socket, path, .. } => socket.send_to(line.as_bytes(), path).map(drop),
            Self::Udp(socket) => {
                socket.send(line.as_bytes())?;
                // A refusal by this host, or an earlier one by another, is there at once.
                socket.take_error()?.map_or(Ok(()), Err)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_path_an_address_or_off() {
        let unix = |path: &str| Ok(SyslogTarget::Unix(path.into()));
        for (text, want) in [
            ("off", Ok(SyslogTarget::Off)),
            ("/dev/log", unix("/dev/log")),
            ("unix:./a", unix("./a")),
            ("udp:127.0.0.1:514", Ok(SyslogTarget::Udp("127.0.0.1:514".into()))),
            ("udp:[::1]:514", Ok(SyslogTarget::Udp("[::1]:514".into()))),
        ] {
            assert_eq!(text.parse(), want, "{text}");
        }
        for text in ["", "on", "udp:", "udp:localhost", "udp:localhost:0", "udp:a:65536", "unix:"] {
            assert!(text.parse::<SyslogTarget>().is_err(), "{text}");
        }
    }
}
