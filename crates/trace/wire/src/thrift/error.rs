use thiserror::Error;

use super::{Kind, MAX_DEPTH};

/// Why bytes are not the Thrift value that they should be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum ThriftError {
    #[error("cut short at byte {at}: {needed} more bytes are announced, {left} are left")]
    CutShort {
        at: usize,
        needed: usize,
        left: usize,
    },
    #[error("byte {at} announces {count} elements, {left} bytes are left")]
    TooManyElements { at: usize, count: u64, left: usize },
    #[error("byte {at} announces the size {size}")]
    NegativeSize { at: usize, size: i32 },
    #[error("byte {at} is in a number of more than {max} bytes")]
    LongNumber { at: usize, max: usize },
    #[error("byte {at}: {found} is no type of a value")]
    UnknownType { at: usize, found: u8 },
    #[error("byte {at}: a field's id is beyond 16 bits")]
    FieldId { at: usize },
    #[error("a message begins with {found:#x} instead of {expected}")]
    NoMessage { found: u32, expected: &'static str },
    #[error("{field} is a {} instead of a {}", found.name(), expected.name())]
    WrongType {
        field: &'static str,
        found: Kind,
        expected: Kind,
    },
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("a value is nested more than {MAX_DEPTH} deep")]
    TooDeep,
}
