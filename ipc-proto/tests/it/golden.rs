//! The bytes of every message, pinned in `golden.txt`: `label prefix body`, in hexadecimal.
//!
//! A test here that fails after a change of a message has found a change of the wire format, which
//! needs a new protocol version (`docs/protocol.md`, "Compatibility").

use crate::samples::{Any, samples};
use crate::variants::{ENUMS, Variants, variants_in};
use ipc_proto::frame::PREFIX_LEN;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const GOLDEN: &str = include_str!("golden.txt");

/// The frame of each label, in the order of the file.
pub(crate) fn golden() -> Vec<(&'static str, Vec<u8>)> {
    let lines = GOLDEN.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (label, frame) = line.split_once(' ').expect("a label and a frame");
            (label, unhex(frame))
        })
        .collect()
}

/// Hexadecimal text, blanks ignored, to bytes.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    assert_eq!(digits.len() % 2, 0, "half a byte in {text}");
    let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).expect("hex");
    digits.chunks(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

fn line(label: &str, message: &Any) -> String {
    let frame = message.frame();
    let (prefix, body) = frame.split_at(PREFIX_LEN);
    format!("{label} {} {}", hex(prefix), hex(body))
}

#[test]
fn every_message_encodes_to_its_golden_bytes() {
    let mut changed = String::new();
    let lines: BTreeSet<&str> = GOLDEN.lines().collect();
    for (label, message) in samples() {
        let line = line(&label, &message);
        if !lines.contains(line.as_str()) {
            writeln!(changed, "{line}").unwrap();
        }
    }
    assert!(changed.is_empty(), "not in golden.txt:\n{changed}");
}

#[test]
fn every_golden_frame_decodes_to_its_message() {
    let mut samples: BTreeMap<String, Any> = samples().into_iter().collect();
    for (label, frame) in golden() {
        let want = samples.remove(label).unwrap_or_else(|| panic!("no sample for {label}"));
        let got = want.kind().decode(&frame[PREFIX_LEN..]);
        assert_eq!(got.as_ref().ok(), Some(&want), "{label}: {got:?}");
    }
    assert!(samples.is_empty(), "without golden bytes: {:?}", samples.keys());
}

#[test]
fn every_variant_is_among_the_golden_messages() {
    let seen: BTreeSet<_> = samples().iter().flat_map(|(_, any)| variants_in(any)).collect();
    for (name, variants) in ENUMS {
        for variant in *variants {
            assert!(seen.contains(&(*name, *variant)), "no golden bytes for {name}::{variant}");
        }
    }
}

#[test]
fn the_first_byte_of_a_body_is_the_position_of_its_variant() {
    for (label, message) in samples() {
        let position = |names: &[&str], variant| names.iter().position(|name| *name == variant);
        let tag = match &message {
            Any::Hello(hello) => {
                // Magic and two small versions come first.
                assert_eq!(message.body()[6], u8::from(hello.role.variant() == "Worker"));
                continue;
            }
            Any::HelloReply(reply) => position(names_of(reply), reply.variant()),
            Any::ClientRequest(request) => position(names_of(request), request.variant()),
            Any::ClientReply(reply) => position(names_of(reply), reply.variant()),
            Any::WorkerRequest(request) => position(names_of(request), request.variant()),
            Any::WorkerReply(reply) => position(names_of(reply), reply.variant()),
        };
        assert_eq!(tag, Some(usize::from(message.body()[0])), "{label}");
    }
}

fn names_of<T: Variants>(_: &T) -> &'static [&'static str] {
    T::NAMES
}
