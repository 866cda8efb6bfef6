//! Options of a cluster without VMs as one line, in which they travel to a supervisor that runs; and what
//! several such command lines mean, one after the other (`line` has those of VMs).

use super::line::{decoded, encoded, make_datasets_absolute};
use super::{Args, LocalCommand, LocalOptions, Mode, RuntimeDir, StartOptions, VmOptions};
use clap::Parser;
use std::ffi::{OsStr, OsString};
use std::io;

/// Mark of a cluster without VMs.
const LOCAL: &str = "local ";

impl LocalOptions {
    /// The same with paths that mean the same in every working directory.
    ///
    /// # Errors
    /// The working directory is not known.
    pub(crate) fn absolute(&self) -> io::Result<Self> {
        let mut options = self.clone();
        let start = &mut options.start;
        for path in [
            &mut start.config,
            &mut start.default_config,
            &mut start.bin_dir,
            &mut start.runtime.dir,
        ]
        .into_iter()
        .flatten()
        {
            *path = std::path::absolute(&*path)?;
        }
        make_datasets_absolute(&mut start.datasets)?;
        Ok(options)
    }

    /// The options that count after this command line, if `before` counted until now: one that it does not
    /// have stays what it was, and all `--dataset` together are one.
    pub(crate) fn after(self, before: &Self) -> Self {
        let (new, old) = (self.start, before.start.clone());
        let old = if self.forget { StartOptions::default() } else { old };
        Self {
            start: StartOptions {
                workers: new.workers.or(old.workers),
                runtime: before.start.runtime.clone(),
                config: new.config.or(old.config),
                default_config: new.default_config.or(before.start.default_config.clone()),
                // Those that are named now are there, or mistyped.
                may_be_missing: new.datasets.is_empty(),
                datasets: if new.datasets.is_empty() { old.datasets } else { new.datasets },
                bin_dir: new.bin_dir.or(before.start.bin_dir.clone()),
                metrics_port: before.start.metrics_port,
                stop_limit_ms: new.stop_limit_ms.or(old.stop_limit_ms),
            },
            dry_run: false,
            forget: false,
        }
    }

    /// One line of ASCII, without a newline.
    pub(crate) fn to_line(&self) -> String {
        let start = &self.start;
        let path = |path: &Option<std::path::PathBuf>| path.clone().map(OsString::from);
        let number = |number: Option<u32>| number.map(|number| OsString::from(number.to_string()));
        let values = [
            ("--workers", number(start.workers.map(u32::from))),
            ("--runtime-dir", path(&start.runtime.dir)),
            ("--config", path(&start.config)),
            ("--default-config", path(&start.default_config)),
            ("--bin-dir", path(&start.bin_dir)),
            ("--metrics-port", number(start.metrics_port.map(u32::from))),
            ("--stop-limit-ms", number(start.stop_limit_ms)),
        ];
        let values = values.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let datasets = start.datasets.iter().map(|dataset| ("--dataset", dataset.clone()));
        let values = values.chain(datasets);
        let values =
            values.map(|(name, value)| encoded(&[OsStr::new(name), &value].join(OsStr::new("="))));
        let flags = [("--dry-run", self.dry_run), ("--forget", self.forget)];
        let flags = flags.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| (*name).to_owned());
        values.chain(flags).collect::<Vec<_>>().join(" ")
    }

    /// The same line marked as that of a cluster without VMs, as a file that may hold that of VMs has it.
    pub(crate) fn to_file(&self) -> String {
        LOCAL.to_owned() + &self.to_line()
    }

    /// The options in a text of [`Self::to_file`], if it is one.
    pub(crate) fn from_file(text: &str) -> Option<Self> {
        Self::from_line(text.strip_prefix(LOCAL)?).ok()
    }

    /// The options in a line of [`Self::to_line`].
    ///
    /// # Errors
    /// The fault, for a person.
    pub(crate) fn from_line(line: &str) -> Result<Self, String> {
        let words = line.split_ascii_whitespace().map(decoded);
        let own = ["hashcluster-vm", "local", "up"].map(OsString::from);
        let args = Args::try_parse_from(own.into_iter().chain(words)).map_err(|e| e.to_string())?;
        let Mode::Local { command: LocalCommand::Up { options } } = args.mode else {
            return Err("no options".to_owned());
        };
        Ok(options)
    }

    /// The options of a command line about a cluster that runs, for one without VMs.
    ///
    /// # Errors
    /// The option that only VMs have.
    pub(crate) fn of_any(options: &VmOptions) -> Result<Self, String> {
        let deployment = &options.deployment;
        let of_vms = [
            ("--ports", deployment.ports.is_some()),
            ("--snapshot", deployment.snapshot),
            ("--state-dir", options.state.is_some()),
            ("--image", options.image.is_some()),
            ("--accel", options.accel.is_some()),
            ("--qemu", options.qemu.is_some()),
            ("--vsock", options.vsock.is_some()),
            ("--virtiofsd", options.virtiofsd.is_some()),
            ("--virtiofsd-kind", options.virtiofsd_kind.is_some()),
        ];
        if let Some((name, _)) = of_vms.iter().find(|(_, is_given)| *is_given) {
            return Err(format!("{name} is an option of VMs, and a cluster without them runs"));
        }
        Ok(Self {
            start: StartOptions {
                config: deployment.config.clone(),
                datasets: deployment.datasets.clone(),
                metrics_port: options.metrics_port,
                runtime: RuntimeDir { dir: options.runtime.dir.clone() },
                ..StartOptions::default()
            },
            dry_run: options.dry_run,
            forget: options.forget,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> LocalOptions {
        LocalOptions::from_line(line).unwrap()
    }

    #[test]
    fn options_arrive_as_they_were_given_and_stay_until_others_are() {
        let line = "--workers=3 --runtime-dir=/r --config=/a%20b --default-config=/d --bin-dir=/p \
                    --metrics-port=9464 --stop-limit-ms=7 --dataset=a=/b --dataset=c=/d --dry-run --forget";
        assert_eq!(options(line).to_line(), line);
        let file = options(line).to_file();
        assert_eq!(LocalOptions::from_file(&file).unwrap().to_line(), line);
        assert!(LocalOptions::from_file(line).is_none() && VmOptions::from_line(&file).is_err());
        for (before, now, want) in [
            ("--workers=3 --config=/c", "", "--workers=3 --config=/c"),
            ("--workers=3 --config=/c", "--workers=4", "--workers=4 --config=/c"),
            (
                "--workers=3 --runtime-dir=/r",
                "--config=/d",
                "--workers=3 --runtime-dir=/r --config=/d",
            ),
            ("--workers=3 --runtime-dir=/r", "--forget --dry-run", "--runtime-dir=/r"),
            ("--dataset=a=/b", "--workers=3", "--workers=3 --dataset=a=/b"),
            ("--dataset=a=/b --dataset=c=/d", "--dataset=e=/f", "--dataset=e=/f"),
        ] {
            assert_eq!(options(now).after(&options(before)).to_line(), want, "{before} {now}");
        }
    }

    #[test]
    fn an_option_of_vms_is_an_error_that_names_it() {
        let of_any = |line: &str| LocalOptions::of_any(&VmOptions::from_line(line).unwrap());
        assert_eq!(
            of_any("--config=/c --default-ports=/p --dataset=a=/b --dry-run").unwrap().to_line(),
            "--config=/c --dataset=a=/b --dry-run"
        );
        for name in ["--ports", "--image", "--state-dir"] {
            let error = of_any(&format!("{name}=a=/b")).unwrap_err();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
