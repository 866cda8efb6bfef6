//! Kernels of the worker against the crates and libraries that people use: many messages in memory,
//! one thread, no daemons.
//!
//! A build with `--cfg sha2_backend="soft"` measures what is promised for a processor without the SHA
//! extensions, and nothing else; `cargo xtask bench simd` makes both.

mod contender;
mod openssl;

use crate::contest::median;
use crate::report::{Report, Target};
use contender::Contender;
use ipc_proto::Algorithm::{self, Blake2b, Blake3, Md5, Sha1, Sha256, Sha512};
use std::time::Instant;
use test_kit::{Random, pattern};

const ROUNDS: usize = 21;

/// A contender hashes so many bytes in a round, or more.
const ROUND_LEN: usize = 4 << 20;

/// Bytes of the messages of a row, about: they fit into the second cache.
const SET_LEN: usize = 256 << 10;

/// Most messages of a row.
const SET_MESSAGES: usize = 512;

/// Messages of mixed lengths, and the longest of them.
const MIXED_MESSAGES: usize = 128;
const MIXED_LEN_MAX: usize = 64 << 10;

/// A promise, or without a target, a figure.
struct Row {
    algorithm: Algorithm,
    lens: Lens,
    /// Names of backends; the fastest that is there counts.
    backends: &'static [&'static str],
    target: Option<f64>,
}

/// Lengths of the messages.
#[derive(Clone, Copy)]
enum Lens {
    Equal(usize),
    /// From 1 to [`MIXED_LEN_MAX`] bytes, as many between 1 and 2 KiB as between 2 and 4 KiB.
    Mixed,
}

const fn row(
    algorithm: Algorithm,
    len: usize,
    backends: &'static [&'static str],
    target: f64,
) -> Row {
    Row { algorithm, lens: Lens::Equal(len), backends, target: Some(target) }
}

const fn figure(algorithm: Algorithm, len: usize, backends: &'static [&'static str]) -> Row {
    Row { algorithm, lens: Lens::Equal(len), backends, target: None }
}

const KIB: usize = 1024;

/// Backends of SHA-256 on a processor with the SHA extensions.
const SHA_256: &[&str] = &["sha256_sha_ni_x2", "sha256_avx512_x16"];

const ROWS: &[Row] = &[
    row(Sha256, 64 * KIB, SHA_256, 1.9),
    row(Sha256, 4 * KIB, SHA_256, 1.9),
    row(Sha256, KIB, SHA_256, 1.8),
    row(Sha256, 256, SHA_256, 1.8),
    row(Sha256, 64, SHA_256, 2.1),
    row(Sha256, 32, SHA_256, 2.1),
    Row { algorithm: Sha256, lens: Lens::Mixed, backends: SHA_256, target: Some(1.85) },
    row(Sha512, 4 * KIB, &["sha512_avx512_x8"], 4.0),
    row(Sha512, 4 * KIB, &["sha512_avx2_x4"], 2.3),
    row(Blake3, KIB, &["blake3_avx512_x16"], 5.0),
    row(Blake3, 2 * KIB, &["blake3_avx512_x16"], 2.8),
    row(Blake3, 4 * KIB, &["blake3_avx512_x16"], 1.8),
    figure(Blake3, 64, &["blake3_avx512_x16"]),
    figure(Blake3, KIB, &["blake3_avx2_x8"]),
    figure(Blake3, 2 * KIB, &["blake3_avx2_x8"]),
    figure(Blake3, 4 * KIB, &["blake3_avx2_x8"]),
    figure(Md5, 4 * KIB, &["md5_avx512_x16"]),
    row(Md5, 4 * KIB, &["md5_avx2_x8"], 4.5),
    figure(Sha1, 4 * KIB, &["sha1_avx512_x16"]),
    row(Sha1, 4 * KIB, &["sha1_avx2_x8"], 1.8),
    figure(Blake2b, 4 * KIB, &["portable"]),
];

/// Without the SHA extensions.
const SOFT_ROWS: &[Row] = &[
    row(Sha256, 4 * KIB, &["sha256_avx2_x8"], 4.0),
    figure(Sha256, KIB, &["sha256_avx2_x8"]),
    figure(Sha256, 4 * KIB, &["sha256_avx512_x16"]),
];

pub(crate) fn run(report: &mut Report) {
    let rows = if cfg!(sha2_backend = "soft") {
        report.note(
            "as without the SHA extensions: sha2's soft backend, OpenSSL's if it was told so",
        );
        SOFT_ROWS
    } else {
        ROWS
    };
    rows.iter().for_each(|row| row.run(report));
}

