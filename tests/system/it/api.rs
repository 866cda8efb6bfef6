//! The HTTP API of a real controller, asked by curl.

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use test_kit::{Cluster, Options};

const ALL: &str = "token-of-all-rights";
const OTHER: &str = "token-of-another-one";
const NONE: &str = "token-without-rights";

struct Site {
    cluster: Cluster,
    socket: PathBuf,
    dir: TempDir,
}

/// An answer: its status, its headers in lower case, and its body.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of a header.
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim_end)
    }

    /// Checks that it is a problem of this status, whose text has `words`.
    #[track_caller]
    fn check_problem(&self, status: u16, words: &str) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!((self.status, &problem["status"]), (status, &json!(status)), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
}

/// Asks by curl; `args` are its own, before the path.
fn curl(socket: &Path, args: &[&str], path: &str) -> Answer {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--include", "--max-time", "60", "--unix-socket"]);
    let output = curl.arg(socket).args(args).arg(format!("http://localhost{path}")).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{path}: {output:?}");
    let mut rest = &output.stdout[..];
    // Before the answer there may be one that says to go on with the body.
    loop {
        let end = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&rest[..end]).to_lowercase();
        rest = &rest[end + 4..];
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        if status != 100 {
            return Answer { status, head, body: rest.to_vec() };
        }
    }
}

impl Site {
    fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir_all(data.join("sub")).unwrap();
        for number in 0..1500 {
            fs::write(data.join(format!("sub/f{number}")), format!("{number}")).unwrap();
        }
        fs::write(data.join("a\nb"), "odd").unwrap();
        let tokens = dir.path().join("tokens");
        let lines =
            format!("all {ALL} submit see-jobs dataset=*\nother {OTHER} submit\nnone {NONE}\n");
        fs::write(&tokens, lines).unwrap();
        fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).unwrap();
        let socket = dir.path().join("http.sock");
        let mut controller_args = vec![
            format!("--http=unix:{}", socket.display()),
            format!("--api-tokens={}", tokens.display()),
        ];
        controller_args.extend(more.iter().map(|&arg| match arg {
            "--state-dir" => format!("--state-dir={}", dir.path().join("state").display()),
            arg => arg.to_owned(),
        }));
        let cluster = Cluster::start(Options {
            workers: 1,
            datasets: vec![("d", data)],
            controller_args,
            ..Options::default()
        });
        Self { cluster, socket, dir }
    }

    fn get(&self, path: &str) -> Answer {
        curl(&self.socket, &[], path)
    }

    fn get_with(&self, args: &[&str], path: &str) -> Answer {
        curl(&self.socket, args, path)
    }

    /// Sends a body in JSON in the name of a token.
    fn post(&self, token: &str, path: &str, body: &Value, args: &[&str]) -> Answer {
        let (token, body) = (format!("Authorization: Bearer {token}"), body.to_string());
        let sent =
            ["-X", "POST", "-H", &token, "-H", "Content-Type: application/json", "-d", &body];
        curl(&self.socket, &[&sent, args].concat(), path)
    }

    fn wait(&self, job: &Value) {
        let mut wait = self.cluster.hashctl();
        let wait = wait.args(["wait", "--timeout", "60", job.as_str().unwrap()]).output().unwrap();
        assert!(wait.status.code().is_some_and(|code| code < 2), "{wait:?}");
    }
}

