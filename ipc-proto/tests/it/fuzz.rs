//! The fuzz targets over their seeds and over random inputs.

use crate::golden::golden;
use crate::targets;
use ipc_proto::frame::PREFIX_LEN;
use ipc_proto::limits::BODY_LEN_MAX;
use test_kit::{Random, fuzz};

const RUNS: u64 = 8_000;

/// Some bytes of `bytes` changed, cut out, doubled or followed by others.
fn mutate(random: &mut Random, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..=random.index(4) {
        let at = random.index(bytes.len() + 1);
        let byte = random.byte();
        match random.index(6) {
            0 if at < bytes.len() => bytes[at] = byte,
            1 if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => bytes.insert(at, byte),
            4 => {
                // A number of some width, in place of a short one or behind it.
                let width = [(251, 2), (252, 4), (253, 8)][random.index(3)];
                let number = random.next_u64() >> random.below(64);
                let wide = [&[width.0][..], &number.to_le_bytes()[..width.1]].concat();
                let end = bytes.len().min(at + usize::from(byte & 1));
                bytes.splice(at..end, wide);
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

/// The frame of a golden message of those whose label contains `label`.
fn golden_frame(random: &mut Random, label: &str) -> Vec<u8> {
    let golden = golden().into_iter().filter(|(known, _)| known.contains(label));
    let frames: Vec<Vec<u8>> = golden.map(|(_, frame)| frame).collect();
    random.one_of(&frames)
}

fn mutated_body(random: &mut Random, label: &str) -> Vec<u8> {
    let body = golden_frame(random, label).split_off(PREFIX_LEN);
    mutate(random, body)
}

fn random_stream(random: &mut Random) -> Vec<u8> {
    let mut stream = vec![random.byte()];
    for _ in 0..random.index(6) {
        stream.extend(golden_frame(random, ""));
    }
    if random.chance(33) { mutate(random, stream) } else { stream }
}

fn seeded(input: impl Fn(&mut Random) -> Vec<u8>) -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..RUNS).map(move |seed| (format!("seed {seed}"), input(&mut Random::new(seed))))
}

#[test]
fn a_stream_decodes_the_same_however_it_is_split() {
    fuzz("frames", targets::frames, seeded(random_stream));
}

#[test]
fn the_longest_frames_decode_the_same_however_they_are_split() {
    let body = vec![7; BODY_LEN_MAX];
    let prefix = u32::try_from(BODY_LEN_MAX).unwrap().to_le_bytes();
    let stream = [&[255], &prefix[..], &body, &prefix, &body, &prefix, &body[..99]].concat();
    targets::frames(&stream);
}

#[test]
fn a_mutated_body_keeps_its_limits_or_is_refused() {
    fuzz("messages", targets::messages, seeded(|random| mutated_body(random, "")));
}

#[test]
fn a_mutated_hello_is_accepted_unchanged_or_refused_with_a_message() {
    fuzz("handshake", targets::handshake, seeded(|random| mutated_body(random, "hello")));
}
