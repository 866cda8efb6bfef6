//! Body of the fuzz target `deployment`, as a plain function: `fuzz/` wraps it for libFuzzer, the test
//! below gives it seeded inputs. It panics when what is accepted is outside the limits, or what is
//! refused is told in anything but printable lines.

use super::cluster_toml::{self, Config};
use super::fault::{Faults, LoadErrors};
use super::kind::{CPUS, Kind, PORT_MIN};
use super::sched::CpuSet;
use super::{Role, Vm, merge, ports_conf};
use std::collections::HashSet;

/// A `ports.conf`, a zero byte, and a `cluster.toml`; without a zero byte both are the same.
pub(crate) fn deployment(input: &[u8]) {
    let zero = input.iter().position(|&byte| byte == 0);
    let (ports, config) = zero.map_or((input, input), |at| (&input[..at], &input[at + 1..]));
    let host_cpus = CpuSet::parse("0-1").expect("a list of CPUs");
    let mut faults = [Faults::of("p"), Faults::of("c"), Faults::of("a")];
    let [of_ports, of_config, of_args] = &mut faults;
    let mut lines = ports_conf::parse(ports, of_ports);
    let Config { defaults, vms: of_vms, datasets, .. } =
        cluster_toml::parse(config, &host_cpus, of_config);
    merge::check_vms(&lines, &of_vms, of_config);
    merge::check_ports(&lines, &of_vms, [of_ports, of_config]);
    let offers = super::datasets::gather(datasets, "/base".as_ref(), &[], false, of_args);
    merge::share(&offers, &mut lines, &of_vms, [of_config, of_args]);
    let vms = merge::vms(&lines, &defaults, &of_vms);
    match LoadErrors::unless(vms, faults) {
        Ok(vms) => check(&vms),
        Err(errors) => {
            let told = errors.to_string();
            let is_plain = |c: char| c == '\n' || !c.is_control();
            assert!(!told.is_empty() && told.chars().all(is_plain), "{told:?}");
        }
    }
}

/// Asserts that what is accepted can be started.
fn check(vms: &[Vm]) {
    let roles: Vec<Role> = vms.iter().map(|vm| vm.role).collect();
    assert!(roles.len() >= 2 && roles.len() <= ports_conf::LINES_MAX, "{roles:?}");
    assert!(roles[0] == Role::Controller && !roles[1..].contains(&Role::Controller), "{roles:?}");
    let (mut names, mut ports) = (HashSet::new(), HashSet::new());
    for vm in vms {
        assert!(Kind::Host.text(&vm.name).is_some(), "{vm:?}");
        assert!(names.insert(vm.name.to_ascii_lowercase()), "twice: {vm:?}");
        for port in [vm.ssh_port, vm.metrics_port] {
            assert!(port >= PORT_MIN && ports.insert(port), "{vm:?}");
        }
        assert!((64..=64 << 10).contains(&vm.memory_mib), "{vm:?}");
        assert!(CPUS.number(vm.cpus.into()).is_some(), "{vm:?}");
        assert!(!vm.args.iter().any(|arg| arg.contains(['\0', '\n'])), "one line each: {vm:?}");
        assert!(vm.datasets.is_empty() || vm.role == Role::Worker, "{vm:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::deployment;
    use test_kit::{Random, fuzz};

    const RUNS: u64 = 20_000;

    /// Pieces of both files, with a bar after each.
    const PIECES: &[u8] = b"2220|2221|65535|80|99999999999999999999| |\n|\n|\r\n|#|=|mem=|cpus=|host=a|\
        dataset=|metrics=|1G|[defaults]|[vm.|worker1|]|[[|memory = |\"192M\"|'|\"\"\"|{|}|.|,|health|\
        command|\\u0000|\xff|\xe2\x82|\x1b[0m|\0|-|1e999|1979-05-27";

    #[test]
    fn whatever_the_bytes_a_deployment_is_within_the_limits_or_refused_in_printable_lines() {
        let pieces: Vec<&[u8]> = PIECES.split(|&byte| byte == b'|').collect();
        let random = (0..RUNS).map(|seed| {
            let mut random = Random::new(seed);
            let mut input = Vec::new();
            for _ in 0..random.below(24) {
                match random.below(8) {
                    0 => input.push(random.byte()),
                    _ => input.extend(random.one_of(&pieces)),
                }
            }
            (format!("seed {seed}"), input)
        });
        fuzz("deployment", deployment, random);
    }
}
