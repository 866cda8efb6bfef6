//! Messages byte by byte, valid or not: the tables of `docs/protocol.md`.

use ipc_proto::message::JobId;
use test_kit::repository;

/// A body that is being written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body(pub(crate) Vec<u8>);

/// Starts the body of an enum's variant.
pub(crate) fn tag(tag: u64) -> Body {
    Body::default().number(tag)
}

impl Body {
    /// An integer of any width, or a tag, or a length.
    pub(crate) fn number(mut self, value: u64) -> Self {
        let bytes = value.to_le_bytes();
        match value {
            0..=250 => self.0.push(bytes[0]),
            251..=0xffff => self = self.raw(&[251]).raw(&bytes[..2]),
            0x1_0000..=0xffff_ffff => self = self.raw(&[252]).raw(&bytes[..4]),
            _ => self = self.raw(&[253]).raw(&bytes),
        }
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A text or a blob.
    pub(crate) fn blob(self, bytes: &[u8]) -> Self {
        self.number(bytes.len() as u64).raw(bytes)
    }

    /// An id of a job or a lease.
    pub(crate) fn id(self, epoch: u32, number: u64) -> Self {
        self.number(epoch.into()).number(number)
    }

    pub(crate) fn job(self, job: JobId) -> Self {
        self.id(job.epoch, job.number)
    }

    /// A stamp of `size` bytes, with times of 0.
    pub(crate) fn stamp(self, size: u64) -> Self {
        self.number(size).raw(&[0, 0])
    }

    /// This many whole files, with their number in front.
    pub(crate) fn files(self, len: u64, size: u64) -> Self {
        (0..len).fold(self.number(len), |body, _| body.stamp(size).raw(&[0]))
    }

    /// The frame.
    pub(crate) fn frame(&self) -> Vec<u8> {
        frame(&self.0)
    }
}

/// The frame of `body`.
pub(crate) fn frame(body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap();
    [&len.to_le_bytes(), body].concat()
}

/// A client's hello with this text for its software, and versions.
pub(crate) fn client_hello(versions: [u64; 2], software: &[u8]) -> Body {
    let hello = Body(b"HCL\x01".to_vec()).number(versions[0]).number(versions[1]);
    hello.number(0).blob(software).blob(b"")
}

/// The bodies of all messages of a kind, such as `client_request`, by their labels: those that the
/// tests of the protocol pin.
pub(crate) fn golden(kind: &str) -> Vec<(String, Vec<u8>)> {
    let text = std::fs::read_to_string(repository("ipc-proto/tests/it/golden.txt")).unwrap();
    let line = |line: &str| {
        let mut words = line.split(' ');
        let (label, _, body) = (words.next()?, words.next()?, words.next()?);
        let rest = label.strip_prefix(kind)?;
        let is_it = rest.is_empty() || rest.starts_with('/');
        let byte = |at| u8::from_str_radix(&body[at..at + 2], 16).unwrap();
        is_it.then(|| (label.to_owned(), (0..body.len()).step_by(2).map(byte).collect()))
    };
    let found: Vec<_> = text.lines().filter(|l| !l.starts_with('#')).filter_map(line).collect();
    assert!(!found.is_empty(), "{kind} is in golden.txt");
    found
}
