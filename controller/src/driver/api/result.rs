//! Results of a job as a stream, in bounded memory: pages of the book, as lines.

use super::Call;
use super::access::Access;
use super::fields::QueryFields;
use super::jobs::job_id;
use super::media::JSON_LINES;
use super::problem::ApiProblem;
use super::routes::ITEM_MAX;
use crate::driver::hub::Hub;
use ipc_proto::limits::FRAME_NAMES_MAX;
use ipc_proto::message::{
    AuditBaseline, Failure, ItemOutcome, JobId, JobRow, JobSource, ResultRow, ServiceReply,
    ServiceRequest,
};
use ipc_proto::{Algorithm, Algorithms};
use overview::JsonName;
use serde::Serialize;
use serde_json::{Map, Value};
use std::rc::Rc;
use telemetry::http::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, VARY};
use telemetry::http::{ApiAnswer, ApiAnswerBody, HeaderMap, StatusCode, StreamCut};
use tokio::sync::mpsc::{Sender, channel};

/// Pages that wait for their reader.
pub(super) const PAGES_MAX: usize = 2;

pub(super) async fn result(
    call: &Call,
    access: &Access,
    id: &str,
    query: &QueryFields,
    media: &'static str,
) -> Result<ApiAnswer, ApiProblem> {
    let job = job_id(id)?;
    let from = query.number("from", (0, ITEM_MAX), 0)?;
    let is_partial = query.flag("partial")?;
    let row = call.ask_for_job(access, ServiceRequest::Job { job }).await?;
    if !(row.state == ipc_proto::message::JobState::Done || is_partial) {
        let text =
            format!("job {job} is {}; partial=true asks for what there is", row.state.name());
        return Err(ApiProblem::new(409, text));
    }
    if let JobSource::Audit { baseline: AuditBaseline::Manifest { .. }, .. } = row.spec.source {
        let text =
            format!("job {job} is an audit against a list, which has findings and no manifest");
        return Err(ApiProblem::new(409, text).with_path(format!("/v1/jobs/{job}/findings")));
    }
    let mut headers = HeaderMap::new();
    headers.insert(VARY, HeaderValue::from_static("accept"));
    let mut number = |name: &'static str, number: u64| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(number));
    };
    number("hashcluster-items", row.items);
    number("hashcluster-failed", row.failed);
    number("hashcluster-mismatched", row.mismatched);
    let state = HeaderName::from_static("hashcluster-state");
    headers.insert(state, HeaderValue::from_static(row.state.name()));
    if row.state.has_ended() {
        let tag = entity_tag(&row, from, media);
        let is_known = call.request.headers.get_all(IF_NONE_MATCH).iter().any(|known| {
            known.to_str().is_ok_and(|known| known.split(',').any(|known| is_match(known, &tag)))
        });
        headers.extend(HeaderValue::from_str(&tag).map(|tag| (ETAG, tag)));
        if is_known {
            let body = ApiAnswerBody::Whole(Vec::new());
            return Ok(ApiAnswer { status: StatusCode::NOT_MODIFIED, headers, body });
        }
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    let Some(permit) = call.request.stream_permit() else {
        return Err(ApiProblem::new(503, "too many streams are open; try again"));
    };
    let (pages, reader) = channel(PAGES_MAX);
    let is_of_manifest = matches!(row.spec.source, JobSource::Manifest { .. });
    let algorithms = (!is_of_manifest).then_some(row.spec.algorithms);
    let lines = Lines { algorithms, is_json: media == JSON_LINES };
    let writer = PageWriter { hub: Rc::clone(&call.hub), access: access.clone(), job, lines };
    tokio::task::spawn_local(writer.run(from, pages));
    Ok(ApiAnswer { status: StatusCode::OK, headers, body: ApiAnswerBody::Stream(reader, permit) })
}

/// A tag that changes when the results of an ended job do: by a retry.
fn entity_tag(row: &JobRow, from: u64, media: &str) -> String {
    let JobRow { id, ended_s, resolved, failed, .. } = row;
    let form = if media == JSON_LINES { "json" } else { "text" };
    format!("\"{id}-{ended_s}-{resolved}-{failed}-{from}-{form}\"")
}

/// Compares tags weakly (RFC 9110, section 13.1.2).
fn is_match(known: &str, tag: &str) -> bool {
    let known = known.trim();
    known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
}

/// Reads a job's results page by page, as fast as their reader takes them.
struct PageWriter {
    hub: Rc<Hub>,
    access: Access,
    job: JobId,
    lines: Lines,
}

