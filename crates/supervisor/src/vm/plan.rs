//! The command lines of a VM: its wire, its file servers, and QEMU. Pure: nothing is started here,
//! and `--dry-run` prints exactly what would be.

use super::arch::Arch;
use super::image::Image;
use super::layout::{CLIENT_PORT, Layout, WORKER_PORT};
use super::share::{Root, Share};
use super::sight::DirIdentity;
use crate::cluster::{Daemon, Error, Unit};
use crate::deployment::{Role, Vm};
use crate::supervise::{Console, Program};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Where the metrics are inside a VM.
const METRICS_PORT: u16 = 9464;

/// The first context id that a guest may have (vsock(7)).
const FIRST_CID: u32 = 3;

/// Where `hashcluster-vm share-view` shows what a file server is to serve.
pub(super) const VIEW: &str = "/mnt";

/// Words of every kernel's command line. The guest's timer is an emulated one: a check of it fails where
/// a busy host runs guests without KVM. Self-tests of the kernel's ciphers, which no guest uses, take a
/// tenth of its boot. Guests have the modules of Linux's security that they use, and no IPv6.
const KERNEL_ARGS: &str = "quiet panic=1 no_timer_check cryptomgr.notests \
                           lsm=landlock,yama ipv6.disable=1";

/// Those of a guest without KVM, whose every instruction is translated. Code for one processor is not
/// patched in at 9,000 places, and no probes are prepared for tracing. The self-test of a key derivation
/// waits for the whole initrd, and then for modprobe. Unknown names change nothing.
const KERNEL_ARGS_TCG: &str =
    "noreplace-smp initcall_blacklist=init_kprobe_trace,crypto_kdf108_init";

/// The accelerator that runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accel {
    Kvm,
    Tcg,
}

impl Accel {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// QEMU's option. A guest that has booted needs little translated code at a time: a larger buffer
    /// costs memory of the host and saves a fifth of a second of a boot.
    const fn option(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,tb-size=32",
        }
    }

    /// The kernel's command line.
    pub(super) fn kernel_args(self, arch: Arch) -> String {
        let console = arch.console();
        match self {
            Self::Kvm => format!("console={console} {KERNEL_ARGS}"),
            Self::Tcg => format!("console={console} {KERNEL_ARGS} {KERNEL_ARGS_TCG}"),
        }
    }
}

/// Which implementation of the virtio-fs server there is: their options differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum VirtiofsdKind {
    /// QEMU's own, up to 7.2
    C,
    /// The one that took its place
    Rust,
}

/// The programs of the host.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) qemu: PathBuf,
    pub(crate) vsock: PathBuf,
    pub(crate) virtiofsd: PathBuf,
    pub(crate) virtiofsd_kind: VirtiofsdKind,
    /// This program, for [`mod@super::share_view`].
    pub(crate) own: PathBuf,
}

/// Context shared by all VMs of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterContext {
    pub(crate) layout: Layout,
    pub(crate) tools: Tools,
    /// That of every image.
    pub(crate) arch: Arch,
    pub(crate) accel: Accel,
    pub(crate) shares: Vec<Share>,
    /// Numbers of those that are to go, in which no more files are named.
    pub(crate) leaving: Vec<usize>,
}

/// A VM with all that is decided about it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Guest {
    pub(crate) vm: Vm,
    /// Its context id, no other VM's.
    pub(crate) cid: u32,
    /// The shares that it is to mount; none for the controller.
    pub(crate) shares: Vec<Share>,
    /// Those of them whose content was there when it booted last, by number.
    pub(crate) mounted: Vec<(usize, DirIdentity)>,
}

impl Guest {
    /// A VM that is no member yet, beside `others`, with those of `shares` that it names.
    pub(crate) fn new(vm: &Vm, others: &[Self], shares: &[Share]) -> Self {
        let is_free = |cid: &u32| others.iter().all(|other| other.cid != *cid);
        let cid = (FIRST_CID..).find(is_free).expect("there are more numbers than VMs");
        Self::with_cid(vm, cid, shares)
    }

    /// The same VM as it is to be from now on.
    pub(crate) fn with_cid(vm: &Vm, cid: u32, shares: &[Share]) -> Self {
        let has = |share: &&Share| vm.role == Role::Worker && vm.datasets.contains(&share.name);
        let shares: Vec<Share> = shares.iter().filter(has).cloned().collect();
        let mounted = shares.iter().map(|share| (share.number, DirIdentity::default())).collect();
        Self { vm: vm.clone(), cid, shares, mounted }
    }

