//! The program: its command line, and how it gets into a broker.

use hashcluster_bridge::ledger::{NewLedger, ShardLedger};
use hashcluster_bridge::shard::{Base64Bytes, DatasetKey, JobKey, ShardFile, ShardKey};
use hashcluster_bridge::submit::{JobPlan, LedgerRecord};
use ipc_proto::Algorithm;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nkeys::KeyPair;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use test_kit::{
    DEADLINE, Running, SmallDisk, free_ports, output, program, text, until, write_secret,
};

/// A nats-server with JetStream, TLS, and one user by an NKey; killed when it is dropped.
pub(crate) struct SecureBroker {
    pub(crate) dir: TempDir,
    port: u16,
    pub(crate) user: KeyPair,
    process: Child,
}

impl SecureBroker {
    /// Starts one that knows a user by its key, with what `describe` says of it.
    pub(crate) fn start(describe: fn(&KeyPair) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (port, user) = (free_ports(1)[0], KeyPair::new_user());
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        openssl.args(["-nodes", "-days", "2", "-subj", "/CN=localhost"]);
        openssl.args(["-addext", "subjectAltName=DNS:localhost"]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        let made = output(openssl.arg("-keyout").arg(&key).arg("-out").arg(&cert));
        assert!(made.status.success(), "{}", text(&made.stderr));
        write_server_config(dir.path(), port, &[describe(&user)]);
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut server = Command::new("nats-server");
        let server = server.arg("-c").arg(dir.path().join("server.conf")).stdin(Stdio::null());
        let process = server.stderr(log).spawn().expect("nats-server is installed");
        until("the broker listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        Self { dir, port, user, process }
    }

    /// Has it know these users, and no others.
    pub(crate) fn reload(&self, users: &[String]) {
        write_server_config(self.dir.path(), self.port, users);
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        kill(pid, Signal::SIGHUP).unwrap();
    }

    /// The configuration of a host that proves itself by the seed in the file `nkey`.
    pub(crate) fn config(&self, nkey: &Path, more: &str) -> PathBuf {
        let data = self.dir.path().join("data");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join(".hashcluster-dataset"), "1\n").unwrap();
        let path = self.dir.path().join("bridge.toml");
        let text = format!(
            "host = \"h1\"\nbroker.servers = [\"tls://localhost:{}\"]\nbroker.nkey = \"{}\"\n{more}\n\
             serve.runtime_dir = \"{}\"\ndatasets.d = \"{}\"\n",
            self.port,
            nkey.display(),
            self.dir.path().display(),
            data.display(),
        );
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn ca(&self) -> String {
        format!("broker.ca = \"{}\"", self.dir.path().join("cert.pem").display())
    }
}

impl Drop for SecureBroker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn write_server_config(dir: &Path, port: u16, users: &[String]) {
    let config = format!(
        "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{0}/store\" }}\n\
         tls {{ cert_file: \"{0}/cert.pem\", key_file: \"{0}/key.pem\" }}\n\
         authorization {{ users: [ {1} ] }}\n",
        dir.display(),
        users.join(", "),
    );
    fs::write(dir.join("server.conf"), config).unwrap();
}

pub(crate) fn serve(config: &Path) -> Command {
    let mut command = Command::new(program("hashcluster-bridge"));
    command.arg("serve").arg("--config").arg(config).stdin(Stdio::null());
    command
}

#[test]
fn only_who_has_the_key_gets_in_and_only_to_the_right_server() {
    let broker = SecureBroker::start(|user| format!("{{ nkey: {} }}", user.public_key()));
    let seed = |name: &str, pair: &KeyPair| {
        let path = broker.dir.path().join(name);
        write_secret(&path, pair.seed().unwrap());
        path
    };
    let own = seed("own.nk", &broker.user);
    let config = broker.config(&own, &broker.ca());
    let mut serving = Running::start(&mut serve(&config), DEADLINE);
    serving.wait_for("serving d as h1");
    serving.signal(Signal::SIGTERM);
    let ended = serving.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("leaving: 0 shards answered"), "{}", ended.stderr);
    let refused = |config: &Path| {
        let ended = output(&mut serve(config));
        (ended.status.code(), text(&ended.stderr))
    };
    let public = |path: &Path| {
        let made = output(Command::new(program("hashcluster-bridge")).arg("key").arg(path));
        (made.status.code(), text(&made.stdout))
    };
    assert_eq!(public(&own), (Some(0), format!("{}\n", broker.user.public_key())));
    let other = broker.dir.path().join("other.nk");
    let (status, made) = public(&other);
    assert!(status == Some(0) && made.starts_with('U') && made.len() == 57, "{made}");
    assert_eq!(public(&other), (status, made), "the same again");
    assert_eq!(fs::metadata(&other).unwrap().mode() & 0o777, 0o600);
    let (status, said) = refused(&broker.config(&other, &broker.ca()));
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains("authorization violation"), "{said}");
    // Without its certificate the server could be anybody.
    let (status, said) = refused(&broker.config(&own, ""));
    assert_eq!(status, Some(3), "{said}");
    output(Command::new("chmod").arg("g+r").arg(&own));
    let (status, said) = refused(&broker.config(&own, &broker.ca()));
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("lets others read it"), "{said}");
    assert_eq!(public(&own), (Some(2), String::new()));
}

