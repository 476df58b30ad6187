//! Rules that can be told from each other by what a proxy runs on.

use std::collections::HashMap;

use periplus_resources::{Meta, VirtualService};

use super::{Entry, Index};

/// A rule of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleAt {
    /// The resource.
    pub meta: Meta,
    /// The line that the rule begins at.
    pub line: u32,
}

impl Index {
    /// Gives each rule a name of its own, which its routes have, and its connections are counted as: `@N` for the Nth of
    /// what is returned. Names mean nothing to matching.
    pub fn name_rules(&mut self) -> Vec<RuleAt> {
        let mut rules = Vec::new();
        let lowered = self.gateway_api.rules.iter_mut();
        let mut named: HashMap<String, Vec<String>> = HashMap::new();
        for entry in self.virtual_services.iter_mut().chain(lowered) {
            name_rules(entry, &mut rules, &mut named);
        }
        let limits = self.mesh.limits.iter_mut();
        for limit in limits.flat_map(|provider| &mut provider.limits) {
            let own = limit.routes.iter();
            let new = own.filter_map(|name| named.get(name)).flatten();
            let new: Vec<_> = new.cloned().collect();
            // Without any it would be about all of them.
            if !new.is_empty() {
                limit.routes = new;
            }
        }
        rules
    }
}

fn name_rules(
    entry: &mut Entry<VirtualService>,
    rules: &mut Vec<RuleAt>,
    named: &mut HashMap<String, Vec<String>>,
) {
    let mut name = |line| {
        let name = format!("@{}", rules.len());
        rules.push(RuleAt {
            meta: entry.meta.clone(),
            line,
        });
        name
    };
    for rule in &mut entry.spec.http {
        let new = name(rule.at.0.line);
        let old = std::mem::replace(&mut rule.name, new.clone());
        named.entry(old).or_default().push(new);
        for condition in &mut rule.matches {
            condition.name.clear();
        }
    }
    for rule in entry.spec.tls.iter_mut().chain(&mut entry.spec.tcp) {
        rule.name = name(rule.at.0.line);
    }
}