    /// All VMs of a cluster that is about to start.
    pub(crate) fn all(vms: &[Vm], shares: &[Share]) -> Vec<Self> {
        vms.iter().fold(Vec::new(), |mut guests, vm| {
            guests.push(Self::new(vm, &guests, shares));
            guests
        })
    }

    /// The shares that it mounts.
    pub(super) fn mounts(&self) -> impl Iterator<Item = &Share> {
        let is_mounted = |share: &&Share| self.mounted.iter().any(|(n, _)| *n == share.number);
        self.shares.iter().filter(is_mounted)
    }

    /// The arguments of the controller or worker inside it, one a line.
    pub(super) fn args(&self) -> Vec<String> {
        match self.vm.role {
            Role::Controller => self.controller_args(),
            Role::Worker => self.worker_args(),
        }
    }

    fn controller_args(&self) -> Vec<String> {
        let mut args = vec![
            "--worker-socket".to_owned(),
            format!("vsock:any:{WORKER_PORT}"),
            "--client-socket".to_owned(),
            format!("vsock:any:{CLIENT_PORT}"),
            "--client-token-file".to_owned(),
            "/run/hashcluster/client.token".to_owned(),
            "--worker-tokens".to_owned(),
            "/run/hashcluster/worker.tokens".to_owned(),
            "--datasets-file".to_owned(),
            "/run/hashcluster/dataset.names".to_owned(),
        ];
        args.extend(self.vm.args.iter().cloned());
        args
    }

    fn worker_args(&self) -> Vec<String> {
        let mut args = vec![
            "--name".to_owned(),
            self.vm.name.clone(),
            "--connect".to_owned(),
            format!("vsock:2:{WORKER_PORT}"),
            "--token-file".to_owned(),
            "/run/hashcluster/worker.token".to_owned(),
        ];
        args.extend(self.vm.args.iter().cloned());
        for share in self.mounts() {
            args.extend(["--dataset".to_owned(), format!("{0}=/data/{0}", share.name)]);
            if let Some(threads) = share.io_threads {
                args.extend(["--io-threads".to_owned(), format!("{}={threads}", share.name)]);
            }
        }
        args
    }
}

