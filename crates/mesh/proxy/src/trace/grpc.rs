//! What spans tell of gRPC, and whether they tell of an error.

use std::borrow::Cow;

use periplus_model::{SpanKind, StatusCode};

use periplus_wire::tag;

use crate::grpc::{self, GrpcStatus};
use crate::http1::name::Name;
use crate::trace::spans::Finished;
use crate::trace::tags::{Tags, text};

/// OTLP's status: a client calls 4xx an error, a server does not; no response leaves it unset. Of
/// gRPC, a client calls everything but OK an error.
pub(super) fn status_code(kind: SpanKind, status: u16, grpc: Option<&GrpcStatus>) -> StatusCode {
    let is_client = kind == SpanKind::Client;
    let error_from = if is_client { 400 } else { 500 };
    let is_grpc_error = grpc
        .and_then(GrpcStatus::number)
        // RESOURCE_EXHAUSTED is none of the server's.
        .is_some_and(|code| code != 0 && (is_client || grpc::is_failure(code) && code != 8));
    if status >= error_from || is_grpc_error {
        StatusCode::Error
    } else {
        StatusCode::Unset
    }
}

/// What a gRPC request says about itself.
pub(super) struct GrpcRequest<'a> {
    path: Cow<'a, str>,
    authority: Cow<'a, str>,
    content_type: Cow<'a, str>,
    timeout: Option<Cow<'a, str>>,
}

impl<'a> GrpcRequest<'a> {
    #[cold]
    pub(super) fn of(finished: &Finished<'a>) -> Self {
        let (request, head) = (finished.request, finished.head);
        let value = |name| request.fields.value(name, head).map(text);
        Self {
            path: text(request.target.path.get(head)),
            authority: text(request.target.authority.get(head)),
            content_type: value(Name::ContentType).unwrap_or_default(),
            timeout: match finished.grpc_timeout {
                Some(timeout) => Some(Cow::Owned(grpc::timeout_text(timeout))),
                None => value(Name::GrpcTimeout),
            },
        }
    }

    pub(super) fn push<'t>(&'t self, tags: &mut Tags<'t>) {
        tags.push(tag!("grpc.path", &self.path));
        tags.push(tag!("grpc.authority", &self.authority));
        tags.push(tag!("grpc.content_type", &self.content_type));
        if let Some(timeout) = &self.timeout {
            tags.push(tag!("grpc.timeout", timeout));
        }
    }
}

pub(super) fn push_grpc_status<'t>(tags: &mut Tags<'t>, status: Option<&'t GrpcStatus>) {
    let Some(status) = status else {
        return;
    };
    tags.push(tag!("grpc.status_code", &status.code));
    if let Some(message) = &status.message {
        tags.push(tag!("grpc.message", message));
    }
}
