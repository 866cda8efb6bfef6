//! Groups and `after` as one graph of steps without cycles.
//!
//! A group becomes two gates, steps without work: its members begin after `NAME.begin`, and what comes
//! after the group begins after `NAME`. So a group of any size costs one edge per member.

use crate::error::{LineColumn, ScheduleErrors, shown, suggestion};
use crate::model::{ScheduledTask, Step};
use ipc_proto::limits::STEP_NAME_LEN_MAX;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Last part of the name of a group's first gate.
const BEGIN: &str = "begin";

/// A task or group as a file has it.
#[derive(Debug)]
pub(crate) struct GroupMember {
    pub(crate) place: LineColumn,
    pub(crate) name: String,
    /// Names, and where they stand.
    pub(crate) after: Vec<(LineColumn, String)>,
    pub(crate) kind: MemberKind,
}

#[derive(Debug)]
pub(crate) enum MemberKind {
    Task(Box<ScheduledTask>),
    Group { is_sequential: bool, members: Vec<GroupMember> },
}

#[derive(Debug)]
struct Draft {
    place: LineColumn,
    step: Step,
    /// Names that are resolved once all are known.
    waits_for: Vec<(LineColumn, String)>,
    /// Full name of the group around it, empty at the top.
    group: String,
}

/// The graph of a schedule, each step behind those that it waits for.
pub(crate) fn steps(members: Vec<GroupMember>, errors: &mut ScheduleErrors) -> Option<Vec<Step>> {
    let mut drafts = Vec::new();
    for member in members {
        match member {
            // The schedule itself as a group needs no gates.
            GroupMember { name, kind: MemberKind::Group { is_sequential, members }, .. }
                if name.is_empty() =>
            {
                add_all(members, "", None, is_sequential, &mut drafts);
            }
            member => {
                add(member, "", None, &mut drafts);
            }
        }
    }
    resolve(&mut drafts, errors);
    in_order(drafts, errors)
}

/// Adds the members of a group, and returns the steps at whose end all of them have ended.
fn add_all(
    members: Vec<GroupMember>,
    group: &str,
    begin: Option<usize>,
    is_sequential: bool,
    drafts: &mut Vec<Draft>,
) -> Vec<usize> {
    let mut ends = Vec::new();
    for member in members {
        let before = if is_sequential { ends.last().copied().or(begin) } else { begin };
        ends.push(add(member, group, before, drafts));
    }
    ends
}

/// Adds a member that waits for `before`, and returns the step at whose end it has ended.
fn add(member: GroupMember, group: &str, before: Option<usize>, drafts: &mut Vec<Draft>) -> usize {
    let GroupMember { place, name, after, kind } = member;
    let dot = if group.is_empty() { "" } else { "." };
    let name = format!("{group}{dot}{name}");
    let group = group.to_owned();
    let mut push = |name: String, after: Vec<usize>, task, waits_for| {
        let step = Step { name, after, task };
        drafts.push(Draft { place, step, waits_for, group: group.clone() });
        drafts.len() - 1
    };
    match kind {
        MemberKind::Task(task) => push(name, before.into_iter().collect(), Some(*task), after),
        MemberKind::Group { members, .. } if members.is_empty() => {
            push(name, before.into_iter().collect(), None, after)
        }
        MemberKind::Group { is_sequential, members } => {
            let begin = push(format!("{name}.{BEGIN}"), before.into_iter().collect(), None, after);
            let ends = add_all(members, &name, Some(begin), is_sequential, drafts);
            let step = Step { name, after: ends, task: None };
            drafts.push(Draft { place, step, waits_for: Vec::new(), group });
            drafts.len() - 1
        }
    }
}

/// Turns the names in `after` into indices: a name is looked for in the group around it first, then
/// further out.
fn resolve(drafts: &mut [Draft], errors: &mut ScheduleErrors) {
    let mut by_name: HashMap<String, usize> = HashMap::with_capacity(drafts.len());
    for (i, draft) in drafts.iter().enumerate() {
        let name = &draft.step.name;
        if name.len() > STEP_NAME_LEN_MAX {
            errors.at(draft.place, format!("the name {} is too long", shown(name)));
        }
        if by_name.insert(name.clone(), i).is_some() {
            errors.at(draft.place, format!("the name {} is there twice", shown(name)));
        }
    }
    for draft in drafts {
        for (place, name) in &draft.waits_for {
            let mut around = draft.group.as_str();
            let found = loop {
                let dot = if around.is_empty() { "" } else { "." };
                match by_name.get(&format!("{around}{dot}{name}")) {
                    Some(index) => break Some(*index),
                    None if around.is_empty() => break None,
                    None => around = around.rsplit_once('.').map_or("", |(outer, _)| outer),
                }
            };
            match found {
                Some(index) => draft.step.after.push(index),
                None if errors.is_full() => return,
                None => {
                    let hint = suggestion(name, by_name.keys().map(String::as_str));
                    errors.at(*place, format!("after: no task or group {}{hint}", shown(name)));
                }
            }
        }
        draft.step.after.sort_unstable();
        draft.step.after.dedup();
    }
}

/// Sorts the steps so that each stands behind those it waits for, otherwise in the order of the file.
fn in_order(drafts: Vec<Draft>, errors: &mut ScheduleErrors) -> Option<Vec<Step>> {
    let mut waiting: Vec<usize> = drafts.iter().map(|draft| draft.step.after.len()).collect();
    let mut followers = vec![Vec::new(); drafts.len()];
    for (i, draft) in drafts.iter().enumerate() {
        draft.step.after.iter().for_each(|&before| followers[before].push(i));
    }
    let free = (0..drafts.len()).filter(|&i| waiting[i] == 0).map(Reverse);
    let (mut free, mut position) =
        (free.collect::<BinaryHeap<_>>(), vec![usize::MAX; drafts.len()]);
    let mut order = Vec::with_capacity(drafts.len());
    while let Some(Reverse(i)) = free.pop() {
        position[i] = order.len();
        order.push(i);
        for &follower in &followers[i] {
            waiting[follower] -= 1;
            if waiting[follower] == 0 {
                free.push(Reverse(follower));
            }
        }
    }
    if let Some(in_cycle) = waiting.iter().position(|&count| count > 0) {
        let cycle = cycle(&drafts, &waiting, in_cycle);
        let names: Vec<&str> = cycle.iter().map(|&i| drafts[i].step.name.as_str()).collect();
        errors.at(drafts[cycle[0]].place, format!("cycle: {}", names.join(" after ")));
        return None;
    }
    let mut steps: Vec<(usize, Step)> = Vec::with_capacity(drafts.len());
    for (draft, position_of) in drafts.into_iter().zip(&position) {
        let mut step = draft.step;
        step.after.iter_mut().for_each(|before| *before = position[*before]);
        step.after.sort_unstable();
        steps.push((*position_of, step));
    }
    steps.sort_by_key(|(position, _)| *position);
    Some(steps.into_iter().map(|(_, step)| step).collect())
}

/// A cycle that `start` is part of or waits for, its first step again at the end.
fn cycle(drafts: &[Draft], waiting: &[usize], start: usize) -> Vec<usize> {
    let (mut path, mut at) = (Vec::new(), start);
    let mut seen = vec![None; drafts.len()];
    while seen[at].is_none() {
        seen[at] = Some(path.len());
        path.push(at);
        // A step that still waits does so for another that still waits.
        at = drafts[at].step.after.iter().copied().find(|&i| waiting[i] > 0).unwrap_or(at);
    }
    let mut cycle = path.split_off(seen[at].unwrap_or(0));
    cycle.push(at);
    cycle
}
