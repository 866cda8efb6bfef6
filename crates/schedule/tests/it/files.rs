//! Meaning of files.

use schedule::{Backoff, Schedule, TaskKind, parse};
use std::time::Duration;

pub(crate) fn read(text: &str) -> Vec<Schedule> {
    parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}\n{text}")).schedules
}

#[track_caller]
pub(crate) fn refused(text: &str, want: &[&str]) {
    let errors = parse(text.as_bytes()).map(|_| ()).unwrap_err().to_string();
    assert_eq!(errors.lines().collect::<Vec<_>>(), want, "{text}");
}

/// Names of the steps that each step waits for.
fn graph(schedule: &Schedule) -> Vec<(String, Vec<&str>)> {
    let name = |&i: &usize| schedule.steps[i].name.as_str();
    let mark = |step: &schedule::Step| if step.task.is_some() { "" } else { "|" };
    let steps = schedule.steps.iter();
    steps
        .map(|step| (mark(step).to_owned() + &step.name, step.after.iter().map(name).collect()))
        .collect()
}

#[test]
fn a_schedule_can_be_one_task() {
    let all = read("schedules:\n  nightly: {at: 30 2 * * *, kind: sum, dataset: photos}\n");
    assert_eq!((all.len(), all[0].name.as_str()), (1, "nightly"));
    assert_eq!(graph(&all[0]), [("nightly".into(), vec![])]);
    let task = all[0].steps[0].task.as_ref().unwrap();
    assert_eq!((&task.kind, task.dataset.as_str()), (&TaskKind::Sum, "photos"));
}

