//! Runtime directories in which a client looks for a controller when it is given none: the
//! system's, the user's own, and the substitute for that without `$XDG_RUNTIME_DIR`. `./run.sh`
//! puts clusters into the same ones.

use ipc_proto::endpoint::{self, CLIENT_ENDPOINT_FILE, CLIENT_SOCKET, SYSTEM_RUNTIME_DIR};
use nix::unistd::geteuid;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The own runtime directory of user `uid`: `hashcluster` in `$XDG_RUNTIME_DIR`, else one below
/// `/tmp`.
#[must_use]
pub fn user_runtime_dir(xdg: Option<PathBuf>, uid: u32) -> PathBuf {
    match xdg.filter(|xdg| xdg.is_absolute()) {
        Some(xdg) => xdg.join("hashcluster"),
        None => PathBuf::from(format!("/tmp/hashcluster-{uid}")),
    }
}

/// The runtime directory of the controller that a client means: what was `asked` for, else the
/// first candidate in which there is one, else where one would be.
#[must_use]
pub fn client_runtime_dir(asked: Option<PathBuf>, xdg: Option<PathBuf>) -> PathBuf {
    let system = Path::new(SYSTEM_RUNTIME_DIR);
    if asked.is_none() {
        let own = user_runtime_dir(xdg.clone(), geteuid().as_raw());
        let candidates = [system.to_owned(), own];
        if let Some(found) = candidates.into_iter().find(|dir| has_controller(dir)) {
            return found;
        }
    }
    endpoint::runtime_dir(asked, system.is_dir(), xdg)
}

/// True if there is one that can be trusted: anybody can make a directory below `/tmp`.
fn has_controller(dir: &Path) -> bool {
    let is_trusted = fs::symlink_metadata(dir).is_ok_and(|metadata| {
        let is_system = dir == Path::new(SYSTEM_RUNTIME_DIR);
        metadata.is_dir() && (is_system || metadata.uid() == geteuid().as_raw())
    });
    let exists = |name| fs::symlink_metadata(dir.join(name)).is_ok();
    is_trusted && (exists(CLIENT_SOCKET) || exists(CLIENT_ENDPOINT_FILE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn uses_a_directory_that_we_own_and_that_leads_to_a_controller() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("hashcluster");
        assert!(!has_controller(&own));
        fs::create_dir(&own).unwrap();
        assert!(!has_controller(&own), "empty");
        fs::write(own.join(CLIENT_ENDPOINT_FILE), "").unwrap();
        assert!(has_controller(&own));
        assert_eq!(user_runtime_dir(Some(dir.path().to_owned()), 7), own);
        assert_eq!(user_runtime_dir(None, 7), Path::new("/tmp/hashcluster-7"));
        symlink(&own, dir.path().join("link")).unwrap();
        assert!(!has_controller(&dir.path().join("link")), "somebody may have put it there");
    }

    #[test]
    fn uses_a_given_directory_whatever_it_contains() {
        let asked = PathBuf::from("/no/such/place");
        assert_eq!(client_runtime_dir(Some(asked.clone()), None), asked);
    }
}
