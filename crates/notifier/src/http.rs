//! One POST request over HTTP/1.1, without TLS, without redirects.

use crate::{DeliveryFailure, POST_TIMEOUT};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use std::fmt::Display;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Longest head of an answer in bytes.
const HEAD_LEN_MAX: usize = 16 << 10;

/// Posts `body` with these headers besides its type; done if the answer is one of success.
pub(crate) async fn post(
    url: &str,
    headers: &[(&str, String)],
    body: String,
) -> Result<(), DeliveryFailure> {
    let sent = tokio::time::timeout(POST_TIMEOUT, connect_and_send(url, headers, body));
    match sent.await {
        Ok(Ok(status)) => judge(status),
        Ok(Err(failure)) => Err(failure),
        Err(_) => {
            Err(DeliveryFailure::passing(format!("no answer within {} s", POST_TIMEOUT.as_secs())))
        }
    }
}

fn judge(status: StatusCode) -> Result<(), DeliveryFailure> {
    match status {
        status if status.is_success() => Ok(()),
        // Those that ask for another attempt.
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            Err(DeliveryFailure::passing(format!("answered with {status}")))
        }
        status if status.is_server_error() => {
            Err(DeliveryFailure::passing(format!("answered with {status}")))
        }
        status => Err(DeliveryFailure::lasting(format!("answered with {status}"))),
    }
}

async fn connect_and_send(
    url: &str,
    headers: &[(&str, String)],
    body: String,
) -> Result<StatusCode, DeliveryFailure> {
    let failed = |error: &dyn Display| DeliveryFailure::passing(format!("{url}: {error}"));
    if let Some(place) = url.strip_prefix("unix:") {
        let (socket, path) = place.split_once(":/").unwrap_or((place, ""));
        let stream = UnixStream::connect(socket).await.map_err(|error| failed(&error))?;
        return send(stream, "localhost", &format!("/{path}"), headers, body).await;
    }
    let uri: Uri = url.parse().map_err(|error| DeliveryFailure::lasting(format!("{error}")))?;
    let (Some(authority), Some("http")) = (uri.authority(), uri.scheme_str()) else {
        return Err(DeliveryFailure::lasting(format!("{url}: neither http: nor unix:")));
    };
    // The brackets of an IPv6 address belong to URLs only.
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = authority.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((host, port)).await.map_err(|error| failed(&error))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    send(stream, authority.as_str(), path, headers, body).await
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    host: &str,
    path: &str,
    headers: &[(&str, String)],
    body: String,
) -> Result<StatusCode, DeliveryFailure> {
    let mut request = Request::post(path)
        .header("host", host)
        .header("content-type", "application/json")
        .header("user-agent", concat!("hashcluster/", env!("CARGO_PKG_VERSION")));
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| DeliveryFailure::lasting(error.to_string()))?;
    let failed = |error: hyper::Error| DeliveryFailure::passing(error.to_string());
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_LEN_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // The connection ends with the answer's head: nobody reads its body.
    let connection = tokio::spawn(connection);
    let answered = sender.send_request(request).await;
    connection.abort();
    Ok(answered.map_err(failed)?.status())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Time passes as soon as nothing else happens.
    #[tokio::test(start_paused = true)]
    async fn a_recipient_that_never_answers_is_given_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let failure = post(&url, &[], "{}".to_owned()).await.unwrap_err();
        assert_eq!((failure.text.as_str(), failure.is_final), ("no answer within 15 s", false));
    }

    #[test]
    fn an_answer_that_cannot_change_ends_the_attempts() {
        for (status, want) in [
            (200, None),
            (204, None),
            (301, Some(true)),
            (400, Some(true)),
            (404, Some(true)),
            (408, Some(false)),
            (410, Some(true)),
            (425, Some(false)),
            (429, Some(false)),
            (500, Some(false)),
            (503, Some(false)),
        ] {
            let failure = judge(StatusCode::from_u16(status).unwrap()).err();
            assert_eq!(failure.map(|failure| failure.is_final), want, "{status}");
        }
    }
}
