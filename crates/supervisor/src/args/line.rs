//! Options of a start of VMs as one line, in which they travel to a supervisor that runs; and what several
//! such command lines mean, one after the other.

use super::{Args, Mode, VmOptions};
use clap::{Parser, ValueEnum};
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

impl VmOptions {
    /// The same with paths that mean the same in every working directory.
    ///
    /// # Errors
    /// The working directory is not known.
    pub(crate) fn absolute(&self) -> io::Result<Self> {
        let mut options = self.clone();
        let deployment = &mut options.deployment;
        // These have a default that depends on the working directory.
        deployment.default_ports = Some(deployment.ports().to_owned());
        let paths = [
            &mut deployment.ports,
            &mut deployment.default_ports,
            &mut deployment.config,
            &mut options.runtime.dir,
            &mut options.state,
            &mut options.image,
            &mut options.default_image,
        ];
        for path in paths.into_iter().flatten() {
            *path = std::path::absolute(&*path)?;
        }
        // One without a directory is looked for in $PATH.
        for program in [&mut options.qemu, &mut options.vsock, &mut options.virtiofsd] {
            if let Some(path) = program.as_mut().filter(|path| path.components().count() > 1) {
                *path = std::path::absolute(&*path)?;
            }
        }
        make_datasets_absolute(&mut deployment.datasets)?;
        Ok(options)
    }

    /// The options that count after this command line, if `before` counted until now: one that it does not
    /// have stays what it was, and all `--dataset` together are one.
    pub(crate) fn after(self, before: &Self) -> Self {
        if self.forget {
            return Self { forget: false, dry_run: false, ..self };
        }
        let (new, old) = (self.deployment, before.deployment.clone());
        let has_datasets = !new.datasets.is_empty();
        Self {
            deployment: super::DeploymentOptions {
                ports: new.ports.or(old.ports),
                // One of another working directory is another file.
                default_ports: old.default_ports.or(new.default_ports),
                config: new.config.or(old.config),
                snapshot: new.snapshot || (!has_datasets && old.snapshot),
                // Those that are named now are there, or mistyped.
                may_be_missing: !has_datasets,
                datasets: if has_datasets { new.datasets } else { old.datasets },
            },
            runtime: before.runtime.clone(),
            state: before.state.clone(),
            image: self.image.or(before.image.clone()),
            default_image: self.default_image.or(before.default_image.clone()),
            accel: before.accel,
            qemu: self.qemu.or(before.qemu.clone()),
            vsock: self.vsock.or(before.vsock.clone()),
            virtiofsd: self.virtiofsd.or(before.virtiofsd.clone()),
            virtiofsd_kind: self.virtiofsd_kind.or(before.virtiofsd_kind),
            metrics_port: before.metrics_port,
            dry_run: false,
            forget: false,
        }
    }

    /// One line of ASCII, without a newline.
    pub(crate) fn to_line(&self) -> String {
        let mut words: Vec<OsString> = Vec::new();
        let mut option = |name: &str, value: Option<&OsStr>| {
            if let Some(value) = value {
                words.push([OsStr::new(name), OsStr::new("="), value].into_iter().collect());
            }
        };
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.as_os_str().to_owned());
        for (name, value) in [
            ("--ports", path(&self.deployment.ports)),
            ("--default-ports", path(&self.deployment.default_ports)),
            ("--config", path(&self.deployment.config)),
            ("--runtime-dir", path(&self.runtime.dir)),
            ("--state-dir", path(&self.state)),
            ("--image", path(&self.image)),
            ("--default-image", path(&self.default_image)),
            ("--accel", self.accel.as_ref().map(value_name)),
            ("--qemu", path(&self.qemu)),
            ("--vsock", path(&self.vsock)),
            ("--virtiofsd", path(&self.virtiofsd)),
            ("--virtiofsd-kind", self.virtiofsd_kind.as_ref().map(value_name)),
            ("--metrics-port", self.metrics_port.map(|port| port.to_string().into())),
        ] {
            option(name, value.as_deref());
        }
        for dataset in &self.deployment.datasets {
            option("--dataset", Some(dataset));
        }
        let flags = [
            ("--snapshot", self.deployment.snapshot),
            ("--dry-run", self.dry_run),
            ("--forget", self.forget),
        ];
        words.extend(flags.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name.into()));
        words.iter().map(|word| encoded(word)).collect::<Vec<_>>().join(" ")
    }

    /// The options in a line of [`Self::to_line`].
    ///
    /// # Errors
    /// The fault, for a person.
    pub(crate) fn from_line(line: &str) -> Result<Self, String> {
        let words = line.split_ascii_whitespace().map(decoded);
        let own = ["hashcluster-vm", "apply"].map(OsString::from);
        let args = Args::try_parse_from(own.into_iter().chain(words)).map_err(|e| e.to_string())?;
        let Mode::Apply { options } = args.mode else { return Err("no options".to_owned()) };
        Ok(options)
    }

    /// True if somebody asks for something else than a cluster as it is.
    pub(crate) fn are_given(&self) -> bool {
        let deployment = &self.deployment;
        let paths = [&deployment.ports, &deployment.config, &self.state, &self.image];
        paths.into_iter().any(Option::is_some)
            || !deployment.datasets.is_empty()
            || deployment.snapshot
            || self.metrics_port.is_some()
            || self.accel.is_some_and(|accel| accel != super::AccelChoice::Auto)
            || self.forget
    }

    /// The image to boot, if one is named.
    pub(crate) fn image(&self) -> Option<&Path> {
        self.image.as_deref().or(self.default_image.as_deref())
    }
}

