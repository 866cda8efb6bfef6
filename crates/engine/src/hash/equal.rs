//! Every backend of this machine against the portable one, for every algorithm.

use super::Backend;
use super::guarded::Guarded;
use ipc_proto::Algorithm;
use test_kit::{Random, pattern};

/// Longest message that is tried with each length below it: some blocks of every algorithm, and
/// chunks of BLAKE3.
const LEN_MAX: usize = 4096;

/// Widest kernel.
const LANES_MAX: usize = 16;

#[track_caller]
fn check(inputs: &[&[u8]], what: &str) {
    for algorithm in Algorithm::ALL {
        let mut want = b"before".to_vec();
        Backend::PORTABLE.hash_many(algorithm, inputs, &mut want);
        for &backend in Backend::available() {
            let mut got = b"before".to_vec();
            backend.hash_many(algorithm, inputs, &mut got);
            assert!(got == want, "{algorithm} by {}: {what}", backend.name());
        }
    }
}

#[test]
fn one_message_of_every_length() {
    let data = pattern(LEN_MAX);
    (0..=LEN_MAX).for_each(|len| check(&[&data[..len]], &format!("{len} bytes")));
}

#[test]
fn messages_of_every_length_at_once() {
    let data = pattern(LEN_MAX);
    let mut inputs: Vec<_> = (0..=LEN_MAX).map(|len| &data[..len]).collect();
    check(&inputs, "ever longer");
    inputs.reverse();
    check(&inputs, "ever shorter");
}

#[test]
fn messages_of_equal_length_at_every_width() {
    let data = pattern(LEN_MAX + 2 * LANES_MAX);
    for len in [0, 1, 55, 56, 64, 119, 120, 128, 1000, 1024, 1025, LEN_MAX] {
        for width in 0..=2 * LANES_MAX + 1 {
            let inputs: Vec<_> = (0..width).map(|i| &data[i..][..len]).collect();
            check(&inputs, &format!("{width} of {len} bytes"));
        }
    }
}

#[test]
fn messages_of_unequal_length_at_every_width() {
    let data = pattern(LEN_MAX);
    for step in [1, 37, 64, 129, 1024, 1531] {
        for width in 0..=2 * LANES_MAX + 1 {
            let inputs: Vec<_> = (0..width).map(|i| &data[..i * step % LEN_MAX]).collect();
            check(&inputs, &format!("{width} that differ by {step} bytes"));
        }
    }
}

#[test]
fn a_long_message_among_short_ones_at_every_place() {
    let data = pattern(40 * LEN_MAX);
    for width in 1..=LANES_MAX + 1 {
        for place in 0..width {
            let len = |i| if i == place { data.len() } else { i * 100 };
            let inputs: Vec<_> = (0..width).map(|i| &data[..len(i)]).collect();
            check(&inputs, &format!("{} bytes at {place} of {width}", data.len()));
        }
    }
}

#[test]
fn messages_that_start_anywhere() {
    let data = pattern(LEN_MAX);
    for start in 0..=64 {
        let inputs = [&data[start..], &data[start..][..130], &data[64 - start..][..1024]];
        check(&inputs, &format!("from {start} bytes on"));
    }
}

/// As few as still fill the widest kernel and leave a message: what an interpreter gets through.
#[test]
fn one_set_of_short_messages() {
    let data = pattern(200);
    let lens = [0, 1, 55, 56, 64, 100, 111, 112, 119, 120, 128, 129, 2, 3, 4, 5, 6];
    let inputs: Vec<_> = lens.iter().enumerate().map(|(i, &len)| &data[i..][..len]).collect();
    check(&inputs, "short ones");
}

#[test]
fn random_sets_of_messages() {
    let mut random = Random::from_entropy();
    let mut below = |limit| random.index(limit);
    let data = pattern(10 * LEN_MAX);
    for set in 0..200 {
        let len_max = 1 << below(16);
        let message = |_| {
            let len = below(len_max + 1);
            &data[below(data.len() - len)..][..len]
        };
        let inputs: Vec<_> = (0..set % (3 * LANES_MAX)).map(message).collect();
        check(&inputs, &format!("set {set}"));
    }
}

#[test]
fn no_byte_outside_of_a_message_is_read() {
    let (mut first, mut second) = (Guarded::new(LEN_MAX), Guarded::new(LEN_MAX));
    for memory in [&mut first, &mut second] {
        let bytes = memory.bytes();
        let data = pattern(bytes.len());
        bytes.copy_from_slice(&data);
    }
    let (first, second) = (first.bytes(), second.bytes());
    for len in (0..=300).chain(950..=1100).chain([2047, 2048, 2049, LEN_MAX - 1, LEN_MAX]) {
        let at_start = [&first[..len], &second[..len]];
        let at_end = [&first[first.len() - len..], &second[second.len() - len..]];
        for (inputs, place) in [(at_start, "start"), (at_end, "end")] {
            let inputs: Vec<_> = inputs.into_iter().cycle().take(LANES_MAX + 1).collect();
            check(&inputs, &format!("{len} bytes at the {place} of a page"));
        }
    }
}