#[test]
fn a_job_over_a_dataset_is_submitted_shown_and_its_result_is_that_of_hashctl() {
    let site = Site::start(&["--state-dir"]);
    let body = json!({ "dataset": "d", "labels": ["nightly"], "algorithms": ["sha256"] });
    let key = ["-H", "Idempotency-Key: first"];
    let made = site.post(ALL, "/v1/jobs", &body, &key);
    let job = made.json();
    assert_eq!(made.status, 201, "{job}");
    assert_eq!((&job["key"], &job["principal"]), (&json!("first"), &json!("token all")));
    let id = job["job"].as_str().unwrap();
    assert_eq!(made.header("location"), Some(format!("/v1/jobs/{id}").as_str()));
    let again = site.post(ALL, "/v1/jobs", &body, &key);
    assert_eq!((again.status, &again.json()["job"]), (201, &job["job"]));
    let other = site.post(ALL, "/v1/jobs", &json!({ "dataset": "d" }), &key);
    other.check_problem(409, "has this key");

    site.wait(&job["job"]);
    let shown = site.get(&format!("/v1/jobs/{id}")).json();
    assert_eq!((&shown["state"], &shown["done"]), (&json!("done"), &json!(1501)));
    let path = format!("/v1/jobs/{id}/result");
    let result = site.get(&path);
    let want = site.cluster.hashctl().args(["result", id]).output().unwrap();
    assert!(want.status.success() && result.body == want.stdout, "the manifest is hashctl's");
    assert_eq!(result.header("content-type"), Some("text/plain"));
    assert_eq!(result.header("hashcluster-items"), Some("1501"));

    // Who has it already is told so; other forms of it are other entities.
    let tag = result.header("etag").unwrap().to_owned();
    let if_none_match = format!("If-None-Match: {tag}");
    let known = site.get_with(&["-H", &if_none_match], &path);
    assert_eq!((known.status, known.body.len()), (304, 0));
    let lines = site.get_with(&["-H", "Accept: application/jsonl", "-H", &if_none_match], &path);
    assert_eq!((lines.status, lines.header("content-type")), (200, Some("application/jsonl")));
    let text = String::from_utf8(lines.body).unwrap();
    let items: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((items.len(), &items[0]["name"]), (1501, &json!("a\nb")));
    assert_eq!((&items[0]["status"], &items[1500]["item"]), (&json!("done"), &json!(1500)));
    let tail = site.get(&format!("{path}?from=1500"));
    assert!(result.body.ends_with(&tail.body) && tail.body.ends_with(b"\n"));
    let head = site.get_with(&["--head"], &path);
    assert_eq!((head.status, head.body.len()), (200, 0));
    site.get_with(&["-H", "Accept: image/png"], &path).check_problem(406, "text/plain");

    let listed = site.get("/v1/jobs?label=nightly&state=done&key=first").json();
    assert_eq!(listed["jobs"], json!([shown]));
    let datasets = site.get("/v1/datasets").json();
    assert_eq!(datasets, json!({ "datasets": [{ "name": "d" }] }));
    let workers = site.get("/v1/workers").json();
    assert_eq!((&workers["workers"][0]["name"], &workers["unlisted"]), (&json!("w0"), &json!(0)));

    // Another token neither sees it nor may it name the dataset.
    let other = format!("Authorization: Bearer {OTHER}");
    site.get_with(&["-H", &other], &format!("/v1/jobs/{id}")).check_problem(404, "there is no job");
    assert_eq!(site.get_with(&["-H", &other], "/v1/jobs").json(), json!({ "jobs": [] }));
    assert_eq!(site.get_with(&["-H", &other], "/v1/datasets").json(), json!({ "datasets": [] }));
    site.post(OTHER, "/v1/jobs", &body, &[]).check_problem(422, "there is no dataset d");

    let all = format!("Authorization: Bearer {ALL}");
    let gone = site.get_with(&["-X", "DELETE", "-H", &all], &format!("/v1/jobs/{id}"));
    assert_eq!((gone.status, &gone.json()["job"]), (200, &job["job"]));
    site.get(&format!("/v1/jobs/{id}")).check_problem(404, "there is no job");
}

