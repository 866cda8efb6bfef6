//! Policies, good and bad.

use super::*;

const KNOWN: [&str; 2] = ["a", "b"];

fn extend(policy: &mut AccessPolicy, text: &str) -> Result<(), String> {
    let known = KNOWN.map(str::to_owned);
    let token = |path: &Path| {
        let name = path.to_str().expect("text");
        Token::parse(name.as_bytes()).map_err(|error| error.to_string())
    };
    policy.extend(text.as_bytes(), &known, token).map_err(|error| error.to_string())
}

fn policy(text: &str) -> AccessPolicy {
    let mut policy = AccessPolicy::own(1000);
    extend(&mut policy, text).unwrap();
    policy
}

fn peer(uid: u32, gid: u32) -> Peer {
    Peer { uid, gid, pid: 1 }
}

#[test]
fn only_the_named_get_in() {
    let mut policy = AccessPolicy::own(1000);
    assert!(policy.is_private_for_clients() && policy.is_private_for_workers());
    policy.allow(vec![7], vec![50]);
    let rights = |uid, gid| policy.client(peer(uid, gid)).map(|rights| (*rights).clone());
    for (uid, gid) in [(0, 9), (1000, 9)] {
        assert_eq!(rights(uid, gid), Some(Rights::ALL));
    }
    for (uid, gid) in [(7, 0), (7, 9), (8, 50), (8, 50)] {
        assert_eq!(rights(uid, gid), Some(Rights::jobs()), "no release, no dataset");
    }
    for (uid, gid) in [(8, 9), (50, 7), (u32::MAX, u32::MAX), (8, 1000), (8, 0)] {
        assert_eq!(rights(uid, gid), None);
    }
    assert!(!policy.is_private_for_clients() && policy.is_private_for_workers());
}

/// A worker is given others' descriptors, and its digests are believed.
#[test]
fn who_may_open_jobs_may_not_be_a_worker() {
    let mut policy = policy("rule = [{ uids = [5], may = ['work'] }]");
    assert!(policy.is_private_for_clients() && !policy.is_private_for_workers());
    policy.allow(vec![7], vec![50]);
    for (uid, gid, want) in [
        (0, 0, true),
        (1000, 9, true),
        (5, 9, true),
        (7, 9, false),
        (8, 50, false),
        (5, 50, true),
        (9, 9, false),
    ] {
        assert_eq!(policy.admits_worker(peer(uid, gid)), want, "{uid}, {gid}");
    }
    assert_eq!(policy.client(peer(5, 9)), None, "and the other way round");
}

#[test]
fn the_first_rule_that_names_a_peer_decides() {
    let policy = policy(
        "[[rule]]
         uids = [5]
         may = []
         [[rule]]
         uids = [6]
         gids = [50]
         may = ['submit', 'see-jobs']
         datasets = ['a']
         quota = { jobs = 3, durable-jobs = 4, durable-items = 5, priority = 6 }
         [[rule]]
         gids = [60]
         may = ['release', 'submit']
         datasets = ['*']",
    );
    let rights = |uid, gid| policy.client(peer(uid, gid));
    assert_eq!(rights(5, 50), None, "shut out of his group's rule");
    let datasets = DatasetRights::Named(["a".to_owned()].into());
    let (durable_jobs, durable_items, priority) = (4, 5, 6);
    let quota = Quota { jobs: 3, durable_jobs, durable_items, priority, ..Quota::MAX };
    let some = Rights { datasets, quota, ..Rights::jobs() };
    assert_eq!(rights(6, 60).as_deref(), Some(&some));
    assert_eq!(rights(9, 50).as_deref(), Some(&some));
    let (see_jobs, manage_jobs, drain, backup) = (false, false, false, false);
    let more = Rights { see_jobs, manage_jobs, drain, backup, ..Rights::ALL };
    assert_eq!(rights(9, 60).as_deref(), Some(&more));
    assert!(more.datasets.includes("b") && some.datasets.includes("a"));
    assert!(!some.datasets.includes("b") && !some.datasets.includes("*"));
}

