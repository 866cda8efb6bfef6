//! Media types: what a client accepts (RFC 9110, section 12.5.1), and what it sends.

use super::problem::ApiProblem;
use telemetry::http::HeaderMap;
use telemetry::http::header::{ACCEPT, CONTENT_TYPE};

/// JSON (RFC 8259).
pub(super) const JSON: &str = "application/json";
/// One JSON value per line.
pub(super) const JSON_LINES: &str = "application/jsonl";
/// Server-sent events.
pub(super) const EVENT_STREAM: &str = "text/event-stream";
/// Lines of a manifest.
pub(super) const TEXT: &str = "text/plain";

/// The one of `offered` that the client likes best, the first of equals; it likes all without the header.
pub(super) fn accepted(
    headers: &HeaderMap,
    offered: &'static [&'static str],
) -> Result<&'static str, ApiProblem> {
    let ranges: Vec<(String, u32)> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(range)
        .filter(|(name, _)| !name.is_empty())
        .collect();
    if ranges.is_empty() {
        return Ok(offered[0]);
    }
    let mut best = None;
    for &media in offered {
        let quality = quality(&ranges, media);
        if quality > 0 && best.is_none_or(|(other, _)| quality > other) {
            best = Some((quality, media));
        }
    }
    best.map(|(_, media)| media)
        .ok_or_else(|| ApiProblem::new(406, format!("there is: {}", offered.join(", "))))
}

/// A media range with its quality in thousandths.
fn range(text: &str) -> (String, u32) {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
    (name, weight.map_or(1000, thousandths))
}

/// A weight (RFC 9110, section 12.4.2); one that is not is 0.
fn thousandths(text: &str) -> u32 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_weight = part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "1" if is_weight => 1000,
        "0" if is_weight => format!("{part:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

/// Quality of a media type by the most specific range that has it.
fn quality(ranges: &[(String, u32)], media: &str) -> u32 {
    let kind = media.split('/').next().unwrap_or_default();
    let of =
        |name: &str| ranges.iter().find(|(range, _)| range == name).map(|(_, quality)| *quality);
    of(media).or_else(|| of(&format!("{kind}/*"))).or_else(|| of("*/*")).unwrap_or(0)
}

/// Checks that the body of a request is JSON.
pub(super) fn check_is_json(headers: &HeaderMap) -> Result<(), ApiProblem> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let name = value.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    match name.eq_ignore_ascii_case(JSON) {
        true => Ok(()),
        false => Err(ApiProblem::new(415, format!("send {JSON}, and say so in Content-Type"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::http::header::HeaderValue;

    #[test]
    fn the_best_liked_type_is_chosen() {
        let offered: &[&str] = &[TEXT, JSON_LINES];
        let choice = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
            accepted(&headers, offered).ok()
        };
        assert_eq!(accepted(&HeaderMap::new(), offered), Ok(TEXT));
        for (accept, want) in [
            ("*/*", Some(TEXT)),
            ("", Some(TEXT)),
            ("application/jsonl", Some(JSON_LINES)),
            ("APPLICATION/jsonl;q=0.5", Some(JSON_LINES)),
            ("text/*;q=0.3, application/*;q=0.31", Some(JSON_LINES)),
            ("*/*, text/plain;q=0", Some(JSON_LINES)),
            ("application/json", None),
            ("*/*;q=0", None),
            ("text/plain;q=2", None),
            ("text/plain;q=0.1234", None),
        ] {
            assert_eq!(choice(accept), want, "{accept}");
        }
    }
}
