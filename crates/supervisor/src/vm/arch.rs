//! Processors that VMs are built for, and what QEMU's machines for them differ in.

use super::plan::Accel;

/// The architecture of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Arch {
    /// That of an image that names none.
    #[default]
    X86_64,
    Aarch64,
}

impl Arch {
    pub(super) const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// True for the architecture of this host: no other one runs under KVM.
    pub(super) fn is_native(self) -> bool {
        self.name() == std::env::consts::ARCH
    }

    pub(super) const fn qemu(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::Aarch64 => "qemu-system-aarch64",
        }
    }

    /// The machine, with a [memory backend](super::plan) that daemons share.
    pub(super) const fn machine(self) -> &'static str {
        match self {
            Self::X86_64 => "q35,memory-backend=mem,usb=off,smbus=off,sata=off",
            Self::Aarch64 => "virt,memory-backend=mem,gic-version=3",
        }
    }

    /// All that the accelerator can give, so that vector kernels are used.
    ///
    /// Without KVM, one instruction of x86-64 that copies a block, which two features advertise, takes a
    /// step per byte; and on ARM the cipher that signs return addresses is replaced by a cheap function.
    pub(super) const fn cpu(self, accel: Accel) -> &'static str {
        match (accel, self) {
            (Accel::Kvm, Self::X86_64 | Self::Aarch64) => "host",
            (Accel::Tcg, Self::X86_64) => "max,-erms,-fsrm",
            (Accel::Tcg, Self::Aarch64) => "max,pauth-impdef=on",
        }
    }

    pub(super) const fn console(self) -> &'static str {
        match self {
            Self::X86_64 => "ttyS0",
            Self::Aarch64 => "ttyAMA0",
        }
    }

    /// The second serial port: an option of QEMU and its value. ARM's machine has one port only, and a card
    /// brings another.
    pub(super) fn second_serial(self, chardev: &str) -> (&'static str, String) {
        match self {
            Self::X86_64 => ("-serial", format!("chardev:{chardev}")),
            Self::Aarch64 => ("-device", format!("pci-serial,chardev={chardev}")),
        }
    }
}
