//! The layers of a process's sandbox, as it reports them.

use serde::{Deserialize, Serialize};

/// One thing that a sandbox takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SandboxLayer {
    /// Network devices, System V IPC and files that the host has.
    Namespaces,
    /// Core dumps, locked memory, and what a debugger or /proc shows others of this user.
    Limits,
    /// Programs that run with more rights than who starts them.
    NewPrivileges,
    /// Memory that was written and becomes code.
    WrittenCode,
    /// Files where there is no namespace for them, the network, and processes outside.
    Landlock,
    /// Capabilities.
    Capabilities,
    /// System calls.
    Seccomp,
}

impl SandboxLayer {
    /// Every layer, in the order in which they are entered: each is the bit of its position.
    pub const ALL: [Self; 7] = [
        Self::Namespaces,
        Self::Limits,
        Self::NewPrivileges,
        Self::WrittenCode,
        Self::Landlock,
        Self::Capabilities,
        Self::Seccomp,
    ];

    /// The name in messages and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Limits => "limits",
            Self::NewPrivileges => "no new privileges",
            Self::WrittenCode => "no written code",
            Self::Landlock => "Landlock",
            Self::Capabilities => "dropped capabilities",
            Self::Seccomp => "seccomp",
        }
    }
}

/// The layers that hold for a process, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxLayers(pub u8);

impl SandboxLayers {
    /// Every layer holds.
    pub const FULL: Self = Self((1 << SandboxLayer::ALL.len()) - 1);

    /// True if `layer` holds.
    #[must_use]
    pub const fn has(self, layer: SandboxLayer) -> bool {
        self.0 & 1 << layer as u8 != 0
    }

    /// The layers that hold, or those that are missing.
    pub fn names(self, held: bool) -> impl Iterator<Item = &'static str> {
        let layers = SandboxLayer::ALL.into_iter().filter(move |layer| self.has(*layer) == held);
        layers.map(SandboxLayer::name)
    }
}

impl FromIterator<SandboxLayer> for SandboxLayers {
    fn from_iter<I: IntoIterator<Item = SandboxLayer>>(layers: I) -> Self {
        Self(layers.into_iter().fold(0, |bits, layer| bits | 1 << layer as u8))
    }
}