impl Row {
    fn run(&self, report: &mut Report) {
        let title = self.title();
        let ours = self.backends.iter().filter_map(|name| contender::backend(name, self.algorithm));
        let ours: Vec<Contender> = ours.collect();
        if ours.is_empty() {
            let target =
                self.target.map_or(String::new(), |target| format!(" (target >= {target}x)"));
            report
                .note(&format!("absent {title}{target}: no {} here", self.backends.join(", no ")));
            return;
        }
        let mut theirs = vec![contender::reference(self.algorithm)];
        theirs.extend(contender::others(self.algorithm));
        let data = pattern(SET_LEN);
        let messages = self.messages(&data);
        let [our_times, their_times] = times([&ours, &theirs], &messages);
        let fastest = |(_, a): &(_, &Vec<f64>), (_, b): &(_, &Vec<f64>)| {
            median(a.to_vec()).total_cmp(&median(b.to_vec()))
        };
        let best = ours.iter().zip(&our_times).min_by(fastest);
        let (best, best_times) = best.expect("one of them is there");
        let ratios: Vec<f64> = their_times.iter().map(|times| ratio(times, best_times)).collect();
        let what = format!("{title}, {} over {}", best.name, theirs[0].name);
        match self.target {
            Some(target) => report.check(&what, ratios[0], "x", Target::AtLeast(target)),
            None => report.note(&format!("       {what}: {:.2}x", ratios[0])),
        }
        let bytes: usize = messages.iter().map(|message| message.len()).sum();
        let mut text =
            format!("       {:.2} GB/s", bytes as f64 / median(best_times.clone()) / 1e9);
        for (their, ratio) in theirs.iter().zip(&ratios).skip(1) {
            text += &format!(", over {} {ratio:.2}x", their.name);
        }
        for (our, times) in ours.iter().zip(&our_times).filter(|(our, _)| our.name != best.name) {
            text += &format!(
                "; {} over {} {:.2}x",
                our.name,
                theirs[0].name,
                ratio(&their_times[0], times)
            );
        }
        report.note(&text);
    }

    fn title(&self) -> String {
        let lens = match self.lens {
            Lens::Equal(len) if len % KIB == 0 => format!("{} KiB", len / KIB),
            Lens::Equal(len) => format!("{len} bytes"),
            Lens::Mixed => format!("1 byte to {} KiB", MIXED_LEN_MAX / KIB),
        };
        format!("{} of {lens}", self.algorithm)
    }

    fn messages<'a>(&self, data: &'a [u8]) -> Vec<&'a [u8]> {
        match self.lens {
            Lens::Equal(len) => {
                let count = (SET_LEN / len).clamp(64.min(SET_MESSAGES), SET_MESSAGES);
                (0..count).map(|i| place(data, i * len, len)).collect()
            }
            Lens::Mixed => mixed_lens().map(|(start, len)| place(data, start, len)).collect(),
        }
    }
}

/// A message of `len` bytes at `start`, or if there are not as many, at a start below.
fn place(data: &[u8], start: usize, len: usize) -> &[u8] {
    &data[start % (data.len() - len + 1)..][..len]
}

/// Starts and lengths: the same in each run.
fn mixed_lens() -> impl Iterator<Item = (usize, usize)> {
    let mut random = Random::new(1);
    (0..MIXED_MESSAGES).map(move |_| {
        let len_max = 2 << random.below(MIXED_LEN_MAX.ilog2().into());
        (random.index(SET_LEN), len_max / 2 + 1 + random.index(len_max / 2))
    })
}

/// Seconds that each contender of both sides takes for all messages, for each round. They take
/// turns, and the first round is not counted.
fn times(sides: [&[Contender]; 2], messages: &[&[u8]]) -> [Vec<Vec<f64>>; 2] {
    let bytes: usize = messages.iter().map(|message| message.len()).sum();
    let repeats = ROUND_LEN.div_ceil(bytes);
    let mut times = sides.map(|side| vec![Vec::with_capacity(ROUNDS); side.len()]);
    let mut out = Vec::new();
    let mut want = None;
    for round in 0..=ROUNDS {
        for (side, times) in sides.iter().zip(&mut times) {
            for (contender, times) in side.iter().zip(times) {
                let start = Instant::now();
                for _ in 0..repeats {
                    out.clear();
                    (contender.hash_all)(messages, &mut out);
                }
                let time = start.elapsed().as_secs_f64();
                assert!(&out == want.get_or_insert(out.clone()), "{}", contender.name);
                if round > 0 {
                    times.push(time / repeats as f64);
                }
            }
        }
    }
    times
}

/// Time of `theirs` over ours, by the middle round.
fn ratio(theirs: &[f64], ours: &[f64]) -> f64 {
    median(theirs.iter().zip(ours).map(|(theirs, ours)| theirs / ours).collect())
}
