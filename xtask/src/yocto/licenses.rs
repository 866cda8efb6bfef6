//! The `LICENSE` of a recipe from the SPDX expressions of its crates.

use std::collections::BTreeSet;

/// The terms under which all of these may be distributed together: each choice once, in a fixed
/// order.
///
/// # Errors
///
/// An expression in a form that is not supported.
pub(super) fn of_all<'a>(expressions: impl Iterator<Item = &'a str>) -> Result<String, String> {
    let mut all = BTreeSet::new();
    for expression in expressions {
        all.extend(choices(expression)?);
    }
    let all: Vec<String> = all.iter().map(choice).collect();
    Ok(all.join(" & "))
}

/// The independent choices in an expression: `(A OR B) AND C` has two.
fn choices(expression: &str) -> Result<Vec<BTreeSet<&str>>, String> {
    let unknown = || format!("unsupported licence expression `{expression}`");
    let clauses: Vec<&str> = expression.split(" AND ").collect();
    let mut choices = Vec::new();
    for &clause in &clauses {
        let bare = clause.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        // AND binds tighter than OR.
        let is_mixed = clauses.len() > 1 && bare.is_none() && clause.contains(" OR ");
        let options = bare.unwrap_or(clause).split(" OR ");
        // bitbake knows no exceptions; where there is something else to choose, that is chosen.
        let options: BTreeSet<&str> = options.filter(|option| !option.contains(" WITH ")).collect();
        let is_name = |option: &&str| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-.+".contains(&byte);
            !option.is_empty() && option.bytes().all(is_part)
        };
        if is_mixed || options.is_empty() || !options.iter().all(is_name) {
            return Err(unknown());
        }
        choices.push(options);
    }
    Ok(choices)
}

fn choice(options: &BTreeSet<&str>) -> String {
    let names: Vec<&str> = options.iter().copied().collect();
    match names[..] {
        [one] => one.to_owned(),
        _ => format!("({})", names.join(" | ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expressions: &[&str], want: Result<&str, ()>) {
        let found = of_all(expressions.iter().copied());
        assert_eq!(found.as_deref().map_err(|_| ()), want, "{expressions:?}: {found:?}");
    }

    #[test]
    fn every_choice_is_there_once() {
        check(&["MIT", "MIT OR Apache-2.0", "Apache-2.0 OR MIT"], Ok("(Apache-2.0 | MIT) & MIT"));
        check(&["(MIT OR Apache-2.0) AND Unicode-3.0"], Ok("(Apache-2.0 | MIT) & Unicode-3.0"));
        check(&["CC0-1.0 OR Apache-2.0 WITH LLVM-exception"], Ok("CC0-1.0"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for expression in ["", "MIT OR Apache-2.0 AND ISC", "((MIT))", "GPL-2.0 WITH x", "MIT, ISC"]
        {
            check(&[expression], Err(()));
        }
    }
}
