//! What backends with AVX2 share: the proof that it is there.

use super::cpu::{Cpu, Feature};

/// Proof that AVX2 was detected; only `detect` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

impl Avx2 {
    /// What a function with `target_feature` may enable where there is a proof.
    const FEATURES: &[Feature] = &[Feature::Avx2];

    pub(super) fn detect(cpu: &Cpu) -> Option<Self> {
        cpu.has(Self::FEATURES).then_some(Self(()))
    }
}
