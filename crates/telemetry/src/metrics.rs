//! Metrics in the text format of Prometheus (version 0.0.4 of the exposition format).
//!
//! A program lists its metrics with [`metrics_table!`](crate::metrics_table): documents and tests read
//! the same list. Values are kept by the `metrics` crate and rendered by its exporter's recorder.
//!
//! Gauges are set whenever somebody asks for the page: one that nobody has set since is gone. Counters and
//! histograms move as things happen, or are set to a count that is kept elsewhere.

pub use metrics::{Counter, Histogram};
use metrics::{Label, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_util::MetricKindMask;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the buckets of every histogram, in seconds; all of them are of durations.
pub const BUCKETS: [f64; 16] = [
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
    600.0,
];

/// A gauge that nobody has set for this long is gone: that of a worker that left.
const SERIES_LIMIT: Duration = Duration::from_secs(5);

static METADATA: metrics::Metadata<'static> =
    metrics::Metadata::new("hashcluster", metrics::Level::INFO, None);

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A count since the start of the program.
    Counter,
    /// A value that rises and falls.
    Gauge,
    /// A time since the start of the program. The recorder has whole counts only, so that it is kept here.
    Seconds,
    /// Counts of durations by [`BUCKETS`].
    Histogram,
}

impl Kind {
    /// The word of the exposition format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter | Self::Seconds => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its full name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// One sentence about it.
    pub help: &'static str,
}

impl Metric {
    /// Its line in the table of a document.
    #[must_use]
    pub fn row(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, help) = (self.name, self.kind.name(), self.help);
        format!("| `{name}` | {kind} | {} | {help} |", labels.join(", "))
    }

    /// Key of the series with these `values` of its labels.
    fn key(&self, values: &[&str]) -> metrics::Key {
        assert_eq!(values.len(), self.labels.len(), "labels of {}", self.name);
        let labels = self.labels.iter().zip(values);
        let labels = labels.map(|(name, value)| Label::new(*name, (*value).to_owned()));
        metrics::Key::from_parts(self.name, labels.collect::<Vec<_>>())
    }
}

/// The metrics of this process.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    seconds: Mutex<BTreeMap<&'static str, (&'static str, f64)>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Describes all of `tables`; those without labels are there from now on, as 0.
    ///
    /// # Panics
    /// Never: the buckets are not empty.
    #[must_use]
    pub fn new(tables: &[&[&Metric]]) -> Self {
        let recorder = PrometheusBuilder::new()
            .idle_timeout(MetricKindMask::GAUGE, Some(SERIES_LIMIT))
            .set_buckets(&BUCKETS)
            .expect("there are buckets")
            .build_recorder();
        let handle = recorder.handle();
        let metrics = Self { recorder, handle, seconds: Mutex::default() };
        for metric in tables.iter().copied().flatten() {
            let (name, help) = (metric.name.into(), SharedString::const_str(metric.help));
            let recorder = &metrics.recorder;
            match metric.kind {
                Kind::Counter | Kind::Seconds => {
                    recorder.describe_counter(name, None::<Unit>, help)
                }
                Kind::Gauge => recorder.describe_gauge(name, None::<Unit>, help),
                Kind::Histogram => recorder.describe_histogram(name, None::<Unit>, help),
            }
            if metric.labels.is_empty() {
                match metric.kind {
                    Kind::Counter | Kind::Seconds | Kind::Gauge => metrics.set(metric, &[], 0.0),
                    Kind::Histogram => drop(metrics.histogram(metric, &[])),
                }
            }
        }
        metrics
    }

    /// Sets a metric; `values` are those of its labels. A counter that would fall stays as it is.
    ///
    /// # Panics
    /// There are more or fewer values than labels, or it is a histogram.
    pub fn set(&self, metric: &Metric, values: &[&str], value: f64) {
        let key = metric.key(values);
        match metric.kind {
            Kind::Counter => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "counts; the cast saturates"
                )]
                let count = value as u64;
                self.recorder.register_counter(&key, &METADATA).absolute(count);
            }
            Kind::Seconds => {
                assert!(values.is_empty(), "{} has labels", metric.name);
                let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
                seconds.insert(metric.name, (metric.help, value));
            }
            Kind::Gauge => self.recorder.register_gauge(&key, &METADATA).set(value),
            Kind::Histogram => panic!("{} is a histogram", metric.name),
        }
    }

    /// Sets a counter to a count that is kept elsewhere, or a gauge to a whole number.
    ///
    /// # Panics
    /// As [`Self::set`].
    #[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
    pub fn set_count(&self, metric: &Metric, values: &[&str], count: u64) {
        match metric.kind {
            Kind::Counter => self.counter(metric, values).absolute(count),
            Kind::Seconds | Kind::Gauge | Kind::Histogram => {
                self.set(metric, values, count as f64);
            }
        }
    }

    /// A counter that moves as things happen, there from now on.
    ///
    /// # Panics
    /// There are more or fewer values than labels.
    pub fn counter(&self, metric: &Metric, values: &[&str]) -> Counter {
        self.recorder.register_counter(&metric.key(values), &METADATA)
    }

    /// A histogram, there from now on. What is recorded takes memory until [`Self::fold`].
    ///
    /// # Panics
    /// There are more or fewer values than labels.
    pub fn histogram(&self, metric: &Metric, values: &[&str]) -> Histogram {
        self.recorder.register_histogram(&metric.key(values), &METADATA)
    }

    /// Sorts what was recorded into the buckets: to be called every now and then, also if nobody asks.
    pub fn fold(&self) {
        self.handle.run_upkeep();
    }

    /// All of them, as text.
    #[must_use]
    pub fn render(&self) -> String {
        self.fold();
        let mut text = self.handle.render();
        let seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, (help, value)) in &*seconds {
            text += &format!("# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n\n");
        }
        text
    }
}

/// The rows of metrics of `document` below its `heading`, to be compared with [`Metric::row`].
#[must_use]
pub fn rows_below<'a>(document: &'a str, heading: &str) -> Vec<&'a str> {
    let below = document.lines().skip_while(|line| *line != heading).skip(1);
    let section = below.take_while(|line| !line.starts_with("## "));
    section.filter(|line| line.starts_with("| `")).collect()
}

/// Defines the [`Metric`]s of a program, as constants, and the list of all.
#[macro_export]
macro_rules! metrics_table {
    ($(#[$meta:meta])* $vis:vis $table:ident;
     $($const:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(
            #[doc = $help]
            $vis const $const: $crate::metrics::Metric = $crate::metrics::Metric {
                name: $name,
                kind: $crate::metrics::Kind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )+
        $(#[$meta])*
        $vis const $table: &[&$crate::metrics::Metric] = &[$(&$const),+];
    };
}
