use crate::protobuf::{Payload, Reader};

/// How many spans an `ExportTraceServiceRequest` in protobuf has. Spans are not looked into; where the
/// bytes are no such message, those before count.
pub fn count_spans(bytes: &[u8]) -> usize {
    let scopes = members("ExportTraceServiceRequest", 1, bytes)
        .flat_map(|resource| members("ResourceSpans", 2, resource));
    scopes
        .map(|scope| members("ScopeSpans", 2, scope).count())
        .sum()
}

fn members<'a>(name: &'static str, field: u32, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut reader = Reader::new(name, bytes);
    std::iter::from_fn(move || {
        loop {
            match reader.next().ok()?? {
                (found, Payload::Bytes(member)) if found == field => return Some(member),
                _ => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use periplus_model::{Batch, Resource, Scope, Span, SpanGroup, SpanId, TraceId};

    use super::count_spans;
    use crate::otlp::encode_protobuf;

    #[test]
    fn all_spans_are_counted_that_lie_before_what_is_broken() {
        let span = Span {
            trace_id: TraceId::from_halves(1, 2),
            span_id: SpanId::from_u64(3),
            ..Span::default()
        };
        let group = |name: &str, spans: usize| SpanGroup {
            resource: std::sync::Arc::new(Resource::default()),
            scope: Scope {
                name: name.to_owned(),
                ..Scope::default()
            }
            .into(),
            spans: vec![span.clone(); spans],
        };
        let batch = Batch {
            groups: vec![group("a", 2), group("b", 3)],
        };
        let body = encode_protobuf(&batch);
        assert_eq!(count_spans(&body), 5);
        assert_eq!(count_spans(&[]), 0);
        // The second group is cut short.
        assert_eq!(count_spans(&body[..body.len() - 1]), 2);
        let broken = [&body[..], &[0x0a, 0x7f]].concat();
        assert_eq!(count_spans(&broken), 5);
    }
}
