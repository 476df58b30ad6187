//! How a resource is told from its former form, and how it is refused.

use std::hash::{DefaultHasher, Hash, Hasher};

use envoy_types::pb::google::protobuf::Any;
use periplus_xds::client::Rejection;
use prost::{Message, Name};

use crate::config::check::{At, Refused, decode};

/// A resource of a response, of this kind and in this place, with the hash of its body; nothing if it cannot
/// be decoded, which is a rejection.
pub(super) fn read<M: Message + Name + Default>(
    body: &Any,
    (kind, index): (&str, usize),
    rejections: &mut Vec<Rejection>,
) -> Option<(M, u64)> {
    match decode(body, &At::ROOT) {
        Ok(message) => Some((message, hash_of(body))),
        Err(refused) => {
            rejections.push(unnamed(kind, index, &refused));
            None
        }
    }
}

pub(super) fn hash_of(body: &Any) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.value.hash(&mut hasher);
    hasher.finish()
}

pub(super) fn rejection(kind: &str, name: &str, refused: &Refused) -> Rejection {
    Rejection {
        resource: format!("{kind} {name:?}"),
        reason: refused.to_string(),
    }
}

fn unnamed(kind: &str, index: usize, refused: &Refused) -> Rejection {
    Rejection {
        resource: format!("{kind} {index} of the response"),
        reason: refused.to_string(),
    }
}

pub(super) fn duplicate(kind: &str, name: &str) -> Rejection {
    Rejection {
        resource: format!("{kind} {name:?}"),
        reason: "its name must be unique and not empty".to_owned(),
    }
}
