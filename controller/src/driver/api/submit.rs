//! New jobs: a body in JSON becomes the requests that `hashctl submit` makes.

use super::access::Access;
use super::media::check_is_json;
use super::problem::ApiProblem;
use super::views::json;
use super::{API_BODY_LEN_MAX, Call, KEY_HEADER};
use crate::driver::hub::Hub;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipc_proto::limits::{FRAME_NAMES_MAX, INLINE_LEN_MAX, JOB_KEY_LEN_MAX, NAMES_LEN_MAX};
use ipc_proto::message::{
    AuditBaseline, Items, JobAct, JobId, JobKind, JobRoot, JobRow, JobSource, JobSpec, JobState,
    NameShare, ServiceReply, ServiceRequest,
};
use ipc_proto::{Algorithm, Algorithms, Blob};
use overview::JobObject;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::rc::Rc;
use telemetry::http::header::{HeaderValue, LOCATION};
use telemetry::http::{ApiAnswer, ApiRequest, BodyFault};

/// A job as a client describes it: schema `NewJob`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewJob {
    kind: Option<NewJobKind>,
    algorithms: Option<Vec<String>>,
    dataset: Option<String>,
    paths: Option<Vec<String>>,
    manifest: Option<String>,
    directory: Option<String>,
    against_job: Option<String>,
    items: Option<Vec<NewItem>>,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    priority: u8,
    #[serde(default)]
    keep_s: u32,
    #[serde(default)]
    cross_check: u32,
    #[serde(default)]
    strict_reads: bool,
    #[serde(default)]
    rate: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NewJobKind {
    Sum,
    Check,
    Audit,
}

/// Bytes with their name: schema `NewItem`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewItem {
    name: String,
    base64: String,
    expected: Option<BTreeMap<String, String>>,
}

/// An item as it is stored.
#[derive(Debug)]
struct ItemBytes {
    name: Blob,
    bytes: Vec<u8>,
    expected: Option<Blob>,
}

pub(super) async fn submit(call: &mut Call, access: &Access) -> Result<ApiAnswer, ApiProblem> {
    check_is_json(&call.request.headers)?;
    if !access.rights.submit {
        return Err(ApiProblem::new(403, "this token may not submit jobs"));
    }
    let key = key(&call.request)?;
    let body = call.request.body(API_BODY_LEN_MAX).await.map_err(|fault| match fault {
        BodyFault::TooLong(len_max) => {
            ApiProblem::new(413, format!("a body has at most {len_max} bytes"))
        }
        BodyFault::Broken => ApiProblem::new(400, "the body did not come to its end"),
    })?;
    let job: NewJob = serde_json::from_slice(&body).map_err(|error| {
        let status = if error.is_data() { 422 } else { 400 };
        ApiProblem::new(status, format!("the body: {error}"))
    })?;
    drop(body);
    let (spec, items) = job.read().map_err(|text| ApiProblem::new(422, text))?;
    spec.check().map_err(|error| ApiProblem::new(422, error.to_string()))?;
    let submission = Submission { hub: Rc::clone(&call.hub), access: access.clone(), key };
    // Goes on without the client, so that no job is left half stored.
    let stored = tokio::task::spawn_local(submission.run(spec, items)).await;
    let row = stored.map_err(|_| ApiProblem::new(503, "the controller stops"))??;
    let mut answer = json(201, &JobObject::new(&row));
    let place = HeaderValue::from_str(&format!("/v1/jobs/{}", row.id));
    answer.headers.extend(place.map(|place| (LOCATION, place)));
    Ok(answer)
}

fn key(request: &ApiRequest) -> Result<String, ApiProblem> {
    let Some(value) = request.headers.get(KEY_HEADER) else { return Ok(String::new()) };
    // With a letter it is not the id of a job, which commands take in its place.
    let is_key = |key: &&str| {
        key.len() <= JOB_KEY_LEN_MAX
            && key.bytes().all(|byte| byte.is_ascii_graphic())
            && key.bytes().any(|byte| byte.is_ascii_alphabetic())
    };
    let key = value.to_str().ok().filter(is_key).map(str::to_owned);
    key.ok_or_else(|| {
        let text = format!(
            "{KEY_HEADER} has at most {JOB_KEY_LEN_MAX} ASCII characters without blanks, one of them a letter"
        );
        ApiProblem::new(400, text)
    })
}

