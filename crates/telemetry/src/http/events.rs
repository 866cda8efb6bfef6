//! Pages that people watch in a browser: streams of events, and protection from other sites.
//!
//! A page of the type [`EVENT_STREAM`] is asked for again and again, and each content is one event of a
//! stream (HTML standard, *Server-sent events*). [`STREAMS_MAX`] streams are served at once, each for
//! [`STREAM_EVENTS_MAX`] events; then the browser connects again.

use super::{Page, Pages};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Media type of a stream of events.
pub const EVENT_STREAM: &str = "text/event-stream";
/// Media type of a page for a browser.
pub const HTML: &str = "text/html; charset=utf-8";

/// Most streams at once.
pub const STREAMS_MAX: usize = 8;
/// Events of one stream.
pub const STREAM_EVENTS_MAX: u32 = 300;
/// Time from one event to the next.
pub const EVENT_INTERVAL: Duration = Duration::from_secs(1);

/// Time for a stream: twice that of its events, for a reader that is slow.
pub(super) const STREAM_LIMIT: Duration = Duration::from_secs(600);

/// Headers by which a page loads nothing but what this listener serves, and is framed by nobody.
const SECURITY: [(&str, &str); 3] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
];

pub(super) fn protect(headers: &mut HeaderMap) {
    for (name, value) in SECURITY {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

/// True for pages that say more than a monitoring system needs: they are shown only to a browser that knows
/// this listener by its address, not by the name of another site (DNS rebinding).
pub(super) fn is_private(path: &str, page: &Page) -> bool {
    path == "/status.json" || [EVENT_STREAM, HTML].contains(&page.content_type)
}

/// True if `host`, the field of a request, is an address or a name of this host itself.
pub(super) fn is_own_host(host: Option<&HeaderValue>) -> bool {
    // Only browsers are deceived, and all of them send the field.
    let Some(host) = host else { return true };
    let Ok(host) = host.to_str() else { return false };
    if let Some((address, port)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || port.starts_with(':'));
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<Ipv4Addr>().is_ok()
}

/// The content of a stream of events.
pub(super) struct EventBody {
    pages: Pages,
    path: String,
    interval: Interval,
    left: u32,
    _permit: OwnedSemaphorePermit,
}

impl EventBody {
    pub(super) fn new(pages: &Pages, path: &str, permit: OwnedSemaphorePermit) -> Self {
        let mut interval = interval(EVENT_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (pages, path) = (Rc::clone(pages), path.to_owned());
        Self { pages, path, interval, left: STREAM_EVENTS_MAX, _permit: permit }
    }
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        ready!(self.interval.poll_tick(context));
        self.left -= 1;
        let page = (self.pages)(&self.path);
        Poll::Ready(page.map(|page| Ok(Frame::data(event(&page.body).into()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// One event with `content`, each line of it behind the name of its field.
fn event(content: &str) -> String {
    let lines: String = content.lines().map(|line| format!("data: {line}\n")).collect();
    lines + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_another_site_is_not_ours() {
        for (host, want) in [
            ("127.0.0.1:9464", true),
            ("10.1.2.3", true),
            ("[::1]:9464", true),
            ("[::1]", true),
            ("localhost:1", true),
            ("LOCALHOST", true),
            ("a.localhost:9464", true),
            ("evil.example", false),
            ("evil.example:9464", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
            ("[evil]", false),
            ("[::1].evil.example", false),
            ("", false),
        ] {
            let value = HeaderValue::from_static(host);
            assert_eq!(is_own_host(Some(&value)), want, "{host}");
        }
        assert!(is_own_host(None));
    }

    #[test]
    fn a_content_of_several_lines_is_one_event() {
        assert_eq!(event("a\nevent: b\n"), "data: a\ndata: event: b\n\n");
    }
}
