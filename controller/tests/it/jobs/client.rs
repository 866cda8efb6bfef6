//! A client with one durable job: it submits, stores, seals, waits, retries, and reads the manifest; after
//! a crash it asks everything again and compares.

use super::audits::SimAudit;
use hashcluster_controller::core::Principal;
use ipc_proto::message::{
    AuditBaseline, ClaimEntry, FileSource, ItemOutcome, Items, JobAct, JobId, JobKind, JobRoot,
    JobSource, JobSpec, JobState, NameShare, ResultRow, ServiceRefusal, ServiceReply,
    ServiceRequest, Stamp,
};
use ipc_proto::{Algorithm, Blob};
use std::collections::BTreeSet;
use test_kit::Random;

/// The digest of these bytes in the simulation.
pub(crate) fn digest_of(bytes: &[u8]) -> Vec<u8> {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    let mut digest = Vec::new();
    for round in 0..4_u8 {
        for &byte in bytes.iter().chain([&round]) {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        digest.extend_from_slice(&state.to_le_bytes());
    }
    digest
}

/// The digest of these bytes by any algorithm; those of a manifest have several.
pub(crate) fn digest_by(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
    if algorithm == Algorithm::Sha256 {
        return digest_of(bytes);
    }
    let salted = digest_of(&[bytes, algorithm.name().as_bytes()].concat());
    salted.into_iter().cycle().take(algorithm.digest_len()).collect()
}

/// The stamp of every file.
pub(crate) const FILE_STAMP: Stamp = Stamp { size: 10, mtime_ns: 5, ctime_ns: 6 };

#[derive(Clone, Debug)]
pub(crate) struct SimItem {
    pub(crate) name: Vec<u8>,
    /// Bytes of a message, or the path of a file.
    pub(crate) content: Vec<u8>,
    /// Bytes whose digest it has.
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_file: bool,
    /// A check of it must find another digest.
    is_wrong: bool,
    algorithm: Algorithm,
}

impl SimItem {
    fn expected(&self) -> Blob {
        let salt: &[u8] = if self.is_wrong { b"!" } else { b"" };
        Blob(digest_by(self.algorithm, &[&self.content[..], salt].concat()))
    }

    /// The same under another name.
    pub(crate) fn renamed(&self, number: usize) -> Self {
        let rename = |name: &[u8]| [name, format!("x{number}").as_bytes()].concat();
        Self { name: rename(&self.name), content: rename(&self.content), ..self.clone() }
    }

    /// Its line of a manifest.
    pub(crate) fn claim(&self) -> ClaimEntry {
        let (name, path) = (Blob(self.name.clone()), Blob(self.content.clone()));
        let (algorithm, digest, stamp) = (self.algorithm, self.expected(), FILE_STAMP);
        ClaimEntry { name, path, algorithm, digest, stamp, refused: None }
    }
}

/// The client's next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientStep {
    Submit,
    Store,
    Seal,
    Act(JobAct),
    Wait,
    Read,
    Over,
}

pub(crate) struct JobClient {
    number: usize,
    pub(crate) items: Vec<SimItem>,
    kind: JobKind,
    /// The files are found by a walk, and not stored.
    is_walk: bool,
    /// They are those of a manifest.
    is_listed: bool,
    step: ClientStep,
    /// A request is on its way.
    asked: Option<u32>,
    next_tag: u32,
    // What was acknowledged.
    id: Option<JobId>,
    stored: u64,
    is_sealed: bool,
    is_done: bool,
    pub(crate) rows: Vec<ResultRow>,
    pub(crate) retries: u64,
    pauses_left: u64,
    has_manifest: bool,
    /// Its second job.
    pub(crate) audit: Option<SimAudit>,
    pub(crate) findings: u64,
}

