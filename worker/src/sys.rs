#![expect(unsafe_code, reason = "system calls that neither std nor nix has")]
//! System calls for scheduling that neither std nor nix has.

use std::io;
use std::mem;

/// Sets the nice value of this thread and of those that it starts.
pub(crate) fn set_nice(nice: i8) -> io::Result<()> {
    const PROCESS: u8 = 0;
    // SAFETY: no pointers; `PROCESS` is `PRIO_PROCESS`, whose type differs between C libraries.
    match unsafe { libc::setpriority(PROCESS.into(), 0, nice.into()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the scheduling policy of this thread and of those that it starts: sched(7).
pub(crate) fn set_scheduler(policy: libc::c_int, priority: u8) -> io::Result<()> {
    // SAFETY: `sched_param` is plain integers, for which all zeroes is a valid value.
    let mut param: libc::sched_param = unsafe { mem::zeroed() };
    param.sched_priority = priority.into();
    // SAFETY: `param` lives through the call, which only reads it. The call is made directly
    // because musl's function of that name always fails.
    match unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const param) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
