//! Properties of every message, and bytes that are never a message.

use crate::samples::{Any, Kind, samples};
use ipc_proto::codec::CodecError;
use ipc_proto::message::{ClientRequest, JobId};

#[test]
fn a_truncated_body_is_malformed() {
    for (label, message) in samples() {
        let body = message.body();
        for cut in 0..body.len() {
            let got = message.kind().decode(&body[..cut]);
            assert!(matches!(got, Err(CodecError::Malformed(_))), "{label} cut at {cut}: {got:?}");
        }
    }
}

#[test]
fn trailing_bytes_are_malformed() {
    for (label, message) in samples() {
        let mut body = message.body();
        for unread_len in 1..=3 {
            body.push(0);
            let got = message.kind().decode(&body);
            assert!(
                matches!(got, Err(CodecError::Trailing { unread_len: n }) if n == unread_len),
                "{label}: {got:?}"
            );
        }
    }
}

#[track_caller]
fn check_malformed(kind: Kind, body: &[u8], why: &str) {
    let got = kind.decode(body);
    assert!(matches!(got, Err(CodecError::Malformed(_))), "{why}: {got:?}");
}

#[test]
fn an_unknown_tag_is_malformed() {
    let hello = |tag| [b"HCL\x01".as_slice(), &[1, 1, tag, 0]].concat();
    check_malformed(Kind::Hello, &hello(2), "role");
    for (kind, known) in [
        (Kind::HelloReply, 2),
        (Kind::ClientRequest, 11),
        (Kind::ClientReply, 14),
        (Kind::WorkerRequest, 4),
        (Kind::WorkerReply, 6),
    ] {
        for tag in known..=255 {
            check_malformed(kind, &[tag; 64], "message");
        }
    }
    for (kind, body, why) in [
        (Kind::HelloReply, &[1, 7, 0, 1, 1][..], "reason of a refusal"),
        (Kind::ClientRequest, &[0, 1, 1, 99, 0, 0], "algorithm"),
        (Kind::ClientRequest, &[0, 1, 0, 0, 0], "no algorithm"),
        (Kind::ClientRequest, &[0, 1, 2, 1, 1, 0, 0], "an algorithm twice"),
        (Kind::ClientRequest, &[0, 1, 5, 0, 1, 2, 3, 4, 0, 0], "five algorithms"),
        (Kind::ClientRequest, &[1, 1, 1, 0, 2, 0, 0], "items"),
        (Kind::ClientRequest, &[1, 1, 1, 0, 0, 2, 0, 0], "source"),
        (Kind::ClientRequest, &[2, 1, 1, 0, 3, 0, 0, 0], "piece"),
        (Kind::ClientReply, &[2, 1, 1, 1, 0, 1, 0, 1, 0, 11], "failure"),
        (Kind::ClientReply, &[6, 1, 2], "bool"),
        (Kind::ClientReply, &[7, 1, 2, 0], "reason of a rejection"),
        (Kind::ClientReply, &[9, 1, b'w', 3], "outcome of a release"),
        (Kind::WorkerRequest, &[0, 1, 1, 1, 1, 0, 5, 0, 0], "work"),
    ] {
        check_malformed(kind, body, why);
    }
}

#[test]
fn invalid_utf_8_is_malformed() {
    check_malformed(Kind::HelloReply, &[1, 0, 2, 0xc3, 0x28, 1, 1], "text");
}

#[test]
fn an_overlong_varint_is_decoded_but_never_encoded() {
    let finish = Any::from(ClientRequest::Finish { job: JobId { epoch: 1, number: 2 } });
    for long in [
        &[3, 1, 2][..],
        &[251, 3, 0, 1, 2],
        &[3, 251, 1, 0, 2],
        &[3, 252, 1, 0, 0, 0, 251, 2, 0],
        &[252, 3, 0, 0, 0, 252, 1, 0, 0, 0, 2],
    ] {
        assert_eq!(Kind::ClientRequest.decode(long).unwrap(), finish, "{long:?}");
    }
    assert_eq!(finish.body(), [3, 1, 2]);
}

#[test]
fn an_integer_wider_than_its_field_is_malformed() {
    for body in [
        &[3, 253, 1, 0, 0, 0, 0, 0, 0, 0, 2][..],
        &[3, 1, 254, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[3, 1, 255, 1],
        &[253, 3, 0, 0, 0, 0, 0, 0, 0, 1, 2],
    ] {
        check_malformed(Kind::ClientRequest, body, "number");
    }
    check_malformed(Kind::WorkerReply, &[0, 252, 1, 0, 0, 0], "16-bit number");
}