#[test]
fn groups_and_after_become_one_graph() {
    let text = "\
schedules:
  s:
    dataset: d
    sequential:
      first: {kind: sum}
      middle:
        parallel:
          a: {kind: sum}
          b: {kind: sum, after: a}
      last: {kind: sum}
  p:
    dataset: d
    parallel:
      z: {kind: sum, after: [x, g]}
      x: {kind: sum}
      g: {sequential: {one: {kind: sum}, two: {kind: sum, after: x}}}
      y: {kind: sum, after: g.one}
";
    let all = read(text);
    let owned = |want: &[(&str, &[&'static str])]| -> Vec<(String, Vec<&str>)> {
        want.iter().map(|(name, after)| ((*name).to_owned(), after.to_vec())).collect()
    };
    assert_eq!(
        graph(&all[0]),
        owned(&[
            ("first", &[]),
            ("|middle.begin", &["first"]),
            ("middle.a", &["middle.begin"]),
            ("middle.b", &["middle.begin", "middle.a"]),
            ("|middle", &["middle.a", "middle.b"]),
            ("last", &["middle"]),
        ])
    );
    assert_eq!(
        graph(&all[1]),
        owned(&[
            ("x", &[]),
            ("|g.begin", &[]),
            ("g.one", &["g.begin"]),
            ("g.two", &["x", "g.one"]),
            ("|g", &["g.one", "g.two"]),
            ("z", &["x", "g"]),
            ("y", &["g.one"]),
        ])
    );
}

#[test]
fn cycles_are_refused_and_named() {
    let tasks = |tasks: &str| format!("schedules:\n  s:\n    dataset: d\n    parallel:\n{tasks}");
    refused(
        &tasks(
            "      a: {kind: sum, after: b}\n      b: {kind: sum, after: c}\n      c: {kind: sum, after: a}\n      d: {kind: sum, after: a}\n",
        ),
        &["5:10: cycle: a after b after c after a"],
    );
    refused(&tasks("      a: {kind: sum, after: a}\n"), &["5:10: cycle: a after a"]);
    refused(
        &tasks("      g: {parallel: {a: {kind: sum, after: g}}}\n"),
        &["5:25: cycle: g.a after g after g.a"],
    );
    let sequential =
        "schedules: {s: {dataset: d, sequential: {a: {kind: sum, after: b}, b: {kind: sum}}}}";
    refused(sequential, &["1:45: cycle: a after b after a"]);
}

#[test]
fn values_are_inherited_and_parameters_replaced() {
    let text = "\
timezone: Europe/Berlin
parameters: {store: photos, half: '${store}-2', price: 5$$}
retries: {count: 3, delay: 10s, delay_max: 1m}
schedules:
  a:
    dataset: ${store}
    algorithms: [blake3, sha256]
    parameters: {sub: '${store}/x'}
    parallel:
      t: {kind: check, manifest: '${sub}/${date}.b3', path: '${date}', labels: {cost: '${price}'}}
      u: {kind: scrub, period: 30d, dataset: other, rate: 200M, only: '22:00-06:00', retries: 0}
";
    let text = text.replace("half: '${store}-2', ", "");
    let all = read(&text);
    assert_eq!(all[0].zone.name(), "Europe/Berlin");
    let [t, u] = [0, 1].map(|i| all[0].steps[i].task.as_ref().unwrap());
    let run = schedule::Builtins { date: "2026-11-27", yesterday: "", schedule: "a", task: "t" };
    assert_eq!(t.dataset, "photos");
    assert_eq!(t.path.render(&run), "2026-11-27");
    assert_eq!(t.labels["cost"].render(&run), "5$");
    let TaskKind::Check { manifest } = &t.kind else { panic!("{t:?}") };
    assert_eq!(manifest.render(&run), "photos/x/2026-11-27.b3");
    let [delay, delay_max] = [10, 60].map(Duration::from_secs);
    assert_eq!(t.retries, Backoff { count: 3, delay, delay_max });
    let delays: Vec<_> = (1..=4).map(|number| t.retries.delay_before(number)).collect();
    assert_eq!(delays, [Some(10), Some(20), Some(40), None].map(|s| s.map(Duration::from_secs)));
    assert_eq!((u.dataset.as_str(), u.rate, u.retries.count), ("other", Some(200 << 20), 0));
    assert_eq!((u.algorithms.len(), u.only[0].to_string()), (2, "22:00-06:00".into()));
}

#[test]
fn each_error_names_its_line_its_column_and_what_to_write() {
    for (text, want) in [
        ("", &["1:1: is empty; docs/schedules.md has examples"][..]),
        ("{}", &["1:1: the key schedules is missing"]),
        ("hello", &["1:1: the file: 'hello' is not a map with the key schedules"]),
        ("schedules: 5", &["1:12: schedules: '5' is not a map of schedules by name"]),
        (
            "schedules:\n  a:\n    kind: sum\n    dataset: d\n    retrys: 3\n",
            &["5:5: unknown key 'retrys' (did you mean 'retries'?)"],
        ),
        (
            "schedules:\n  a: {kind: sum, dataset: d, every: 10}\n",
            &[
                "2:37: every: bad value '10'; write a duration of 1m to 52w2d, such as 90s, 1h30m or 2d",
            ],
        ),
        (
            "schedules:\n  a: {kind: summ, dataset: d, at: 1 2 3}\n  b: {at: \"61 * * * *\"}\n",
            &[
                "2:13: kind: bad value 'summ'; write sum or check or audit or scrub",
                "2:35: at: '1 2 3': 3 fields instead of five: minute, hour, day of month, month, day of week",
                "3:6: 'b' has neither kind, parallel nor sequential",
                "3:11: at: '61 * * * *': number out of bounds",
            ],
        ),
        (
            "schedules: {a: {kind: sum, dataset: d, at: '0 0 30 2 *'}}",
            &["1:44: at: '0 0 30 2 *': is never due"],
        ),
        (
            "schedules: {a: {kind: sum, at: '@reboot'}}",
            &[
                "1:16: a sum needs dataset, here or at a higher level",
                "1:32: at: '@reboot': unknown nickname; there are @yearly, @annually, @monthly, @weekly, @daily, @hourly",
            ],
        ),
        (
            "timezone: Europe/Berln\nschedules: {}\n",
            &[
                "1:11: timezone: bad value 'Europe/Berln'; write a name of the IANA database, such as Europe/Berlin",
            ],
        ),
        (
            "schedules:\n  a:\n  at: */5 * * * *\n",
            &[
                "3:7: aliases (*NAME) are not supported; quote a value that begins with '*', what repeats can stand once at a higher level, or in parameters",
            ],
        ),
        (
            "schedules: {a: {kind: sum, dataset: '${nme}', parameters: {name: d}}}",
            &["1:37: dataset: unknown parameter 'nme' (did you mean 'name'?)"],
        ),
        (
            "schedules: {a: {kind: sum, dataset: d, timeout: '${date}'}}",
            &["1:49: timeout: ${date} is known only in a run: in paths and labels"],
        ),
        (
            "schedules: {a: {kind: check, dataset: d, path: ../x}}",
            &[
                "1:16: a check needs manifest",
                "1:48: path: bad value '../x'; write a relative path without '..', '.' or '//'",
            ],
        ),
        ("schedules: {a: {kind: sum}, a: {kind: sum}}", &["1:29: key 'a' is there twice"]),
        ("schedules: {a: {kind: sum, dataset: d, after: b}}", &["1:40: unknown key 'after' here"]),
        (
            "schedules: {a: {kind: sum, dataset: d, notify: {url: 'https://x/', on: [failure, chnge]}}}",
            &[
                "1:54: url: 'https://x/': TLS is not spoken here; name a local proxy by http:// or unix:",
                "1:82: on: bad value 'chnge'; write failure or change or rot or success",
            ],
        ),
        (
            "schedules: {a: {kind: sum, dataset: d, notify: {command: /bin/sh}}}",
            &[
                "1:58: '/bin/sh' is not a name of a command; use 1 to 64 letters, digits, '-', '_', and dots inside",
            ],
        ),
        ("schedules: {}\n---\nschedules: {}\n", &["2:1: a second document; use one file each"]),
        (
            "a: &x 1",
            &["1:4: anchors (&NAME) are not supported; quote a value that begins with '&'"],
        ),
        ("a: !!int 1", &["1:4: tags (tag:yaml.org,2002:!int) are not supported"]),
        ("? [a]\n: b", &["1:3: a key is a word, not a list or map"]),
    ] {
        refused(text, want);
    }
    assert!(parse(b"a: \xff").unwrap_err().to_string().ends_with("is not UTF-8 text"));
}

#[test]
fn the_normal_form_of_a_schedule_is_read_to_the_same_schedule() {
    let text = include_str!("../../../../docs/examples/schedules.yaml");
    for want in read(text) {
        let json = want.to_json();
        assert_eq!(read(&json), [want], "{json}");
        assert_eq!(read(&json)[0].to_json(), json);
    }
    let odd = "schedules: {s: {notify: {url: 'http://h/$$x', on: success}, dataset: d, at: ['0 0 * * *', '0 1 * * *'], \
               sequential: {e: {parallel: {}}, z: {kind: sum, path: '$$a\\\"${date}'}, a: {kind: sum}}}}";
    for want in read(odd) {
        assert_eq!(read(&want.to_json()), [want]);
    }
}
