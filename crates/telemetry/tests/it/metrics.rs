//! Metrics as text.

use telemetry::metrics::Metrics;
use telemetry::metrics_table;

metrics_table! {
    /// All of them.
    ALL;
    LOAD Gauge "load" [] "Now.";
    DONE Counter "done_total" [] "Until now.";
    OF Gauge "of" ["name"] "Of each.";
}

#[test]
fn a_metric_without_labels_is_there_before_anybody_sets_it() {
    let metrics = Metrics::new(&[ALL]);
    let text = metrics.render();
    for line in [
        "# HELP load Now.",
        "# TYPE load gauge",
        "load 0",
        "# TYPE done_total counter",
        "done_total 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("of{"), "{text}");
}

#[test]
fn values_are_shown_and_a_counter_never_falls() {
    let metrics = Metrics::new(&[ALL]);
    metrics.set(&LOAD, &[], 2.5);
    metrics.set(&LOAD, &[], 1.5);
    metrics.set(&DONE, &[], 7.0);
    metrics.set(&DONE, &[], 3.0);
    let text = metrics.render();
    assert!(text.contains("\nload 1.5\n") && text.contains("\ndone_total 7\n"), "{text}");
}

#[test]
fn the_words_of_a_peer_cannot_forge_a_line() {
    let metrics = Metrics::new(&[ALL]);
    metrics.set(&OF, &["a\"} 1\nload 9\\"], 1.0);
    let text = metrics.render();
    assert!(text.contains("\nof{name=\"a\\\"} 1\\nload 9\\\\\"} 1\n"), "{text}");
    assert!(!text.contains("\nload 9"), "{text}");
}

metrics_table! {
    /// Histograms.
    TIMES;
    WAIT Histogram "wait_seconds" [] "Waits.";
}

#[test]
fn a_histogram_counts_by_buckets_and_is_there_before_anything_is_recorded() {
    let metrics = Metrics::new(&[ALL, TIMES]);
    let value = |series: &str| {
        let text = metrics.render();
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} in\n{text}")).parse::<f64>().unwrap()
    };
    assert_eq!([value("wait_seconds_count"), value("wait_seconds_sum")], [0.0, 0.0]);
    let wait = metrics.histogram(&WAIT, &[]);
    [0.002, 0.003, 1000.0].into_iter().for_each(|seconds| wait.record(seconds));
    metrics.fold();
    wait.record(0.002);
    let bucket = |le| value(&format!("wait_seconds_bucket{{le=\"{le}\"}}"));
    assert_eq!(["0.001", "0.0025", "0.005", "600", "+Inf"].map(bucket), [0.0, 2.0, 3.0, 3.0, 4.0]);
    assert_eq!(value("wait_seconds_count"), 4.0);
}
