//! How long a program that died waits for its next start.

use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A program that lived for so long starts over with the first pause.
const HEALTHY_LIFE: Duration = Duration::from_secs(10);

/// Doubles from [`FIRST_PAUSE`] to [`PAUSE_MAX`] while the program keeps dying young.
#[derive(Debug)]
pub(crate) struct Backoff {
    pause: Duration,
}

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self { pause: FIRST_PAUSE }
    }

    /// The pause after a life of `lived`.
    pub(crate) fn pause_after(&mut self, lived: Duration) -> Duration {
        if lived >= HEALTHY_LIFE {
            self.pause = FIRST_PAUSE;
        }
        let pause = self.pause;
        self.pause = (2 * pause).min(PAUSE_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lives_and_pauses_ms: &[(u64, u64)]) {
        let mut backoff = Backoff::new();
        for (i, &(lived, pause)) in lives_and_pauses_ms.iter().enumerate() {
            let got = backoff.pause_after(Duration::from_millis(lived));
            assert_eq!(got, Duration::from_millis(pause), "after death {i}");
        }
    }

    #[test]
    fn pauses_double_up_to_the_limit() {
        check(&[
            (0, 100),
            (1, 200),
            (9_999, 400),
            (0, 800),
            (0, 1_600),
            (0, 3_200),
            (0, 5_000),
            (0, 5_000),
        ]);
    }

    #[test]
    fn a_healthy_life_starts_over() {
        check(&[(0, 100), (0, 200), (10_000, 100), (0, 200), (3_600_000, 100)]);
    }
}
