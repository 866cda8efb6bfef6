//! Access control: the controller's own user and root always, others by uid or gid.

use crate::core::{Principal, Quota};
use ipc_socket::Peer;

/// The users and groups that may connect besides the controller's own user and root.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The controller's own user.
    pub own_uid: u32,
    /// More users.
    pub uids: Vec<u32>,
    /// More groups, compared with the peer's effective group.
    pub gids: Vec<u32>,
}

impl Access {
    /// True if only the controller's own user and root may connect.
    #[must_use]
    pub fn is_own_only(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// True if `peer`, of this host, is an administrator.
    #[must_use]
    pub fn administers(&self, peer: Peer) -> bool {
        peer.uid == 0 || peer.uid == self.own_uid
    }

    /// The bounds on what `principal` may hold.
    #[must_use]
    pub fn quota(&self, _principal: Principal) -> Quota {
        Quota::MAX
    }

    /// True if `peer` may connect.
    #[must_use]
    pub fn allows(&self, peer: Peer) -> bool {
        self.administers(peer) || self.uids.contains(&peer.uid) || self.gids.contains(&peer.gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_get_in() {
        let access = Access { own_uid: 1000, uids: vec![7], gids: vec![50] };
        let allows = |uid, gid| access.allows(Peer { uid, gid, pid: 1 });
        assert!(allows(0, 0) && allows(1000, 9) && allows(7, 9) && allows(8, 50));
        assert!(!allows(8, 9) && !allows(50, 7) && !allows(u32::MAX, u32::MAX));
        assert!(!access.is_own_only());
        let administers = |uid, gid| access.administers(Peer { uid, gid, pid: 1 });
        assert!(administers(0, 9) && administers(1000, 9));
        assert!(!administers(7, 0) && !administers(8, 50) && !administers(8, 1000));
    }
}
