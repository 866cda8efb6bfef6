//! A client that is allowed to connect, and nothing else.

use crate::intruder::Intruder;
use crate::site::Site;
use crate::suite::{Boundary, Case, Cases};
use crate::user::{ALLOWED, STRANGER, as_user};
use crate::wire::{self, Body, frame, golden, tag};
use ipc_proto::limits::{
    BODY_LEN_MAX, CLIENT_JOBS_MAX, FRAME_DESCRIPTORS_MAX, FRAME_MESSAGES_MAX, FRAME_NAMES_MAX,
    HELLO_LEN_MAX, INLINE_LEN_MAX, ITEM_ALGORITHMS_MAX, MERGE_VALUES_MAX, PATH_LEN_MAX,
    STATE_LEN_MAX, TOKEN_LEN_MAX,
};
use ipc_proto::message::{ClientReply, JobId, RefuseReason, ReleaseOutcome, Versions};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

const CLOSED: &str = "closed, counted as faulty";

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Cases::at(Boundary::Client);
    malformed(&mut cases);
    beyond_limits(&mut cases);
    out_of_order(&mut cases);
    hellos(&mut cases);
    cases.done()
}

/// Sends `frames` on a connection each, and expects each to be closed for a fault.
fn close_each(site: &Site, frames: &[Vec<u8>]) {
    let path = site.client_socket();
    site.faulty(frames.len() as u64, || as_user(ALLOWED, || close_each_at(&path, frames)));
}

fn close_each_at(path: &Path, frames: &[Vec<u8>]) {
    for bytes in frames {
        let mut peer = Intruder::client(path);
        peer.send(bytes);
        peer.half_close();
        let replies = peer.closed::<ClientReply>();
        assert!(replies.is_empty(), "{bytes:02x?} is answered by {replies:?}");
    }
}

/// The first `most` lengths of a message, and some beyond.
fn cuts(len: usize) -> impl Iterator<Item = usize> {
    (1..len).filter(|at| *at <= 24 || at % 29 == 0)
}

fn malformed(cases: &mut Cases) {
    let of_one_algorithm = |label: &str| label.starts_with("client_request/open/");
    let all = golden("client_request").into_iter();
    let all = all.filter(|(label, _)| !of_one_algorithm(label) || label.ends_with("several"));
    for (label, body) in all {
        let whole = frame(&body);
        cases.add(format!("{label} cut off at each length"), CLOSED, move |site| {
            let cut: Vec<Vec<u8>> = cuts(whole.len()).map(|at| whole[..at].to_vec()).collect();
            close_each(site, &cut);
        });
        if body.len() > 1 {
            let body = body.clone();
            cases.add_slow(
                format!("{label} as a shorter message, at each length"),
                CLOSED,
                move |site| {
                    let cut: Vec<_> = cuts(body.len()).map(|at| frame(&body[..at])).collect();
                    close_each(site, &cut);
                },
            );
        }
        cases.add_slow(format!("{label} with each byte false"), "closed or served", move |site| {
            let path = site.client_socket();
            as_user(ALLOWED, || mutate(&path, &body));
        });
    }
    cases.add("one byte after each message", CLOSED, |site| {
        let longer = |(_, body): (String, Vec<u8>)| frame(&[&body[..], &[0]].concat());
        close_each(site, &golden("client_request").into_iter().map(longer).collect::<Vec<_>>());
    });
    for (name, lens) in [
        ("a frame of no length", vec![0]),
        ("a frame of one byte more than any has", vec![(1 << 20) + 1]),
        ("frames of gigabytes", vec![u32::MAX, 1 << 31, (1 << 31) - 1, 1 << 24]),
    ] {
        cases.add(name, CLOSED, move |site| {
            let prefixes: Vec<_> =
                lens.iter().map(|len: &u32| len.to_le_bytes().to_vec()).collect();
            close_each(site, &prefixes);
        });
    }
    let job = JobId { epoch: 1, number: 1 };
    let inline = |lens: u64| tag(1).job(job).number(0).number(1).number(lens);
    for (name, bodies) in [
        ("unknown requests", vec![tag(8), tag(250), tag(1 << 20), tag(u64::from(u32::MAX))]),
        ("unknown kinds of items", vec![tag(1).job(job).number(0).number(2)]),
        (
            "unknown sources of files",
            vec![tag(1).job(job).number(0).number(0).number(2).files(1, 1)],
        ),
        ("unknown pieces", vec![tag(2).job(job).number(0).number(3)]),
        ("unknown algorithms", vec![tag(0).number(1).number(1).number(9).raw(&[0, 0])]),
        (
            "a truth that is neither 0 nor 1",
            vec![tag(0).number(1).number(1).number(1).raw(&[0, 2])],
        ),
        (
            "an option that is neither there nor not",
            vec![tag(1).job(job).raw(&[0, 0, 0, 1, 9, 0, 0]).raw(&[2])],
        ),
        (
            "integers of unused forms",
            [254, 255].map(|first| tag(3).raw(&[first]).raw(&[1; 16])).into(),
        ),
        ("a number wider than its field", vec![tag(6).raw(&[253, 1, 0, 0, 0, 1, 0, 0, 0, 0])]),
        (
            "lists whose length is a lie",
            vec![
                inline(u64::MAX),
                inline(1 << 32),
                inline(1 << 60),
                inline(FRAME_MESSAGES_MAX as u64),
            ],
        ),
        (
            "texts whose length is a lie",
            [u64::MAX, 1 << 40, 65, 3].map(|len| tag(7).number(len).raw(b"w1")).into(),
        ),
        ("a name that is not UTF-8", vec![tag(7).blob(b"\xff\xfe"), tag(7).blob(b"\xed\xa0\x80")]),
    ] {
        cases.add(name, CLOSED, move |site| {
            close_each(site, &bodies.iter().map(Body::frame).collect::<Vec<_>>());
        });
    }
}