impl JobClient {
    pub(crate) fn new(number: usize, random: &mut Random) -> Self {
        let len = match random.below(4) {
            0 => random.below(3),
            1 => random.below(30),
            _ => random.below(700),
        };
        let is_walk = len > 0 && random.chance(40);
        let is_listed = !is_walk && len > 0 && random.chance(40);
        let is_file = is_walk || is_listed || random.chance(60);
        // Runs of lines with one algorithm, of any length.
        let algorithms = [
            Algorithm::Sha256,
            Algorithm::Md5,
            Algorithm::Blake3,
            Algorithm::Sha512,
            Algorithm::Sha1,
        ];
        let change = random.one_of(&[0, 1, 50]);
        let mut algorithm = Algorithm::Sha256;
        let mut items: Vec<SimItem> = (0..len)
            .map(|index| {
                // A walk meets directories at any depth, before and behind files.
                let dir = match random.below(if is_walk { 6 } else { 1 }) {
                    0 => String::new(),
                    1 | 2 => format!("{}-/", random.below(4)),
                    3 => format!("{}/a/", random.below(9)),
                    _ => format!("b/{}/{}/c/", random.below(3), random.below(20)),
                };
                if is_listed && random.chance(change) {
                    algorithm = random.one_of(&algorithms);
                }
                SimItem {
                    algorithm,
                    name: format!("n{number}/{dir}{index}").into_bytes(),
                    content: format!("d{number}/{dir}{index}").into_bytes(),
                    bytes: format!("d{number}/{dir}{index}").into_bytes(),
                    is_file,
                    is_wrong: random.chance(5),
                }
            })
            .collect();
        if is_walk {
            let is_there =
                |path: &[u8], of: &[SimItem]| of.iter().any(|item| item.content.starts_with(path));
            let all = items.clone();
            // A name is a file's or a directory's.
            items.retain(|item| !is_there(&[&item.content[..], b"/"].concat(), &all));
            items.sort_by(|a, b| {
                a.content.split(|&c| c == b'/').cmp(b.content.split(|&c| c == b'/'))
            });
        }
        Self {
            number,
            items,
            kind: if is_walk {
                JobKind::Sum
            } else if is_listed {
                JobKind::Check
            } else {
                random.one_of(&[JobKind::Sum, JobKind::Check])
            },
            is_walk,
            is_listed,
            step: ClientStep::Submit,
            asked: None,
            next_tag: 0,
            id: None,
            stored: 0,
            is_sealed: false,
            is_done: false,
            rows: Vec::new(),
            retries: 0,
            pauses_left: random.below(3),
            has_manifest: false,
            audit: None,
            findings: 0,
        }
    }

    pub(crate) fn principal(&self) -> Principal {
        Principal::Uid(u32::try_from(self.number % 3).expect("a small number"))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.step == ClientStep::Over
    }

    /// The controller is gone, and with it what was asked.
    pub(crate) fn reconnect(&mut self) {
        self.asked = None;
        if self.step != ClientStep::Over || self.has_manifest {
            self.step = ClientStep::Submit;
        }
    }

    fn spec(&self) -> JobSpec {
        JobSpec {
            kind: if self.audit.is_some() { JobKind::Audit } else { self.kind },
            algorithms: Algorithm::Sha256.into(),
            source: if self.is_walk {
                let (path, shown) = (format!("d{}", self.number), format!("n{}", self.number));
                let root = JobRoot { path: Blob(path.into()), shown: Blob(shown.into()) };
                let (name, roots) = ("d".to_owned(), vec![root]);
                match &self.audit {
                    Some(SimAudit { base, .. }) => {
                        let (path, base_dir) = (self.manifest_path(), Blob::default());
                        let listed = AuditBaseline::Manifest { path, base: base_dir };
                        let baseline = base.map_or(listed, AuditBaseline::Job);
                        JobSource::Audit { name, roots, baseline }
                    }
                    None => JobSource::Dataset { name, roots },
                }
            } else if self.is_listed {
                let (path, base) = (self.manifest_path(), Blob::default());
                JobSource::Manifest { name: "d".to_owned(), path, base }
            } else {
                JobSource::Stored
            },
            cross_check: 0,
            strict_reads: false,
            labels: vec![format!("l{}", self.number % 2)],
            priority: u8::try_from(self.number % 10).expect("a digit"),
            keep_s: 0,
            rate: 0,
            share: NameShare::ALL,
        }
    }

    /// The job that its audit is compared with.
    fn baseline(&self) -> Option<JobId> {
        self.audit.as_ref().and_then(|audit| audit.base)
    }

    /// The manifest of its files, if it has one.
    pub(crate) fn manifest_path(&self) -> Blob {
        Blob(format!("SUMS{}", self.number).into_bytes())
    }