impl PageWriter {
    async fn run(self, mut from: u64, pages: Sender<Result<Vec<u8>, StreamCut>>) {
        let limit = u16::try_from(FRAME_NAMES_MAX).unwrap_or(u16::MAX);
        loop {
            let request = ServiceRequest::Results { job: self.job, from, limit, wait_ms: 0 };
            let (principal, rights) = (self.access.principal, Rc::clone(&self.access.rights));
            let reply = self.hub.ask_book(principal, rights, request).await;
            let ServiceReply::Results { rows, is_last, .. } = reply else {
                // It was removed meanwhile, or the journal cannot be read.
                return drop(pages.send(Err(StreamCut)).await);
            };
            if rows.is_empty() {
                return;
            }
            let mut page = Vec::new();
            for row in &rows {
                self.lines.put(from, row, &mut page);
                from += 1;
            }
            if pages.send(Ok(page)).await.is_err() || is_last {
                return;
            }
        }
    }
}

/// Lines of results.
#[derive(Clone, Copy, Debug)]
struct Lines {
    /// None for a manifest that is checked, each line of which has its own.
    algorithms: Option<Algorithms>,
    is_json: bool,
}

#[derive(Serialize)]
struct ItemObject<'a> {
    item: u64,
    #[serde(flatten)]
    name: JsonName<'a>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digests: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<i32>,
}

impl Lines {
    fn put(self, item: u64, row: &ResultRow, out: &mut Vec<u8>) {
        let (digests, status) = match &row.outcome {
            ItemOutcome::Digests(digests) => (digests, "done"),
            ItemOutcome::Mismatch(digests) => (digests, "mismatch"),
            ItemOutcome::Failed(failure) => return self.put_failure(item, row, *failure, out),
        };
        let Some(algorithms) = self.algorithms else {
            return self.put_verdict(item, row, status, out);
        };
        let mut rest = &digests[..];
        let parts = algorithms.iter().map_while(|&algorithm| {
            let (digest, after) = rest.split_at_checked(algorithm.digest_len())?;
            rest = after;
            Some((algorithm, hex(digest)))
        });
        if self.is_json {
            let digests =
                parts.map(|(algorithm, digest)| (algorithm.name().to_owned(), digest.into()));
            let (name, size) = (JsonName::new(&row.name), Some(row.stamp.size));
            let digests = Some(digests.collect());
            let none = (None, None);
            let (error, errno) = none;
            return put_json(&ItemObject { item, name, status, size, digests, error, errno }, out);
        }
        // As hashctl prints it: lines without their algorithm could not be verified.
        let is_tagged = algorithms.len() > 1;
        for (algorithm, digest) in parts {
            put_text(is_tagged.then_some(algorithm), &row.name, &digest, out);
        }
    }

    /// A line as `sha256sum -c` prints it.
    fn put_verdict(self, item: u64, row: &ResultRow, status: &'static str, out: &mut Vec<u8>) {
        if self.is_json {
            let (name, size) = (JsonName::new(&row.name), Some(row.stamp.size));
            let (digests, error, errno) = (None, None, None);
            return put_json(&ItemObject { item, name, status, size, digests, error, errno }, out);
        }
        put_name(&row.name, out);
        let verdict = if status == "done" { &b": OK\n"[..] } else { b": FAILED\n" };
        out.extend_from_slice(verdict);
    }

    /// A file without digest has no line in a manifest.
    fn put_failure(self, item: u64, row: &ResultRow, failure: Failure, out: &mut Vec<u8>) {
        if !self.is_json {
            if self.algorithms.is_none() && !matches!(failure, Failure::BadLines { .. }) {
                put_name(&row.name, out);
                out.extend_from_slice(b": FAILED open or read\n");
            }
            return;
        }
        let (error, errno) = match failure {
            Failure::Changed => ("changed", None),
            Failure::NotRegular => ("not-regular", None),
            Failure::Io { errno } => ("io", Some(errno)),
            Failure::Invalid => ("invalid", None),
            Failure::Unsupported => ("unsupported", None),
            Failure::WorkersLost { .. } => ("workers-lost", None),
            Failure::UnknownDataset => ("unknown-dataset", None),
            Failure::Disputed => ("disputed", None),
            Failure::Outside => ("outside", None),
            Failure::NotAList => ("not-a-list", None),
            Failure::BadLines { .. } => ("bad-lines", None),
        };
        let (name, status, error) = (JsonName::new(&row.name), "failed", Some(error));
        put_json(&ItemObject { item, name, status, size: None, digests: None, error, errno }, out);
    }
}