/// Replaces each byte by values that lengths and tags have at their ends.
fn mutate(path: &Path, body: &[u8]) {
    for at in cuts(body.len() + 1).map(|at| at - 1) {
        for value in [0, 0x7f, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff] {
            let mut body = body.to_vec();
            body[at] = value;
            let mut peer = Intruder::client(path);
            peer.send(&frame(&body));
            peer.half_close();
            peer.closed::<ClientReply>();
        }
    }
}

/// Messages of the right form beyond what the tables of the protocol allow.
fn beyond_limits(cases: &mut Cases) {
    /// The job's fields come first.
    type Rest = Box<dyn Fn(Body) -> Body>;
    let of = |rest: fn(Body) -> Body| -> Rest { Box::new(rest) };
    let path = |path: Vec<u8>| -> Rest {
        Box::new(move |body| body.raw(&[0, 0, 1]).blob(b"d").number(1).blob(&path).files(1, 1))
    };
    let dataset = |name: &'static [u8]| -> Rest {
        Box::new(move |body| body.raw(&[0, 0, 1]).blob(name).number(1).blob(b"file").files(1, 1))
    };
    let long = |len| vec![b'x'; len];
    let items: Vec<(&str, Rest)> = vec![
        ("no files", of(|body| body.raw(&[0, 0, 0, 0]))),
        (
            "more files than a frame has",
            of(|b| b.raw(&[0, 0, 0]).files(FRAME_DESCRIPTORS_MAX as u64 + 1, 1)),
        ),
        ("no names", of(|body| body.raw(&[0, 0, 1]).blob(b"d").number(0).number(0))),
        (
            "more names than a frame has",
            of(|body| {
                let count = FRAME_NAMES_MAX as u64 + 1;
                let body = body.raw(&[0, 0, 1]).blob(b"d").number(count);
                (0..count).fold(body, |body, _| body.blob(b"f")).files(count, 1)
            }),
        ),
        (
            "fewer names than files",
            of(|b| b.raw(&[0, 0, 1]).blob(b"d").number(1).blob(b"f").files(2, 1)),
        ),
        ("an empty path", path(Vec::new())),
        ("a path that is too long", path(long(PATH_LEN_MAX + 1))),
        ("a path up", path(b"../secret".to_vec())),
        ("a path up from below", path(b"a/../../secret".to_vec())),
        ("a path that ends upwards", path(b"a/..".to_vec())),
        ("an absolute path", path(b"/etc/passwd".to_vec())),
        ("a path with an empty component", path(b"a//b".to_vec())),
        ("a path of a dot", path(b"./file".to_vec())),
        ("a path with a zero byte", path(b"file\0".to_vec())),
        ("a dataset without a name", dataset(b"")),
        ("a dataset whose name is too long", dataset(&[b'd'; 33])),
        ("a dataset whose name is a path", dataset(b"../d")),
        ("a range beyond its file", of(|b| b.raw(&[0, 0, 0, 1]).number(9).raw(&[0, 0, 1, 5, 5]))),
        (
            "a range whose end overflows",
            of(|b| {
                b.raw(&[0, 0, 0, 1]).number(9).raw(&[0, 0, 1]).number(u64::MAX).number(u64::MAX)
            }),
        ),
        ("no messages", of(|body| body.raw(&[0, 1, 0, 0]))),
        (
            "more messages than a frame has",
            of(|body| {
                let count = FRAME_MESSAGES_MAX + 1;
                body.raw(&[0, 1]).number(count as u64).raw(&vec![0; count]).blob(b"")
            }),
        ),
        (
            "messages longer than their bytes",
            of(|body| body.raw(&[0, 1, 2, 200, 200]).blob(b"abc")),
        ),
        ("messages shorter than their bytes", of(|body| body.raw(&[0, 1, 1, 1]).blob(b"abc"))),
        (
            "lengths whose sum overflows",
            of(|body| {
                let body = body.raw(&[0, 1]).number(8192);
                (0..8192).fold(body, |body, _| body.number(u32::MAX.into())).blob(b"abc")
            }),
        ),
        (
            "more bytes than a frame has",
            of(|body| {
                let len = INLINE_LEN_MAX + 1;
                body.raw(&[0, 1, 1]).number(len as u64).blob(&vec![0; len])
            }),
        ),
        (
            "an index that overflows",
            of(|body| body.number(u64::MAX).raw(&[1, 2, 1, 1]).blob(b"ab")),
        ),
    ];
    for (name, rest) in items {
        cases.add(name, CLOSED, move |site| with_job(site, 1, |job| rest(tag(1).job(job))));
    }
    let pieces: Vec<(&str, Rest)> = vec![
        ("a subtree that is empty", of(|body| body.raw(&[0, 0, 0]).blob(b""))),
        (
            "a subtree that is not aligned",
            of(|body| body.raw(&[0, 0]).number(1024).blob(&[0; 2048])),
        ),
        (
            "a subtree whose end overflows",
            of(|b| b.raw(&[0, 0]).number(u64::MAX - 1023).blob(&[0; 1024])),
        ),
        ("a merge of one value", of(|body| body.raw(&[0, 1]).blob(&[0; 32]).raw(&[1]))),
        ("a merge of half a value", of(|body| body.raw(&[0, 1]).blob(&[0; 80]).raw(&[1]))),
        (
            "a merge of too many values",
            of(|b| b.raw(&[0, 1]).blob(&vec![0; 32 * (MERGE_VALUES_MAX + 1)]).raw(&[1])),
        ),
        (
            "a state that is too long",
            of(|b| b.raw(&[0, 2]).blob(&[0; STATE_LEN_MAX + 1]).blob(b"").raw(&[1])),
        ),
        ("a segment of no whole blocks", of(|body| body.raw(&[0, 2, 0]).blob(&[0; 100]).raw(&[0]))),
    ];
    for (name, rest) in pieces {
        cases.add(name, CLOSED, move |site| with_job(site, 5, |job| rest(tag(2).job(job))));
    }
    for (name, algorithms) in [
        ("a job of no algorithm", vec![]),
        ("a job of too many algorithms", (0..9).take(ITEM_ALGORITHMS_MAX + 1).collect()),
        ("a job of one algorithm twice", vec![1, 1]),
    ] {
        cases.add(name, CLOSED, move |site| {
            close_each(site, &[tag(0).number(1).blob(&algorithms).raw(&[0, 0]).frame()]);
        });
    }
    for name in [&b""[..], &[b'w'; 65]] {
        let what = format!("a release of a name of {} bytes", name.len());
        cases.add(what, CLOSED, |site| close_each(site, &[tag(7).blob(name).frame()]));
    }
}

