//! HTTP/1.1 as bytes: heads, framing, and their editing (RFC 9112). No I/O.

pub(crate) mod chunked;
pub(crate) mod edit;
pub(crate) mod framing;
pub(crate) mod head;
pub(crate) mod name;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod status;
pub(crate) mod target;
