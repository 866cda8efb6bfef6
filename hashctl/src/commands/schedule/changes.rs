//! Changed lines of two texts, as `diff -u` shows them, without numbers of lines.

/// Most pairs of lines that are compared for the shortest list of changes; beyond it, all old lines are shown as
/// removed and all new ones as added.
const PAIRS_MAX: usize = 4 << 20;

/// Lines around a change that are shown, too.
const CONTEXT: usize = 2;

/// Appends the changed lines with their signs.
pub(super) fn line_changes(old: &str, new: &str, out: &mut String) {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let alike = |(a, b): &(&&str, &&str)| a == b;
    let before = old.iter().zip(&new).take_while(alike).count();
    let rest = old[before..].iter().rev().zip(new[before..].iter().rev());
    let after = rest.take_while(alike).count();
    let (old_mid, new_mid) = (&old[before..old.len() - after], &new[before..new.len() - after]);
    let mut put = |sign: char, line: &str| {
        out.push(sign);
        out.push_str(line);
        out.push('\n');
    };
    old[before.saturating_sub(CONTEXT)..before].iter().for_each(|line| put(' ', line));
    let (mut i, mut j) = (0, 0);
    let table = common(old_mid, new_mid);
    let width = new_mid.len() + 1;
    while let Some(table) = &table
        && i < old_mid.len()
        && j < new_mid.len()
    {
        if old_mid[i] == new_mid[j] {
            put(' ', old_mid[i]);
            (i, j) = (i + 1, j + 1);
        } else if table[(i + 1) * width + j] >= table[i * width + j + 1] {
            put('-', old_mid[i]);
            i += 1;
        } else {
            put('+', new_mid[j]);
            j += 1;
        }
    }
    old_mid[i..].iter().for_each(|line| put('-', line));
    new_mid[j..].iter().for_each(|line| put('+', line));
    old[old.len() - after..].iter().take(CONTEXT).for_each(|line| put(' ', line));
}

/// Length of the longest common subsequence of the lines from each pair on, row by row.
fn common(old: &[&str], new: &[&str]) -> Option<Vec<u32>> {
    let width = new.len() + 1;
    let len = (old.len() + 1).checked_mul(width).filter(|&len| len <= PAIRS_MAX)?;
    let mut table = vec![0; len];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            let (below, right) = (table[(i + 1) * width + j], table[i * width + j + 1]);
            table[i * width + j] = match old[i] == new[j] {
                true => table[(i + 1) * width + j + 1] + 1,
                false => u32::max(below, right),
            };
        }
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(old: &str, new: &str, want: &str) {
        let lines =
            |text: &str| text.split(' ').map(|word| format!("{word}\n")).collect::<String>();
        let mut got = String::new();
        line_changes(&lines(old), &lines(new), &mut got);
        assert_eq!(got.split_terminator('\n').collect::<Vec<_>>().join("/"), want);
    }

    #[test]
    fn changed_lines_have_signs_and_a_little_context() {
        check("a b c d e f g", "a b c x e f g", " b/ c/-d/+x/ e/ f");
        check("a b c", "a b c", " b/ c");
        check("a b c d", "b c y d", "-a/ b/ c/+y/ d");
        check("a", "b", "-a/+b");
    }

    #[test]
    fn texts_with_too_many_changes_are_shown_whole() {
        let many = |from: u32| (from..from + 3000).map(|n| format!("{n}\n")).collect::<String>();
        let mut got = String::new();
        line_changes(&many(0), &many(10_000), &mut got);
        assert_eq!(got.lines().filter(|line| line.starts_with('-')).count(), 3000);
        assert_eq!(got.lines().filter(|line| line.starts_with('+')).count(), 3000);
    }
}
