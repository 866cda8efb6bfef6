//! Man pages and completions, which the example `documents` generates.

use hashctl::cli;
use std::process::Command;
use tempfile::tempdir;

/// The completions that bash offers behind `words`, the last of which is begun.
fn completions(script: &[u8], words: &[&str]) -> Vec<String> {
    let dir = tempdir().unwrap();
    let path = dir.path().join("hashctl.bash");
    std::fs::write(&path, script).unwrap();
    let ask = r#"source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _hashctl "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash");
    let output = test_kit::output(bash.args(["-c", ask]).arg(&path).args(words));
    test_kit::text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_flags() {
    let mut script = Vec::new();
    let mut command = cli::command();
    clap_complete::generate(clap_complete::Shell::Bash, &mut command, "hashctl", &mut script);
    assert_eq!(completions(&script, &["hashctl", "su"]), ["sum", "submit"]);
    assert_eq!(completions(&script, &["hashctl", "sum", "--algo"]), ["--algorithm"]);
    assert_eq!(completions(&script, &["hashctl", "check", "--ignore"]), ["--ignore-missing"]);
}

#[test]
fn the_man_page_of_a_command_has_all_its_flags() {
    let mut command = cli::command();
    command.build();
    let mut pages = 0;
    for command in command.get_subcommands() {
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap().replace('\\', "");
        for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(page.contains(&format!("--{flag}")), "{}: --{flag}", command.get_name());
        }
        pages += 1;
    }
    assert!(pages >= 5, "{pages} commands");
}
