//! Which process listens at a port: proc_net_tcp(5) gives the socket's inode, the links in
//! `/proc/PID/fd` its process. Only our own processes let us look, root excepted.

use crate::is_harmful;
use std::fmt;
use std::fs;
use std::path::Path;

/// State of a listening socket in proc_net_tcp(5).
const LISTEN: &str = "0A";

/// A process that holds a port.
#[derive(Debug)]
pub struct Holder {
    name: String,
    pid: u32,
}

impl Holder {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// The process that listens at a TCP port of this host, as far as we may know.
#[must_use]
pub fn find(port: u16) -> Option<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter();
    let tables = tables.filter_map(|path| fs::read_to_string(path).ok());
    let sockets: Vec<String> = tables.flat_map(|table| sockets(&table, port)).collect();
    if sockets.is_empty() {
        return None;
    }
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        holds(&entry.path(), &sockets).then(|| {
            let name = fs::read(entry.path().join("comm")).unwrap_or_default();
            // A name has 15 bytes, and any of them.
            let name = String::from_utf8_lossy(name.trim_ascii_end());
            let name = name.chars().map(|c| if is_harmful(c) { '?' } else { c });
            Holder { name: name.collect(), pid }
        })
    })
}

fn holds(process: &Path, sockets: &[String]) -> bool {
    let Ok(links) = fs::read_dir(process.join("fd")) else { return false };
    links.flatten().any(|link| {
        let target = fs::read_link(link.path()).unwrap_or_default();
        sockets.iter().any(|socket| target.as_os_str() == socket.as_str())
    })
}

/// The listening sockets at `port`, as links in `/proc/PID/fd` name them.
fn sockets(table: &str, port: u16) -> Vec<String> {
    let socket = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let (_, at) = columns.nth(1)?.rsplit_once(':')?;
        let is_listening = columns.nth(1)? == LISTEN;
        let inode = columns.nth(5)?;
        let is_at = u16::from_str_radix(at, 16) == Ok(port);
        (is_listening && is_at).then(|| format!("socket:[{inode}]"))
    };
    table.lines().filter_map(socket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_are_found_by_their_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
                     uid  timeout inode\n\
            0: 0100007F:08AC 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        \
                     0 53291 1 0000000000000000 100 0 0 10 0\n\
            1: 0100007F:08AC 0100007F:A001 01 00000000:00000000 00:00000000 00000000     0        \
                     0 53292 1 0000000000000000 20 4 30 10 -1\n\
            2: 0100007F:08AD 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        \
                     0 53293 1 0000000000000000 100 0 0 10 0\n\
            3: cut\n";
        assert_eq!(sockets(table, 0x8ac), ["socket:[53291]"]);
        assert_eq!(sockets(table, 0x8ae), [""; 0]);
        let table = "0: 00000000000000000000000000000000:08AC 00000000000000000000000000000000:0000 \
                     0A 00000000:00000000 00:00000000 00000000 1000 0 7 1 0 100 0 0 10 0";
        assert_eq!(sockets(table, 0x8ac), ["socket:[7]"]);
    }
}
