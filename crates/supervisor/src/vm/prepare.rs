//! Everything that has to be on the host before the first VM starts: keys, settings, disks,
//! images of datasets, and what tells `hashctl` where the cluster is.
//!
//! Keys and the controller's disk are made once and kept; the rest is made anew. Nothing here runs
//! a process that outlives its step; what may take long ends with a signal.

use super::image::Image;
use super::layout::{
    CLIENT_PORT, DATASET_NAMES_FILE, IMAGES_DIR, KNOWN_HOSTS, Layout, SSH_CONFIG, WORKER_PORT,
    WORKER_TOKENS_FILE,
};
use super::plan::{ClusterContext, Guest, setting_keys};
use super::share::{Root, Share};
use super::sight::{DirIdentity, Sight};
use super::{discovery, snapshot_fault, state_disk};
use crate::cluster::Error;
use crate::deployment::Role;
use crate::supervise::{Console, Event, Program, Supervisor};
use ipc_proto::endpoint::{CLIENT_ENDPOINT_FILE, CLIENT_TOKEN_FILE};
use ipc_proto::limits::DATASETS_MAX;
use ipc_socket::Trust;
use nix::sys::signal::Signal;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Size of the controller's disk. It is sparse: it takes what is written.
const STATE_DISK_BYTES: u64 = 1 << 30;

/// Random bytes of a token, before they are written in hex.
const TOKEN_BYTES: usize = 24;

/// Memory of QEMU and its daemons, on top of the guest's.
pub(crate) const OVERHEAD_MIB: u64 = 64;

/// Numbers of shares: while datasets change there are old and new ones.
const SHARES_MAX: usize = 2 * DATASETS_MAX;

/// Time limit for sending a file into a VM, in seconds.
const SEND_LIMIT_S: &str = "30";

/// Where programs of administrators are, which an ordinary user's `$PATH` may lack.
const ADMIN_PATH: &str = ":/usr/sbin:/sbin";

/// The directory of state, which belongs to this cluster while the lock is held.
pub(crate) fn lock_state(layout: &Layout) -> Result<File, Error> {
    let keys = layout.state().join("ssh");
    for (dir, trust) in [(layout.state(), Trust::Unwritten), (&*keys, Trust::Private)] {
        private_dir(dir)?;
        check_owner(dir, trust)?;
    }
    check_state(layout.state(), &keys)?;
    let path = layout.state_lock();
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let lock = lock.map_err(Error::write(&path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let dir = layout.state().display();
            let text =
                format!("another cluster keeps its state in {dir}; name another --state-dir");
            return Err(Error::Refused(text));
        }
        Err(TryLockError::Error(error)) => return Err(Error::write(&path)(error)),
    }
    Ok(lock)
}

/// Checks all that is kept between two starts: whoever has written a key or a disk is in every VM.
fn check_state(state: &Path, keys: &Path) -> Result<(), Error> {
    for dir in [state, keys] {
        for entry in fs::read_dir(dir).map_err(Error::step("look at the state directory"))? {
            let path = entry.map_err(Error::step("look at the state directory"))?.path();
            let is_public = path.extension().is_some_and(|end| end == "pub" || end == "lock");
            let is_known = path.is_file() || path.is_symlink();
            if is_known {
                check_owner(&path, if is_public { Trust::Unwritten } else { Trust::Private })?;
            }
        }
    }
    Ok(())
}

fn check_owner(path: &Path, trust: Trust) -> Result<(), Error> {
    let metadata =
        fs::symlink_metadata(path).map_err(Error::step("look at the state directory"))?;
    if metadata.is_symlink() {
        return Err(Error::Refused(format!("{}: it is a symbolic link", path.display())));
    }
    let checked = trust.check(path, &metadata);
    checked.map_err(|error| Error::Refused(format!("{}: {error}", path.display())))
}

