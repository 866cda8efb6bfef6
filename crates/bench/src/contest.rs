//! Contenders in turn, so that whatever else the machine does hits all of them, and the ratios between
//! them round by round.

use std::process::{Command, Stdio};
use std::time::Duration;
use test_kit::{Cluster, cpu_time, run_timed};

/// CPU and wall time of one run, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) cpu: f64,
    pub(crate) wall: f64,
}

/// One run of a contender.
pub(crate) type Run<'a> = Box<dyn FnMut() -> Cost + 'a>;

/// A contender's costs, round by round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    pub(crate) cpu: Vec<f64>,
    pub(crate) wall: Vec<f64>,
}

/// Runs all contenders in turn, `rounds` times after a round that is not counted.
pub(crate) fn interleave(rounds: usize, runs: &mut [Run<'_>]) -> Vec<Series> {
    let mut all = vec![Series::default(); runs.len()];
    for round in 0..=rounds {
        for (run, series) in runs.iter_mut().zip(&mut all) {
            let cost = run();
            if round > 0 {
                series.cpu.push(cost.cpu);
                series.wall.push(cost.wall);
            }
        }
    }
    all
}

/// Runs `command`, whose output is dropped, with the CPU time that the processes `others` use
/// meanwhile.
pub(crate) fn measure(command: &mut Command, others: &[u32]) -> Cost {
    let cpu_of_others = || others.iter().copied().map(cpu_time).sum::<Duration>();
    let before = cpu_of_others();
    let spent = run_timed(command.stdin(Stdio::null()).stdout(Stdio::null()));
    assert!(spent.status.success(), "{command:?}: {}", spent.status);
    let cpu = spent.cpu + cpu_of_others() - before;
    Cost { cpu: cpu.as_secs_f64() * 1e6, wall: spent.wall.as_secs_f64() * 1e6 }
}

/// Runs a command of `hashctl` on `cluster`, with the CPU time of its daemons.
pub(crate) fn measure_on(cluster: &Cluster, command: &mut Command) -> Cost {
    measure(command, &cluster.pids())
}

/// The middle value.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// `a / b`, round by round.
pub(crate) fn ratios(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a / b).collect()
}

/// The median of `a / b`, round by round.
pub(crate) fn median_ratio(a: &[f64], b: &[f64]) -> f64 {
    median(ratios(a, b))
}

/// Bounds between which the median lies in 95 of 100 cases, whatever the distribution: order statistics
/// by the normal approximation of the binomial distribution. With few values, the extremes.
pub(crate) fn median_bounds(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let len = values.len() as f64;
    let below = ((len - 1.96 * len.sqrt()) / 2.0).floor().max(0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small index")]
    let low = below as usize;
    (values[low], values[values.len() - 1 - low])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contenders_take_turns_and_the_first_round_is_not_counted() {
        let order = std::cell::RefCell::new(Vec::new());
        let run = |name: f64| -> Run<'_> {
            let order = &order;
            Box::new(move || {
                order.borrow_mut().push(name);
                Cost { cpu: name, wall: order.borrow().len() as f64 }
            })
        };
        let series = interleave(2, &mut [run(1.0), run(2.0)]);
        assert_eq!(*order.borrow(), [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        assert_eq!((&series[0].cpu, &series[1].wall), (&vec![1.0, 1.0], &vec![4.0, 6.0]));
    }

    #[test]
    fn bounds_of_a_median_are_narrower_than_its_values() {
        let values = |len: u32| (1..=len).map(f64::from).collect::<Vec<_>>();
        assert_eq!(median_bounds(values(3)), (1.0, 3.0));
        assert_eq!(median_bounds(values(15)), (4.0, 12.0));
        assert_eq!(median_ratio(&[2.0, 9.0, 4.0], &[1.0, 3.0, 1.0]), 3.0);
    }
}