#[test]
fn bytes_are_hashed_and_compared_and_lists_have_pages() {
    let site = Site::start(&["--state-dir"]);
    let digest = "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4";
    let item = |name: &str, digest: &str| json!({ "name": name, "base64": "aGk=", "expected": { "sha256": digest } });
    let items = [item("good", digest), item("bad", &"0".repeat(64))];
    let check = json!({ "kind": "check", "items": items });
    let job = site.post(OTHER, "/v1/jobs", &check, &["-H", "Idempotency-Key: c"]).json();
    site.wait(&job["job"]);
    let path = format!("/v1/jobs/{}", job["job"].as_str().unwrap());
    let shown = site.get(&path).json();
    assert_eq!((&shown["items"], &shown["mismatched"]), (&json!(2), &json!(1)));
    let lines = site.get_with(&["-H", "Accept: application/jsonl"], &format!("{path}/result"));
    assert_eq!(lines.header("hashcluster-mismatched"), Some("1"));
    let text = String::from_utf8(lines.body).unwrap();
    assert!(text.lines().last().unwrap().contains("\"status\":\"mismatch\""), "{text}");
    // The same key with more items is another job.
    let more = json!({ "kind": "check", "items": [items[0], items[0], items[0]] });
    let taken = site.post(OTHER, "/v1/jobs", &more, &["-H", "Idempotency-Key: c"]);
    taken.check_problem(409, "has this key");

    // More than one request to the book stores.
    let many: Vec<Value> =
        (0..1200).map(|n| json!({ "name": format!("n{n}"), "base64": "" })).collect();
    let job = site.post(ALL, "/v1/jobs", &json!({ "items": many }), &[]).json();
    assert_eq!(job["items"], json!(1200));
    site.wait(&job["job"]);
    let done = site.get(&format!("/v1/jobs/{}", job["job"].as_str().unwrap())).json();
    assert_eq!((&done["state"], &done["done"]), (&json!("done"), &json!(1200)));

    let mut path = "/v1/jobs?limit=1".to_owned();
    let mut seen = 0;
    loop {
        let page = site.get(&path).json();
        seen += page["jobs"].as_array().unwrap().len();
        let Some(next) = page["next"].as_str() else { break };
        path = next.to_owned();
    }
    assert_eq!(seen, 2);
}

#[test]
fn an_audit_against_a_list_is_submitted_and_its_findings_are_those_of_hashctl() {
    let site = Site::start(&["--state-dir"]);
    let data = site.dir.path().join("data");
    let mut sum = site.cluster.hashctl();
    let sums = sum.args(["--embedded", "sum", "-r", "."]).current_dir(&data).output().unwrap();
    assert!(sums.status.success(), "{sums:?}");
    fs::write(data.join("SUMS"), [&sums.stdout[..], b"no claim\n"].concat()).unwrap();
    fs::write(data.join("sub/f3"), "changed").unwrap();
    fs::remove_file(data.join("sub/f4")).unwrap();
    fs::rename(data.join("sub/f5"), data.join("moved")).unwrap();
    fs::copy(data.join("a\nb"), data.join("c\nd")).unwrap();
    let body = json!({ "kind": "audit", "dataset": "d", "manifest": "SUMS" });
    let made = site.post(ALL, "/v1/jobs", &body, &[]);
    assert_eq!(made.status, 201, "{made:?}");
    let job = made.json()["job"].clone();
    site.wait(&job);
    let id = job.as_str().unwrap();
    let shown = site.get(&format!("/v1/jobs/{id}")).json();
    assert_eq!((&shown["manifest"]["path"], &shown["kind"]), (&json!("SUMS"), &json!("audit")));
    for (finding, files) in
        [("matched", 1498), ("changed", 1), ("missing", 1), ("moved", 1), ("copied", 1)]
    {
        assert_eq!(shown["findings"][finding], files, "{finding}: {shown}");
    }

    let path = format!("/v1/jobs/{id}/findings");
    let hashctl = |more: &[&str]| {
        let mut result = site.cluster.hashctl();
        result.args(["result", id]).args(more).output().unwrap().stdout
    };
    let text = site.get_with(&["-H", "Accept: text/plain"], &path);
    assert_eq!((text.status, text.header("content-type")), (200, Some("text/plain")));
    assert_eq!(String::from_utf8(text.body).unwrap(), String::from_utf8(hashctl(&[])).unwrap());
    let tail = site.get_with(&["-H", "Accept: text/plain"], &format!("{path}?from=4")).body;
    assert_eq!(tail.iter().filter(|&&byte| byte == b'\n').count(), 1);
    let (mut found, mut next) = (Vec::new(), Some(format!("{path}?limit=2")));
    let mut pages = 0;
    while let Some(path) = next {
        let page = site.get(&path).json();
        found.extend(page["findings"].as_array().unwrap().clone());
        next = page["next"].as_str().map(str::to_owned);
        pages += 1;
    }
    let lines = String::from_utf8(hashctl(&["--json"])).unwrap();
    let objects = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let want: Vec<Value> = objects
        .filter(|object| object.get("counts").is_none())
        .map(|mut object| {
            object.as_object_mut().unwrap().remove("version").unwrap();
            object
        })
        .collect();
    assert_eq!((pages, want.len(), found), (3, 5, want));
    let empty = site.get(&format!("{path}?from=9"));
    assert_eq!((empty.status, empty.json()), (200, json!({ "findings": [] })));

    // Its result leads to them, and those of other jobs lead back.
    let result = site.get(&format!("/v1/jobs/{id}/result"));
    result.check_problem(409, "an audit against a list");
    assert_eq!(result.json()["see"], path);
    let body = json!({ "items": [{ "name": "x", "base64": "aGk=" }] });
    let sum = site.post(ALL, "/v1/jobs", &body, &[]).json()["job"].as_str().unwrap().to_owned();
    let none = site.get(&format!("/v1/jobs/{sum}/findings"));
    none.check_problem(409, "is no audit");
    assert_eq!(none.json()["see"], format!("/v1/jobs/{sum}/result"));
    site.get("/v1/jobs/1-99/findings").check_problem(404, "there is no job");

    let part = json!({ "kind": "audit", "dataset": "d", "manifest": "SUMS", "paths": ["sub"] });
    let part = site.post(ALL, "/v1/jobs", &part, &[]).json()["job"].clone();
    site.wait(&part);
    let path = format!("/v1/jobs/{}/findings", part.as_str().unwrap());
    let names = site.get(&path).json();
    let names: Vec<&Value> =
        names["findings"].as_array().unwrap().iter().map(|found| &found["name"]).collect();
    assert_eq!(names, ["sub/f3", "sub/f4", "sub/f5", "SUMS"]);
}