/// Makes a place for images, for who holds the state's lock.
pub(crate) fn images(layout: &Layout) -> Result<(), Error> {
    // Of a cluster that had no time to clean up, maybe with another run directory.
    remove_all(&layout.images()).map_err(Error::write(&layout.images()))?;
    private_dir(&layout.images())?;
    link(&layout.images(), &layout.file(IMAGES_DIR))
}

/// Makes whatever `guests` need in the directories of `context`.
pub(crate) fn all(
    context: &ClusterContext,
    guests: &[Guest],
    supervisor: &mut Supervisor,
) -> Result<(), Error> {
    let layout = &context.layout;
    check_memory(guests.iter().map(|guest| u64::from(guest.vm.memory_mib) + OVERHEAD_MIB).sum())?;
    private_file(&layout.file(CLIENT_TOKEN_FILE), format!("{}\n", token()?).as_bytes())?;
    for share in &context.shares {
        if let Root::Snapshot(dir) = &share.root
            && dir.exists()
        {
            say_snapshot(share, dir);
            let command = snapshot_command(layout, share, dir);
            let what = format!("take a snapshot of {}", dir.display());
            let (status, output) = long(layout, supervisor, &command, None)?;
            finished(&what, &command, status, || snapshot_fault::find(dir).unwrap_or(output))?;
        }
    }
    let workers = guests.iter().filter(|guest| guest.vm.role == Role::Worker);
    worker_tokens(layout, &workers.map(|guest| guest.vm.name.as_str()).collect::<Vec<_>>())?;
    state_disk(layout, &guests[0].vm.name)?;
    publish(context, guests)
}

fn say_snapshot(share: &Share, dir: &Path) {
    crate::say::say(format_args!("dataset {}: taking a snapshot of {}", share.name, dir.display()));
}

/// The command that makes the image of a snapshot of `dir`.
fn snapshot_command(layout: &Layout, share: &Share, dir: &Path) -> Command {
    let mut command = command("mkfs.erofs");
    command.args(["--quiet", "--all-root"]).arg(layout.snapshot(share.number)).arg(dir);
    command
}

/// The program that takes a snapshot, if `share` is one.
pub(crate) fn snapshot(layout: &Layout, share: &Share) -> Option<Program> {
    let Root::Snapshot(dir) = &share.root else { return None };
    Some(program(layout, &snapshot_command(layout, share, dir)))
}

/// The program that gives the running controller in VM `name` the tokens of workers.
pub(crate) fn send_tokens(layout: &Layout, name: &str) -> Program {
    send(layout, name, WORKER_TOKENS_FILE, "cat >/run/hashcluster/worker.tokens")
}

/// The program that gives it the names of datasets, and has it read both again.
pub(crate) fn send_names(layout: &Layout, name: &str) -> Program {
    let line = "cat >/run/hashcluster/dataset.names && sv hup hashcluster-controller";
    send(layout, name, DATASET_NAMES_FILE, line)
}

/// The program that runs `remote` in the VM `name`, with one of our files as its input.
fn send(layout: &Layout, name: &str, file: &str, remote: &str) -> Program {
    let mut command = command("timeout");
    let line = "exec ssh -F \"$0\" \"$1\" \"$2\" <\"$3\"";
    command.args(["-k", "1", SEND_LIMIT_S, "sh", "-c", line]).arg(layout.file(SSH_CONFIG));
    command.arg(name).arg(remote).arg(layout.file(file));
    program(layout, &command)
}

/// Gives each of `names` a token, and takes it from others; those that have one keep it.
pub(crate) fn worker_tokens(layout: &Layout, names: &[&str]) -> Result<(), Error> {
    let path = layout.file(WORKER_TOKENS_FILE);
    let before = fs::read(&path).unwrap_or_default();
    let mut lines = String::new();
    for name in names {
        let mut own = String::from_utf8_lossy(&worker_token(&before, name)).into_owned();
        if own.is_empty() {
            own = token()?;
        }
        lines += &format!("{name} {own}\n");
    }
    private_file(&path, lines.as_bytes())
}