/// Sends one request about a job that is open, and expects to be closed for a fault.
fn with_job(site: &Site, algorithm: u8, request: impl Fn(JobId) -> Body) {
    let path = site.client_socket();
    site.faulty(1, || {
        let mut peer = as_user(ALLOWED, || Intruder::client(&path));
        let (job, _) = peer.open_job(algorithm);
        peer.say(&request(job));
        let replies = peer.closed::<ClientReply>();
        assert!(replies.is_empty(), "answered by {replies:?}");
    });
}

/// One empty message of a job.
fn message(job: JobId, first: u64) -> Body {
    tag(1).job(job).number(first).raw(&[1, 1, 0]).blob(b"")
}

fn out_of_order(cases: &mut Cases) {
    cases.add("items of a job that was never opened", CLOSED, |site| {
        let jobs = [JobId { epoch: 1, number: 1 }, JobId { epoch: u32::MAX, number: u64::MAX }];
        close_each(site, &jobs.map(|job| message(job, 0).frame()));
        site.logged("is not open");
    });
    cases.add("items, an end and a piece of another client's job", CLOSED, |site| {
        let mut owner = site.client();
        let (job, _) = owner.open_job(1);
        let piece = tag(2).job(job).raw(&[0, 2, 0, 0, 1]);
        let others = [message(job, 0), piece, tag(3).job(job)];
        close_each(site, &others.map(|body| body.frame()));
        owner.say(&message(job, 0));
        assert!(matches!(owner.reply(), ClientReply::Results { .. }), "the owner is served");
    });
    cases.add("another client's job is cancelled", "nothing happens", |site| {
        let mut owner = site.client();
        let (job, _) = owner.open_job(1);
        let path = site.client_socket();
        let mut other = as_user(ALLOWED, || Intruder::client(&path));
        other.say(&tag(4).job(job));
        other.is_served();
        owner.say(&message(job, 0));
        assert!(matches!(owner.reply(), ClientReply::Results { .. }), "the owner is served");
    });
    cases.add("an index left out", CLOSED, |site| with_job(site, 1, |job| message(job, 1)));
    cases.add("an index of the end of all", CLOSED, |site| {
        with_job(site, 1, |job| message(job, u64::MAX - 2))
    });
    let twice = |first: fn(JobId) -> Body, second: fn(JobId) -> Body| {
        move |site: &Site| {
            site.faulty(1, || {
                let mut peer = site.client();
                let (job, _) = peer.open_job(1);
                peer.send(&[first(job).frame(), second(job).frame()].concat());
                peer.closed::<ClientReply>();
            });
        }
    };
    cases.add("an index used twice", CLOSED, twice(|j| message(j, 0), |j| message(j, 0)));
    cases.add("an end said twice", CLOSED, twice(|j| tag(3).job(j), |j| tag(3).job(j)));
    cases.add("items after the end", CLOSED, twice(|j| tag(3).job(j), |j| message(j, 0)));
    cases.add(
        "items after the job was cancelled",
        CLOSED,
        twice(|j| tag(4).job(j), |j| message(j, 0)),
    );
    cases.add("a job cancelled twice", "answered once", |site| {
        let mut peer = site.client();
        let (job, _) = peer.open_job(1);
        peer.send(&[tag(4).job(job).frame(), tag(4).job(job).frame()].concat());
        assert!(matches!(peer.reply(), ClientReply::Cancelled { .. }));
        peer.is_served();
    });
    cases.add("more items than the window", CLOSED, |site| {
        site.faulty(1, || {
            let mut peer = site.client();
            let (job, window) = peer.open_slow_job();
            let mut first = 0;
            while first <= u64::from(window.items) {
                let zeros = vec![0; 4096];
                let body = tag(1).job(job).number(first).number(1).number(4096).raw(&zeros);
                // Together in one go: no result comes back in between.
                peer.say(&body.blob(b""));
                first += 4096;
            }
            for _ in 0..32 {
                let zeros = vec![0; 8192];
                peer.say(
                    &tag(1).job(job).number(first).number(1).number(8192).raw(&zeros).blob(b""),
                );
                first += 8192;
            }
            peer.closed::<ClientReply>();
        });
    });
    cases.add_slow("more bytes than the window", CLOSED, |site| {
        site.faulty(1, || {
            let mut peer = site.client();
            let (job, _) = peer.open_slow_job();
            let data = vec![0; INLINE_LEN_MAX];
            for first in 0..64 {
                let body = tag(1).job(job).number(first).raw(&[1, 1]).number(data.len() as u64);
                peer.say(&body.blob(&data));
            }
            peer.closed::<ClientReply>();
        });
    });
    cases.add("more jobs than a connection has", "rejected, the connection stays", |site| {
        let mut peer = site.client();
        for _ in 0..CLIENT_JOBS_MAX {
            peer.open_job(1);
        }
        peer.say(&tag(0).number(3).number(1).raw(&[1, 0, 0]));
        let reply = peer.reply();
        assert!(matches!(reply, ClientReply::Rejected { tag: 3, .. }), "{reply:?}");
        peer.is_served();
    });
    cases.add("names in a dataset that nobody has", "the items fail with UnknownDataset", |site| {
        let mut peer = site.client();
        let (job, _) = peer.open_job(1);
        let names =
            tag(1).job(job).raw(&[0, 0, 1]).blob(b"nobody").number(1).blob(b"f").files(1, 1);
        peer.say(&names);
        let reply = format!("{:?}", peer.reply());
        assert!(reply.contains("UnknownDataset"), "{reply}");
    });
    cases.add("a release of a worker by somebody else", "answered by Forbidden", |site| {
        let path = site.client_socket();
        let mut peer = as_user(ALLOWED, || Intruder::client(&path));
        peer.say(&tag(7).blob(b"w0"));
        let reply = peer.reply();
        assert!(
            matches!(reply, ClientReply::Released { outcome: ReleaseOutcome::Forbidden, .. }),
            "{reply:?}"
        );
    });
    cases.add("a wait for more workers than there can be", "answered after its time", |site| {
        let mut peer = site.client();
        peer.say(&tag(6).number(u32::MAX.into()).number(u32::MAX.into()));
        peer.say(&tag(6).number(u32::MAX.into()).number(1));
        let reply = peer.reply();
        assert!(matches!(reply, ClientReply::Ready { enough: false, .. }), "{reply:?}");
    });
    cases.add("a hello said twice", CLOSED, |site| {
        let version = Versions::OURS.max.into();
        close_each(site, &[wire::client_hello([version; 2], b"again").frame()]);
    });
}

