//! The instructions that a backend may use: those that the processor has and that are not hidden.
//!
//! `HASHCLUSTER_DENY_CPU` hides features, as a list such as `sha,avx512f`, so that what an older
//! processor would run can be run on a newer one. It hides them from our backends: the crates behind
//! the portable one look for themselves.

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected;
use std::error::Error;
use std::fmt;

/// Comma-separated names of features to hide: those of this kind of processor.
pub(super) const DENY_CPU: &str = "HASHCLUSTER_DENY_CPU";

macro_rules! features {
    ($detected:ident: $($feature:ident = $name:tt,)*) => {
        /// A feature that some backend needs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Feature {
            $($feature,)*
        }

        impl Feature {
            const ALL: &[Self] = &[$(Self::$feature,)*];

            const fn name(self) -> &'static str {
                match self {
                    $(Self::$feature => $name,)*
                }
            }

            fn is_detected(self) -> bool {
                match self {
                    $(Self::$feature => $detected!($name),)*
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
features! {
    is_x86_feature_detected:
    Ssse3 = "ssse3",
    Sse41 = "sse4.1",
    Sha = "sha",
    Avx2 = "avx2",
    Bmi1 = "bmi1",
    Bmi2 = "bmi2",
    Avx512f = "avx512f",
    Avx512bw = "avx512bw",
    Avx512vl = "avx512vl",
}

#[cfg(target_arch = "aarch64")]
features! {
    is_aarch64_feature_detected:
    Neon = "neon",
    Sha2 = "sha2",
    Sha3 = "sha3",
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
features! {
    no_detection:
}

/// Defines the zero-sized proof that a processor has some features.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! proof {
    ($(#[$doc:meta])* $name:ident: $($feature:ident),+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) struct $name(());

        impl $name {
            /// Detects the features that a function with `target_feature` may enable where there is
            /// a proof.
            pub(super) fn detect(cpu: &crate::hash::cpu::Cpu) -> Option<Self> {
                let features = [$(crate::hash::cpu::Feature::$feature),+];
                cpu.has(&features).then_some(Self(()))
            }
        }
    };
}

/// The features that backends may use.
#[derive(Debug)]
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, reason = "no backend asks there")
)]
pub(super) struct Cpu(Vec<Feature>);

impl Cpu {
    /// This processor, without the features in `denied`, which has the form of [`DENY_CPU`].
    pub(super) fn detect(denied: &str) -> Result<Self, UnknownFeature> {
        let hidden = list(denied).map(feature).collect::<Result<Vec<_>, _>>()?;
        let seen = |feature: &Feature| feature.is_detected() && !hidden.contains(feature);
        Ok(Self(Feature::ALL.iter().copied().filter(seen).collect()))
    }

    /// Features of the processor, less what the environment hides.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn of_environment() -> Result<Self, UnknownFeature> {
        Self::detect(&std::env::var_os(DENY_CPU).unwrap_or_default().to_string_lossy())
    }

    /// Returns true if it has all of `features`.
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64")),
        allow(dead_code, reason = "no backend asks there")
    )]
    pub(super) fn has(&self, features: &[Feature]) -> bool {
        features.iter().all(|feature| self.0.contains(feature))
    }
}

#[cfg(test)]
impl Cpu {
    pub(super) fn has_named(&self, name: &str) -> bool {
        feature(name).is_ok_and(|feature| self.has(&[feature]))
    }
}

fn feature(name: &str) -> Result<Feature, UnknownFeature> {
    let named = Feature::ALL.iter().find(|feature| feature.name() == name);
    named.copied().ok_or_else(|| UnknownFeature(name.to_owned()))
}

/// The names in a variable's value. An empty one does not count.
pub(super) fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// An unknown name in `HASHCLUSTER_DENY_CPU`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFeature(String);

impl fmt::Display for UnknownFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{DENY_CPU}: unknown feature {:?}; known:", self.0)?;
        Feature::ALL.iter().try_for_each(|feature| write!(f, " {}", feature.name()))
    }
}

impl Error for UnknownFeature {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_can_be_hidden_by_its_name() {
        let all = Cpu::detect("").unwrap();
        for &hidden in Feature::ALL {
            let cpu = Cpu::detect(hidden.name()).unwrap();
            for &feature in Feature::ALL {
                let want = feature != hidden && all.has(&[feature]);
                assert_eq!(cpu.has(&[feature]), want, "{feature:?} without {hidden:?}");
            }
        }
    }

    #[test]
    fn hiding_all_leaves_none() {
        let names: Vec<_> = Feature::ALL.iter().map(|feature| feature.name()).collect();
        let cpu = Cpu::detect(&format!(" {},,", names.join(" , "))).unwrap();
        assert!(!Feature::ALL.iter().any(|&feature| cpu.has(&[feature])));
        assert!(cpu.has(&[]));
    }

    #[test]
    fn an_unknown_feature_is_an_error_that_names_the_known_ones() {
        let known: Vec<_> = Feature::ALL.iter().map(|feature| feature.name()).collect();
        let error = Cpu::detect(&format!("{},sse4_1", known.join(","))).unwrap_err();
        assert_eq!(error, UnknownFeature("sse4_1".to_owned()));
        let text = error.to_string();
        let end = format!("unknown feature \"sse4_1\"; known: {}", known.join(" "));
        assert!(text.ends_with(&end), "{text}");
    }
}