    /// The next request, if none is on its way.
    pub(crate) fn next_request(&mut self, random: &mut Random) -> Option<(u32, ServiceRequest)> {
        if self.asked.is_some() {
            return None;
        }
        let job = self.id.unwrap_or_default();
        let request = match self.step {
            ClientStep::Submit => {
                let more = if self.audit.is_some() { "a" } else { "" };
                let key = format!("k{}{more}", self.number);
                ServiceRequest::Submit { key, spec: Box::new(self.spec()) }
            }
            ClientStep::Store => self.store_request(job, random),
            ClientStep::Seal => ServiceRequest::Seal { job },
            ClientStep::Act(act) => ServiceRequest::Act { job, act },
            ClientStep::Wait => {
                let timeout_ms = u32::try_from(random.below(2000)).expect("2 s");
                ServiceRequest::Wait { job, timeout_ms }
            }
            ClientStep::Read => {
                let limit = u16::try_from(1 + random.below(300)).expect("few");
                if let Some(SimAudit { rows, .. }) = &self.audit {
                    ServiceRequest::Findings { job, from: rows.len() as u64, limit }
                } else {
                    ServiceRequest::Results {
                        job,
                        from: self.rows.len() as u64,
                        limit,
                        wait_ms: 100,
                    }
                }
            }
            ClientStep::Over => return None,
        };
        let tag = self.next_tag;
        self.next_tag += 1;
        self.asked = Some(tag);
        Some((tag, request))
    }

    fn store_request(&self, job: JobId, random: &mut Random) -> ServiceRequest {
        // Sometimes items are sent that are there already.
        let first =
            self.stored.saturating_sub(if random.chance(20) { random.below(20) } else { 0 });
        let from = usize::try_from(first).expect("few");
        let len = 1 + random.index(200);
        let items: Vec<&SimItem> = self.items[from..].iter().take(len).collect();
        let names = items.iter().map(|item| Blob(item.name.clone())).collect();
        let is_check = self.kind == JobKind::Check;
        let expected = items.iter().filter(|_| is_check).map(|item| item.expected()).collect();
        let items = if self.items[0].is_file {
            let paths = items.iter().map(|item| Blob(item.content.clone())).collect();
            let files = vec![FILE_STAMP.into(); items.len()];
            Items::Files { source: FileSource::Dataset { name: "d".to_owned(), paths }, files }
        } else {
            Items::Inline {
                lens: items
                    .iter()
                    .map(|i| u32::try_from(i.content.len()).expect("short"))
                    .collect(),
                data: Blob(items.iter().flat_map(|item| item.content.clone()).collect()),
            }
        };
        ServiceRequest::Store { job, first, names, expected, items }
    }

