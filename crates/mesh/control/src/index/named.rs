//! Rules that can be told from each other by what a proxy runs on.

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
        for entry in self.virtual_services.iter_mut().chain(lowered) {
            name_rules(entry, &mut rules);
        }
        rules
    }
}

fn name_rules(entry: &mut Entry<VirtualService>, rules: &mut Vec<RuleAt>) {
    let mut name = |line| {
        let name = format!("@{}", rules.len());
        rules.push(RuleAt {
            meta: entry.meta.clone(),
            line,
        });
        name
    };
    for rule in &mut entry.spec.http {
        rule.name = name(rule.at.0.line);
        for condition in &mut rule.matches {
            condition.name.clear();
        }
    }
    for rule in entry.spec.tls.iter_mut().chain(&mut entry.spec.tcp) {
        rule.name = name(rule.at.0.line);
    }
}
