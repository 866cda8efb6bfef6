#![expect(unsafe_code, reason = "changes the user of one thread, which no library offers")]
//! Threads that act as another user: the kernel tells the controller who connects.

use std::panic::resume_unwind;
use std::thread;

/// The honest client's user, who is allowed to connect.
pub(crate) const HONEST: u32 = 60_001;
/// An attacker who is allowed to connect.
pub(crate) const ALLOWED: u32 = 60_002;
/// An attacker who is not.
pub(crate) const STRANGER: u32 = 60_003;

/// Makes the calling thread, and no other, one of `uid`, for good.
pub(crate) fn become_user(uid: u32) {
    for call in [libc::SYS_setresgid, libc::SYS_setresuid] {
        // SAFETY: the calls take three numbers and touch no memory.
        let result = unsafe { libc::syscall(call, uid, uid, uid) };
        assert_eq!(result, 0, "root may become anybody");
    }
}

/// Runs `act` in a thread of its own as `uid`, which has no more of the processors than others leave: a
/// case is about what the cluster does, not about who is scheduled.
pub(crate) fn as_user<T: Send>(uid: u32, act: impl FnOnce() -> T + Send) -> T {
    let acted = thread::scope(|scope| {
        let actor = scope.spawn(|| {
            // SAFETY: the call takes a number and touches no memory; of the calling thread only.
            unsafe { libc::nice(19) };
            become_user(uid);
            act()
        });
        actor.join()
    });
    acted.unwrap_or_else(|panic| resume_unwind(panic))
}
