//! Options for VMs on this host, from `qemu/setup.sh` by way of `cargo xtask bench`.

use std::path::PathBuf;
use std::process::Command;

/// Options of `hashcluster-vm`, one a line.
const OPTIONS_VARIABLE: &str = "HASHCLUSTER_VM_OPTIONS";

#[derive(Debug)]
pub(super) struct Host {
    options: Vec<String>,
    image: PathBuf,
    /// The `hashcluster-vm` that boots.
    pub(super) program: PathBuf,
}

impl Host {
    pub(super) fn from_environment() -> Self {
        let Ok(text) = std::env::var(OPTIONS_VARIABLE) else {
            panic!("{OPTIONS_VARIABLE} is not set; run cargo xtask bench vm")
        };
        Self::of(&text, test_kit::bin("hashcluster-vm"))
    }

    /// With what `qemu/setup.sh` has printed.
    pub(super) fn of(text: &str, program: PathBuf) -> Self {
        let options: Vec<String> = text.lines().map(str::to_owned).collect();
        let image = options.iter().find_map(|option| option.strip_prefix("--image="));
        let image = image.expect("setup.sh names an image").into();
        Self { options, image, program }
    }

    pub(super) fn options(&self) -> &[String] {
        &self.options
    }

    /// Value of `key` in `image.txt`.
    pub(super) fn image_value(&self, key: &str) -> String {
        let text = std::fs::read_to_string(self.image.join("image.txt")).expect("the image's text");
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        value.unwrap_or("unknown").to_owned()
    }
}

/// Of the QEMU that `hashcluster-vm` finds.
pub(super) fn qemu_version() -> String {
    let output = Command::new("qemu-system-x86_64").arg("--version").output();
    let output = output.expect("setup.sh made sure of it").stdout;
    let text = String::from_utf8_lossy(&output);
    let version = text.lines().next().and_then(|line| line.split(" version ").nth(1));
    format!("QEMU {}", version.unwrap_or("of an unknown version"))
}