#[test]
fn a_job_that_is_not_done_is_paused_resumed_and_cancelled_and_its_result_is_partial() {
    let site = Site::start(&["--state-dir"]);
    let mut cluster = site.cluster;
    cluster.workers[0].kill().unwrap();
    cluster.workers[0].wait().unwrap();
    let site = Site { cluster, ..site };
    let body = json!({ "items": [{ "name": "x", "base64": "aGk=" }] });
    let job = site.post(ALL, "/v1/jobs", &body, &[]).json();
    let path = format!("/v1/jobs/{}", job["job"].as_str().unwrap());
    let act = |act: &str| site.post(ALL, &format!("{path}/{act}"), &json!({}), &[]);
    site.get(&format!("{path}/result")).check_problem(409, "partial=true");
    let partial = site.get(&format!("{path}/result?partial=true"));
    assert_eq!((partial.status, partial.body.len()), (200, 0));
    assert_eq!(
        (partial.header("hashcluster-state"), partial.header("etag")),
        (Some("running"), None)
    );
    for (name, state) in [("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")] {
        let answer = act(name);
        assert_eq!((answer.status, &answer.json()["state"]), (200, &json!(state)), "{name}");
    }
    act("retry").check_problem(409, "is cancelled");
    // Others may not, and see nothing of it.
    let other = site.post(OTHER, &format!("{path}/cancel"), &json!({}), &[]);
    other.check_problem(404, "there is no job");
    site.post(NONE, &format!("{path}/cancel"), &json!({}), &[])
        .check_problem(403, "may not submit");
}