/// Writes what tells of the cluster's members and datasets: to ssh(1), to `hashctl`, to the controller.
pub(crate) fn publish(context: &ClusterContext, guests: &[Guest]) -> Result<(), Error> {
    ssh(&context.layout, guests)?;
    let mut names: Vec<&str> = context.shares.iter().map(|share| share.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let names: String = names.iter().flat_map(|name| [*name, "\n"]).collect();
    private_file(&context.layout.file(DATASET_NAMES_FILE), names.as_bytes())?;
    discovery(context, guests)
}

/// Writes what one VM reads at its boot, and finds out which of its datasets are there.
pub(crate) fn boot(
    context: &ClusterContext,
    guest: &mut Guest,
    image: &Image,
    sight: &Sight,
) -> Result<(), Error> {
    let present = |share: &Share| match &share.root {
        Root::Directory(dir) => sight.at(dir),
        Root::Members(_) => Some(DirIdentity::default()),
        Root::Snapshot(_) => {
            context.layout.snapshot(share.number).exists().then(DirIdentity::default)
        }
    };
    let found = guest.shares.iter().filter_map(|share| Some((share.number, present(share)?)));
    guest.mounted = found.collect();
    settings(context, guest, image)
}

fn settings(context: &ClusterContext, guest: &Guest, image: &Image) -> Result<(), Error> {
    let (layout, vm) = (&context.layout, &guest.vm);
    let dir = layout.settings(&vm.name);
    fs::create_dir_all(&dir).map_err(Error::write(&dir))?;
    for key in setting_keys(vm) {
        let value = match key {
            "hostname" => vm.name.clone().into_bytes(),
            "role" => vm.role.name().into(),
            "authorized_keys" => read(&layout.ssh_key().with_extension("pub"))?,
            "host_key" => read(&layout.host_key(&vm.name))?,
            "image" => image.digest.clone().into_bytes(),
            "args" => lines(guest.args()),
            "datasets" => lines(
                guest
                    .mounts()
                    .map(|share| format!("{} {} {}", share.name, share.kind(), share.id())),
            ),
            "dataset_names" => read(&layout.file(DATASET_NAMES_FILE))?,
            "worker_tokens" => read(&layout.file(WORKER_TOKENS_FILE))?,
            "worker_token" => worker_token(&read(&layout.file(WORKER_TOKENS_FILE))?, &vm.name),
            "client_token" => read(&layout.file(CLIENT_TOKEN_FILE))?.trim_ascii_end().to_owned(),
            "memlock_kib" => vm.memlock_kib.unwrap_or_default().to_string().into_bytes(),
            other => unreachable!("{other} is no key"),
        };
        private_file(&dir.join(key), &value)?;
    }
    Ok(())
}

/// The token of the worker called `name`, out of lines `NAME TOKEN`; nothing if it has none.
fn worker_token(lines: &[u8], name: &str) -> Vec<u8> {
    let lines = String::from_utf8_lossy(lines);
    let line = lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_default().as_bytes().to_vec()
}

/// A fresh secret, in hex.
fn token() -> Result<String, Error> {
    let mut bytes = [0; TOKEN_BYTES];
    let filled = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    filled.map_err(Error::step("read /dev/urandom"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn lines(lines: impl IntoIterator<Item = String>) -> Vec<u8> {
    lines.into_iter().map(|line| line + "\n").collect::<String>().into_bytes()
}

/// Checks that VMs which take `wanted_mib` more have a place.
pub(crate) fn check_memory(wanted_mib: u64) -> Result<(), Error> {
    match available_mib() {
        Some(available_mib) if wanted_mib > available_mib => {
            Err(Error::Memory { wanted_mib, available_mib })
        }
        _ => Ok(()),
    }
}

/// Memory that the host can give away, as far as it is known.
pub(crate) fn available_mib() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib / 1024)
}

/// One key for the operator, one for each VM, the configuration that pins them.
fn ssh(layout: &Layout, guests: &[Guest]) -> Result<(), Error> {
    let key = layout.ssh_key();
    if !key.exists() {
        // The key last: without it all is made again.
        let fresh = key.with_extension("new");
        for path in [fresh.clone(), fresh.with_extension("new.pub")] {
            remove(&path).map_err(Error::write(&path))?;
        }
        let mut command = command("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", "hashcluster", "-f"]).arg(&fresh);
        tool("make the cluster's SSH key", &mut command)?;
        let public = key.with_extension("pub");
        fs::rename(fresh.with_extension("new.pub"), &public).map_err(Error::write(&public))?;
        fs::rename(&fresh, &key).map_err(Error::write(&key))?;
    }
    let (mut known_hosts, mut config) = (String::new(), String::new());
    for Guest { vm, .. } in guests {
        let host_key = layout.host_key(&vm.name);
        if !host_key.exists() {
            let fresh = host_key.with_extension("new");
            remove(&fresh).map_err(Error::write(&fresh))?;
            let mut command = command("dropbearkey");
            command.args(["-t", "ed25519", "-f"]).arg(&fresh);
            tool(&format!("make the SSH host key of {}", vm.name), &mut command)?;
            fs::rename(&fresh, &host_key).map_err(Error::write(&host_key))?;
        }
        let mut command = command("dropbearkey");
        command.arg("-y").arg("-f").arg(&host_key);
        let output = tool(&format!("read the SSH host key of {}", vm.name), &mut command)?;
        let public = output.lines().find(|line| line.starts_with("ssh-ed25519 "));
        let public = public.and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
        known_hosts += &format!("hashcluster-{} ssh-ed25519 {public}\n", vm.name);
        config += &format!(
            "Host {0}\n  HostName 127.0.0.1\n  Port {1}\n  HostKeyAlias hashcluster-{0}\n",
            vm.name, vm.ssh_port
        );
    }
    config += &format!(
        "Host *\n  User root\n  IdentityFile {}\n  UserKnownHostsFile {}\n  IdentitiesOnly yes\n  \
         BatchMode yes\n  PasswordAuthentication no\n  StrictHostKeyChecking yes\n  \
         ConnectTimeout 10\n  LogLevel ERROR\n",
        ssh_word(&key),
        ssh_word(&layout.file(KNOWN_HOSTS))
    );
    private_file(&layout.file(KNOWN_HOSTS), known_hosts.as_bytes())?;
    private_file(&layout.file(SSH_CONFIG), config.as_bytes())
}

/// A path as ssh_config(5) takes it.
fn ssh_word(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%"))
}

fn state_disk(layout: &Layout, name: &str) -> Result<(), Error> {
    let disk = layout.state_disk(name);
    state_disk::warn_of_room(&disk);
    if fs::symlink_metadata(&disk).is_ok() {
        return state_disk::check(&disk);
    }
    let fresh = disk.with_extension("new");
    private_file(&fresh, b"")?;
    let file = OpenOptions::new().write(true).open(&fresh).map_err(Error::write(&fresh))?;
    file.set_len(STATE_DISK_BYTES).map_err(Error::write(&fresh))?;
    let mut command = command("mkfs.ext4");
    command.args(["-q", "-F", "-E", "root_owner=0:0", "-m", "1"]).arg(&fresh);
    tool("make the controller's disk", &mut command)?;
    fs::rename(&fresh, &disk).map_err(Error::write(&disk))
}

/// Writes what `hashctl` finds in the runtime directory, and the way from a worker VM to the controller's.
fn discovery(context: &ClusterContext, guests: &[Guest]) -> Result<(), Error> {
    let layout = &context.layout;
    let controller = &guests[0].vm.name;
    let offered: Vec<&Share> =
        context.shares.iter().filter(|share| context.is_offered(share, guests)).collect();
    let live: Vec<&str> =
        offered.iter().filter(|share| share.is_live()).map(|share| &*share.name).collect();
    discovery::tell_datasets(layout, &offered, &live)?;
    for Guest { vm, .. } in guests.iter().filter(|guest| guest.vm.role == Role::Worker) {
        let way = layout.of_vm(&vm.name, &format!("vsock_{WORKER_PORT}"));
        link(Path::new(&format!("{controller}.vsock")), &way)?;
    }
    let endpoint = format!("vsock-unix:{controller}.vsock:{CLIENT_PORT}\n");
    private_file(&layout.file(CLIENT_ENDPOINT_FILE), endpoint.as_bytes())
}

pub(super) fn link(target: &Path, path: &Path) -> Result<(), Error> {
    remove(path).and_then(|()| symlink(target, path)).map_err(Error::write(path))
}

pub(super) fn private_dir(path: &Path) -> Result<(), Error> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).map_err(Error::write(path))
}

