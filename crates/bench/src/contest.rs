//! Contenders in turn, so that whatever else the machine does hits all of them, and the ratios between
//! them round by round.

use crate::peers::{self, Peer};
use crate::report::{Report, Target};
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use test_kit::{cpu_time, run_timed};

/// CPU and wall time of one run, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) cpu: f64,
    pub(crate) wall: f64,
}

/// One run of a contender.
pub(crate) type Run<'a, T = Cost> = Box<dyn FnMut() -> T + 'a>;

/// Runs all contenders in turn, `rounds` times after a round that is not counted; the figures of each.
pub(crate) fn interleave<T>(rounds: usize, runs: &mut [Run<'_, T>]) -> Vec<Vec<T>> {
    runs.iter_mut().for_each(|run| drop(run()));
    let mut all: Vec<Vec<T>> = runs.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        runs.iter_mut().zip(&mut all).for_each(|(run, figures)| figures.push(run()));
    }
    all
}

/// Programs that hash the same files in turn: ours, in one way or several, against peers.
pub(crate) struct Contest<'a> {
    /// The work, such as `sha256 of 24 files of 16 MiB`.
    pub(crate) what: String,
    pub(crate) rounds: usize,
    pub(crate) dir: &'a Path,
    pub(crate) names: &'a [OsString],
    pub(crate) ways: Vec<Way<'a>>,
    pub(crate) peers: &'a [Peer],
}

/// One way in which this project does the work.
pub(crate) struct Way<'a> {
    /// Such as `by dataset`.
    pub(crate) name: String,
    pub(crate) goals: Vec<Goal>,
    /// By this build, then by the other one if there is one.
    pub(crate) runs: Vec<Run<'a>>,
}

/// The least ratio of a time over ours: that of a peer by name, or of the best one.
pub(crate) type Goal = (Time, Option<&'static str>, f64);

/// A kind of time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Time {
    Cpu,
    Wall,
}

impl Time {
    const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Wall => "wall",
        }
    }

    pub(crate) fn of(self, costs: &[Cost]) -> Vec<f64> {
        let time = |cost: &Cost| match self {
            Self::Cpu => cost.cpu,
            Self::Wall => cost.wall,
        };
        costs.iter().map(time).collect()
    }
}

impl Contest<'_> {
    /// Measures, notes what each took per file, and checks the goals.
    pub(crate) fn measure(self, report: &mut Report) {
        let Self { what, rounds, dir, names, ways, peers } = self;
        let mut runs: Vec<Run<'_>> = peers
            .iter()
            .map(|&peer| -> Run<'_> { Box::new(move || peers::run(peer, dir, names)) })
            .collect();
        let mut rows = Vec::new();
        for Way { name, goals, runs: own } in ways {
            rows.push((format!("{what} {name}"), goals, own.len()));
            runs.extend(own);
        }
        let mut all = interleave(rounds, &mut runs);
        let ours = all.split_off(peers.len());
        let theirs: Vec<_> = peers.iter().map(|(program, _)| *program).zip(all).collect();
        let files = names.len();
        for (program, costs) in &theirs {
            report.note(&format!("{what}: {program} {}", per_file(costs, files)));
        }
        let mut ours = ours.iter();
        for (what, goals, builds) in rows {
            let costs = ours.next().expect("each way has a run of this build");
            report.note(&format!("{what}: {}", per_file(costs, files)));
            for (time, peer, least) in goals {
                let rivals =
                    theirs.iter().filter(|(program, _)| peer.is_none_or(|p| p == *program));
                let ratios =
                    rivals.map(|(_, theirs)| median_ratio(&time.of(theirs), &time.of(costs)));
                let ratio = ratios.fold(f64::INFINITY, f64::min);
                let row = format!(
                    "{what}, {} of {} over ours",
                    time.name(),
                    peer.unwrap_or("the best peer")
                );
                report.check(&row, ratio, "x", Target::AtLeast(least));
            }
            for other in ours.by_ref().take(builds - 1) {
                for time in [Time::Cpu, Time::Wall] {
                    let what = format!("{what}, {}", time.name());
                    report.compare(&what, &time.of(other), &time.of(costs));
                }
            }
        }
    }
}

/// Both times of one file.
fn per_file(costs: &[Cost], files: usize) -> String {
    let each = |time: Time| median(time.of(costs)) / files as f64;
    format!("{:.2} us CPU per file, {:.2} us wall", each(Time::Cpu), each(Time::Wall))
}

/// Runs `command`, whose output is dropped, with the CPU time that the processes `others` use
/// meanwhile.
pub(crate) fn measure(command: &mut Command, others: &[u32]) -> Cost {
    let cpu_of_others = || others.iter().copied().map(cpu_time).sum::<Duration>();
    let before = cpu_of_others();
    let spent = run_timed(command.stdin(Stdio::null()).stdout(Stdio::null()));
    assert!(spent.status.success(), "{command:?}: {}", spent.status);
    Cost { cpu: us(spent.cpu + cpu_of_others() - before), wall: us(spent.wall) }
}

/// A quantile of the times of `len` calls, in microseconds.
pub(crate) fn quantile(len: usize, percent: usize, mut call: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..len)
        .map(|_| {
            let start = Instant::now();
            call();
            us(start.elapsed())
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[len * percent / 100]
}

pub(crate) fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
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
        let run = |name: u32| -> Run<'_, usize> {
            let order = &order;
            Box::new(move || {
                order.borrow_mut().push(name);
                order.borrow().len()
            })
        };
        let figures = interleave(2, &mut [run(1), run(2)]);
        assert_eq!(*order.borrow(), [1, 2, 1, 2, 1, 2]);
        assert_eq!(figures, [[3, 5], [4, 6]]);
    }

    #[test]
    fn bounds_of_a_median_are_narrower_than_its_values() {
        let values = |len: u32| (1..=len).map(f64::from).collect::<Vec<_>>();
        assert_eq!(median_bounds(values(3)), (1.0, 3.0));
        assert_eq!(median_bounds(values(15)), (4.0, 12.0));
        assert_eq!(median_ratio(&[2.0, 9.0, 4.0], &[1.0, 3.0, 1.0]), 3.0);
    }
}