#[test]
fn every_error_is_a_problem() {
    let site = Site::start(&["--state-dir"]);
    let body = json!({ "dataset": "d" });
    site.get("/v1").check_problem(404, "openapi.json");
    site.get("/v1/jobs/x").check_problem(404, "no job");
    site.get("/v1/jobs/1-1").check_problem(404, "there is no job 1-1");
    site.get("/v1/jobs?limit=0").check_problem(400, "limit");
    site.get("/v1/jobs?colour=red").check_problem(400, "state, label, key");
    site.get("/v1/jobs?state=new").check_problem(400, "filling, running");
    site.get("/v1/jobs?after=x").check_problem(400, "after");
    let wrong = site.get_with(&["-X", "PUT"], "/v1/jobs");
    wrong.check_problem(405, "GET, HEAD, POST");
    assert_eq!(wrong.header("allow"), Some("get, head, post"));
    let long = format!("/v1/jobs?label={}", "x".repeat(7000));
    site.get(&long).check_problem(431, "6144");
    site.get_with(&["-H", "Host: evil.example"], "/v1/jobs").check_problem(421, "address");
    let none = site.get_with(&["-d", "{}"], "/v1/jobs");
    none.check_problem(401, "--api-tokens");
    assert_eq!(none.header("www-authenticate"), Some("bearer"));
    site.post("token-of-nobody-here", "/v1/jobs", &body, &[]).check_problem(401, "not a token");
    let wrong = ["-H", "Authorization: Basic YTpi"];
    site.get_with(&wrong, "/v1/jobs").check_problem(401, "not a token");
    site.post(NONE, "/v1/jobs", &body, &[]).check_problem(403, "may not submit");
    let all = format!("Authorization: Bearer {ALL}");
    let form = ["-H", &all, "-d", "dataset=d"];
    site.get_with(&form, "/v1/jobs").check_problem(415, "application/json");
    let text = ["-H", &all, "-H", "Content-Type: application/json", "-d", "{"];
    site.get_with(&text, "/v1/jobs").check_problem(400, "the body");
    for key in ["1-2", "a b", &"k".repeat(129)] {
        let key = format!("Idempotency-Key: {key}");
        site.post(ALL, "/v1/jobs", &body, &["-H", &key]).check_problem(400, "idempotency-key");
    }
    site.post(ALL, "/v1/jobs", &json!({ "dataset": "e" }), &[]).check_problem(422, "no dataset e");
    site.post(ALL, "/v1/jobs", &json!({ "dataset": "d", "paths": ["../x"] }), &[])
        .check_problem(422, "path");
    let big = site.dir.path().join("big");
    fs::write(&big, vec![b' '; (1 << 20) + 1]).unwrap();
    let at = format!("@{}", big.display());
    let sent = ["-H", &all, "-H", "Content-Type: application/json", "--data-binary", &at];
    site.get_with(&sent, "/v1/jobs").check_problem(413, "1048576");
    let chunked = [&sent[..], &["-H", "Transfer-Encoding: chunked"]].concat();
    site.get_with(&chunked, "/v1/jobs").check_problem(413, "1048576");
    // Pages beside the API are as they were.
    assert_eq!(site.get("/v2").body, b"there is no such page\n");
    assert_eq!(site.get("/healthz").body, b"ok\n");
}

#[test]
fn without_a_journal_there_are_no_jobs_and_without_a_status_page_reading_wants_a_token() {
    let site = Site::start(&["--no-status-page"]);
    site.get("/v1/jobs").check_problem(401, "--api-tokens");
    site.get("/v1/workers").check_problem(401, "--api-tokens");
    assert_eq!(site.get("/v1/openapi.json").json()["openapi"], json!("3.1.0"));
    let all = format!("Authorization: Bearer {ALL}");
    let ask = |path: &str| site.get_with(&["-H", &all], path);
    ask("/v1/jobs").check_problem(503, "--state-dir");
    assert_eq!(ask("/v1/workers").status, 200);
    site.post(ALL, "/v1/jobs", &json!({ "dataset": "d" }), &[]).check_problem(503, "--state-dir");
}