    /// Takes in a reply; an error says what was lost.
    pub(crate) fn take(
        &mut self,
        tag: u32,
        reply: ServiceReply,
        removed: &BTreeSet<JobId>,
        random: &mut Random,
    ) -> Result<(), String> {
        if self.asked != Some(tag) {
            return Ok(());
        }
        self.asked = None;
        let row = match reply {
            ServiceReply::Refused { reason: ServiceRefusal::JournalFailed, .. } => {
                self.reconnect();
                return Ok(());
            }
            // The journal has reached its bound.
            ServiceReply::Refused { reason: ServiceRefusal::TooMuch, .. } => return Ok(()),
            ServiceReply::Refused { reason: ServiceRefusal::UnknownJob, .. }
                if self.id.or(self.baseline()).is_some_and(|id| removed.contains(&id)) =>
            {
                (self.step, self.has_manifest) = (ClientStep::Over, false);
                return Ok(());
            }
            ServiceReply::Refused { reason: ServiceRefusal::WrongState, text } => {
                // A pause that crossed the end of the job.
                if matches!(self.step, ClientStep::Act(JobAct::Pause | JobAct::Resume)) {
                    self.step = ClientStep::Wait;
                    return Ok(());
                }
                return Err(format!("{:?}: {text}", self.step));
            }
            ServiceReply::Refused { reason, text } => {
                return Err(format!("{:?} was refused: {reason:?}: {text}", self.step));
            }
            ServiceReply::Jobs { .. }
            | ServiceReply::Deaths { .. }
            | ServiceReply::Schedule(_)
            | ServiceReply::Events { .. }
            | ServiceReply::Rules(_)
            | ServiceReply::Backup { .. } => {
                return Err("an answer to no question".to_owned());
            }
            ServiceReply::Findings { rows, more } => {
                let Some(audit) = &mut self.audit else {
                    return Err("findings of no audit".to_owned());
                };
                audit.rows.extend(rows);
                if !more {
                    self.has_manifest = true;
                    self.step = ClientStep::Over;
                    self.findings += audit.rows.len() as u64;
                    return audit.check(&self.items);
                }
                return Ok(());
            }
            ServiceReply::Results { rows, is_last, from, .. } => {
                if from != self.rows.len() as u64 {
                    return Err("results from elsewhere".to_owned());
                }
                self.rows.extend(rows);
                if is_last {
                    self.has_manifest = true;
                    self.step = ClientStep::Over;
                    self.check_manifest()?;
                    if let Some(base) = self.id.filter(|_| self.is_walk && random.chance(60)) {
                        self.begin_audit(base, random);
                    }
                    return Ok(());
                }
                return Ok(());
            }
            ServiceReply::Job(row) => *row,
        };
        if self.id.is_some_and(|id| removed.contains(&id)) && self.step == ClientStep::Submit {
            // It was removed before the client asked again, and so is another one.
            (self.id, self.stored, self.is_sealed, self.is_done) = (None, 0, false, false);
        }
        if self.id.is_some_and(|id| id != row.id) {
            return Err(format!("job {:?} became {}", self.id, row.id));
        }
        if row.items < self.stored {
            return Err(format!("{} items were stored, now there are {}", self.stored, row.items));
        }
        if self.is_sealed && row.state == JobState::Filling {
            return Err("a sealed job is open again".to_owned());
        }
        let is_retry = self.step == ClientStep::Act(JobAct::Retry);
        if self.is_done && !is_retry && row.state != JobState::Done {
            return Err(format!("a job that was done is {:?}", row.state));
        }
        self.id = Some(row.id);
        self.stored = row.items;
        self.is_sealed |= row.state != JobState::Filling;
        self.is_done = row.state == JobState::Done;
        self.rows.clear();
        self.audit.iter_mut().for_each(|audit| audit.rows.clear());
        self.step = match row.state {
            JobState::Filling if self.stored < self.items.len() as u64 => ClientStep::Store,
            JobState::Filling => ClientStep::Seal,
            JobState::Paused => ClientStep::Act(JobAct::Resume),
            JobState::Running if self.pauses_left > 0 && random.chance(30) => {
                self.pauses_left -= 1;
                ClientStep::Act(JobAct::Pause)
            }
            JobState::Running => ClientStep::Wait,
            JobState::Done if row.failed > 0 => {
                self.retries += 1;
                self.is_done = false;
                ClientStep::Act(JobAct::Retry)
            }
            JobState::Done => ClientStep::Read,
            // An audit is tried again whose baseline was removed after it had ended.
            JobState::Failed if self.baseline().is_some_and(|base| removed.contains(&base)) => {
                self.has_manifest = false;
                ClientStep::Over
            }
            JobState::Cancelled | JobState::Failed => {
                return Err(format!("{:?}: {}", row.state, row.reason));
            }
        };
        Ok(())
    }

    fn begin_audit(&mut self, base: JobId, random: &mut Random) {
        self.audit = Some(SimAudit::new(base, &mut self.items, random));
        (self.id, self.stored, self.is_sealed, self.is_done) = (None, 0, false, false);
        (self.has_manifest, self.pauses_left) = (false, random.below(3));
        self.step = ClientStep::Submit;
    }

    /// The manifest is that of the items, however often the controller crashed.
    fn check_manifest(&self) -> Result<(), String> {
        let stamp = |item: &SimItem| {
            if item.is_file {
                return FILE_STAMP;
            }
            Stamp { size: item.content.len() as u64, ..Stamp::default() }
        };
        let want = self.items.iter().map(|item| {
            let digest = Blob(digest_by(item.algorithm, &item.content));
            let is_mismatch = item.is_wrong && self.kind == JobKind::Check;
            ResultRow {
                name: Blob(item.name.clone()),
                stamp: stamp(item),
                outcome: if is_mismatch {
                    ItemOutcome::Mismatch(digest)
                } else {
                    ItemOutcome::Digests(digest)
                },
            }
        });
        if self.rows.iter().cloned().eq(want) {
            return Ok(());
        }
        Err(format!("the manifest of job {:?} is another one", self.id))
    }
}