/// A name before its verdict: escaped only where it would break its line.
fn put_name(name: &[u8], out: &mut Vec<u8>) {
    let is_escaped = name.contains(&b'\n') || name.starts_with(b"\\");
    if !is_escaped {
        return out.extend_from_slice(name);
    }
    out.push(b'\\');
    put_escaped(name, out);
}

fn put_escaped(name: &[u8], out: &mut Vec<u8>) {
    for &byte in name {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            byte => out.push(byte),
        }
    }
}

fn put_json(object: &ItemObject<'_>, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, object).expect("a vector takes everything");
    out.push(b'\n');
}

/// A line as `sha256sum` prints it, with its tag as `sha256sum --tag` does.
fn put_text(tag: Option<Algorithm>, name: &[u8], digest: &str, out: &mut Vec<u8>) {
    let is_escaped = name.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
    if is_escaped {
        out.push(b'\\');
    }
    match tag {
        Some(algorithm) => {
            out.extend_from_slice(format!("{} (", algorithm.tag()).as_bytes());
            put_escaped(name, out);
            out.extend_from_slice(format!(") = {digest}").as_bytes());
        }
        None => {
            out.extend_from_slice(format!("{digest}  ").as_bytes());
            put_escaped(name, out);
        }
    }
    out.push(b'\n');
}

pub(super) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::Blob;
    use ipc_proto::message::Stamp;

    #[test]
    fn lines_are_those_of_hashctl() {
        let one: Algorithms = Algorithm::Sha1.into();
        let two = Algorithms::new(&[Algorithm::Sha1, Algorithm::Md5]).unwrap();
        let row = |name: &[u8], outcome| ResultRow {
            name: name.into(),
            stamp: Stamp { size: 3, ..Stamp::default() },
            outcome,
        };
        let digests = |len| ItemOutcome::Digests(Blob(vec![0xab; len]));
        let (sha1, md5) = ("ab".repeat(20), "ab".repeat(16));
        let check = |algorithms, is_json, row: &ResultRow, want: &str| {
            let mut out = Vec::new();
            let algorithms = Some(algorithms);
            Lines { algorithms, is_json }.put(7, row, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), want);
        };
        check(one, false, &row(b"a b", digests(20)), &format!("{sha1}  a b\n"));
        check(one, false, &row(b"a\n\\", digests(20)), &format!("\\{sha1}  a\\n\\\\\n"));
        let want = format!("SHA1 (a) = {sha1}\nMD5 (a) = {md5}\n");
        check(two, false, &row(b"a", digests(36)), &want);
        let want = format!(
            "{{\"item\":7,\"name\":\"a\",\"status\":\"done\",\"size\":3,\
             \"digests\":{{\"md5\":\"{md5}\",\"sha1\":\"{sha1}\"}}}}\n"
        );
        check(two, true, &row(b"a", digests(36)), &want);
        let failed = row(b"\xff", ItemOutcome::Failed(Failure::Io { errno: 5 }));
        check(one, false, &failed, "");
        let want = "{\"item\":7,\"name_b64\":\"/w==\",\"status\":\"failed\",\"error\":\"io\",\"errno\":5}\n";
        check(one, true, &failed, want);
    }

    #[test]
    fn lines_of_a_manifest_are_those_of_sha256sum() {
        let row = |name: &[u8], outcome| ResultRow {
            name: name.into(),
            stamp: Stamp::default(),
            outcome,
        };
        let digest = || Blob(vec![0xab; 32]);
        for (row, want) in [
            (row(b"a b", ItemOutcome::Digests(digest())), "a b: OK\n"),
            (row(b"a\nb", ItemOutcome::Mismatch(digest())), "\\a\\nb: FAILED\n"),
            (row(b"a", ItemOutcome::Failed(Failure::Outside)), "a: FAILED open or read\n"),
            (row(b"SUMS", ItemOutcome::Failed(Failure::BadLines { lines: 2 })), ""),
        ] {
            let mut out = Vec::new();
            Lines { algorithms: None, is_json: false }.put(0, &row, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), want);
        }
        let mut out = Vec::new();
        let bad = row(b"SUMS", ItemOutcome::Failed(Failure::BadLines { lines: 2 }));
        Lines { algorithms: None, is_json: true }.put(3, &bad, &mut out);
        let want = "{\"item\":3,\"name\":\"SUMS\",\"status\":\"failed\",\"error\":\"bad-lines\"}\n";
        assert_eq!(String::from_utf8_lossy(&out), want);
    }

    #[test]
    fn tags_are_compared_weakly() {
        for (known, want) in
            [("\"a\"", true), (" W/\"a\"", true), ("*", true), ("\"b\"", false), ("a", false)]
        {
            assert_eq!(is_match(known, "\"a\""), want, "{known}");
        }
    }
}
