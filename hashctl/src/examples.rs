//! Examples in the help of commands that have no longer text of their own.

/// Of `sum`.
pub(crate) const SUM: &str = "\
Examples:
  hashctl sum FILE                       # as sha256sum prints it
  hashctl sum -a blake3 -r photos > list # every file below a directory
  hashctl sum --json FILE                # for scripts
  tar -cf - photos | hashctl sum         # standard input";

/// Of `check`.
pub(crate) const CHECK: &str = "\
Examples:
  hashctl check SHA256SUMS               # every file that the list names
  hashctl check --quiet SHA256SUMS       # only what is wrong
  hashctl check -a blake3 list           # 64 digits without a tag are BLAKE3";

/// Of `status`.
pub(crate) const STATUS: &str = "\
Examples:
  hashctl status                         # workers and jobs
  hashctl status --json                  # for scripts
  hashctl status --ready 2               # wait until two workers are there";

/// Of `top`.
pub(crate) const TOP: &str = "\
Keys: tab workers or jobs, arrows select, s sort, / filter, r release, c cancel, ? help, q quit.

Examples:
  hashctl top                            # a live view
  hashctl top --once                     # for scripts: status 0, or 3 without a controller
  hashctl top --json --interval 5        # a status every 5 seconds, for programs";

/// Of `submit`.
pub(crate) const SUBMIT: &str = "\
docs/jobs.md explains durable jobs.

Examples:
  hashctl submit --id nightly-1 photos   # a directory of a dataset; prints the id of the job
  hashctl submit --inline --wait a b     # the bytes of two files; waits for the end
  hashctl submit --check SHA256SUMS      # the files of a list, compared with their digests there
  hashctl submit --check --dataset photos 2048/SHA256SUMS   # of a list in a dataset, which workers read
  hashctl submit --audit --dataset photos --against 2048/SHA256SUMS   # what differs from a list in it
  hashctl submit --audit --against-job nightly-1   # what differs from that job's results
  find photos -name '*.raw' -print0 | hashctl submit --files-from - -0";

/// Of `jobs`.
pub(crate) const JOBS: &str = "\
Examples:
  hashctl jobs
  hashctl jobs --state running --label nightly
  hashctl jobs --json                    # for scripts";

/// Of `show`.
pub(crate) const SHOW: &str = "\
Examples:
  hashctl show 1800000000-7
  hashctl show nightly-1 --json          # by the key of its submission";

/// Of `wait`.
pub(crate) const WAIT: &str = "\
Exit status: 0 if every item of every job has a digest, 1 if not.

Examples:
  hashctl wait 1800000000-7
  hashctl wait --timeout 3600 nightly-1 nightly-2";

/// Of `result`.
pub(crate) const RESULT: &str = "\
Exit status: 0 if the job is done and every item has a digest, 1 if not.

Examples:
  hashctl result nightly-1               # as hashctl sum prints it
  hashctl result nightly-1 --follow -o list";

/// Of `cancel`.
pub(crate) const CANCEL: &str = "\
Examples:
  hashctl cancel nightly-1";

/// Of `retry`.
pub(crate) const RETRY: &str = "\
Examples:
  hashctl retry nightly-1";

/// Of `pause`.
pub(crate) const PAUSE: &str = "\
Examples:
  hashctl pause nightly-1";

/// Of `resume`.
pub(crate) const RESUME: &str = "\
Examples:
  hashctl resume nightly-1";

/// Of `rm`.
pub(crate) const RM: &str = "\
Examples:
  hashctl rm nightly-1 nightly-2";

/// Of `schedule`.
pub(crate) const SCHEDULE: &str = "\
docs/schedules.md explains the files.

Examples:
  hashctl schedule check schedules.yaml          # every error with line and column
  hashctl schedule next schedules.yaml --count 5 # when they are due
  hashctl schedule apply schedules.yaml          # the controller runs them from now on
  hashctl schedule list                          # when each is due next, and how its last run ended";

/// Of `schedule check`.
pub(crate) const SCHEDULE_CHECK: &str = "\
Examples:
  hashctl schedule check schedules.yaml";

/// Of `schedule next`.
pub(crate) const SCHEDULE_NEXT: &str = "\
Examples:
  hashctl schedule next schedules.yaml
  hashctl schedule next schedules.yaml --count 5 --from 2026-10-24T12:00";

/// Of `schedule apply`.
pub(crate) const SCHEDULE_APPLY: &str = "\
A schedule of the same name is replaced, unless a run of it is active. Schedules that are not in the file
stay, except with --prune.

Examples:
  hashctl schedule apply schedules.yaml
  hashctl schedule apply schedules.yaml --prune --dry-run # what would become what the file says";

/// Of `schedule diff`.
pub(crate) const SCHEDULE_DIFF: &str = "\
Schedules are compared in their normal form, without parameters and groups.