#[test]
fn faults_of_a_command_line_or_configuration_are_said_with_status_2() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("bridge.toml");
    let faults = |args: &[&str]| {
        let mut command = Command::new(program("hashcluster-bridge"));
        let ended = output(command.args(args).arg("--config").arg(&config));
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {}", text(&ended.stderr));
        text(&ended.stderr)
    };
    assert!(faults(&["serve"]).contains("bridge.toml: No such file"));
    fs::write(&config, "broker.servers = ['nats://127.0.0.1:1']\n").unwrap();
    assert!(faults(&["serve"]).contains("no dataset in the configuration"));
    let ledger = dir.path().join("ledger").display().to_string();
    let submit = ["submit", "--ledger", &ledger, "photos"];
    assert!(faults(&submit).contains("datasets.photos: not in the configuration"));
    let data = format!("datasets.photos = '{}'\n", dir.path().display());
    fs::write(&config, format!("broker.servers = ['nats://127.0.0.1:1']\n{data}")).unwrap();
    assert!(faults(&submit).contains(".hashcluster-dataset: No such file"));
    fs::write(dir.path().join(".hashcluster-dataset"), "1\n").unwrap();
    assert!(
        faults(&["submit", "--ledger", &ledger, "photos", "../x"]).contains("without . and ..")
    );
    assert!(faults(&["submit", "photos"]).contains("--ledger"));
    assert!(faults(&["serves"]).contains("serve"));
    // Nobody listens there.
    let ended = output(
        Command::new(program("hashcluster-bridge")).args(submit).arg("--config").arg(&config),
    );
    assert_eq!(ended.status.code(), Some(3), "{}", text(&ended.stderr));
    // The ledger is there now, and is that of this job alone.
    let said = faults(&["submit", "--ledger", &ledger, "photos", "a, b/", "c"]);
    let both = "the job of sha256 of dataset photos.1 (all), not of sha256 of dataset photos.1 (a\\x2c b, c)";
    assert!(said.contains(both), "{said}");
    let said = faults(&["submit", "--ledger", &ledger, "-a", "blake3", "photos"]);
    assert!(said.contains("(all), not of blake3 of dataset photos.1 (all)"), "{said}");
    fs::write(dir.path().join(".hashcluster-dataset"), "2\n").unwrap();
    assert!(faults(&submit).contains("not of sha256 of dataset photos.2 (all)"));
    for foreign in ["", "root:x:0:0::/root:/bin/sh\n"] {
        fs::write(&ledger, foreign).unwrap();
        assert!(faults(&submit).contains("line 1: damaged"));
        assert_eq!(fs::read_to_string(&ledger).unwrap(), foreign);
    }
}

#[test]
fn a_full_disk_is_said_and_what_the_ledger_acknowledged_before_stays() {
    let disk = SmallDisk::new(1);
    let path = disk.path().join("job");
    let plan = JobPlan {
        job: JobKey(7),
        dataset: DatasetKey::new("photos", "1").unwrap(),
        starts: vec![],
        algorithm: Algorithm::Sha256,
        shards: vec![],
    };
    let job = plan.job;
    let mut new = NewLedger::begin(&path, plan).unwrap();
    new.push(ShardFile { path: Base64Bytes(b"a".to_vec()), size: 3, mtime_ns: 4 }).unwrap();
    let mut opened = new.finish().unwrap();
    let record = |attempt| LedgerRecord::Attempt(ShardKey { job, shard: 0, attempt });
    let (mut acknowledged, mut attempts) = (0, 1..);
    let error = loop {
        let records: Vec<LedgerRecord> = attempts.by_ref().take(100).map(record).collect();
        match opened.ledger.append(&records) {
            Ok(()) => acknowledged += 100,
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.ends_with("job: No space left on device (os error 28)"), "{error}");
    drop(opened);
    let again = until("the lock is free", || ShardLedger::open(&path).ok());
    assert!(acknowledged > 0 && again.record.attempts[&0] >= acknowledged, "{acknowledged}");
}

#[test]
fn the_help_says_what_statuses_mean() {
    let help = output(Command::new(program("hashcluster-bridge")).arg("--help"));
    assert!(help.status.success());
    let help = text(&help.stdout);
    assert!(help.contains("submit") && help.contains("3 the broker cannot be reached"), "{help}");
}
