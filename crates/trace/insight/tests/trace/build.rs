//! Small traces in few words.

use std::sync::Arc;

use periplus_insight::{Flags, Trace};
use periplus_model::{
    Attribute, Resource, Span, SpanGroup, SpanId, SpanKind, Status, StatusCode, TraceId, Value,
};

/// When the traces of the tests begin.
pub(crate) const T0: u64 = 1_760_000_000_000_000_000;

pub(crate) const MS: u64 = 1_000_000;

/// A span of a service, to be refined.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    resource: Resource,
    span: Span,
}

/// A span that takes the first 100 ms of the trace.
pub(crate) fn span(service: &str, id: u64) -> Draft {
    Draft {
        resource: Resource::of_service(service),
        span: Span {
            trace_id: TraceId::from_halves(1, 2),
            span_id: SpanId::from_u64(id),
            name: format!("op-{id:x}"),
            ..Span::default()
        },
    }
    .at(0, 100)
}

pub(crate) fn client(service: &str, id: u64) -> Draft {
    span(service, id).kind(SpanKind::Client)
}

pub(crate) fn server(service: &str, id: u64) -> Draft {
    span(service, id).kind(SpanKind::Server)
}

impl Draft {
    pub(crate) fn below(mut self, parent: u64) -> Self {
        self.span.parent_span_id = Some(SpanId::from_u64(parent));
        self
    }

    /// From and until, in milliseconds after the trace's beginning.
    pub(crate) fn at(self, from_ms: i64, until_ms: i64) -> Self {
        let time = |ms: i64| T0.wrapping_add_signed(ms * MS as i64);
        self.at_nano(time(from_ms), time(until_ms))
    }

    pub(crate) fn at_nano(mut self, start: u64, end: u64) -> Self {
        self.span.start_unix_nano = start;
        self.span.end_unix_nano = end;
        self
    }

    pub(crate) fn kind(mut self, kind: SpanKind) -> Self {
        self.span.kind = kind;
        self
    }

    pub(crate) fn failed(mut self) -> Self {
        self.span.status = Status {
            code: StatusCode::Error,
            message: String::new(),
        };
        self
    }

    pub(crate) fn on(self, host: &str) -> Self {
        self.of("host.name", host)
    }

    pub(crate) fn of(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.resource.attributes.push(Attribute::new(key, value));
        self
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.span.attributes.push(Attribute::new(key, value));
        self
    }

    pub(crate) fn change(mut self, change: impl FnOnce(&mut Span)) -> Self {
        change(&mut self.span);
        self
    }
}

/// One group per span, as if each had arrived in a batch of its own.
pub(crate) fn groups(drafts: impl IntoIterator<Item = Draft>) -> Vec<Arc<SpanGroup>> {
    drafts
        .into_iter()
        .map(|draft| {
            Arc::new(SpanGroup {
                resource: Arc::new(draft.resource),
                scope: Arc::default(),
                spans: vec![draft.span],
            })
        })
        .collect()
}

pub(crate) fn assemble(drafts: impl IntoIterator<Item = Draft>) -> Trace {
    Trace::assemble(&groups(drafts))
}

/// The tree as text: a line per row, two spaces per level, the service, the span's id, and the
/// words for its flags.
pub(crate) fn outline(trace: &Trace) -> Vec<String> {
    let words = [
        (Flags::PARENT_MISSING, " missing"),
        (Flags::SKEW_ADJUSTED, " skewed"),
        (Flags::SHARED_ID, " shared"),
        (Flags::DUPLICATE, " copy"),
        (Flags::WARNING, " warning"),
    ];
    let line = |row: &periplus_insight::Row| {
        let mut line = "  ".repeat(row.depth);
        line += trace.service(row);
        line += &format!(" {:x}", trace.span(row).span_id.as_u64());
        for (flag, word) in words {
            if row.flags.contains(flag) {
                line += word;
            }
        }
        line
    };
    trace.rows.iter().map(line).collect()
}

/// The only warning of the only row that has one.
pub(crate) fn only_warning(trace: &Trace) -> &str {
    let mut warnings = trace.rows.iter().flat_map(|row| &row.warnings);
    let only = warnings.next().expect("a warning");
    assert_eq!(warnings.next(), None);
    only
}
