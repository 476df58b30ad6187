use super::intern::Interner;
use super::table::{Table, TableMark};

/// The events of all spans, in the order of the spans.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    pub(crate) owner: Vec<u32>,
    pub(crate) time: Vec<u64>,
    pub(crate) name: Vec<u32>,
    pub(crate) dropped: Vec<u32>,
    pub(crate) names: Interner,
    pub(crate) attributes: Table,
}

/// The links of all spans, in the order of the spans.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    pub(crate) owner: Vec<u32>,
    pub(crate) trace_id: Vec<u128>,
    pub(crate) span_id: Vec<u64>,
    pub(crate) trace_state: Vec<u32>,
    pub(crate) flags: Vec<u32>,
    pub(crate) dropped: Vec<u32>,
    pub(crate) attributes: Table,
}

/// How many events or links there were.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChildMark {
    rows: usize,
    names: usize,
    table: TableMark,
}

/// The rows that a span owns, in a column of owners.
pub(crate) fn owned_by(owners: &[u32], span: u32) -> std::ops::Range<usize> {
    let begin = owners.partition_point(|owner| *owner < span);
    let count = owners[begin..].partition_point(|owner| *owner == span);
    begin..begin + count
}

impl Events {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            owner: Vec::new(),
            time: Vec::new(),
            name: Vec::new(),
            dropped: Vec::new(),
            names: Interner::new(seed),
            attributes: Table::new(seed),
        }
    }

    pub(crate) fn mark(&self) -> ChildMark {
        ChildMark {
            rows: self.owner.len(),
            names: self.names.len(),
            table: self.attributes.mark(),
        }
    }

    pub(crate) fn truncate(&mut self, to: ChildMark) {
        self.owner.truncate(to.rows);
        self.time.truncate(to.rows);
        self.name.truncate(to.rows);
        self.dropped.truncate(to.rows);
        self.names.truncate(to.names);
        self.attributes.truncate(to.table);
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.owner.capacity() * 20 + self.names.heap_bytes() + self.attributes.heap_bytes()
    }
}

impl Links {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            owner: Vec::new(),
            trace_id: Vec::new(),
            span_id: Vec::new(),
            trace_state: Vec::new(),
            flags: Vec::new(),
            dropped: Vec::new(),
            attributes: Table::new(seed),
        }
    }

    pub(crate) fn mark(&self) -> ChildMark {
        ChildMark {
            rows: self.owner.len(),
            names: 0,
            table: self.attributes.mark(),
        }
    }

    pub(crate) fn truncate(&mut self, to: ChildMark) {
        self.owner.truncate(to.rows);
        self.trace_id.truncate(to.rows);
        self.span_id.truncate(to.rows);
        self.trace_state.truncate(to.rows);
        self.flags.truncate(to.rows);
        self.dropped.truncate(to.rows);
        self.attributes.truncate(to.table);
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.owner.capacity() * 40 + self.attributes.heap_bytes()
    }
}
