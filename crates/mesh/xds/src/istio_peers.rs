//! `istio.metadata_exchange`: the filter that has both ends of a connection say who they are. Its message is Istio's, not
//! Envoy's, and comes as a [`TypedStruct`].

use std::collections::HashMap;

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Any, Struct, Value};
use prost::Message;

/// The filter's name.
pub const FILTER: &str = "istio.metadata_exchange";
/// The type of its configuration, of connections of TCP.
pub const OF_CONNECTIONS: &str = "envoy.tcp.metadataexchange.config.MetadataExchange";
/// The protocol of ALPN by which both ends agree to say who they are.
pub const PROTOCOL: &str = "istio-peer-exchange";
/// The names of [`TypedStruct`].
pub const TYPED_STRUCT: [&str; 2] = ["udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"];

/// JSON that names the message that it is.
#[derive(Clone, PartialEq, Message)]
pub struct TypedStruct {
    /// The message's type.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// Its fields.
    #[prost(message, optional, tag = "2")]
    pub value: Option<Struct>,
}

/// The configuration of the filter for connections of TCP.
pub fn of_connections() -> Any {
    let protocol = Value {
        kind: Some(Kind::StringValue(PROTOCOL.to_owned())),
    };
    let config = TypedStruct {
        type_url: format!("type.googleapis.com/{OF_CONNECTIONS}"),
        // One field: several would be encoded in no certain order.
        value: Some(Struct {
            fields: HashMap::from([("protocol".to_owned(), protocol)]),
        }),
    };
    Any {
        type_url: format!("type.googleapis.com/{}", TYPED_STRUCT[0]),
        value: config.encode_to_vec(),
    }
}
