//! Context propagation: B3, W3C Trace Context, `x-request-id`.
