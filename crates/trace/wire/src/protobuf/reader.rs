use std::str;

use thiserror::Error;

use super::{FIXED32, FIXED64, LENGTH, VARINT};

/// The wire types of a group's begin and end.
const GROUP: u32 = 3;
const END_GROUP: u32 = 4;

/// The most groups in each other.
const MAX_GROUPS: usize = 100;

/// Reads the fields of one message.
pub(crate) struct Reader<'a> {
    message: &'static str,
    rest: &'a [u8],
}

/// What a field holds, by its wire type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Payload<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
    /// Wire type 3: a group, which no field of ours is.
    Group,
}

/// Why bytes are not the message that they should be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum WireError {
    #[error("{message} is cut short")]
    CutShort { message: &'static str },
    #[error("{message} has a number of more than 64 bits")]
    LongVarint { message: &'static str },
    #[error("{message} has an invalid field key")]
    BadKey { message: &'static str },
    #[error("{field} has protobuf wire type {found} instead of {expected}")]
    WrongType {
        field: &'static str,
        found: u32,
        expected: u32,
    },
    #[error("{field} is not valid UTF-8")]
    NotUtf8 { field: &'static str },
}

impl<'a> Reader<'a> {
    /// Of a message of this type, whose name errors mention.
    pub(crate) const fn new(message: &'static str, bytes: &'a [u8]) -> Self {
        Self {
            message,
            rest: bytes,
        }
    }

    /// The next field; None at the end.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Payload<'a>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (field, wire_type) = self.key()?;
        let payload = match wire_type {
            GROUP => {
                self.skip_group(field)?;
                Payload::Group
            }
            _ => self.payload(wire_type)?,
        };
        Ok(Some((field, payload)))
    }

    /// A field's number and its wire type.
    #[inline]
    fn key(&mut self) -> Result<(u32, u32), WireError> {
        match u32::try_from(self.varint()?) {
            Ok(key) if key >> 3 != 0 => Ok((key >> 3, key & 7)),
            _ => Err(self.bad_key()),
        }
    }

    #[inline]
    fn payload(&mut self, wire_type: u32) -> Result<Payload<'a>, WireError> {
        Ok(match wire_type {
            VARINT => Payload::Varint(self.varint()?),
            FIXED64 => Payload::Fixed64(u64::from_le_bytes(self.array()?)),
            LENGTH => Payload::Bytes(self.bytes()?),
            FIXED32 => Payload::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(self.bad_key()),
        })
    }

    /// Goes behind the end of a group, which proto3 no longer writes.
    #[cold]
    fn skip_group(&mut self, field: u32) -> Result<(), WireError> {
        let mut open = vec![field];
        while let Some(&innermost) = open.last() {
            if self.rest.is_empty() {
                return Err(self.cut_short());
            }
            match self.key()? {
                (field, GROUP) if open.len() < MAX_GROUPS => open.push(field),
                (field, END_GROUP) if field == innermost => {
                    open.pop();
                }
                (_, wire_type) => {
                    self.payload(wire_type)?;
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        match self.rest {
            [first, rest @ ..] if *first < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*first))
            }
            [first, second, rest @ ..] if *second < 0x80 => {
                self.rest = rest;
                Ok(u64::from(first & 0x7f) | u64::from(*second) << 7)
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for (i, &byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                // Of the tenth byte a number of 64 bits has one bit.
                if i == 9 && byte > 1 {
                    break;
                }
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 {
            self.cut_short()
        } else {
            WireError::LongVarint {
                message: self.message,
            }
        })
    }

    fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.varint()?;
        let length = usize::try_from(length).map_err(|_| self.cut_short())?;
        let (bytes, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| self.cut_short())?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (array, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| self.cut_short())?;
        self.rest = rest;
        Ok(*array)
    }

    const fn cut_short(&self) -> WireError {
        WireError::CutShort {
            message: self.message,
        }
    }

    const fn bad_key(&self) -> WireError {
        WireError::BadKey {
            message: self.message,
        }
    }
}

/// Each method wants the one wire type of its field; `field` is the name that errors mention.
impl<'a> Payload<'a> {
    pub(crate) fn varint(self, field: &'static str) -> Result<u64, WireError> {
        match self {
            Self::Varint(value) => Ok(value),
            other => Err(other.wrong_type(field, VARINT)),
        }
    }

    pub(crate) fn fixed64(self, field: &'static str) -> Result<u64, WireError> {
        match self {
            Self::Fixed64(value) => Ok(value),
            other => Err(other.wrong_type(field, FIXED64)),
        }
    }

    pub(crate) fn fixed32(self, field: &'static str) -> Result<u32, WireError> {
        match self {
            Self::Fixed32(value) => Ok(value),
            other => Err(other.wrong_type(field, FIXED32)),
        }
    }

    pub(crate) fn bytes(self, field: &'static str) -> Result<&'a [u8], WireError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(other.wrong_type(field, LENGTH)),
        }
    }

    pub(crate) fn text(self, field: &'static str) -> Result<String, WireError> {
        self.str(field).map(str::to_owned)
    }

    pub(crate) fn str(self, field: &'static str) -> Result<&'a str, WireError> {
        str::from_utf8(self.bytes(field)?).map_err(|_| WireError::NotUtf8 { field })
    }

    /// A `uint32`; like every protobuf decoder, this one drops higher bits.
    pub(crate) fn uint32(self, field: &'static str) -> Result<u32, WireError> {
        Ok(self.varint(field)? as u32)
    }

    const fn wrong_type(self, field: &'static str, expected: u32) -> WireError {
        WireError::WrongType {
            field,
            found: match self {
                Self::Varint(_) => VARINT,
                Self::Fixed64(_) => FIXED64,
                Self::Bytes(_) => LENGTH,
                Self::Fixed32(_) => FIXED32,
                Self::Group => GROUP,
            },
            expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u32, Payload<'_>)>, WireError> {
        let mut reader = Reader::new("M", bytes);
        let mut fields = Vec::new();
        while let Some(field) = reader.next()? {
            fields.push(field);
        }
        Ok(fields)
    }

    #[test]
    fn fields_of_each_wire_type_are_read() {
        let bytes = [
            0x08, 0x96, 0x01, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x1a, 2, b'h', b'i', 0x25, 2, 0, 0, 0,
        ];
        assert_eq!(
            fields(&bytes),
            Ok(vec![
                (1, Payload::Varint(150)),
                (2, Payload::Fixed64(1)),
                (3, Payload::Bytes(b"hi")),
                (4, Payload::Fixed32(2)),
            ])
        );
    }

    #[test]
    fn groups_are_skipped() {
        let bytes = [0x0b, 0x13, 0x08, 1, 0x14, 0x1a, 1, 0, 0x0c, 0x10, 7];
        let expected = vec![(1, Payload::Group), (2, Payload::Varint(7))];
        assert_eq!(fields(&bytes), Ok(expected));
    }

    #[test]
    fn malformed_bytes_are_refused() {
        let cut = WireError::CutShort { message: "M" };
        let key = WireError::BadKey { message: "M" };
        let long = WireError::LongVarint { message: "M" };
        let cases: [(&[u8], WireError); 15] = [
            (&[0x08], cut),
            (&[0x08, 0x80], cut),
            (&[0x0a, 5, 1], cut),
            (
                &[
                    0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
                ],
                cut,
            ),
            (&[0x09, 1, 2, 3], cut),
            (&[0x0d, 1, 2, 3], cut),
            (&[0x0b, 0x08, 1], cut),
            (&[0x0c], key),
            // The end of another group.
            (&[0x0b, 0x14], key),
            // One group too many.
            (&[0x0b; 101], key),
            // A field's number of more than 29 bits.
            (&[0x80, 0x80, 0x80, 0x80, 0x10, 0], key),
            (&[0x00], key),
            (&[0x0e], key),
            (
                &[
                    0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1,
                ],
                long,
            ),
            (
                &[
                    0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2,
                ],
                long,
            ),
        ];
        for (bytes, error) in cases {
            assert_eq!(fields(bytes), Err(error), "{bytes:x?}");
        }
    }
}
