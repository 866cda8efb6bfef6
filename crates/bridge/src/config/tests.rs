use super::*;
use std::fs;

fn config(text: &str) -> Result<BridgeConfig, String> {
    let form = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    BridgeConfig::check(form, "host-1").map_err(|error| error.to_string())
}

const LOCAL: &str = "broker.servers = ['nats://127.0.0.1:4222']\n";

#[test]
fn a_local_broker_is_all_that_is_needed() {
    let config = config(LOCAL).unwrap();
    assert_eq!(
        (config.broker.host.as_str(), config.broker.deployment.as_str()),
        ("host-1", "main")
    );
    assert_eq!((config.shards, config.broker.replicas), (4, 1));
    assert_eq!(config.broker.credentials, Credentials::Nothing);
}

#[test]
fn a_broker_elsewhere_is_used_with_tls_and_credentials_only() {
    let error = |text: &str| config(text).unwrap_err();
    for server in ["nats://nats1:4222", "nats1:4222", "ws://localhost:80", "nats://10.0.0.1:4222"] {
        let text = format!("broker.servers = ['{server}']");
        assert_eq!(
            error(&text),
            format!(
                "broker.servers: {server}: tls://HOST:PORT, or nats:// with a loopback address"
            ),
        );
    }
    let tls = "broker.servers = ['nats://[::1]:4222', 'tls://nats1:4222']\n";
    let anonymous =
        "broker.credentials: wanted, or broker.nkey: only a broker on this host is used without";
    assert_eq!(error(tls), anonymous);
    let with = config(&format!("{tls}broker.credentials = 'h1.creds'")).unwrap();
    assert_eq!(with.broker.credentials, Credentials::File("h1.creds".into()));
    let with = config(&format!("{tls}broker.nkey = 'h1.nk'")).unwrap();
    assert_eq!(with.broker.credentials, Credentials::Nkey("h1.nk".into()));
    assert_eq!(
        error(&format!("{tls}broker.nkey = 'h1.nk'\nbroker.credentials = 'h1.creds'")),
        "broker.nkey: not together with broker.credentials",
    );
}

#[test]
fn values_that_are_not_allowed_are_named_with_what_is() {
    for (text, want) in [
        ("host = 'a..b'", "host: \"a..b\": 1 to 64 letters, digits, _ and -, dots between them"),
        ("deployment = ''", "deployment: \"\": 1 to 64 letters, digits, _ and -"),
        ("submit.audit = 1.5", "submit.audit: 0 to 1"),
        ("submit.audit = nan", "submit.audit: 0 to 1"),
        ("serve.stop_s = 86401", "serve.stop_s: 0 to 86400"),
        ("serve.shards = 0", "serve.shards: 1 to 64"),
        ("serve.shards = 65", "serve.shards: 1 to 64"),
        ("submit.outstanding = 4097", "submit.outstanding: 1 to 4096"),
        ("submit.republish_after_s = 0", "submit.republish_after_s: at least 1"),
        ("broker.replicas = 2", "broker.replicas: 1, 3 or 5"),
        ("datasets.Photos = '/p'", "datasets.Photos: a name has 1 to 32 of a-z, 0-9, _ and -"),
    ] {
        assert_eq!(config(&format!("{text}\n{LOCAL}")).unwrap_err(), want);
    }
    assert!(
        config(&format!("{LOCAL}serve.shard = 1")).unwrap_err().contains("unknown field `shard`")
    );
    assert_eq!(config("host = 'h'").unwrap_err(), "missing field `broker`");
}

#[test]
fn a_dataset_is_identified_by_its_marker_file() {
    let dir = tempfile::tempdir().unwrap();
    let error = identify("photos", dir.path()).unwrap_err().to_string();
    assert!(error.contains("No such file") && error.contains("random/uuid > "), "{error}");
    let marker = dir.path().join(MARKER);
    for wrong in ["", "a b\n", "a\nb\n", "a\n\n", &"x".repeat(65)] {
        fs::write(&marker, wrong).unwrap();
        let error = identify("photos", dir.path()).unwrap_err();
        assert!(matches!(error, BridgeConfigError::Identity(..)), "{wrong:?}: {error}");
    }
    fs::write(&marker, "5f0c-1\n").unwrap();
    assert_eq!(
        identify("photos", dir.path()).unwrap(),
        DatasetKey::new("photos", "5f0c-1").unwrap()
    );
}

#[test]
fn a_file_that_others_can_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bridge.toml");
    fs::write(&path, LOCAL).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let error = BridgeConfig::read(&path).unwrap_err().to_string();
    assert!(error.contains("lets others write to it"), "{error}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    BridgeConfig::read(&path).unwrap();
}
