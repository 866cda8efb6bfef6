//! Checks of the core's messages to its peers against the model.

use super::*;

impl World {
    pub(super) fn take_request(
        tally: &mut CoreCounts,
        reported: &BTreeMap<FileNumber, Vec<(u64, u64)>>,
        worker: &mut Worker,
        request: WorkerRequest,
        files: Vec<FileNumber>,
    ) {
        match request {
            WorkerRequest::Assign { lease, attempt, algorithms, work, check, .. } => {
                tally.checks += u64::from(check);
                if matches!(work, Work::Piece(ipc_proto::message::Piece::Merge { .. })) {
                    tally.merges += 1;
                }
                if let Some(dataset) = model::dataset_of(&work) {
                    assert!(worker.datasets.iter().any(|name| name == dataset), "{dataset}");
                    tally.named += work.items_len() as u64;
                    tally.named_parts += u64::from(matches!(work, Work::Subtree { .. }));
                }
                let files = model::files_of(&work, files);
                if let Some((_, start)) = model::whole_of(algorithms, &work) {
                    let last = reported.get(&files[0]).and_then(|points| points.last());
                    let want = last.map_or(0, |(_, offset)| *offset);
                    assert_eq!(start, want, "file {} is read from where it stood on", files[0]);
                    tally.resumed += u64::from(start > 0);
                }
                worker.queue.push_back((lease, attempt, algorithms, work, files));
            }
            WorkerRequest::Revoke { leases } => {
                let len_before = worker.queue.len();
                worker.queue.retain(|(lease, ..)| !leases.contains(lease));
                worker.owed += len_before - worker.queue.len();
            }
            WorkerRequest::Heartbeat | WorkerRequest::Leave => {}
        }
    }

    pub(super) fn take_reply(&mut self, id: ClientId, reply: ClientReply) {
        let seed = self.seed;
        let client = self.clients.get_mut(&id).expect("replies go to living clients");
        match reply {
            ClientReply::Opened { tag, job: id, window, .. } => {
                let job = Job { window, ..client.opening.remove(&tag).expect("asked for") };
                assert!(client.jobs.insert(id, job).is_none(), "seed {seed}: {id} comes twice");
            }
            ClientReply::Window { job, window } => {
                let job = client.jobs.get_mut(&job).expect("opened");
                let (items, bytes) = (job.window.items, job.window.bytes);
                assert!(items <= window.items && bytes <= window.bytes, "seed {seed}: it shrinks");
                let count = match job.window == Window::default() {
                    true => &mut self.tally.waited_windows,
                    false => &mut self.tally.grown_windows,
                };
                *count += 1;
                job.window = window;
            }
            ClientReply::Results { job, runs, outputs, failures } => {
                let job = client.jobs.get_mut(&job).expect("results are of living jobs");
                let indexes = runs.iter().flat_map(|run| run.first..run.first + u64::from(run.len));
                let indexes: Vec<u64> = indexes.collect();
                let digests_len = indexes.len() - failures.len();
                let output_len = outputs.len().checked_div(digests_len).unwrap_or(0);
                let mut outputs = outputs.chunks(output_len.max(1));
                let failures: BTreeMap<u32, Failure> = failures.into_iter().collect();
                for (position, index) in (0..).zip(indexes) {
                    let (want, bytes) = job
                        .want
                        .remove(&index)
                        .unwrap_or_else(|| panic!("seed {seed}: item {index} came twice"));
                    job.bytes_out -= bytes;
                    job.resolved += 1;
                    self.tally.resolved += 1;
                    match (failures.get(&position), want) {
                        (Some(Failure::WorkersLost { attempts }), Want::Digest(_)) => {
                            let losses = job.dead.remove(&index);
                            assert_eq!(
                                losses,
                                usize::try_from(*attempts).ok(),
                                "seed {seed}: {index}"
                            );
                            assert!(!self.calm || seed > 0);
                            self.tally.lost_items += 1;
                            job.failed += 1;
                        }
                        (Some(Failure::UnknownDataset), Want::Unknown) => {
                            self.tally.unknown_datasets += 1;
                            job.failed += 1;
                        }
                        (Some(_), Want::Failure) => {
                            self.tally.failed += 1;
                            job.failed += 1;
                        }
                        (
                            Some(Failure::Disputed | Failure::Changed),
                            Want::Digest(_) | Want::Step,
                        ) => {
                            assert!(self.liar.is_some(), "seed {seed}: nobody lies");
                            self.tally.disputed += 1;
                            job.failed += 1;
                        }
                        (Some(Failure::WorkersLost { .. }), Want::Step) => {
                            assert!(job.dead.remove(&index).is_some(), "seed {seed}: {index}");
                            job.failed += 1;
                        }
                        (None, Want::Digest(want)) => {
                            assert_eq!(outputs.next(), Some(&want[..]), "seed {seed}: {index}");
                        }
                        (None, Want::Step) => assert!(outputs.next().is_some()),
                        (got, want) => panic!("seed {seed}: item {index}: {got:?}, not {want:?}"),
                    }
                }
                assert_eq!(outputs.next(), None);
            }
            ClientReply::Death { job, index, losses } => {
                let job = client.jobs.get_mut(&job).expect("deaths are of living jobs");
                assert!(job.want.contains_key(&index), "seed {seed}: item {index} died late");
                let workers: BTreeSet<&str> = losses.iter().map(|l| l.worker.as_str()).collect();
                let enough = workers.len() >= 3 || losses.len() >= 4;
                assert!(enough, "seed {seed}: item {index} died of {losses:?}");
                assert!(
                    job.dead.insert(index, losses.len()).is_none(),
                    "seed {seed}: {index} died twice"
                );
            }
            ClientReply::Finished { job, items, failed } => {
                let job = client.jobs.remove(&job).expect("finished once");
                assert!(job.want.is_empty() && job.left == 0, "seed {seed}: nothing is lost");
                assert_eq!((items, failed), (job.resolved, job.failed), "seed {seed}");
                self.tally.finished += 1;
            }
            ClientReply::Cancelled { job, unresolved } => {
                let job = client.jobs.remove(&job).expect("cancelled once");
                assert_eq!(unresolved, job.want.len() as u64, "seed {seed}");
                self.tally.cancelled += 1;
            }
            ClientReply::Advanced { job, index, .. } => {
                let job = client.jobs.get(&job).expect("who advances is alive");
                assert!(job.want.contains_key(&index), "seed {seed}: item {index} advances late");
            }
            ClientReply::Rejected { tag, .. } => {
                client.opening.remove(&tag);
            }
            reply @ ClientReply::Suspect { .. } => {
                panic!("seed {seed}: where one lies all is checked: {reply:?}")
            }
            ClientReply::Status(_)
            | ClientReply::Ready { .. }
            | ClientReply::Released { .. }
            | ClientReply::Drained { .. }
            | ClientReply::Service { .. } => {}
        }
    }
}
