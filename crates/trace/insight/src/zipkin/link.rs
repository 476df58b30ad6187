//! Who called whom, by Zipkin's rules.

use std::collections::BTreeMap;

use periplus_model::SpanKind;

use super::{Span, Tree, merge};

/// The calls from one service to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The calling service.
    pub parent: String,
    /// The called service.
    pub child: String,
    /// How many calls.
    pub calls: u64,
    /// How many of them failed.
    pub errors: u64,
}

/// The calls of many traces, added up.
#[derive(Clone, Debug, Default)]
pub struct Links {
    counts: BTreeMap<(String, String), (u64, u64)>,
}

impl Links {
    /// Adds the calls of one trace, its spans as they arrived.
    ///
    /// * A client is a call unless something lies below it: then its other half is.
    /// * A server is a call by the nearest span above it that has a kind, or else by its remote side.
    /// * A span without a kind whose two sides are known counts as a client.
    /// * A message is two calls, to the broker and from it, and needs the broker's name.
    /// * A client whose own service is not that of the span above it was called by that service, which
    ///   went through something that reports nothing: one more call, never a failed one.
    /// * A call failed if its span has a tag `error`, or the client right above a server has one.
    pub fn add_trace(&mut self, spans: Vec<Span<'_>>) {
        let tree = Tree::new(merge(spans));
        for at in 0..tree.nodes.len() {
            self.add_node(&tree, at);
        }
    }

    /// Sorted by caller, then by callee.
    pub fn into_sorted(self) -> Vec<Link> {
        (self.counts.into_iter())
            .map(|((parent, child), (calls, errors))| Link {
                parent,
                child,
                calls,
                errors,
            })
            .collect()
    }

    fn add_node(&mut self, tree: &Tree<'_>, at: usize) {
        let node = tree.nodes[at];
        let Some(span) = node.span.map(|span| &tree.spans[span]) else {
            return;
        };
        let local = span.local_service();
        let remote = span.remote_service();
        let kind = match span.known_kind() {
            Some(kind) => kind,
            None if local.is_some() && remote.is_some() => SpanKind::Client,
            None => return,
        };
        // What lies below it tells of the same call, and knows more.
        if kind == SpanKind::Client && node.children > 0 {
            return;
        }
        let (mut parent, child) = match kind {
            SpanKind::Server | SpanKind::Consumer => (remote, local),
            _ => (local, remote),
        };
        if matches!(kind, SpanKind::Server | SpanKind::Consumer)
            && node.parent.is_none()
            && parent.is_none()
        {
            return;
        }
        let failed = span.is_error();
        if matches!(kind, SpanKind::Producer | SpanKind::Consumer) {
            if let (Some(parent), Some(child)) = (parent, child) {
                self.add(parent, child, failed);
            }
            return;
        }
        let above = ancestor(tree, at);
        let above_service = above.and_then(Span::local_service);
        if let Some(above_service) = above_service {
            if kind == SpanKind::Client
                && let Some(local) = local
                && local != above_service
            {
                self.add(above_service, local, false);
            }
            if kind == SpanKind::Server || parent.is_none() {
                parent = Some(above_service);
            }
        }
        let (Some(parent), Some(child)) = (parent, child) else {
            return;
        };
        let is_half = above.is_some_and(|above| {
            above.kind == SpanKind::Client && span.parent_id == Some(above.id) && above.is_error()
        });
        self.add(parent, child, failed || is_half);
    }

    fn add(&mut self, parent: &str, child: &str, failed: bool) {
        let key = (parent.to_owned(), child.to_owned());
        let (calls, errors) = self.counts.entry(key).or_default();
        *calls += 1;
        *errors += u64::from(failed);
    }
}

/// The nearest span above that has a kind.
fn ancestor<'t, 'a>(tree: &'t Tree<'a>, at: usize) -> Option<&'t Span<'a>> {
    let mut above = tree.nodes[at].parent;
    while let Some(at) = above {
        let node = tree.nodes[at];
        if let Some(span) = node.span.map(|span| &tree.spans[span])
            && span.known_kind().is_some()
        {
            return Some(span);
        }
        above = node.parent;
    }
    None
}