impl NewJob {
    /// The spec of the job, and the items to store in it.
    fn read(self) -> Result<(JobSpec, Vec<ItemBytes>), String> {
        let kind = match self.kind {
            None | Some(NewJobKind::Sum) => JobKind::Sum,
            Some(NewJobKind::Check) => JobKind::Check,
            Some(NewJobKind::Audit) => JobKind::Audit,
        };
        let against = self.against_job.as_deref();
        if kind == JobKind::Audit && against.is_some() == self.manifest.is_some() {
            return Err("an audit wants against_job or a manifest".to_owned());
        }
        if kind != JobKind::Audit && against.is_some() {
            return Err("an audit, and no other kind, wants against_job".to_owned());
        }
        let no_job = "against_job is the id of a job".to_owned();
        let base = against.map(|text| JobId::parse(text).ok_or(no_job)).transpose()?;
        let is_chosen = self.algorithms.is_some();
        let names = self.algorithms.unwrap_or_else(|| vec!["sha256".to_owned()]);
        let known = names.iter().map(|name| algorithm(name)).collect::<Result<Vec<_>, _>>()?;
        let algorithms = Algorithms::new(&known).map_err(|error| error.to_string())?;
        if self.manifest.is_none() && self.directory.is_some() {
            return Err("a directory belongs to a manifest".to_owned());
        }
        let (source, items) = match (self.dataset, self.items) {
            (Some(name), None)
                if self.manifest.is_some() && (self.paths.is_none() || kind == JobKind::Audit) =>
            {
                if kind == JobKind::Sum || is_chosen {
                    let text = "a manifest is that of a check or an audit, which has the algorithms of its lines";
                    return Err(text.to_owned());
                }
                let path = self.manifest.unwrap_or_default();
                let base = self.directory.as_deref().map(str::as_bytes);
                let source = if kind == JobKind::Audit {
                    let paths = self.paths.unwrap_or_default();
                    let paths: Vec<&[u8]> = paths.iter().map(String::as_bytes).collect();
                    JobSource::audit_of_manifest(&name, path.as_bytes(), base, &paths)
                } else {
                    JobSource::manifest(&name, path.as_bytes(), base)
                };
                let text =
                    "manifest, directory and paths are those of the dataset, which do not lead up";
                (source.ok_or(text)?, Vec::new())
            }
            (Some(_) | None, _) if self.manifest.is_some() => {
                let text = "a manifest wants a dataset and no items, and paths only with an audit";
                return Err(text.to_owned());
            }
            (Some(_), _) if kind == JobKind::Check => {
                let text =
                    "a check wants items with their expected digests, or a dataset with a manifest";
                return Err(text.to_owned());
            }
            (Some(name), None) => {
                let paths = self.paths.unwrap_or_else(|| vec![String::new()]);
                let roots = paths.iter().map(root).collect();
                let source = match base.map(AuditBaseline::Job) {
                    Some(baseline) => JobSource::Audit { name, roots, baseline },
                    None => JobSource::Dataset { name, roots },
                };
                (source, Vec::new())
            }
            (None, Some(_)) if base.is_some() => {
                return Err("an audit wants a dataset".to_owned());
            }
            (None, Some(items)) if self.paths.is_none() && !items.is_empty() => {
                let items = items.into_iter().enumerate().map(|(number, item)| {
                    let read = item.read(kind, algorithms);
                    read.map_err(|error| format!("item {number}: {error}"))
                });
                (JobSource::Stored, items.collect::<Result<_, _>>()?)
            }
            (Some(_) | None, Some(_)) | (None, None) => {
                let text =
                    "a job has either a dataset, with paths or without, or at least one item";
                return Err(text.to_owned());
            }
        };
        let spec = JobSpec {
            kind,
            algorithms,
            source,
            cross_check: self.cross_check,
            strict_reads: self.strict_reads,
            labels: self.labels,
            priority: self.priority,
            keep_s: self.keep_s,
            rate: self.rate,
            share: NameShare::ALL,
        };
        Ok((spec, items))
    }
}

