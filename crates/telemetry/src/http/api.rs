//! Requests that are not pages': their bodies, and answers with headers of their own, whole or as streams.
//!
//! The program sees the head first, and may refuse before it reads a byte of the body. A stream holds one of the
//! permits that the streams of pages have, and memory is bounded by the channel that it comes through.

use super::events::{EventBody, is_own_host, protect};
use super::{Method, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{
    CACHE_CONTROL, HOST, HeaderMap, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Request, Response};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc::Receiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The answer of an [`Api`], once it is there.
pub type ApiFuture = Pin<Box<dyn Future<Output = ApiAnswer>>>;

/// A part of a program that answers requests; it returns those that it does not take.
pub type Api = Rc<dyn Fn(ApiRequest) -> Result<ApiFuture, Box<ApiRequest>>>;

/// A request whose body is not read yet.
#[derive(Debug)]
pub struct ApiRequest {
    /// Its method.
    pub method: Method,
    /// The path, as it came.
    pub path: String,
    /// The query without its question mark, as it came; empty for none.
    pub query: String,
    /// Its headers.
    pub headers: HeaderMap,
    body: Option<Incoming>,
    streams: Arc<Semaphore>,
}

/// A body that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// It is longer than this many bytes.
    TooLong(usize),
    /// It did not come to its end.
    Broken,
}

impl ApiRequest {
    pub(super) fn new(request: Request<Incoming>, streams: Arc<Semaphore>) -> Self {
        let (head, body) = request.into_parts();
        Self {
            method: head.method,
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers,
            body: Some(body),
            streams,
        }
    }

    /// Bytes of its head, without the separators.
    #[must_use]
    pub fn head_len(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        self.path.len() + self.query.len() + headers.sum::<usize>()
    }

    /// True if a browser that sends it knows this listener by an address, not by the name of another site.
    #[must_use]
    pub fn is_for_own_host(&self) -> bool {
        is_own_host(self.headers.get(HOST))
    }

    /// Reads the body, of at most `len_max` bytes.
    ///
    /// # Errors
    /// [`BodyFault`].
    pub async fn body(&mut self, len_max: usize) -> Result<Vec<u8>, BodyFault> {
        let Some(body) = self.body.take() else { return Ok(Vec::new()) };
        if body.size_hint().lower() > len_max as u64 {
            return Err(BodyFault::TooLong(len_max));
        }
        match Limited::new(body, len_max).collect().await {
            Ok(collected) => Ok(collected.to_bytes().into()),
            Err(error) if error.is::<LengthLimitError>() => Err(BodyFault::TooLong(len_max)),
            Err(_) => Err(BodyFault::Broken),
        }
    }

    /// Permission for an answer that is a stream, unless too many are open.
    #[must_use]
    pub fn stream_permit(&self) -> Option<StreamPermit> {
        Arc::clone(&self.streams).try_acquire_owned().ok().map(StreamPermit)
    }
}

/// Permission for one stream, for as long as it is open.
#[derive(Debug)]
pub struct StreamPermit(
    #[expect(dead_code, reason = "given back when it is dropped")] OwnedSemaphorePermit,
);

/// An answer.
#[derive(Debug)]
pub struct ApiAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, besides those that every answer has.
    pub headers: HeaderMap,
    /// Its content.
    pub body: ApiAnswerBody,
}

/// The content of an answer.
#[derive(Debug)]
pub enum ApiAnswerBody {
    /// All of it.
    Whole(Vec<u8>),
    /// Pieces as they come, until the sender is gone. After an error the connection ends without the mark of an
    /// end, by which the reader knows that something is missing.
    Stream(Receiver<Result<Vec<u8>, StreamCut>>, StreamPermit),
}

/// A stream that ends before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamCut;

impl fmt::Display for StreamCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stream was cut off")
    }
}

impl std::error::Error for StreamCut {}

impl ApiAnswer {
    pub(super) fn into_response(self) -> Response<AnswerContent> {
        let mut response = Response::new(match self.body {
            ApiAnswerBody::Whole(bytes) => AnswerContent::whole(bytes),
            ApiAnswerBody::Stream(pieces, permit) => AnswerContent::Pieces(pieces, permit),
        });
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        protect(headers);
        let mut last: Option<HeaderName> = None;
        // A name comes once with the first of its values.
        for (name, value) in self.headers {
            match name {
                Some(name) => {
                    headers.insert(name.clone(), value);
                    last = Some(name);
                }
                None => drop(last.clone().map(|name| headers.append(name, value))),
            }
        }
        response
    }
}

/// The content of any answer of the listener.
pub(super) enum AnswerContent {
    Whole(Full<Bytes>),
    Events(EventBody),
    Pieces(
        Receiver<Result<Vec<u8>, StreamCut>>,
        #[expect(dead_code, reason = "held")] StreamPermit,
    ),
}

impl AnswerContent {
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Full::new(bytes.into()))
    }

    /// True if it lasts longer than a page.
    pub(super) fn is_stream(&self) -> bool {
        !matches!(self, Self::Whole(_))
    }
}

impl Body for AnswerContent {
    type Data = Bytes;
    type Error = StreamCut;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamCut>>> {
        let never = |error| match error {};
        match self.get_mut() {
            Self::Whole(body) => {
                Pin::new(body).poll_frame(context).map(|frame| frame.map(|f| f.map_err(never)))
            }
            Self::Events(body) => {
                Pin::new(body).poll_frame(context).map(|frame| frame.map(|f| f.map_err(never)))
            }
            Self::Pieces(pieces, _) => {
                let piece =
                    |piece: Result<Vec<u8>, _>| piece.map(|bytes| Frame::data(bytes.into()));
                pieces.poll_recv(context).map(|next| next.map(piece))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Events(_) | Self::Pieces(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Events(body) => body.size_hint(),
            Self::Pieces(..) => SizeHint::default(),
        }
    }
}
