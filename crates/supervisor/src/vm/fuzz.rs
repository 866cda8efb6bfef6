//! Body of the fuzz target `report`, as a plain function: `fuzz/` wraps it for libFuzzer, the test below
//! gives it seeded inputs. It panics when a word of a VM passes that a script must not see.

use super::report::facts;

/// A VM's report.
pub(crate) fn report(input: &[u8]) {
    let facts = facts(input);
    for fact in &facts {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || " /:.+_-".contains(c);
        assert!(fact.chars().all(is_plain) && fact.len() <= 128, "{fact:?}");
        let words: Vec<&str> = fact.split(' ').collect();
        assert!((2..=4).contains(&words.len()) && !words.contains(&""), "{fact:?}");
        let numbers = match words[0] {
            "service" => &words[3..],
            "uptime" | "clock" | "memory" | "trouble" => &words[1..],
            "space" => &words[2..],
            _ => &[],
        };
        let value = |word: &&str| word.parse::<u64>().expect("a number");
        let values: Vec<u64> = numbers.iter().map(value).collect();
        assert!(numbers.iter().zip(&values).all(|(word, value)| *word == value.to_string()));
        if let [total, part] = values[..] {
            assert!(total > 0 && part <= total && part.checked_mul(100).is_some(), "{fact:?}");
        }
    }
    let text = facts.join("\n");
    assert_eq!(super::report::facts(text.as_bytes()), facts, "what passes passes again");
}

#[cfg(test)]
mod tests {
    use super::report;
    use test_kit::{Random, fuzz};

    const RUNS: u64 = 5_000;

    /// Pieces of reports, with a bar after each.
    const PIECES: &str = "\n|\n| | |service |mount /data/|trouble |uptime |clock |memory |space /|listens |image |run|ro|0|1|12|\
        999999999999|1000000000000|version hashcluster-worker |a|-|:|.|$(|)|[|;|\u{1b}|\u{202e}|\r";

    #[test]
    fn of_what_a_vm_says_only_words_of_their_kind_pass() {
        let pieces: Vec<&str> = PIECES.split('|').collect();
        let random = (0..RUNS).map(|seed| {
            let mut random = Random::new(seed);
            let mut input = Vec::new();
            for _ in 0..random.below(40) {
                match random.below(16) {
                    0 => input.push(random.byte()),
                    _ => input.extend(random.one_of(&pieces).bytes()),
                }
            }
            (format!("seed {seed}"), input)
        });
        fuzz("report", report, random);
    }
}