/// A directory, which has its own path as its name in the manifest.
fn root(path: &String) -> JobRoot {
    let path: Blob = path.as_bytes().into();
    JobRoot { shown: path.clone(), path }
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    Algorithm::ALL.into_iter().find(|known| known.name() == name).ok_or_else(|| {
        let names: Vec<&str> = Algorithm::ALL.into_iter().map(Algorithm::name).collect();
        format!("unknown algorithm; there are: {}", names.join(", "))
    })
}

impl NewItem {
    fn read(self, kind: JobKind, algorithms: Algorithms) -> Result<ItemBytes, String> {
        let bytes = STANDARD.decode(&self.base64).map_err(|error| format!("base64: {error}"))?;
        if bytes.len() > INLINE_LEN_MAX {
            return Err(format!("it has more than {INLINE_LEN_MAX} bytes"));
        }
        let expected = match (kind, self.expected) {
            (JobKind::Sum | JobKind::Audit | JobKind::Scrub, None) => None,
            (JobKind::Sum | JobKind::Audit | JobKind::Scrub, Some(_)) => {
                return Err("only a check has expected digests".to_owned());
            }
            (JobKind::Check, expected) => Some(digests(&expected.unwrap_or_default(), algorithms)?),
        };
        Ok(ItemBytes { name: self.name.into_bytes().into(), bytes, expected })
    }
}

/// Expected digests by algorithm, back to back.
fn digests(expected: &BTreeMap<String, String>, algorithms: Algorithms) -> Result<Blob, String> {
    let mut bytes = Vec::with_capacity(algorithms.digests_len());
    for algorithm in algorithms.iter() {
        let digest = expected.get(algorithm.name()).and_then(|text| unhex(text));
        let digest = digest.filter(|digest| digest.len() == algorithm.digest_len());
        let Some(digest) = digest else {
            return Err(format!("expected has no {algorithm} digest in hexadecimal"));
        };
        bytes.extend(digest);
    }
    match expected.len() == algorithms.len() {
        true => Ok(bytes.into()),
        false => Err("expected has digests that are not asked for".to_owned()),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let byte = |pair: &[u32]| match *pair {
        [high, low] => u8::try_from(16 * high + low).ok(),
        _ => None,
    };
    digits?.chunks(2).map(byte).collect()
}

/// A submission that is carried out.
struct Submission {
    hub: Rc<Hub>,
    access: Access,
    key: String,
}

impl Submission {
    async fn run(self, spec: JobSpec, items: Vec<ItemBytes>) -> Result<JobRow, ApiProblem> {
        let key = self.key.clone();
        let row = self.ask(ServiceRequest::Submit { key, spec: Box::new(spec) }).await?;
        if items.is_empty() {
            return Ok(row);
        }
        let items_len = items.len() as u64;
        if row.state != JobState::Filling {
            // The key is that of an earlier request.
            return match row.items == items_len {
                true => Ok(row),
                false => {
                    let text = format!("job {} has this key, and {} items", row.id, row.items);
                    Err(ApiProblem::new(409, text))
                }
            };
        }
        match self.store(row.id, items).await {
            Ok(row) => Ok(row),
            Err(problem) => {
                for act in [JobAct::Cancel, JobAct::Remove] {
                    // What cannot be removed stays until its owner does.
                    let _ = self.ask(ServiceRequest::Act { job: row.id, act }).await;
                }
                Err(problem)
            }
        }
    }

    async fn store(&self, job: JobId, items: Vec<ItemBytes>) -> Result<JobRow, ApiProblem> {
        let mut first = 0;
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            let request = store_request(job, first, &mut items);
            let row = self.ask(request).await?;
            first = row.items.max(first + 1);
        }
        self.ask(ServiceRequest::Seal { job }).await
    }

    async fn ask(&self, request: ServiceRequest) -> Result<JobRow, ApiProblem> {
        request.check().map_err(|error| ApiProblem::new(422, error.to_string()))?;
        let rights = Rc::clone(&self.access.rights);
        let reply = self.hub.ask_book(self.access.principal, rights, request).await;
        if let ServiceReply::Refused { reason, text } = reply {
            return Err(ApiProblem::refused(reason, text));
        }
        let ServiceReply::Job(row) = reply else { unreachable!("the book answers with a job") };
        Ok(*row)
    }
}