fn value_name(value: &impl ValueEnum) -> OsString {
    value.to_possible_value().map(|value| value.get_name().into()).unwrap_or_default()
}

/// Bytes other than those of most paths are `%` and two digits.
pub(super) fn encoded(word: &OsStr) -> String {
    let mut text = String::new();
    for &byte in word.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-_./=:,+@".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02x}").expect("a string takes what is written");
        }
    }
    text
}

pub(super) fn decoded(word: &str) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = word.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(code) if byte == b'%' => {
                bytes.push(code);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

/// Gives each `NAME=DIR` a directory that means the same in every working directory.
pub(super) fn make_datasets_absolute(datasets: &mut [OsString]) -> io::Result<()> {
    for dataset in datasets {
        if let Some(at) = dataset.as_bytes().iter().position(|&byte| byte == b'=')
            && at + 1 < dataset.len()
        {
            let dir = std::path::absolute(OsStr::from_bytes(&dataset.as_bytes()[at + 1..]))?;
            let name = OsStr::from_bytes(&dataset.as_bytes()[..=at]).to_owned();
            *dataset = [name, dir.into()].into_iter().collect();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> VmOptions {
        let line: Vec<String> = words.iter().map(|word| encoded(OsStr::new(word))).collect();
        VmOptions::from_line(&line.join(" ")).unwrap()
    }

    #[test]
    fn options_arrive_as_they_were_given() {
        let odd = OsString::from_vec(b"--dataset=d=/a b\n\xff%41\"".to_vec());
        let words = ["--ports=/p", "--config=/c", "--state-dir=/s", "--image=/i", "--accel=tcg"];
        let more = ["--default-ports=/dp", "--default-image=/di", "--runtime-dir=/r", "--qemu=q"];
        let tools = ["--vsock=v", "--virtiofsd=w", "--virtiofsd-kind=rust", "--snapshot"];
        let port = ["--metrics-port=9464"];
        let mut line: Vec<String> = [&words[..], &more, &tools, &port, &["--dry-run", "--forget"]]
            .concat()
            .iter()
            .map(|word| encoded(OsStr::new(word)))
            .collect();
        line.push(encoded(&odd));
        let parsed = VmOptions::from_line(&line.join(" ")).unwrap();
        let sent = parsed.to_line();
        assert!(sent.is_ascii() && !sent.contains('\n'), "{sent}");
        let again = VmOptions::from_line(&sent).unwrap();
        assert_eq!(format!("{parsed:?}"), format!("{again:?}"));
        assert_eq!(again.deployment.datasets, [OsString::from_vec(b"d=/a b\n\xff%41\"".to_vec())]);
        assert_eq!(sent.split(' ').count(), line.len());
        assert!(VmOptions::from_line("--no-such-option").is_err());
    }

    #[test]
    fn an_option_that_is_not_given_stays_what_it_was() {
        let check = |before: &[&str], now: &[&str], want: &[&str]| {
            let merged = options(now).after(&options(before)).to_line();
            assert_eq!(merged, options(want).to_line(), "{before:?} {now:?}");
        };
        let first = ["--ports=/p", "--dataset=a=/a", "--snapshot", "--image=/i"];
        check(&first, &[], &first);
        check(&first, &["--default-ports=/x"], &[&first[..], &["--default-ports=/x"]].concat());
        check(
            &first,
            &["--ports=/q"],
            &["--ports=/q", "--dataset=a=/a", "--snapshot", "--image=/i"],
        );
        check(&first, &["--dataset=b=/b"], &["--ports=/p", "--dataset=b=/b", "--image=/i"]);
        check(&["--dataset=a=/a"], &["--snapshot"], &["--dataset=a=/a", "--snapshot"]);
        check(&first, &["--forget", "--image=/j"], &["--image=/j"]);
        check(&first, &["--dry-run"], &first);
    }

    #[test]
    fn paths_mean_the_same_elsewhere() {
        let here = std::env::current_dir().unwrap();
        let found = options(&["--ports=p", "--dataset=d=x", "--qemu=qemu"]).absolute().unwrap();
        assert_eq!(found.deployment.ports(), here.join("p"));
        let dir = OsString::from_iter([OsStr::new("d="), here.join("x").as_os_str()]);
        assert_eq!(found.deployment.datasets, [dir]);
        assert_eq!(found.qemu, Some("qemu".into()));
        let bare = options(&[]).absolute().unwrap();
        assert_eq!(bare.deployment.ports(), here.join("ports.conf"));
    }
}
