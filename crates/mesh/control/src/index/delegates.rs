//! The rules that VirtualServices leave to others, put where they are asked.

use std::collections::HashSet;

use periplus_resources::{Action, Delegate, Meta, VirtualService, merge_rules};

use super::{Entry, Problem, code};

/// Puts the rules of delegates in the place of those that name them; delegates are nothing by themselves.
pub(super) fn merge(entries: &mut Vec<Entry<VirtualService>>, problems: &mut Vec<Problem>) {
    let all = std::mem::take(entries).into_iter();
    let (delegates, mut roots): (Vec<_>, Vec<_>) =
        all.partition(|entry| entry.spec.hosts.is_empty());
    let mut used = HashSet::new();
    for root in &mut roots {
        let is_left = |action: &Action| matches!(action, Action::Delegate(_));
        if !root.spec.http.iter().any(|rule| is_left(&rule.action)) {
            continue;
        }
        for rule in std::mem::take(&mut root.spec.http) {
            let Action::Delegate(to) = &rule.action else {
                root.spec.http.push(rule);
                continue;
            };
            match find(to, &root.meta, &delegates) {
                Ok(delegate) => {
                    used.insert(key(&delegate.meta));
                    let (merged, strangers) = merge_rules(&rule, &delegate.spec.http);
                    root.spec.http.extend(merged);
                    for at in strangers {
                        let message = format!(
                            "this rule of {} takes nothing of what {} leaves to it: its matches must be among those of \
                             the rule that delegates",
                            delegate.meta, root.meta
                        );
                        let problem = Problem::warning(&delegate.meta.source, at.0, message);
                        problems.push(problem.code(code::UNREACHABLE_RULE));
                    }
                }
                Err(message) => {
                    let problem = Problem::error(&root.meta.source, to.at.0, message);
                    problems.push(problem.code(code::NOT_FOUND));
                }
            }
        }
    }
    let unused = delegates
        .iter()
        .filter(|one| !used.contains(&key(&one.meta)));
    for Entry { meta, .. } in unused {
        let message = format!(
            "{meta} has no `hosts`, and no VirtualService delegates to it: it has no effect"
        );
        let problem = Problem::warning(&meta.source, meta.source.position, message);
        problems.push(problem.code(code::WITHOUT_EFFECT));
    }
    *entries = roots;
}

fn key(meta: &Meta) -> (&str, &str) {
    (&meta.namespace, &meta.name)
}

fn find<'a>(
    to: &Delegate,
    root: &Meta,
    delegates: &'a [Entry<VirtualService>],
) -> Result<&'a Entry<VirtualService>, String> {
    let full_name = format!("{}/{}", to.namespace, to.name);
    let wanted = (to.namespace.as_str(), to.name.as_str());
    let mut named = delegates.iter().filter(|one| key(&one.meta) == wanted);
    let fate = "requests that this rule takes go to the rules after it";
    let Some(delegate) = named.next() else {
        return Err(format!(
            "there is no VirtualService {full_name} without `hosts` to delegate to: {fate}"
        ));
    };
    let export_to = &delegate.spec.export_to;
    if !export_to.reaches(&delegate.meta.namespace, &root.namespace) {
        return Err(format!(
            "VirtualService {full_name} is not exported to {}: {fate}",
            root.namespace
        ));
    }
    Ok(delegate)
}
