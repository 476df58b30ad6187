//! Policies for Gateways: they become policies for the workloads that serve them.

use std::collections::BTreeSet;

use periplus_resources::{GATEWAY_NAME_LABEL, Labels, Meta, Target};

use super::gateway_api::Lowered;
use super::{Entry, Index, Problem, code};

/// Puts one entry for each kind of workloads that serve its Gateways in the place of each that names some.
pub(super) fn resolve(index: &mut Index, problems: &mut Vec<Problem>) {
    let lowered = &index.gateway_api;
    let mut told = |meta: &Meta, targets: &[Target]| serving_all(targets, meta, lowered, problems);
    resolve_kind(
        &mut index.authorization_policies,
        |spec| (&mut spec.selector, &spec.targets),
        &mut told,
    );
    resolve_kind(
        &mut index.request_authentications,
        |spec| (&mut spec.selector, &spec.targets),
        &mut told,
    );
    resolve_kind(
        &mut index.telemetries,
        |spec| (&mut spec.selector, &spec.targets),
        &mut told,
    );
}

fn resolve_kind<T: Clone>(
    entries: &mut Vec<Entry<T>>,
    parts: fn(&mut T) -> (&mut Labels, &[Target]),
    serving: &mut impl FnMut(&Meta, &[Target]) -> BTreeSet<Labels>,
) {
    for mut entry in std::mem::take(entries) {
        let (_, targets) = parts(&mut entry.spec);
        if targets.is_empty() {
            entries.push(entry);
            continue;
        }
        for labels in serving(&entry.meta, targets) {
            let mut one = entry.clone();
            *parts(&mut one.spec).0 = labels;
            entries.push(one);
        }
    }
}

/// The labels of the workloads that serve any of some Gateways.
fn serving_all(
    targets: &[Target],
    meta: &Meta,
    lowered: &Lowered,
    problems: &mut Vec<Problem>,
) -> BTreeSet<Labels> {
    let mut selectors = BTreeSet::new();
    for target in targets {
        let serving = serving(target, meta, lowered).unwrap_or_else(|message| {
            let problem = Problem::error(&meta.source, target.at.0, message);
            problems.push(problem.code(code::NOT_FOUND));
            // As in Istio: those of a Gateway that is not there yet have its label all the same.
            let label = (GATEWAY_NAME_LABEL.to_owned(), target.name.clone());
            Labels::from([label])
        });
        selectors.insert(serving);
    }
    selectors
}

/// The labels of the workloads that serve a Gateway.
fn serving(target: &Target, meta: &Meta, lowered: &Lowered) -> Result<Labels, String> {
    let (namespace, name) = (&meta.namespace, &target.name);
    let place = (namespace.clone(), name.clone());
    match lowered.serving.get(&place) {
        None => Err(format!(
            "there is no Gateway {namespace}/{name} of Gateway API: {meta} is for proxies that have its label alone"
        )),
        Some((_, of)) if of != namespace => Err(format!(
            "the proxies of Gateway {namespace}/{name} are in namespace {of}: {meta} has no effect there, write it in \
             that namespace, with a `selector`"
        )),
        Some((labels, _)) => Ok(labels.clone()),
    }
}