fn hellos(cases: &mut Cases) {
    let ours: u64 = Versions::OURS.max.into();
    let hello = wire::client_hello([ours; 2], b"x").0;
    let with = move |at: usize, value: u8| {
        let mut hello = wire::client_hello([ours; 2], b"x").0;
        hello[at] = value;
        hello
    };
    let padded = [&hello[..], &vec![0; HELLO_LEN_MAX]].concat();
    let long_token = Body(hello[..hello.len() - 1].to_vec()).blob(&[1; TOKEN_LEN_MAX + 1]).0;
    for (name, body, reason) in [
        ("a hello of another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec(), RefuseReason::NotOurs),
        ("a hello with another magic", with(3, 2), RefuseReason::NotOurs),
        ("a hello of one byte", vec![0], RefuseReason::NotOurs),
        ("a hello that is too long", padded, RefuseReason::NotOurs),
        ("a hello of an unknown role", with(6, 2), RefuseReason::NotOurs),
        ("a hello with a byte behind it", [&hello[..], &[0]].concat(), RefuseReason::NotOurs),
        ("a hello whose software is not UTF-8", with(8, 0xff), RefuseReason::NotOurs),
        (
            "a hello whose software is too long",
            wire::client_hello([ours; 2], &[b'x'; 65]).0,
            RefuseReason::NotOurs,
        ),
        ("a hello with a token that is too long", long_token, RefuseReason::NotOurs),
        (
            "a hello of older versions",
            wire::client_hello([0, ours - 1], b"x").0,
            RefuseReason::Version,
        ),
        (
            "a hello of newer versions",
            wire::client_hello([ours + 1, 0xffff], b"x").0,
            RefuseReason::Version,
        ),
        (
            "a hello whose versions are the wrong way round",
            wire::client_hello([0xffff, 0], b"x").0,
            RefuseReason::Version,
        ),
        (
            "a worker on the clients' socket",
            golden("hello/worker").remove(0).1,
            RefuseReason::WrongSocket,
        ),
    ] {
        cases.add(name, "refused with its reason", move |site| {
            let path = site.client_socket();
            let mut peer = as_user(ALLOWED, || Intruder::connect(&path));
            peer.send(&frame(&body));
            let (got, text) = peer.refused();
            assert_eq!(got, reason, "{text}");
        });
    }
    cases.add(
        "hellos cut off at each length",
        "refused, or closed if there was not a byte",
        |site| {
            let path = site.client_socket();
            let hello = frame(&golden("example").remove(0).1);
            as_user(ALLOWED, || {
                for at in 0..hello.len() {
                    let mut peer = Intruder::connect(&path);
                    peer.send(&hello[..at]);
                    peer.half_close();
                    if at == 0 {
                        assert!(peer.closed::<ClientReply>().is_empty());
                    } else {
                        assert_eq!(peer.refused().0, RefuseReason::NotOurs, "{at} bytes");
                    }
                }
            });
        },
    );
    cases.add("a hello that announces a megabyte", "refused before it has arrived", |site| {
        let mut peer = Intruder::connect(&site.client_socket());
        peer.send(&u32::try_from(BODY_LEN_MAX).unwrap().to_le_bytes());
        assert_eq!(peer.refused().0, RefuseReason::NotOurs);
    });
    cases.add("descriptors on a hello", "refused", |site| {
        let files: Vec<File> = (0..9).map(|_| File::open("/dev/null").unwrap()).collect();
        let mut peer = Intruder::connect(&site.client_socket());
        peer.send_with(&frame(&golden("example").remove(0).1), &files);
        assert_eq!(peer.refused().0, RefuseReason::NotOurs);
    });
    cases.add("a user who is not allowed", "refused with Forbidden", |site| {
        let path = site.client_socket();
        let mut peer = as_user(STRANGER, || Intruder::connect(&path));
        let (reason, text) = peer.refused();
        assert_eq!(reason, RefuseReason::Forbidden, "{text}");
        assert!(text.contains(&STRANGER.to_string()), "{text}");
    });
    cases.add_slow(
        "silence instead of a hello",
        "refused with Timeout after two seconds",
        |site| {
            let mut peers: Vec<_> =
                (0..50).map(|_| Intruder::connect(&site.client_socket())).collect();
            for peer in &mut peers {
                assert_eq!(peer.refused().0, RefuseReason::Timeout);
            }
        },
    );
    cases.add_slow(
        "a hello of one byte per 300 ms",
        "refused with Timeout after two seconds",
        |site| {
            let mut peer = Intruder::connect(&site.client_socket());
            for byte in frame(&golden("example").remove(0).1).iter().take(8) {
                peer.send(&[*byte]);
                std::thread::sleep(Duration::from_millis(300));
            }
            assert_eq!(peer.refused().0, RefuseReason::Timeout);
        },
    );
}
