//! The fuzz targets over their seeds and over random inputs.

use crate::golden::golden;
use crate::random::Rng;
use crate::targets;
use ipc_proto::frame::PREFIX_LEN;
use ipc_proto::limits::BODY_LEN_MAX;
use test_kit::fuzz;

const RUNS: u64 = 4_000;

/// Some bytes of `bytes` changed, cut out, doubled or followed by others.
fn mutate(rng: &mut Rng, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len() + 1);
        let byte = rng.next().to_le_bytes()[0];
        match rng.below(6) {
            0 if at < bytes.len() => bytes[at] = byte,
            1 if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => bytes.insert(at, byte),
            4 => {
                // A length of some width.
                let width = [(251, 2), (252, 4), (253, 8)][rng.below(3)];
                let length = rng.next() >> rng.below(64);
                let wide = [&[width.0][..], &length.to_le_bytes()[..width.1]].concat();
                bytes.splice(at..at, wide);
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

fn random_body(rng: &mut Rng) -> Vec<u8> {
    let golden = golden();
    match rng.below(3) {
        0 => rng.message().body(),
        _ => golden[rng.below(golden.len())].1[PREFIX_LEN..].to_vec(),
    }
}

fn random_stream(rng: &mut Rng) -> Vec<u8> {
    let mut stream = vec![rng.next().to_le_bytes()[0]];
    for _ in 0..rng.below(6) {
        stream.extend(rng.message().frame());
    }
    if rng.below(3) == 0 { mutate(rng, stream) } else { stream }
}

fn seeded(input: fn(&mut Rng) -> Vec<u8>) -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..RUNS).map(move |seed| (format!("seed {seed}"), input(&mut Rng::new(seed))))
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
    let mutated = |rng: &mut Rng| {
        let body = random_body(rng);
        mutate(rng, body)
    };
    fuzz("messages", targets::messages, seeded(mutated));
}

#[test]
fn a_mutated_hello_is_accepted_unchanged_or_refused_with_a_message() {
    let mutated = |rng: &mut Rng| {
        let golden = golden();
        let hellos: Vec<_> = golden.iter().filter(|(label, _)| label.contains("hello")).collect();
        let body = hellos[rng.below(hellos.len())].1[PREFIX_LEN..].to_vec();
        mutate(rng, body)
    };
    fuzz("handshake", targets::handshake, seeded(mutated));
}