/// A request to store as many items as it takes.
fn store_request(
    job: JobId,
    first: u64,
    items: &mut std::iter::Peekable<std::vec::IntoIter<ItemBytes>>,
) -> ServiceRequest {
    let (mut names, mut expected, mut lens, mut data) = (vec![], vec![], vec![], vec![]);
    let mut names_len = 0;
    while let Some(item) = items.next_if(|item| {
        names.is_empty()
            || (names.len() < FRAME_NAMES_MAX
                && names_len + item.name.len() <= NAMES_LEN_MAX / 2
                && data.len() + item.bytes.len() <= INLINE_LEN_MAX)
    }) {
        names_len += item.name.len();
        names.push(item.name);
        expected.extend(item.expected);
        lens.push(u32::try_from(item.bytes.len()).unwrap_or(u32::MAX));
        data.extend(item.bytes);
    }
    let items = Items::Inline { lens, data: data.into() };
    ServiceRequest::Store { job, first, names, expected, items }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(JobSpec, Vec<ItemBytes>), String> {
        serde_json::from_str::<NewJob>(text).map_err(|error| error.to_string())?.read()
    }

    #[test]
    fn a_body_is_a_job() {
        let (spec, items) = read(r#"{"dataset":"photos"}"#).unwrap();
        assert_eq!((spec.kind, spec.algorithms), (JobKind::Sum, Algorithm::Sha256.into()));
        let JobSource::Dataset { name, roots } = &spec.source else { panic!("{spec:?}") };
        assert_eq!((name.as_str(), roots.len(), roots[0].path.len()), ("photos", 1, 0));
        assert!(items.is_empty() && spec.check().is_ok());
        let digest = "ab".repeat(20);
        let text = format!(
            r#"{{"kind":"check","algorithms":["sha1"],"labels":["a"],"priority":9,
               "items":[{{"name":"x","base64":"aGk=","expected":{{"sha1":"{digest}"}}}}]}}"#
        );
        let (spec, items) = read(&text).unwrap();
        assert_eq!((spec.kind, spec.source, spec.priority), (JobKind::Check, JobSource::Stored, 9));
        assert_eq!((&items[0].name[..], &items[0].bytes[..]), (&b"x"[..], &b"hi"[..]));
        assert_eq!(items[0].expected, Some(Blob(vec![0xab; 20])));
    }

    #[test]
    fn a_manifest_is_about_its_own_directory_unless_another_one_is_named() {
        for (more, base) in
            [("", &b"2048"[..]), (r#","directory":"a/./b/""#, b"a/b"), (r#","directory":".""#, b"")]
        {
            let text =
                format!(r#"{{"kind":"check","dataset":"photos","manifest":"2048//SUMS"{more}}}"#);
            let (spec, items) = read(&text).unwrap();
            let (name, path) = ("photos".to_owned(), b"2048/SUMS"[..].into());
            assert_eq!(spec.source, JobSource::Manifest { name, path, base: base.into() });
            assert!(items.is_empty() && spec.kind == JobKind::Check && spec.check().is_ok());
        }
    }

    #[test]
    fn an_audit_against_a_manifest_has_its_directory_or_the_paths_that_are_named() {
        let list = r#""kind":"audit","dataset":"d","manifest":"lists/SUMS""#;
        for (more, base, paths) in [
            ("", None, &[][..]),
            (r#","directory":".""#, Some(&b""[..]), &[]),
            (r#","paths":["a","b/c"]"#, None, &[&b"a"[..], b"b/c"]),
        ] {
            let (spec, items) = read(&format!("{{{list}{more}}}")).unwrap();
            let want = JobSource::audit_of_manifest("d", b"lists/SUMS", base, paths).unwrap();
            assert_eq!((spec.kind, &spec.source), (JobKind::Audit, &want));
            assert!(items.is_empty() && spec.check().is_ok());
        }
    }

    #[test]
    fn a_body_that_cannot_be_meant_is_an_error() {
        let item = r#"{"name":"x","base64":"aGk="}"#;
        for (text, want) in [
            ("{}", "a job has either a dataset"),
            (r#"{"items":[]}"#, "a job has either a dataset"),
            (&format!(r#"{{"dataset":"a","items":[{item}]}}"#), "a job has either a dataset"),
            (&format!(r#"{{"paths":["a"],"items":[{item}]}}"#), "a job has either a dataset"),
            (r#"{"dataset":"a","kind":"check"}"#, "a check wants items"),
            (r#"{"dataset":"a","manifest":"m"}"#, "a manifest is that of a check"),
            (r#"{"kind":"audit","dataset":"a"}"#, "wants against_job"),
            (
                r#"{"kind":"audit","dataset":"a","manifest":"m","against_job":"1-2"}"#,
                "against_job or a manifest",
            ),
            (r#"{"kind":"audit","dataset":"a","manifest":"m","paths":["../b"]}"#, "do not lead up"),
            (
                r#"{"kind":"audit","dataset":"a","manifest":"m","algorithms":["md5"]}"#,
                "the algorithms of its lines",
            ),
            (
                r#"{"kind":"check","dataset":"a","manifest":"m","paths":["b"]}"#,
                "paths only with an audit",
            ),
            (r#"{"dataset":"a","against_job":"1-2"}"#, "wants against_job"),
            (r#"{"kind":"audit","dataset":"a","against_job":"k"}"#, "the id of a job"),
            (r#"{"kind":"audit","against_job":"1-2","items":[]}"#, "wants a dataset"),
            (r#"{"kind":"check","dataset":"a","manifest":"../m"}"#, "do not lead up"),
            (r#"{"kind":"check","dataset":"a","manifest":""}"#, "do not lead up"),
            (r#"{"kind":"check","manifest":"m"}"#, "a manifest wants a dataset"),
            (r#"{"dataset":"a","directory":"m"}"#, "a directory belongs to a manifest"),
            (
                r#"{"kind":"check","dataset":"a","manifest":"m","algorithms":["md5"]}"#,
                "the algorithms of its lines",
            ),
            (r#"{"dataset":"a","algorithms":["crc"]}"#, "unknown algorithm"),
            (r#"{"dataset":"a","algorithms":[]}"#, "algorithms"),
            (r#"{"dataset":"a","datset":"a"}"#, "unknown field `datset`"),
            (r#"{"items":[{"name":"x","base64":"?"}]}"#, "item 0: base64: "),
            (&format!(r#"{{"kind":"check","items":[{item}]}}"#), "item 0: expected has no sha256"),
            (
                r#"{"items":[{"name":"x","base64":"","expected":{}}]}"#,
                "item 0: only a check has expected digests",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn requests_to_store_keep_their_limits() {
        let job = JobId::default();
        let item = |len| ItemBytes { name: b"n"[..].into(), bytes: vec![0; len], expected: None };
        let items: Vec<ItemBytes> =
            (0..600).map(|_| item(1)).chain((0..3).map(|_| item(200 << 10))).collect();
        let mut items = items.into_iter().peekable();
        let mut lens = Vec::new();
        while items.peek().is_some() {
            let request = store_request(job, 0, &mut items);
            request.check().unwrap();
            let ServiceRequest::Store { names, .. } = request else { panic!("it stores") };
            lens.push(names.len());
        }
        assert_eq!(lens, [512, 90, 1]);
    }
}
