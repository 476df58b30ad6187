//! Istio's table of names (NDS): what an agent answers its application's questions for addresses from.

use std::collections::BTreeMap;

use prost::{Message, Name};

use crate::type_url::NAME_TABLE;

/// `istio.networking.nds.v1.NameTable`: hosts, which may begin with `*.`, and what is known of each.
#[derive(Clone, PartialEq, Message)]
pub struct NameTable {
    /// By host, without a dot at its end.
    #[prost(btree_map = "string, message", tag = "1")]
    pub table: BTreeMap<String, NameInfo>,
}

/// `istio.networking.nds.v1.NameTable.NameInfo`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NameInfo {
    /// Its addresses.
    #[prost(string, repeated, tag = "1")]
    pub ips: Vec<String>,
    /// Where it was found, such as [`KUBERNETES`].
    #[prost(string, tag = "2")]
    pub registry: String,
    /// Of a service of Kubernetes: its name and its namespace, of which shorter names are made.
    #[prost(string, tag = "3")]
    pub shortname: String,
    /// See `shortname`.
    #[prost(string, tag = "4")]
    pub namespace: String,
}

/// The registry of services of Kubernetes.
pub const KUBERNETES: &str = "Kubernetes";

impl Name for NameTable {
    const NAME: &'static str = "NameTable";
    const PACKAGE: &'static str = "istio.networking.nds.v1";

    fn type_url() -> String {
        NAME_TABLE.to_owned()
    }
}
