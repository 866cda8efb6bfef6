//! Settings that change while the controller runs: tokens of workers, names of datasets and tokens of the HTTP
//! API, each in a file that is read at the start, and again on `SIGHUP`.
//!
//! The files are opened before the sandbox is entered, which opens none. So a new content is written into
//! the same file; one that replaces it by rename is not seen.

use super::api_tokens::ApiTokens;
use super::token::{WorkerTokens, WorkerTokensError};
use ipc_proto::limits::DATASETS_MAX;
use ipc_proto::message::check_dataset;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Maximum size of such a file, in bytes: more than all workers that can connect need.
const LEN_MAX: usize = 1 << 20;

/// A file that stays open.
#[derive(Clone, Debug)]
pub struct LiveFile {
    file: Arc<File>,
    /// Its name on the command line.
    path: PathBuf,
}

/// The files of a [`Live`].
#[derive(Clone, Debug, Default)]
pub struct LiveFiles {
    /// Tokens of workers.
    pub worker_tokens: Option<LiveFile>,
    /// Names of datasets.
    pub datasets: Option<LiveFile>,
    /// Tokens of the HTTP API.
    pub api_tokens: Option<LiveFile>,
}

/// Tokens and names of datasets, with the files that they come from.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Tokens required of workers on a vsock socket, if any.
    pub worker_tokens: Option<WorkerTokens>,
    /// Datasets in which clients may name files.
    pub datasets: Vec<String>,
    /// Tokens of the HTTP API, if it has any.
    pub api_tokens: Option<ApiTokens>,
    files: LiveFiles,
    /// Datasets that the command line names.
    fixed: Vec<String>,
}

impl LiveFile {
    /// The file at `path`, which is read from its start to its end, whatever its position.
    #[must_use]
    pub fn new(file: File, path: &Path) -> Self {
        Self { file: Arc::new(file), path: path.to_owned() }
    }

    /// A message about it, for a person.
    fn wrong(&self, error: impl Display) -> String {
        format!("{}: {error}", self.path.display())
    }

    fn read(&self) -> Result<Vec<u8>, String> {
        let (mut content, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            match self.file.read_at(&mut piece, content.len() as u64) {
                Ok(0) => return Ok(content),
                Ok(len) => content.extend(&piece[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.wrong(error)),
            }
            if content.len() > LEN_MAX {
                return Err(self.wrong(format_args!("it has more than {LEN_MAX} bytes")));
            }
        }
    }
}

impl Live {
    /// Reads the files; datasets are those of the file and `fixed` ones.
    ///
    /// # Errors
    /// The fault of a file or of the names, for a person.
    pub fn open(files: LiveFiles, fixed: Vec<String>) -> Result<Self, String> {
        Self { files, fixed, ..Self::default() }.read_again()
    }

    /// True if there is a file to read again.
    #[must_use]
    pub fn has_files(&self) -> bool {
        let LiveFiles { worker_tokens, datasets, api_tokens } = &self.files;
        worker_tokens.is_some() || datasets.is_some() || api_tokens.is_some()
    }

    /// The same with what the files say now.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn read_again(&self) -> Result<Self, String> {
        let mut fresh = self.clone();
        if let Some(file) = &self.files.worker_tokens {
            let told = |error: WorkerTokensError| match std::error::Error::source(&error) {
                Some(cause) => file.wrong(format_args!("{error}: {cause}")),
                None => file.wrong(error),
            };
            fresh.worker_tokens = Some(WorkerTokens::parse(&file.read()?).map_err(told)?);
        }
        fresh.datasets.clone_from(&self.fixed);
        if let Some(file) = &self.files.datasets {
            let text =
                String::from_utf8(file.read()?).map_err(|_| file.wrong("it is no UTF-8 text"))?;
            for (i, name) in text.lines().enumerate() {
                check_dataset(name)
                    .map_err(|error| file.wrong(format_args!("line {}: {error}", i + 1)))?;
                fresh.datasets.push(name.to_owned());
            }
        }
        let names = &fresh.datasets;
        let is_second = |(i, name): &(usize, &String)| names[..*i].contains(name);
        if let Some((_, name)) = names.iter().enumerate().find(is_second) {
            return Err(format!("dataset {name} is named twice"));
        }
        if names.len() > DATASETS_MAX {
            return Err(format!("{} datasets, at most {DATASETS_MAX} are possible", names.len()));
        }
        if let Some(file) = &self.files.api_tokens {
            let tokens = ApiTokens::parse(&file.read()?, names);
            fresh.api_tokens = Some(tokens.map_err(|error| file.wrong(error))?);
        }
        Ok(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(content: &str) -> (File, LiveFile) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        (file.try_clone().unwrap(), LiveFile::new(file, Path::new("a file")))
    }

    fn rewrite(mut file: &File, content: &str) {
        use std::io::Seek;
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(content.as_bytes()).unwrap();
    }

    #[test]
    fn what_is_written_into_the_files_is_read_again() {
        let (tokens, tokens_file) = file("w1 one\n");
        let (names, names_file) = file("b\n");
        let (api, api_file) = file("ci 0123456789abcdef submit dataset=b\n");
        let files = LiveFiles {
            worker_tokens: Some(tokens_file),
            datasets: Some(names_file),
            api_tokens: Some(api_file),
        };
        let live = Live::open(files, vec!["a".into()]).unwrap();
        assert!(live.has_files());
        assert_eq!(live.datasets, ["a", "b"]);
        rewrite(&tokens, "w2 two\n");
        rewrite(&names, "c\nd\n");
        let error = live.read_again().unwrap_err();
        let want = "a file: line 1: no dataset of this controller is named \"b\"; see --dataset";
        assert_eq!(error, want);
        rewrite(&api, "ci 0123456789abcdef submit dataset=c\n");
        let fresh = live.read_again().unwrap();
        assert_eq!(fresh.datasets, ["a", "c", "d"]);
        let tokens = fresh.worker_tokens.unwrap();
        assert!(tokens.admit("w2", b"two") && !tokens.admit("w1", b"one"));
    }

    fn open(worker_tokens: Option<LiveFile>, datasets: LiveFile) -> Result<Live, String> {
        let files = LiveFiles { worker_tokens, datasets: Some(datasets), ..LiveFiles::default() };
        Live::open(files, vec!["a".into()])
    }

    #[test]
    fn what_is_wrong_is_named_with_its_file() {
        let check = |tokens: Option<&str>, names: &str, want: &str| {
            let tokens = tokens.map(|text| file(text).1);
            let read = open(tokens, file(names).1);
            assert_eq!(read.unwrap_err(), want);
        };
        check(Some("w1"), "", "a file: line 1: write NAME TOKEN");
        check(None, "a\n", "dataset a is named twice");
        check(None, "b\nb\n", "dataset b is named twice");
        let names: String = (0..DATASETS_MAX).map(|n| format!("d{n}\n")).collect();
        check(None, &names, "17 datasets, at most 16 are possible");
        let error = open(None, file("b\nA\n").1).unwrap_err();
        assert!(error.starts_with("a file: line 2: "), "{error}");
        let long = LiveFile::new(tempfile::tempfile().unwrap(), Path::new("long"));
        long.file.set_len(LEN_MAX as u64 + 1).unwrap();
        let error = open(Some(long), file("").1).unwrap_err();
        assert_eq!(error, "long: it has more than 1048576 bytes");
    }
}
