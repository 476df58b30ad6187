use periplus_model::Span;
use periplus_wire::otlp::{
    DecodeError, ResourceRef, ScopeRef, Sink, SpanRef, Taken, walk_protobuf,
};

/// How many spans an OTLP request in protobuf has, as far as it can be read.
pub(crate) fn spans(body: &[u8]) -> usize {
    let mut count = Count(0);
    // Up to where it breaks, the count stands.
    let _ = walk_protobuf(body, &mut count);
    count.0
}

struct Count(usize);

impl Sink for Count {
    type Error = DecodeError;

    fn resource(&mut self, _: &ResourceRef<'_>) -> Result<(), DecodeError> {
        Ok(())
    }

    fn scope(&mut self, _: &ScopeRef<'_>) -> Result<(), DecodeError> {
        Ok(())
    }

    fn span(&mut self, _: &SpanRef<'_, '_>) -> Result<Taken, DecodeError> {
        self.0 += 1;
        Ok(Taken::Yes)
    }

    fn decoded_span(&mut self, _: Span) -> Result<(), DecodeError> {
        self.0 += 1;
        Ok(())
    }
}
