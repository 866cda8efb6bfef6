//! Pages of directories: what each must hold is a function of the directory's number.

use super::{DATASETS, World};
use hashcluster_controller::core::{Event, ListTag, PageWanted, Principal, WorkerId};
use ipc_proto::message::{
    DirEntry, EntryKind, Failure, LeaseId, ListOutcome, ListWork, Stamp, WorkerReply,
};
use ipc_proto::{Algorithm, Blob};

/// A directory that nobody can list.
fn is_gone(number: u64) -> bool {
    number % 11 == 3
}

/// A directory that kills every worker that lists it.
fn is_poison(number: u64) -> bool {
    number % 17 == 5
}

fn number_of(page: &ListWork) -> u64 {
    std::str::from_utf8(&page.dir).expect("a path of ours").parse().expect("a number")
}

fn entry(number: u64, at: u64) -> DirEntry {
    let name = Blob(format!("{at:05}").into_bytes());
    let stamp = Stamp { size: number ^ at, mtime_ns: 3, ctime_ns: 4 };
    DirEntry { name, kind: EntryKind::File, stamp, inode: at, device: number }
}

/// The answer of an honest worker.
fn honest(page: &ListWork) -> ListOutcome {
    let number = number_of(page);
    if is_gone(number) {
        return ListOutcome::Failed { failure: Failure::Io { errno: 2 } };
    }
    let rest = (0..number % 40).map(|at| entry(number, at));
    let mut rest = rest.filter(|entry| *entry.name > *page.after);
    let entries = rest.by_ref().take(page.entries_max.into()).collect();
    ListOutcome::Page { entries, more: rest.next().is_some() }
}

impl World {
    pub(super) fn want_page(&mut self) {
        let tag = ListTag(self.random.below(20));
        if self.pages.contains_key(&tag) {
            return;
        }
        let dataset = [DATASETS[0], DATASETS[1], "nowhere"][self.random.index(3)].to_owned();
        let (dir, after) = (self.random.below(500).to_string(), self.random.below(30));
        let work = ListWork {
            dataset,
            dir: Blob(dir.into_bytes()),
            after: if after < 10 { Blob::default() } else { entry(0, after).name },
            entries_max: u16::try_from(1 + self.random.below(30)).expect("small"),
            claims: None,
        };
        self.pages.insert(tag, work.clone());
        let principal = Principal::Uid(u32::try_from(self.random.below(4)).expect("small"));
        let algorithms = Algorithm::Sha256.into();
        self.step(Event::List(PageWanted { tag, principal, algorithms, work }));
    }

    pub(super) fn drop_page(&mut self) {
        let Some(tag) = Self::pick(&mut self.random, &self.pages) else { return };
        self.pages.remove(&tag);
        self.tally.dropped_pages += 1;
        self.step(Event::Unlist(tag));
        // Its answer may be on its way to somebody who has forgotten it.
        self.step(Event::Unlist(tag));
    }

    /// Works on the page that was taken from the worker's queue.
    pub(super) fn answer_page(&mut self, id: WorkerId, of: (LeaseId, u32), page: &ListWork) {
        if is_poison(number_of(page)) {
            let name = self.workers[&id].name;
            self.kill(id);
            return self.join_worker(name);
        }
        self.tell_page(id, of, honest(page));
    }

    fn tell_page(&mut self, id: WorkerId, (lease, attempt): (LeaseId, u32), outcome: ListOutcome) {
        let reply = WorkerReply::Listed { lease, attempt, credit: 1, outcome };
        self.workers.get_mut(&id).expect("it lives").given.push(reply.clone());
        self.step(Event::WorkerSaid(id, reply));
    }

    /// Answers a page in a form that shows that it is wrong, or something else as if it were a page.
    pub(super) fn lie_about_a_page(&mut self) {
        let Some(id) = Self::pick(&mut self.random, &self.workers) else { return };
        let Some((lease, attempt, _, work, _)) = self.workers[&id].queue.front().cloned() else {
            return;
        };
        let named = |name: &[u8]| DirEntry { name: name.into(), ..entry(1, 1) };
        let (entries, more) = match (self.random.below(6), &work) {
            (0, ipc_proto::message::Work::List(page)) if !page.after.is_empty() => {
                (vec![named(&page.after)], false)
            }
            (0 | 1, _) => (vec![named(b"zz"), named(b"zy")], false),
            (2, _) => (vec![named(b"z/")], false),
            (3, _) => (vec![named(b"")], false),
            (4, _) => (vec![named(b"..")], true),
            _ => (vec![], true),
        };
        self.tally.page_lies += 1;
        self.tell_page(id, (lease, attempt), ListOutcome::Page { entries, more });
        let name = self.workers.get(&id).map(|worker| worker.name);
        assert!(name.is_none_or(|name| self.quarantined.contains(&name)), "seed {}", self.seed);
    }

    pub(super) fn take_page(&mut self, tag: ListTag, outcome: ListOutcome) {
        let seed = self.seed;
        let page = self.pages.remove(&tag).unwrap_or_else(|| panic!("seed {seed}: {tag:?} twice"));
        match outcome {
            ListOutcome::Failed { failure: Failure::WorkersLost { .. } } => {
                self.tally.lost_pages += 1;
            }
            ListOutcome::Failed { failure: Failure::UnknownDataset } => {
                assert_eq!(page.dataset, "nowhere", "seed {seed}");
            }
            ListOutcome::Claims { .. } => panic!("seed {seed}: a manifest that nobody asked for"),
            outcome @ (ListOutcome::Page { .. } | ListOutcome::Failed { .. }) => {
                assert_ne!(page.dataset, "nowhere", "seed {seed}");
                assert_eq!(outcome, honest(&page), "seed {seed}: {page:?}");
                let is_page = matches!(outcome, ListOutcome::Page { .. });
                let count =
                    if is_page { &mut self.tally.pages } else { &mut self.tally.failed_pages };
                *count += 1;
            }
        }
    }
}
