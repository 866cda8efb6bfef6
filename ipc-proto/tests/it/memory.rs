#![expect(unsafe_code, reason = "a global allocator that counts")]
//! A length that lies costs its sender the connection, and the reader next to no memory.

use crate::golden::golden;
use crate::samples::Kind;
use ipc_proto::frame::{Decoder, PREFIX_LEN};
use ipc_proto::limits::{
    BACKENDS_MAX, BODY_LEN_MAX, CREDIT_MAX, DATASETS_MAX, DECODE_CLAIM_MAX, FRAME_DESCRIPTORS_MAX,
    FRAME_MESSAGES_MAX, FRAME_NAMES_MAX, STATUS_ROWS_MAX,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Most memory that reading one body may hold at a time: what the codec claims, and a body's worth
/// for lists that move while they grow.
const DECODE_MEMORY_MAX: usize = DECODE_CLAIM_MAX + BODY_LEN_MAX;

/// Counts per thread, as tests run side by side.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to `System` unchanged; the counters neither allocate nor unwind.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// The default `realloc` of [`GlobalAlloc`] allocates, copies and frees, and so both blocks count.
fn count(more: usize, less: usize) {
    HELD.set(HELD.get().wrapping_add(more).wrapping_sub(less));
    // A block freed here may have been counted in another thread: then `HELD` is below zero.
    if HELD.get() < usize::MAX / 2 {
        PEAK.set(PEAK.get().max(HELD.get()));
    }
}

/// The most memory that `run` held at a time, beyond what was held before.
fn peak_of(run: impl FnOnce()) -> usize {
    HELD.set(0);
    PEAK.set(0);
    run();
    PEAK.get()
}

#[track_caller]
fn check_peak(kind: Kind, body: &[u8], why: &str) {
    let peak = peak_of(|| drop(kind.decode(body)));
    assert!(peak <= DECODE_MEMORY_MAX, "{why}: {peak} bytes for a body of {}", body.len());
}

#[test]
fn the_counter_counts() {
    let peak = peak_of(|| drop(vec![1_u8; 1 << 20]));
    assert!((1 << 20..2 << 20).contains(&peak), "{peak}");
}

/// In every golden body, every byte is replaced by a length that lies, whether or not it was a
/// length: with nothing behind it, with the rest of the body, and with zeros up to the limit of a
/// body, which read as very many small elements.
#[test]
fn a_false_length_is_refused_in_little_memory() {
    let zeros = vec![0; BODY_LEN_MAX];
    let lies = [1 << 12, 1 << 20, 4_000_000, 1 << 22, 1 << 32, 1 << 62, u64::MAX];
    let lists = [
        BACKENDS_MAX,
        DATASETS_MAX,
        FRAME_NAMES_MAX,
        FRAME_DESCRIPTORS_MAX,
        STATUS_ROWS_MAX,
        CREDIT_MAX.into(),
        FRAME_MESSAGES_MAX,
    ];
    for (label, frame) in golden() {
        let body = &frame[PREFIX_LEN..];
        for kind in Kind::ALL {
            if kind.decode(body).is_err() {
                continue;
            }
            for at in 0..body.len().min(120) {
                for length in lies {
                    let mut lie = body[..at].to_vec();
                    lie.push(253);
                    lie.extend_from_slice(&length.to_le_bytes());
                    let why = format!("{label}, {length} at {at}");
                    check_peak(*kind, &lie, &why);
                    check_peak(*kind, &[&lie, &body[at + 1..]].concat(), &why);
                }
                for length in lists.iter().map(|&len| len as u64).chain([u64::from(u32::MAX)]) {
                    let mut lie = body[..at].to_vec();
                    lie.push(253);
                    lie.extend_from_slice(&length.to_le_bytes());
                    lie.extend_from_slice(&zeros[lie.len()..]);
                    check_peak(*kind, &lie, &format!("{label}, {length} at {at}, then zeros"));
                }
            }
        }
    }
}

#[test]
fn a_false_length_prefix_reserves_nothing() {
    for prefix in [0, 1, 1 << 20, (1 << 20) + 1, u32::MAX] {
        let peak = peak_of(|| {
            let mut decoder = Decoder::new();
            decoder.push(&prefix.to_le_bytes());
            assert_ne!(decoder.next_body().map(|body| body.is_some()), Ok(true));
        });
        assert!(peak < 1024, "{prefix}: {peak} bytes");
    }
}