#[test]
fn over_vsock_a_token_says_what_its_holder_may_do() {
    let open = AccessPolicy::own(1000);
    let holder = |policy: &AccessPolicy, guess: &str| policy.token_holder(guess.as_bytes());
    assert_eq!(holder(&open, "x"), Some((Principal::Token(0), Rc::new(Rights::jobs()))));
    let mut policy = open;
    policy.trust(Token::parse(b"own").unwrap());
    extend(&mut policy, "rule = [{ token_file = 'ci', may = ['submit'] }]").unwrap();
    assert!(policy.is_private_for_clients() && policy.is_private_for_workers());
    assert_eq!(holder(&policy, "own"), Some((Principal::Token(0), Rc::new(Rights::ALL))));
    let rights = Rc::new(Rights { see_jobs: false, ..Rights::jobs() });
    assert_eq!(holder(&policy, "ci"), Some((Principal::Token(1), rights)));
    for guess in ["", "o", "c", "ci2"] {
        assert_eq!(holder(&policy, guess), None, "{guess:?}");
    }
}

#[test]
fn a_rule_that_cannot_be_meant_is_an_error_that_names_it() {
    let cases = [
        ("rule = [{ may = ['submit'] }]", "rule 1: it names nobody"),
        ("rule = [{ uids = [], may = [] }]", "rule 1: it names nobody"),
        ("rule = [{ uids = [1] }]", "missing field `may`"),
        ("rule = [{ uids = [1], may = ['sumbit'] }]", "unknown variant `sumbit`, expected one of"),
        ("rule = [{ uids = [-1], may = [] }]", "invalid value: integer `-1`"),
        ("rule = [{ uids = ['x'], may = [] }]", "invalid type: string \"x\""),
        ("rule = [{ uids = [1], may = [], quota = { jbs = 1 } }]", "unknown field `jbs`"),
        (
            "rule = [{ uids = [1], may = [], quota = { priority = 10 } }]",
            "rule 1: a priority is 0 to 9",
        ),
        ("rule = [{ uid = [1], may = [] }]", "unknown field `uid`"),
        ("rules = []", "unknown field `rules`"),
        ("rule = [", "line 1"),
        ("rule = [{ uids = [1], token_file = 'x', may = [] }]", "rule 1: a token and users are"),
        ("rule = [{ token_file = 'x', may = ['work'] }]", "--worker-tokens"),
        ("rule = [{ token_file = '', may = [] }]", "rule 1: "),
        ("rule = [{ uids = [1], may = [], datasets = ['a'] }]", "not the right to submit"),
        (
            "rule = [{ uids = [1], may = ['submit'], datasets = ['c'] }]",
            "rule 1: no dataset of this controller is named \"c\"",
        ),
        (
            "rule = [{ uids = [1], may = [] }, { uids = [2, 1], may = [] }]",
            "rule 2: uid 1 is in rule 1 already",
        ),
        (
            "rule = [{ gids = [1], may = [] }, { gids = [1], may = [] }]",
            "rule 2: gid 1 is in rule 1 already",
        ),
        (
            "rule = [{ token_file = 'x', may = [] }, { token_file = 'x', may = [] }]",
            "rule 2: its token is that of rule 1",
        ),
    ];
    for (text, want) in cases {
        let error = extend(&mut AccessPolicy::own(1000), text).unwrap_err();
        assert!(error.contains(want), "{text}: {error}");
    }
    let many = "[[rule]]\nuids = [1]\nmay = []\n".repeat(RULES_MAX + 1);
    let error = extend(&mut AccessPolicy::own(1000), &many).unwrap_err();
    assert_eq!(error, "more than 256 rules");
    let not_text = AccessPolicy::own(1).extend(b"\xff", &[], |_| Err(String::new()));
    assert!(matches!(not_text, Err(PolicyError::NotText)));
}

/// The example of the documentation, with its datasets and without reading its token.
#[test]
fn the_documented_example_is_a_policy() {
    let document = include_str!("../../../../docs/policy.md");
    let (_, rest) = document.split_once("```toml\n").expect("it has an example");
    let (example, _) = rest.split_once("```").expect("the example has an end");
    let policy = policy(&example.replace("photos", "a").replace("backup", "b"));
    assert_eq!(policy.rules.len(), 4);
    for bound in policy.rules.iter().flat_map(|rule| rule.row().quota) {
        assert!(document.contains(&format!("`{}`", bound.0)), "{bound:?}");
    }
    for word in ["submit", "see-jobs", "manage-jobs", "release", "backup", "work"] {
        assert!(document.contains(&format!("| `{word}` |")), "{word}");
    }
}
