//! How columns become bytes.

pub(crate) mod chunk;
pub(crate) mod dictionary;
pub(crate) mod plane;
pub(crate) mod strings;
pub(crate) mod words;

pub(crate) use chunk::{Chunk, check_chunk};
pub(crate) use plane::Squeeze;