impl ClusterContext {
    /// Refuses an image for other processors than those of the VMs that run.
    ///
    /// # Errors
    /// [`Error::Refused`] names both.
    pub(crate) fn check_arch(&self, image: &Image) -> Result<(), Error> {
        if image.arch == self.arch {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "image {}: it is for {}, the running cluster's VMs are {}; scripts/stop.sh stops it, the next \
             start takes the image",
            image.dir.display(),
            image.arch.name(),
            self.arch.name()
        )))
    }

    /// True if clients may name files in `share`: some VM has it, and none has another one of that name.
    pub(super) fn is_offered(&self, share: &Share, guests: &[Guest]) -> bool {
        let is_there = |numbers: &dyn Fn(usize) -> bool| {
            guests.iter().any(|guest| guest.mounts().any(|mounted| numbers(mounted.number)))
        };
        let is_other = |number: usize| {
            let named = |other: &&Share| other.name == share.name && other.number != share.number;
            self.shares.iter().filter(named).any(|other| other.number == number)
        };
        !self.leaving.contains(&share.number)
            && is_there(&|number| number == share.number)
            && !is_there(&is_other)
    }

    /// The processes of a VM that boots from `image`.
    pub(crate) fn unit(&self, guest: &Guest, image: &Image) -> Unit {
        let mut daemons = vec![self.wire(guest)];
        for share in guest.mounts() {
            if !matches!(share.root, Root::Snapshot(_)) {
                daemons.push(self.file_server(&guest.vm, share));
            }
        }
        Unit { daemons, main: self.qemu(guest, image) }
    }

    fn wire(&self, guest: &Guest) -> Daemon {
        let vm = &guest.vm;
        let socket = self.layout.of_vm(&vm.name, "vhost");
        let mut args = words(&["--guest-cid", &guest.cid.to_string(), "--socket"]);
        args.extend([socket.clone().into(), "--uds-path".into()]);
        args.push(self.layout.of_vm(&vm.name, "vsock").into());
        let name = "its vsock device".to_owned();
        let log = self.layout.log(&format!("{}.wire", vm.name));
        let mut program = background(name, self.tools.vsock.clone(), args, log);
        // Its warnings about epoll are harmless, and many.
        program.env.push(("RUST_LOG", "error".into()));
        Daemon { program, socket }
    }

    fn file_server(&self, vm: &Vm, share: &Share) -> Daemon {
        let id = share.id();
        let socket = self.layout.of_vm(&vm.name, &id);
        let mut args: Vec<OsString> = vec!["share-view".into(), "--chdir".into()];
        args.push(self.layout.run().into());
        match &share.root {
            Root::Members(members) => {
                args.extend(members.iter().flat_map(|member| ["--member".into(), member.into()]));
            }
            Root::Directory(dir) | Root::Snapshot(dir) => {
                args.extend(["--directory".into(), dir.into()]);
            }
        }
        args.extend(["--".into(), self.tools.virtiofsd.clone().into()]);
        args.extend(words(self.virtiofsd_args()));
        // Its view has moved /run away, but stands where the socket is to be.
        args.push(joined(
            "--socket-path=",
            Path::new(socket.file_name().expect("a socket's path")),
        ));
        let log = self.layout.log(&format!("{}.{id}", vm.name));
        let name = format!("its file server of dataset {}", share.name);
        Daemon { program: background(name, self.tools.own.clone(), args, log), socket }
    }

    const fn virtiofsd_args(&self) -> &'static [&'static str] {
        match self.tools.virtiofsd_kind {
            VirtiofsdKind::C => &[
                "-f",
                "-o",
                "source=/mnt",
                "-o",
                "sandbox=namespace,cache=auto,no_xattr,no_posix_lock,no_flock,log_level=warn",
                "--rlimit-nofile=0",
            ],
            VirtiofsdKind::Rust => &[
                "--shared-dir=/mnt",
                "--sandbox=none",
                "--readonly",
                "--cache=auto",
                "--log-level=error",
                "--rlimit-nofile=0",
            ],
        }
    }

    fn qemu(&self, guest: &Guest, image: &Image) -> Program {
        let (layout, vm) = (&self.layout, &guest.vm);
        let file = |what: &str| layout.of_vm(&vm.name, what);
        let (memory, accel) = (vm.memory_mib, self.accel);
        let mut args = words(&[
            "-name",
            &vm.name,
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
            "-machine",
            self.arch.machine(),
            "-accel",
            accel.option(),
            "-cpu",
            self.arch.cpu(accel),
            "-smp",
            &vm.cpus.to_string(),
            "-m",
            &format!("{memory}M"),
            "-object",
            &format!("memory-backend-memfd,id=mem,share=on,size={memory}M"),
        ]);
        let mut option = |name: &str, value: OsString| args.extend([name.into(), value]);
        option("-kernel", image.kernel(accel).into());
        option("-initrd", image.initrd(vm.role).into());
        option("-append", accel.kernel_args(self.arch).into());
        option("-pidfile", file("pid").into());
        option("-chardev", comma("file,id=console,append=on,path=", &layout.console_raw(&vm.name)));
        option("-serial", "chardev:console".into());
        option("-chardev", comma("file,id=syslog,append=on,path=", &layout.syslog(&vm.name)));
        let (name, value) = self.arch.second_serial("syslog");
        option(name, value.into());
        option("-chardev", comma("socket,id=qmp,server=on,wait=off,path=", &file("qmp")));
        option("-mon", "chardev=qmp,mode=control".into());
        let forward = |host: u16, guest| format!(",hostfwd=tcp:127.0.0.1:{host}-10.0.2.15:{guest}");
        let ssh = forward(vm.ssh_port, 22);
        let metrics = forward(vm.metrics_port, METRICS_PORT);
        option("-netdev", format!("user,id=net,restrict=on{ssh}{metrics}").into());
        option("-device", "virtio-net-pci,netdev=net,romfile=".into());
        option("-device", "virtio-rng-pci".into());
        option("-chardev", comma("socket,id=vsock,path=", &file("vhost")));
        option("-device", "vhost-user-vsock-pci,chardev=vsock".into());
        if vm.role == Role::Controller {
            let disk = layout.state_disk(&vm.name);
            option(
                "-drive",
                comma("if=none,id=state,format=raw,werror=report,rerror=report,file=", &disk),
            );
            option("-device", "virtio-blk-pci,drive=state,serial=state".into());
        }
        for share in guest.mounts() {
            let id = share.id();
            if let Root::Snapshot(_) = share.root {
                let prefix = format!("if=none,id={id},format=raw,readonly=on,file=");
                option("-drive", comma(&prefix, &layout.snapshot(share.number)));
                option("-device", format!("virtio-blk-pci,drive={id},serial={id}").into());
            } else {
                option("-chardev", comma(&format!("socket,id={id},path="), &file(&id)));
                option("-device", format!("vhost-user-fs-pci,chardev={id},tag={id}").into());
            }
        }
        for key in setting_keys(vm) {
            let name = format!("name=opt/hashcluster/{key},file=");
            option("-fw_cfg", comma(&name, &layout.settings(&vm.name).join(key)));
        }
        let mut path = self.tools.qemu.clone();
        if let Some(cpus) = &vm.cpuset {
            let mut pinned = words(&["-c", &cpus.as_arg()]);
            pinned.push(path.into());
            pinned.append(&mut args);
            (path, args) = (PathBuf::from("/usr/bin/taskset"), pinned);
        }
        background("QEMU".to_owned(), path, args, layout.log(&vm.name))
    }
}

