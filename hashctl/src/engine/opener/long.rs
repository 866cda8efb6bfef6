//! Long files and standard input, sent as streams.

use super::Opener;
use crate::engine::reorder::{Change, Tag, Verdict};
use crate::engine::sender::ItemSender;
use crate::engine::stream::{self, StreamError};
use crate::problem::Problem;
use client::ClientError;
use engine::exec::relay::RelayedFile;
use ipc_proto::message::Failure;
use ipc_proto::{Algorithm, Algorithms};
use std::fs::File;

impl Opener {
    /// Sends a long file, again if it did not hold still.
    pub(super) fn stream(
        &mut self,
        sender: &mut ItemSender,
        algorithms: Algorithms,
        tag: Tag,
        mut file: RelayedFile,
    ) -> Result<(), ClientError> {
        let Some(algorithm) = self.before_stream(sender, algorithms, tag)? else { return Ok(()) };
        sender.served.inline += 1;
        let reorder = &self.shared.reorder;
        let problem = loop {
            if let Err(failure) = file.start() {
                break problem_of(failure);
            }
            reorder.change(&mut vec![(tag, Change::Size(file.size().unwrap_or(0)))]);
            let agree = |file: &&mut RelayedFile, total| match file.held_still() {
                Ok(true) => {
                    reorder.change(&mut vec![(tag, Change::Size(total))]);
                    Ok(())
                }
                Ok(false) => Err(Problem::Changed),
                Err(failure) => Err(problem_of(failure)),
            };
            let advanced = |len| reorder.advance(tag, len);
            let job = sender.job(algorithm.into())?;
            match stream::send(job, algorithm, &mut file, tag, advanced, agree) {
                Ok(()) => return Ok(()),
                Err(StreamError::Problem(Problem::Changed)) => {}
                Err(StreamError::Problem(problem)) => break problem,
                Err(StreamError::Client(error)) => return Err(error),
            }
        };
        reorder.change(&mut vec![(tag, Change::Verdict(Verdict::Problem(problem)))]);
        Ok(())
    }

    pub(super) fn stdin_stream(
        &mut self,
        sender: &mut ItemSender,
        algorithms: Algorithms,
        tag: Tag,
        file: &File,
    ) -> Result<(), ClientError> {
        let Some(algorithm) = self.before_stream(sender, algorithms, tag)? else { return Ok(()) };
        sender.served.inline += 1;
        let reorder = &self.shared.reorder;
        let change = |change| reorder.change(&mut vec![(tag, change)]);
        let agree = |_: &&File, total| {
            change(Change::Size(total));
            Ok(())
        };
        let job = sender.job(algorithm.into())?;
        match stream::send(job, algorithm, file, tag, |_| {}, agree) {
            Err(StreamError::Client(error)) => return Err(error),
            Err(StreamError::Problem(problem)) => {
                change(Change::Verdict(Verdict::Problem(problem)));
            }
            Ok(()) => {}
        }
        Ok(())
    }

    /// Sends what is open, and returns the algorithm of a stream, whose pieces have one digest.
    fn before_stream(
        &mut self,
        sender: &mut ItemSender,
        algorithms: Algorithms,
        tag: Tag,
    ) -> Result<Option<Algorithm>, ClientError> {
        let single = algorithms.single();
        if single.is_none() {
            let problem = Problem::Failure(Failure::Unsupported);
            self.changes.push((tag, Change::Verdict(Verdict::Problem(problem))));
        }
        self.flush(sender)?;
        Ok(single)
    }
}

/// Why a file that was read here has no digest.
pub(super) fn problem_of(failure: Failure) -> Problem {
    match failure {
        Failure::Io { errno } => Problem::Io(errno),
        Failure::Changed => Problem::Changed,
        Failure::NotRegular
        | Failure::Invalid
        | Failure::Unsupported
        | Failure::WorkersLost { .. }
        | Failure::UnknownDataset
        | Failure::Disputed
        | Failure::Outside
        | Failure::NotAList
        | Failure::BadLines { .. } => Problem::Failure(failure),
    }
}
