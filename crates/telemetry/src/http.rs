//! The listener that shows a program to its operators: HTTP/1.1 with everything bounded
//! (RFC 9110, RFC 9112).
//!
//! A connection carries one request, and lives for [`CONNECTION_LIMIT`] at most. [`CONNECTIONS_MAX`] are served
//! at once; others wait in the kernel's queue. Pages are shown to GET and HEAD; requests that are no pages' may
//! go to an [`Api`]. Streams (`events`, `api`) are few, and last longer.

mod api;
mod events;

pub use api::{
    Api, ApiAnswer, ApiAnswerBody, ApiFuture, ApiRequest, BodyFault, StreamCut, StreamPermit,
};
pub use events::{EVENT_INTERVAL, EVENT_STREAM, HTML, STREAM_EVENTS_MAX, STREAMS_MAX};
pub use hyper::header;
pub use hyper::{HeaderMap, Method, StatusCode};

use crate::port_holder::{self, Holder};
use api::AnswerContent;
use events::{EventBody, STREAM_LIMIT, is_own_host, is_private, protect};
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::fs::Mode;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::umask;
use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Most connections that are served at once.
pub const CONNECTIONS_MAX: usize = 32;
/// Time for the head of a request.
pub const HEAD_LIMIT: Duration = Duration::from_secs(2);
/// Time for a request and its answer.
pub const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of the head of a request.
pub const HEAD_LEN_MAX: usize = 8192;
/// Lines of the head of a request.
const HEADERS_MAX: usize = 64;
/// Pause after an accept that failed for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A place for a listener: `ADDRESS:PORT`, or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpAddress {
    /// A TCP port of one address.
    Tcp(SocketAddr),
    /// A Unix socket, which only its own user can open.
    Unix(PathBuf),
}

/// A text that names no place for a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHttpAddress;

impl fmt::Display for NoHttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither ADDRESS:PORT, such as 127.0.0.1:9464, nor unix:PATH")
    }
}

impl std::error::Error for NoHttpAddress {}

impl HttpAddress {
    /// The same with an absolute path.
    ///
    /// # Errors
    /// This directory cannot be found.
    pub fn absolute(self) -> io::Result<Self> {
        match self {
            Self::Tcp(_) => Ok(self),
            Self::Unix(path) => std::path::absolute(path).map(Self::Unix),
        }
    }
}

impl FromStr for HttpAddress {
    type Err = NoHttpAddress;

    fn from_str(text: &str) -> Result<Self, NoHttpAddress> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() && !path.contains('\0') => Ok(Self::Unix(path.into())),
            Some(_) => Err(NoHttpAddress),
            None => text.parse().map(Self::Tcp).map_err(|_| NoHttpAddress),
        }
    }
}

impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A page that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The status of the answer.
    pub status: u16,
    /// Its media type.
    pub content_type: &'static str,
    /// Its content.
    pub body: String,
}

impl Page {
    /// A text for people.
    #[must_use]
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    /// A document for programs.
    #[must_use]
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self { status, content_type: "application/json", body: body.into() }
    }
}

/// Readiness of a program: the reasons why it is not ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadyReport(Vec<String>);

impl ReadyReport {
    /// Adds a reason, unless something holds. It is plain text of our own, without quotes.
    pub fn require(&mut self, holds: bool, reason: impl Into<String>) {
        self.0.extend((!holds).then(|| reason.into()));
    }

    /// Status 200 with no reasons, or 503 with some, as JSON.
    #[must_use]
    pub fn page(&self) -> Page {
        let escaped = |reason: &String| {
            let plain = |c: char| if c.is_control() || "\"\\".contains(c) { '?' } else { c };
            format!("\"{}\"", reason.chars().map(plain).collect::<String>())
        };
        let reasons: Vec<String> = self.0.iter().map(escaped).collect();
        let (ready, reasons) = (self.0.is_empty(), reasons.join(","));
        let body = format!("{{\"ready\":{ready},\"reasons\":[{reasons}]}}\n");
        Page::json(if ready { 200 } else { 503 }, body)
    }
}

/// The pages of a program: the one with a path, if there is one.
pub type Pages = Rc<dyn Fn(&str) -> Option<Page>>;

/// A listener that has its place.
#[derive(Debug)]
pub struct HttpListener(Accept);

#[derive(Debug)]
enum Accept {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl HttpListener {
    /// Listens at `address`, inside a runtime of tokio; nobody but our own user can open a Unix socket. There
    /// is a single thread. A Unix socket stays when the listener ends, and the next one takes its place.
    ///
    /// # Errors
    /// [`BindFailure`], with the process that holds a port.
    pub fn bind(address: &HttpAddress) -> Result<Self, BindFailure> {
        let bound = match address {
            HttpAddress::Tcp(address) => StdTcpListener::bind(address).and_then(Self::tcp),
            HttpAddress::Unix(path) => bind_private(path).and_then(Self::unix),
        };
        bound.map_err(|error| BindFailure::new(address, error))
    }

    /// Takes over a socket that listens, inside a runtime of tokio.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    pub fn tcp(listener: StdTcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(|listener| Self(Accept::Tcp(listener)))
    }