#[test]
fn tokens_are_read_again_on_sighup_and_their_file_is_private() {
    let site = Site::start(&["--state-dir"]);
    let tokens = site.dir.path().join("tokens");
    let status = |token: &str| {
        let token = format!("Authorization: Bearer {token}");
        site.get_with(&["-H", &token], "/v1/jobs").status
    };
    assert_eq!((status(ALL), status("token-that-is-fresh")), (200, 401));
    fs::write(&tokens, "fresh token-that-is-fresh see-jobs\n").unwrap();
    let pid = i32::try_from(site.cluster.controller.id()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGHUP)
        .unwrap();
    let deadline = std::time::Instant::now() + test_kit::DEADLINE;
    while status("token-that-is-fresh") != 200 {
        assert!(std::time::Instant::now() < deadline, "the file is not read again");
    }
    assert_eq!(status(ALL), 401);

    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o640)).unwrap();
    let mut controller = Command::new(test_kit::bin("hashcluster-controller"));
    controller.arg("--runtime-dir").arg(site.dir.path().join("run"));
    controller.args(["--http", "127.0.0.1:0", "--api-tokens"]).arg(&tokens);
    let refused = controller.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("chmod go="), "{said}");
}

#[test]
fn what_is_done_is_in_the_audit_trail_over_a_restart_and_as_a_stream() {
    let mut site = Site::start(&["--state-dir"]);
    let body = json!({ "items": [{ "name": "x", "base64": "aGk=" }] });
    let key = ["-H", "Idempotency-Key: k"];
    let job = site.post(ALL, "/v1/jobs", &body, &key).json();
    site.wait(&job["job"]);
    let id = job["job"].as_str().unwrap().to_owned();
    let removed = site.cluster.hashctl().args(["rm", &id]).output().unwrap();
    assert!(removed.status.success(), "{removed:?}");
    assert!(site.cluster.terminate_controller());
    site.cluster.restart_controller();
    site.cluster.wait_ready(1);

    let mut seen = Vec::new();
    let mut path = "/v1/events?limit=2".to_owned();
    let deadline = std::time::Instant::now() + test_kit::DEADLINE;
    // The worker is back before its event is durable.
    let is_back = |event: &Value| event["event"] == "worker-joined" && event["id"] != 1;
    while !seen.last().is_some_and(is_back) {
        assert!(std::time::Instant::now() < deadline, "{seen:?}");
        let page = site.get(&path).json();
        seen.extend(page["events"].as_array().unwrap().clone());
        let last = seen.last().map_or(0, |event: &Value| event["id"].as_u64().unwrap());
        path = format!("/v1/events?limit=2&after={last}");
    }
    let kinds: Vec<&str> = seen.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds[..4], ["worker-joined", "job-submitted", "job-done", "job-removed"]);
    assert_eq!(seen[2]["text"], "1 items, 0 without a digest, 0 mismatched");
    assert_eq!(kinds.last(), Some(&"worker-joined"));
    let submitted = &seen[1];
    assert_eq!((&submitted["subject"], &submitted["by"]), (&json!(id), &json!("token all")));
    assert!(seen[3]["by"].as_str().unwrap().starts_with("uid "), "{}", seen[3]);
    assert!(seen.iter().zip(1..).all(|(event, number)| event["id"] == json!(number)), "{seen:?}");

    // A stream goes on after the event that its reader has, and then with what happens.
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--no-buffer",
        "-H",
        "Accept: text/event-stream",
        "-H",
        "Last-Event-ID: 1",
    ]);
    curl.arg("--unix-socket").arg(&site.socket).arg("http://localhost/v1/events");
    let mut stream = curl.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufReader::new(stream.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(lines).map(Result::unwrap);
    assert!(lines.any(|line| line == "id: 2"));
    assert_eq!(lines.next().as_deref(), Some("event: job-submitted"));
    site.cluster.workers[0].kill().unwrap();
    assert!(lines.any(|line| line == "event: worker-left"));
    let backup = site.dir.path().join("backup");
    let backup = site.cluster.hashctl().arg("backup").arg(backup).output().unwrap();
    assert!(backup.status.success(), "{backup:?}");
    assert!(lines.any(|line| line == "event: backup-made"));
    let made = lines.find(|line| line.starts_with("data: ")).unwrap();
    assert!(made.contains(r#""by":"uid "#), "{made}");
    stream.kill().unwrap();
    stream.wait().unwrap();
    let none = format!("Authorization: Bearer {NONE}");
    site.get_with(&["-H", &none], "/v1/events").check_problem(403, "may not see");
}
