//! Who caused what, as Zipkin sees it.

use std::collections::{HashMap, VecDeque};

use periplus_model::SpanId;

use super::{Endpoint, Span};

/// The tree of one trace's merged spans.
#[derive(Clone, Debug, Default)]
pub struct Tree<'a> {
    /// The spans. Those that would close a circle are left out of the tree, as in Zipkin.
    pub spans: Vec<Span<'a>>,
    /// The nodes, breadth first: parents before children, the root first.
    pub nodes: Vec<Node>,
}

/// One place in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its span; none for a root that did not arrive.
    pub span: Option<usize>,
    /// The node above it; none at the root.
    pub parent: Option<usize>,
    /// How many nodes are right below it.
    pub children: usize,
}

impl<'a> Tree<'a> {
    /// Of spans that [`super::merge`] has put together.
    ///
    /// A shared span hangs below the span whose id it has. Any other hangs below its parent's id:
    /// below the shared half of it if that ran in the same place, else below the first span with that
    /// id. The first span without a parent is the root; others without one, or whose parent did not
    /// arrive, hang below the root, or below a node without a span if there is none. Siblings are
    /// sorted by their time, those without one first.
    pub fn new(spans: Vec<Span<'a>>) -> Self {
        let parents = Parents::of(&spans);
        let count = spans.len();
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); count];
        let mut root = None;
        let mut adrift = Vec::new();
        for at in 0..count {
            match parents.of_span(&spans, at) {
                Some(parent) => children[parent].push(at),
                None if root.is_none() && spans[at].parent_id.is_none() => root = Some(at),
                None => adrift.push(at),
            }
        }
        let mut top = adrift;
        if let Some(root) = root {
            children[root].append(&mut top);
            top = vec![root];
        }
        let by_time = |list: &mut Vec<usize>| list.sort_by_key(|&at| spans[at].timestamp);
        children.iter_mut().for_each(by_time);
        by_time(&mut top);

        let mut nodes = Vec::with_capacity(count + 1);
        let mut queue: VecDeque<(Option<usize>, usize)> = VecDeque::new();
        match root {
            Some(root) => queue.push_back((None, root)),
            None if count > 0 => {
                nodes.push(Node {
                    span: None,
                    parent: None,
                    children: top.len(),
                });
                queue.extend(top.into_iter().map(|at| (Some(0), at)));
            }
            None => {}
        }
        while let Some((parent, at)) = queue.pop_front() {
            let here = nodes.len();
            nodes.push(Node {
                span: Some(at),
                parent,
                children: children[at].len(),
            });
            queue.extend(children[at].iter().map(|&child| (Some(here), child)));
        }
        Self { spans, nodes }
    }
}

/// Where the parent of a span is looked for.
struct Parents<'s, 'a> {
    /// The first span of an id that shares it with nobody, else the first one.
    by_id: HashMap<SpanId, usize>,
    /// The shared spans.
    shared: HashMap<(SpanId, &'s Endpoint<'a>), usize>,
}

impl<'s, 'a> Parents<'s, 'a> {
    fn of(spans: &'s [Span<'a>]) -> Self {
        let mut by_id: HashMap<SpanId, usize> = HashMap::new();
        let mut shared = HashMap::new();
        for (at, span) in spans.iter().enumerate() {
            by_id
                .entry(span.id)
                .and_modify(|first| {
                    if spans[*first].shared && !span.shared {
                        *first = at;
                    }
                })
                .or_insert(at);
            if span.shared {
                shared.entry((span.id, &span.local)).or_insert(at);
            }
        }
        Self { by_id, shared }
    }

    fn of_span(&self, spans: &[Span<'_>], at: usize) -> Option<usize> {
        let span = &spans[at];
        if span.shared
            && let Some(&other) = self.by_id.get(&span.id)
            && other != at
            && !spans[other].shared
        {
            return Some(other);
        }
        let parent_id = span.parent_id.filter(|parent| *parent != span.id)?;
        let beside = self.shared.get(&(parent_id, &span.local));
        beside.or_else(|| self.by_id.get(&parent_id)).copied()
    }
}
