//! The data plane: an HTTP/1.1 sidecar and gateway that makes spans.