/// The keys of the firmware configuration that `vm` is given.
pub(super) fn setting_keys(vm: &Vm) -> Vec<&'static str> {
    let mut keys =
        vec!["hostname", "role", "authorized_keys", "host_key", "image", "args", "datasets"];
    match vm.role {
        Role::Controller => keys.extend(["client_token", "worker_tokens", "dataset_names"]),
        Role::Worker => keys.push("worker_token"),
    }
    if vm.memlock_kib.is_some() {
        keys.push("memlock_kib");
    }
    keys
}

fn background(name: String, path: PathBuf, args: Vec<OsString>, log: PathBuf) -> Program {
    let console = Console::Background { log };
    Program { name, path, args, env: Vec::new(), console, announces_ready: false }
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn joined(prefix: &str, path: &Path) -> OsString {
    let mut text = OsString::from(prefix);
    text.push(path);
    text
}

/// A path as the last part of an option of QEMU, in which a comma is written twice.
pub(super) fn comma(prefix: &str, path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut bytes = prefix.as_bytes().to_vec();
    for &byte in OsStr::as_bytes(path.as_os_str()) {
        bytes.extend(std::iter::repeat_n(byte, if byte == b',' { 2 } else { 1 }));
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::good;

    #[test]
    fn controller_and_worker_are_told_their_datasets_and_settings() {
        let share = |number, name: &str, io_threads| Share {
            name: name.to_owned(),
            root: Root::Directory("/usr".into()),
            io_threads,
            number,
        };
        let shares = [share(4, "any", None), share(0, "disk", Some(1)), share(2, "other", Some(3))];
        let config = "[vm.w]\nthreads = 2\ndrop_behind = true\n[defaults]\ncross_check = '1/7'\n";
        let mut vms = good("2220\n2221 host=w\n", config).vms;
        vms[1].datasets = ["any", "disk"].map(str::to_owned).into();
        let mut guests = Guest::all(&vms, &shares);
        let want = "--name w --connect vsock:2:5000 \
                    --token-file /run/hashcluster/worker.token --threads 2 --drop-behind \
                    --dataset any=/data/any \
                    --dataset disk=/data/disk --io-threads disk=1";
        assert_eq!(guests[1].args().join(" "), want);
        let args = guests[0].args().join(" ");
        assert!(args.ends_with("/dataset.names --cross-check 1/7"), "{args}");
        guests[1].mounted.retain(|(number, _)| *number == 0);
        let args = guests[1].args().join(" ");
        assert!(!args.contains("any") && args.contains("disk=/data/disk"), "{args}");
    }

    #[test]
    fn a_context_id_stays_when_others_come_and_go() {
        let vms = good("2220\n2221\n2222\n2223\n", "").vms;
        let mut guests = Guest::all(&vms, &[]);
        let cids = |guests: &[Guest]| guests.iter().map(|guest| guest.cid).collect::<Vec<_>>();
        assert_eq!(cids(&guests), [3, 4, 5, 6]);
        guests.remove(1);
        guests.push(Guest::new(&vms[1], &guests, &[]));
        assert_eq!(cids(&guests), [3, 5, 6, 4]);
    }
}
