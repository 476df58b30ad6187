//! Conditions of a route that few routes have.

use super::ValueMatch;
use crate::hashing::parameter;
use crate::policy::MetadataMatch;

/// The conditions beside those on path and headers; all must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    /// `query_parameters`.
    pub query: Vec<QueryMatch>,
    /// `runtime_fraction`: the share of the requests, of a million.
    pub per_million: Option<u32>,
    /// `grpc`: the request must be gRPC.
    pub grpc: bool,
    /// `tls_context.presented`: whether the client must, or must not, have shown a certificate.
    pub presented: Option<bool>,
    /// `require_tls` of the virtual host: the client must not have come by `https`.
    pub(crate) came_by_http: bool,
    /// `dynamic_metadata`: what filters have found out.
    pub(crate) metadata: Vec<MetadataMatch>,
}

/// A condition on the first parameter of a name, as it is written in the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryMatch {
    /// Its name.
    pub name: String,
    /// The condition on its value. None if there must be no such parameter.
    pub value: Option<ValueMatch>,
}

impl QueryMatch {
    /// Whether a query, as it is written, is as this wants it.
    pub(crate) fn is_met_by(&self, query: &[u8]) -> bool {
        let found = parameter(query, self.name.as_bytes());
        match (&self.value, found) {
            (Some(wanted), Some(found)) => wanted.matches(found),
            (wanted, found) => wanted.is_none() && found.is_none(),
        }
    }
}