Examples:
  hashctl schedule diff schedules.yaml
  hashctl schedule diff schedules.yaml --prune   # also those that --prune of apply would remove";

/// Of `schedule list`.
pub(crate) const SCHEDULE_LIST: &str = "\
Examples:
  hashctl schedule list
  hashctl schedule list --json | jq 'select(.last.outcome != \"succeeded\")'";

/// Of `schedule show`.
pub(crate) const SCHEDULE_SHOW: &str = "\
Examples:
  hashctl schedule show nightly
  hashctl schedule show nightly 12               # run 12 with its tasks and their jobs";

/// Of `schedule runs`.
pub(crate) const SCHEDULE_RUNS: &str = "\
Examples:
  hashctl schedule runs nightly
  hashctl schedule runs nightly --count 1 --json # the last one";

/// Of `schedule differences`.
pub(crate) const SCHEDULE_DIFFERENCES: &str = "\
Examples:
  hashctl schedule differences nightly
  hashctl schedule differences nightly 48 --json # of one run";

/// Of `schedule run`.
pub(crate) const SCHEDULE_RUN: &str = "\
Examples:
  hashctl schedule run nightly --wait";

/// Of `schedule pause`.
pub(crate) const SCHEDULE_PAUSE: &str = "\
Examples:
  hashctl schedule pause nightly";

/// Of `schedule resume`.
pub(crate) const SCHEDULE_RESUME: &str = "\
Examples:
  hashctl schedule resume nightly";

/// Of `schedule cancel`.
pub(crate) const SCHEDULE_CANCEL: &str = "\
Examples:
  hashctl schedule cancel nightly                # its jobs end, their results so far stay";

/// Of `schedule rm`.
pub(crate) const SCHEDULE_RM: &str = "\
Examples:
  hashctl schedule rm nightly weekly";
/// Of `get`.
pub(crate) const GET: &str = "\
Examples:
  hashctl get workers
  hashctl get jobs --selector state=running,labels=nightly
  hashctl get job photos-48 --json
  hashctl get runs nightly               # runs of one schedule
  hashctl get events --watch             # the audit trail, as it grows
  hashctl get workers --watch            # rows that change, until Ctrl-C";

/// Of `search`.
pub(crate) const SEARCH: &str = "\
Examples:
  hashctl search photos";

/// Of `release`.
pub(crate) const RELEASE: &str = "\
Examples:
  hashctl release w1                     # let the worker w1 work again";

/// Of `backup`.
pub(crate) const BACKUP: &str = "\
The file has the journal as it was at one moment. It has its name once it is complete, with mode 0600. The
controller's policy has to permit it: may = [\"backup\"].

Examples:
  hashctl backup journal.bkp             # the controller goes on meanwhile";

/// Of `restore`.
pub(crate) const RESTORE: &str = "\
It runs hashcluster-controller --restore-from, which has to be installed here.

Examples:
  hashctl restore journal.bkp --state-dir /var/lib/hashcluster/journal";

/// Of `drain`.
pub(crate) const DRAIN: &str = "\
Leases that the worker works on may end within the deadline; those that it has only queued go to others at
once, and the rest at the deadline. It stays drained when it reconnects, until hashctl undrain or a restart of the
controller. A worker that gets SIGTERM does the same by itself, for 4 seconds.

Examples:
  hashctl drain w1                       # returns when w1 may be stopped
  hashctl drain w1 --deadline 10m        # let a large file end";

/// Of `undrain`.
pub(crate) const UNDRAIN: &str = "\
Examples:
  hashctl undrain w1                     # it is given work again";

/// Of `version`.
pub(crate) const VERSION: &str = "\
Examples:
  hashctl version
  hashctl --connect /run/hashcluster/client.sock version";

#[cfg(test)]
mod tests {
    use crate::cli;

    /// Arguments of the last hashctl in a line of examples.
    fn words(line: &str) -> Vec<&str> {
        let line = line.split(" # ").next().unwrap_or_default();
        let words = line.split_whitespace().skip_while(|word| *word != "hashctl");
        words.take_while(|word| !matches!(*word, "|" | ">" | "<" | "&&")).collect()
    }

    #[test]
    fn every_command_has_examples_that_can_be_typed() {
        let command = cli::command();
        let nested = command.get_subcommands().flat_map(clap::Command::get_subcommands);
        for subcommand in command.get_subcommands().chain(nested) {
            let name = subcommand.get_name();
            let help = subcommand.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = help.split("\n\n").find_map(|text| text.strip_prefix("Examples:\n"));
            let examples = examples.unwrap_or_else(|| panic!("{name} has no examples"));
            // Others show what is done with the output.
            for line in examples.lines().filter(|line| line.contains("hashctl ")) {
                let parsed = command.clone().try_get_matches_from(words(line));
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            }
        }
    }
}
