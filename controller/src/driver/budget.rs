//! Shares the limit of open files out, so that no peer can use up what another one needs.

use crate::core::Limits;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;

/// Descriptors for standard streams, the event loop, the sockets, and refusals.
const RESERVED: u64 = 16;

/// With fewer there is no room for a client, a worker and a file each.
const FILES_MIN: u64 = 40;

/// Most descriptors that are closed while others already arrive.
const CLOSING_MAX: u64 = 1024;

/// The limits that the number of open files allows, after raising it as far as it goes, and the number
/// of descriptors that may wait to be closed.
///
/// # Errors
/// As getrlimit(2), or if so few files may be open that nothing would work.
pub fn limits() -> io::Result<(Limits, usize)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let files = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    if files < FILES_MIN {
        return Err(io::Error::other(format!("{files} files, at least {FILES_MIN} are needed")));
    }
    Ok((share(files), usize::try_from(closing_max(files)).unwrap_or(usize::MAX)))
}

fn closing_max(files: u64) -> u64 {
    (files / 16).min(CLOSING_MAX)
}

fn share(files: u64) -> Limits {
    let most = Limits::default();
    let usable = files.saturating_sub(RESERVED + closing_max(files));
    let quarter = u32::try_from(usable / 4).unwrap_or(u32::MAX);
    let clients_max = quarter.min(most.clients_max);
    let workers_max = quarter.min(most.workers_max);
    let items_max = usable - u64::from(clients_max) - u64::from(workers_max);
    Limits { clients_max, workers_max, items_max: items_max.min(most.items_max), ..most }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_a_share_and_the_sum_fits() {
        for files in [FILES_MIN, 64, 1024, 20_000, 1 << 20, u64::MAX] {
            let limits = share(files);
            let peers = u64::from(limits.clients_max) + u64::from(limits.workers_max);
            assert!(limits.clients_max >= 4 && limits.workers_max >= 4 && limits.items_max >= 8);
            let sum = peers + limits.items_max + closing_max(files);
            assert!(sum <= files - RESERVED, "{files} files");
        }
    }
}
