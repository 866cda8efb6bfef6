use super::*;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

fn written(dir: &Path, text: &str, mode: u32) -> PathBuf {
    let path = dir.join("secret");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

fn creds(jwt: &str, seed: &str) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n*** IMPORTANT ***\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

#[test]
fn an_nkey_signs_the_nonce() {
    let dir = tempfile::tempdir().unwrap();
    let pair = KeyPair::new_user();
    let path = written(dir.path(), &format!("{}\n", pair.seed().unwrap()), 0o600);
    let auth = read_auth(&Credentials::Nkey(path), b"nonce").unwrap();
    assert_eq!((auth.nkey, auth.jwt), (Some(pair.public_key()), None));
    pair.verify(b"nonce", &auth.signature.unwrap()).unwrap();
}

#[test]
fn credentials_have_a_jwt_and_sign_with_their_seed() {
    let dir = tempfile::tempdir().unwrap();
    let pair = KeyPair::new_user();
    let path = written(dir.path(), &creds("a.b.c", &pair.seed().unwrap()), 0o600);
    let auth = read_auth(&Credentials::File(path), b"nonce").unwrap();
    assert_eq!((auth.nkey, auth.jwt.as_deref()), (None, Some("a.b.c")));
    pair.verify(b"nonce", &auth.signature.unwrap()).unwrap();
}

#[test]
fn credentials_that_others_can_read_or_that_hold_none_are_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let seed = KeyPair::new_user().seed().unwrap();
    let error = |credentials: Credentials| {
        read_auth(&credentials, b"").map(|_| ()).unwrap_err().to_string()
    };
    let open = written(dir.path(), &seed, 0o640);
    assert!(error(Credentials::Nkey(open)).contains("lets others read it"));
    let none = written(dir.path(), "SUAX", 0o600);
    assert!(error(Credentials::Nkey(none.clone())).ends_with("no NKey seed in it"));
    assert!(error(Credentials::File(none)).ends_with("no user JWT in it"));
    let half = written(dir.path(), &creds("a.b.c", "").replace("USER NKEY", "NO"), 0o600);
    assert!(error(Credentials::File(half)).ends_with("no user NKey seed in it"));
    assert!(error(Credentials::Nkey(dir.path().join("gone"))).contains("No such file"));
}