/// Replaces the file at `path` by one that only we can read.
pub(super) fn private_file(path: &Path, content: &[u8]) -> Result<(), Error> {
    let fresh = path.with_extension("part");
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&fresh, path));
    written.map_err(Error::write(path))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::step(format!("read {}", path.display())))
}

/// A program of the host, which may be one of administrators.
fn command(program: &str) -> Command {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(ADMIN_PATH);
    let mut command = Command::new(program);
    command.env("PATH", path);
    command
}

/// Runs a program that takes no time to its end; what it writes to stdout.
fn tool(what: &str, command: &mut Command) -> Result<String, Error> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        let program = command.get_program().display();
        Error::Step { what: format!("{what} with {program}"), error }
    })?;
    finished(what, command, output.status, || {
        String::from_utf8_lossy(&output.stderr).trim().to_owned()
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An error if the program that was to do `what` failed.
fn finished(
    what: &str,
    command: &Command,
    status: ExitStatus,
    output: impl FnOnce() -> String,
) -> Result<(), Error> {
    if status.success() {
        return Ok(());
    }
    let program = command.get_program().display();
    let how = format!("{program} {}", crate::supervise::describe(status));
    Err(Error::Tool { what: what.to_owned(), how, output: output() })
}

/// A program that runs in the background, with a log of its own.
fn program(layout: &Layout, command: &Command) -> Program {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    Program {
        path: command.get_program().into(),
        args: command.get_args().map(std::ffi::OsStr::to_owned).collect(),
        env: vec![("PATH", [path, ADMIN_PATH.into()].into_iter().collect())],
        console: Console::Background { log: layout.log(&name) },
        name,
        announces_ready: false,
    }
}

/// Runs a program to its end, or until a signal to us; its status, and what it wrote last. After
/// `limit` it is killed.
pub(super) fn long(
    layout: &Layout,
    supervisor: &mut Supervisor,
    command: &Command,
    limit: Option<Duration>,
) -> Result<(ExitStatus, String), Error> {
    let program = program(layout, command);
    let name = program.name.clone();
    let started = supervisor.start(program);
    let id = started.map_err(Error::step(format!("run {name}")))?;
    let mut deadline = limit.map(|limit| Instant::now() + limit);
    let mut interrupted = None;
    loop {
        match supervisor.next(None, deadline).map_err(Error::step("wait"))? {
            Event::Signal(caught) => {
                supervisor.signal(id, Signal::SIGKILL);
                interrupted = Some(Error::Interrupted(caught.signal));
            }
            Event::Exited { id: ended, status, .. } if ended == id => {
                return interrupted.map_or_else(|| Ok((status, supervisor.tail(id))), Err);
            }
            Event::Deadline => {
                supervisor.signal(id, Signal::SIGKILL);
                deadline = None;
            }
            Event::Exited { .. } | Event::Ready | Event::Readable => {}
        }
    }
}

/// Removes everything of [`all`] from the run directory, and the sockets and pidfiles of the VMs;
/// images that a dead cluster kept elsewhere, unless somebody has them.
pub(crate) fn clean(layout: &Layout) -> io::Result<()> {
    if let Ok(images) = fs::read_link(layout.file(IMAGES_DIR))
        && let Some(lock) = Layout::lock_of_images(&images)
        && File::open(lock).is_ok_and(|lock| lock.try_lock().is_ok())
    {
        remove_all(&images)?;
    }
    layout.left()?.iter().try_for_each(|path| remove_all(path))
}

/// An error if the run directory holds what would be taken for ours, and is somebody's.
pub(crate) fn check_unused(layout: &Layout) -> Result<(), Error> {
    let left = layout.left().map_err(Error::step("look into the run directory"))?;
    left.first().map_or(Ok(()), |path| {
        let text =
            format!("{} is not a cluster's file; name another --runtime-dir", path.display());
        Err(Error::Refused(text))
    })
}

pub(super) fn remove_all(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        _ => remove(path),
    }
}

/// Removes images other than those that are `used`.
pub(crate) fn drop_images(layout: &Layout, used: &[&Image]) {
    let used = |path: &Path| used.iter().any(|image| image.dir == path);
    for entry in fs::read_dir(layout.images()).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !used(&path) {
            // What stays is removed at the end.
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Removes what a VM that is no member any more has in the run directory, except its logs.
pub(crate) fn forget(layout: &Layout, name: &str) -> io::Result<()> {
    clean_vm(layout, name)?;
    remove(&layout.of_vm(name, &format!("vsock_{WORKER_PORT}")))?;
    remove_all(&layout.settings(name))
}

/// Removes the sockets and the pidfile that a VM's processes left.
pub(crate) fn clean_vm(layout: &Layout, name: &str) -> io::Result<()> {
    let mut suffixes: Vec<String> = ["vhost", "vsock", "qmp", "pid"].map(str::to_owned).into();
    suffixes.extend((0..SHARES_MAX).map(Share::id_of));
    suffixes.extend((0..SHARES_MAX).map(|n| format!("{}.pid", Share::id_of(n))));
    suffixes.iter().try_for_each(|suffix| remove(&layout.of_vm(name, suffix)))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn state_that_others_can_have_changed_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let (run, state) = (dir.path().join("run"), dir.path().join("state"));
        let layout = Layout::new(&run, Some(&state));
        drop(lock_state(&layout).expect("it is made"));
        let disk = layout.state_disk("controller");
        for path in [&layout.ssh_key(), &layout.host_key("worker1"), &disk] {
            private_file(path, b"secret").unwrap();
        }
        private_file(&layout.ssh_key().with_extension("pub"), b"public").unwrap();
        drop(lock_state(&layout).expect("all is private"));
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for (path, bad, good, want) in [
            (state.clone(), 0o770, 0o700, "chmod go-w"),
            (state.join("ssh"), 0o755, 0o700, "chmod go="),
            (layout.ssh_key(), 0o640, 0o600, "chmod go="),
            (layout.ssh_key().with_extension("pub"), 0o666, 0o644, "chmod go-w"),
            (layout.host_key("worker1"), 0o604, 0o600, "chmod go="),
            (disk, 0o660, 0o600, "chmod go="),
        ] {
            mode(&path, bad);
            let error = lock_state(&layout).expect_err("others are let in").to_string();
            assert!(error.contains(want) && error.contains(path.to_str().unwrap()), "{error}");
            mode(&path, good);
        }
        drop(lock_state(&layout).expect("all is private again"));
        symlink("/etc/passwd", layout.host_key("worker2")).unwrap();
        let error = lock_state(&layout).unwrap_err().to_string();
        assert!(error.contains("it is a symbolic link"), "{error}");
    }
}
