use bytes::Bytes;
use periplus_model::Batch;
use periplus_wire::otlp::DecodeError;

use super::batch;
use super::wal::Kind;

/// What one request brings.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    /// Spans of the model.
    Batch(Batch),
    /// An `ExportTraceServiceRequest`, as it came.
    Otlp(Bytes),
}

/// Why a table did not take a payload: it will not take it at the next start either.
#[derive(Clone, Debug)]
pub(super) enum Unfit {
    /// It is no such request.
    Decode(DecodeError),
    /// A value lies in too many arrays and maps.
    TooDeep,
    /// Not even an empty table has room for it.
    TooLarge,
}

impl Payload {
    /// From a record of the log.
    pub(super) fn from_record(kind: Kind, body: &[u8]) -> Result<Self, String> {
        match kind {
            Kind::Batch => batch::decode(body)
                .map(Self::Batch)
                .map_err(|error| error.to_string()),
            Kind::Otlp => Ok(Self::Otlp(Bytes::copy_from_slice(body))),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Batch(_) => Kind::Batch,
            Self::Otlp(_) => Kind::Otlp,
        }
    }
}
