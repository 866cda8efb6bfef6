//! Shares the limit of open files and the memory out, so that no peer can use up what another one needs.

use crate::core::Limits;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::sysinfo::sysinfo;
use std::io;

/// Descriptors for standard streams, the event loop, the sockets, and refusals.
const RESERVED: u64 = 16;

/// With fewer there is no room for a client, a worker and a file each.
const FILES_MIN: u64 = 40;

/// Most descriptors that have arrived, or are to be closed, while the core does not count them.
const IN_TRANSIT_MAX: u64 = 4096;

/// Most bytes per side of frames that are not whole and of replies that are not sent.
const FRAMES_LEN_MAX: u64 = 32 << 20;

/// Memory with which every limit is at its most, in bytes.
const MEMORY_MAX: u64 = 1 << 30;

/// All that a process of this size can hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    pub(super) limits: Limits,
    /// Descriptors that have arrived, or are to be closed.
    pub(super) in_transit_max: u64,
    /// Bytes per side of frames that are not whole and of replies that are not sent.
    pub(super) frames_len_max: u64,
}

impl Budget {
    /// Budget that the number of open files, raised as far as it goes, and the memory allow, beside
    /// `others` files.
    ///
    /// # Errors
    /// As getrlimit(2) and sysinfo(2), or if so few files may be open that nothing would work.
    pub(super) fn of_process(others: usize) -> io::Result<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let files = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            Err(_) => soft,
        };
        let files_min = FILES_MIN + others as u64;
        if files < files_min {
            let text = format!("{files} files, at least {files_min} are needed");
            return Err(io::Error::other(text));
        }
        let (address_space, _) = getrlimit(Resource::RLIMIT_AS)?;
        Ok(Self::share(files - others as u64, sysinfo()?.ram_total().min(address_space)))
    }

    fn share(files: u64, memory: u64) -> Self {
        let most = Limits::default();
        let in_transit_max = (files / 8).min(IN_TRANSIT_MAX);
        let usable = files.saturating_sub(RESERVED + in_transit_max);
        let quarter = u32::try_from(usable / 4).unwrap_or(u32::MAX);
        let clients_max = quarter.min(most.clients_max);
        let workers_max = quarter.min(most.workers_max);
        let items_max = usable - u64::from(clients_max) - u64::from(workers_max);
        let items_max = items_max.min(most.items_max);
        // Inline bytes are there twice while they are on their way to a worker.
        let of_memory = |most: u64| most.min(most / 16 * (memory.min(MEMORY_MAX) >> 20) / (1 << 6));
        let bytes_max = of_memory(most.bytes_max);
        let limits = Limits { clients_max, workers_max, items_max, bytes_max, ..most };
        Self { limits, in_transit_max, frames_len_max: of_memory(FRAMES_LEN_MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_a_share_and_the_sum_fits() {
        for files in [FILES_MIN, 64, 1024, 20_000, 1 << 20, u64::MAX] {
            let Budget { limits, in_transit_max, .. } = Budget::share(files, u64::MAX);
            let peers = u64::from(limits.clients_max) + u64::from(limits.workers_max);
            assert!(limits.clients_max >= 4 && limits.workers_max >= 4 && limits.items_max >= 8);
            let sum = peers + limits.items_max + in_transit_max;
            assert!(sum <= files - RESERVED, "{files} files");
        }
    }

    #[test]
    fn a_small_memory_has_room_for_all_that_may_be_held() {
        for mib in [192, 256, 512, 1024, 1 << 20] {
            let Budget { limits, frames_len_max, .. } = Budget::share(1 << 20, mib << 20);
            let held = 2 * limits.bytes_max + 2 * frames_len_max;
            assert!(held <= (mib << 20) / 2, "{held} of {mib} MiB");
            assert!(limits.bytes_max >= 16 << 20 && frames_len_max >= 4 << 20, "{mib} MiB");
        }
    }
}
