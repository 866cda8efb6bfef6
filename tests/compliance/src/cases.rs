//! Cases as text: one command for bash per line. Lines that start with `##` are headings, with `#`
//! comments. `$T` stands for each tool of the family in turn.

/// One command.
#[derive(Debug)]
pub(crate) struct Case {
    /// Tool that `$T` stands for; the family's first one where the command has no `$T`.
    pub(crate) tool: &'static str,
    pub(crate) command: &'static str,
    /// The heading above it.
    pub(crate) heading: &'static str,
}

/// The cases in `text`.
pub(crate) fn parse(text: &'static str, tools: &[&'static str]) -> Vec<Case> {
    let mut heading = "";
    let mut cases = Vec::new();
    for line in text.lines() {
        if let Some(text) = line.strip_prefix("##") {
            heading = text.trim();
        } else if !line.is_empty() && !line.starts_with('#') {
            let tools = if line.contains("$T") { tools } else { &tools[..1] };
            cases.extend(tools.iter().map(|tool| Case { tool, command: line, heading }));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_the_tools_variable_is_a_case_per_tool() {
        let cases = parse("# no case\n## One\n\n$T a\n## Two\nsum x # y\n", &["p", "q"]);
        let got: Vec<_> =
            cases.iter().map(|case| (case.tool, case.command, case.heading)).collect();
        assert_eq!(got, [("p", "$T a", "One"), ("q", "$T a", "One"), ("p", "sum x # y", "Two")]);
    }
}