    /// The same for a Unix socket.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    pub fn unix(listener: StdUnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener).map(|listener| Self(Accept::Unix(listener)))
    }

    /// Answers requests with `pages`. Runs in a `LocalSet`.
    pub async fn serve(self, pages: Pages) {
        self.serve_with(pages, Rc::new(|request| Err(Box::new(request)))).await;
    }

    /// The same, with requests that `api` takes.
    pub async fn serve_with(self, pages: Pages, api: Api) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        loop {
            let permit = Arc::clone(&room).acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            let service = Service {
                pages: Rc::clone(&pages),
                api: Rc::clone(&api),
                streams: Arc::clone(&streams),
            };
            match self.accept().await {
                Ok(stream) => {
                    tokio::task::spawn_local(async move {
                        // Whoever is too slow, or speaks no HTTP, has no answer.
                        serve_one(stream, service).await;
                        drop(permit);
                    });
                }
                // No descriptor is free, for example: others may give some back.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match &self.0 {
            Accept::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Box::new(stream))
            }
            Accept::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Box::new(UnixConnection(stream)))
            }
        }
    }
}

/// A Unix socket that is read and written by recv(2) and send(2) alone: a sandbox that denies writing to files
/// cannot tell one from the other in write(2).
struct UnixConnection(UnixStream);

impl AsyncRead for UnixConnection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            let received = self.0.try_io(Interest::READABLE, || {
                Ok(recv(&self.0, buf.initialize_unfilled(), RecvFlags::empty())?.0)
            });
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(len) => {
                    buf.advance(len);
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for UnixConnection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            let sent =
                self.0.try_io(Interest::WRITABLE, || Ok(send(&self.0, buf, SendFlags::NOSIGNAL)?));
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// An address at which a program cannot listen.
#[derive(Debug)]
pub struct BindFailure {
    error: io::Error,
    holder: Option<Holder>,
}

impl BindFailure {
    /// Looks for the process that is in the way, if that is the reason.
    #[must_use]
    pub fn new(address: &HttpAddress, error: io::Error) -> Self {
        let holder = match address {
            HttpAddress::Tcp(address) if error.kind() == io::ErrorKind::AddrInUse => {
                port_holder::find(address.port())
            }
            HttpAddress::Tcp(_) | HttpAddress::Unix(_) => None,
        };
        Self { error, holder }
    }
}

impl fmt::Display for BindFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.holder {
            Some(holder) => write!(f, "the port is in use by {holder}"),
            None => self.error.fmt(f),
        }
    }
}

impl std::error::Error for BindFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Listens at a path, in place of a socket that nobody listens at.
fn bind_private(path: &Path) -> io::Result<StdUnixListener> {
    let is_dead = StdUnixStream::connect(path)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if is_dead {
        fs::remove_file(path)?;
    }
    let before = umask(Mode::RWXG | Mode::RWXO);
    let bound = StdUnixListener::bind(path);
    umask(before);
    bound
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// All that answers the requests of a listener.
#[derive(Clone)]
struct Service {
    pages: Pages,
    api: Api,
    streams: Arc<Semaphore>,
}

/// Serves a connection for as long as its answer may take.
async fn serve_one(stream: Box<dyn Stream>, service: Service) {
    let is_stream = Rc::new(Cell::new(false));
    let mut answer = pin!(answer(stream, service, Rc::clone(&is_stream)));
    let is_over = tokio::time::timeout(CONNECTION_LIMIT, &mut answer).await.is_ok();
    if !is_over && is_stream.get() {
        let _ = tokio::time::timeout(STREAM_LIMIT, answer).await;
    }
}

async fn answer(
    stream: Box<dyn Stream>,
    service: Service,
    is_stream: Rc<Cell<bool>>,
) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let (service, is_stream) = (service.clone(), Rc::clone(&is_stream));
        async move {
            let request = ApiRequest::new(request, Arc::clone(&service.streams));
            let response = match (service.api)(request) {
                Ok(answer) => answer.await.into_response(),
                Err(request) => respond(&request, &service.pages, &service.streams),
            };
            is_stream.set(response.body().is_stream());
            Ok::<_, Infallible>(response)
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(HEAD_LEN_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        // One write per answer, by send(2).
        .writev(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn respond(
    request: &ApiRequest,
    pages: &Pages,
    streams: &Arc<Semaphore>,
) -> Response<AnswerContent> {
    let (method, path) = (&request.method, request.path.as_str());
    let is_known = method == Method::GET || method == Method::HEAD;
    let page = match pages(path).filter(|_| is_known) {
        Some(page) if is_private(path, &page) && !is_own_host(request.headers.get(HOST)) => {
            Page::text(421, "open this page by the address of its host\n")
        }
        Some(page) => page,
        None if is_known => Page::text(404, "there is no such page\n"),
        None => Page::text(405, "only GET and HEAD are served\n"),
    };
    let (page, body) = match page {
        page if page.content_type == EVENT_STREAM && method == Method::GET => {
            match Arc::clone(streams).try_acquire_owned() {
                Ok(permit) => (page, AnswerContent::Events(EventBody::new(pages, path, permit))),
                Err(_) => {
                    let page = Page::text(503, "too many streams are open\n");
                    let body = page.body.clone();
                    (page, AnswerContent::whole(body))
                }
            }
        }
        mut page => {
            let body = std::mem::take(&mut page.body);
            (page, AnswerContent::whole(body))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(page.status).expect("our own statuses");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    protect(headers);
    if !is_known {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
