use super::cursor::Cursor;
use super::{Field, Kind, Message, Protocol, ThriftError};

/// Reads `TBinaryProtocol`, messages with strict and with old heads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binary<'a> {
    cursor: Cursor<'a>,
}

/// The high half of a strict message's first word: version 1.
const VERSION_1: u32 = 0x8001_0000;

impl<'a> Binary<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            cursor: Cursor::new(bytes),
        }
    }

    fn kind(&mut self) -> Result<Option<Kind>, ThriftError> {
        let at = self.cursor.at();
        Ok(Some(match self.cursor.byte()? {
            0 => return Ok(None),
            2 => Kind::Bool,
            3 => Kind::Byte,
            4 => Kind::Double,
            6 => Kind::I16,
            8 => Kind::I32,
            10 => Kind::I64,
            11 => Kind::Binary,
            12 => Kind::Struct,
            13 => Kind::Map,
            14 | 15 => Kind::List,
            16 => Kind::Uuid,
            found => return Err(ThriftError::UnknownType { at, found }),
        }))
    }

    fn size(&mut self) -> Result<u32, ThriftError> {
        let at = self.cursor.at();
        let size = self.i32()?;
        u32::try_from(size).map_err(|_| ThriftError::NegativeSize { at, size })
    }

    /// A size, checked against the bytes left for elements of these types. Empty containers are
    /// written with any type, also with none.
    fn count<const N: usize>(
        &mut self,
        kinds: [Option<Kind>; N],
    ) -> Result<(usize, [Kind; N]), ThriftError> {
        let at = self.cursor.at();
        let size = self.size()?;
        if size == 0 {
            return Ok((0, [Kind::Byte; N]));
        }
        let mut least = 0;
        let mut known = [Kind::Byte; N];
        for (known, kind) in known.iter_mut().zip(kinds) {
            *known = kind.ok_or(ThriftError::UnknownType { at, found: 0 })?;
            least += least_bytes(*known);
        }
        Ok((self.cursor.fits(u64::from(size), least)?, known))
    }
}

/// The fewest bytes that a value takes.
const fn least_bytes(kind: Kind) -> usize {
    match kind {
        Kind::Bool | Kind::Byte | Kind::Struct => 1,
        Kind::I16 => 2,
        Kind::I32 | Kind::Binary => 4,
        Kind::List => 5,
        Kind::Map => 6,
        Kind::Double | Kind::I64 => 8,
        Kind::Uuid => 16,
    }
}

impl<'a> Protocol<'a> for Binary<'a> {
    fn message(&mut self) -> Result<Message<'a>, ThriftError> {
        let first = u32::from_be_bytes(self.cursor.array()?);
        if first & 0x8000_0000 == 0 {
            // The old head: the name's length, the name, the type.
            let name = self.cursor.take(first as usize)?;
            let kind = self.byte()?;
            self.i32()?;
            return Ok(Message { name, kind });
        }
        if first & 0xffff_0000 != VERSION_1 {
            return Err(ThriftError::NoMessage {
                found: first,
                expected: "0x80010000, the binary protocol's version 1",
            });
        }
        let name = self.bytes()?;
        self.i32()?;
        Ok(Message {
            name,
            kind: first as u8,
        })
    }

    fn field(&mut self, last: &mut i16) -> Result<Option<Field>, ThriftError> {
        let Some(kind) = self.kind()? else {
            return Ok(None);
        };
        let id = self.i16()?;
        *last = id;
        Ok(Some(Field { id, kind }))
    }

    fn list(&mut self) -> Result<(Kind, usize), ThriftError> {
        let kind = self.kind()?;
        let (count, [kind]) = self.count([kind])?;
        Ok((kind, count))
    }

    fn map(&mut self) -> Result<(Kind, Kind, usize), ThriftError> {
        let kinds = [self.kind()?, self.kind()?];
        let (count, [key, value]) = self.count(kinds)?;
        Ok((key, value, count))
    }

    fn boolean(&mut self) -> Result<bool, ThriftError> {
        Ok(self.cursor.byte()? != 0)
    }

    fn byte(&mut self) -> Result<u8, ThriftError> {
        self.cursor.byte()
    }

    fn i16(&mut self) -> Result<i16, ThriftError> {
        Ok(i16::from_be_bytes(self.cursor.array()?))
    }

    fn i32(&mut self) -> Result<i32, ThriftError> {
        Ok(i32::from_be_bytes(self.cursor.array()?))
    }

    fn i64(&mut self) -> Result<i64, ThriftError> {
        Ok(i64::from_be_bytes(self.cursor.array()?))
    }

    fn double(&mut self) -> Result<f64, ThriftError> {
        Ok(f64::from_be_bytes(self.cursor.array()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8], ThriftError> {
        let size = self.size()?;
        self.cursor.take(size as usize)
    }

    fn uuid(&mut self) -> Result<[u8; 16], ThriftError> {
        self.cursor.array()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_heads_of_a_message_are_read() {
        let expected = Message {
            name: b"emitBatch",
            kind: 4,
        };
        let strict = b"\x80\x01\x00\x04\x00\x00\x00\x09emitBatch\x00\x00\x00\x09";
        assert_eq!(Binary::new(strict).message(), Ok(expected));
        let old = b"\x00\x00\x00\x09emitBatch\x04\x00\x00\x00\x09";
        assert_eq!(Binary::new(old).message(), Ok(expected));
    }

    #[test]
    fn malformed_bytes_are_refused() {
        let message = |bytes| Binary::new(bytes).message().unwrap_err().to_string();
        assert_eq!(
            message(b"\x80\x02\x00\x04\x00\x00\x00\x09emitBatch\x00\x00\x00\x09"),
            "a message begins with 0x80020004 instead of 0x80010000, the binary protocol's version 1"
        );
        assert_eq!(
            message(b"{\"a\":1}"),
            "cut short at byte 4: 2065850658 more bytes are announced, 3 are left"
        );
        let bytes = |bytes| Binary::new(bytes).bytes().unwrap_err().to_string();
        assert_eq!(bytes(b"\xff\xff\xff\xff"), "byte 0 announces the size -1");
        let list = |bytes| Binary::new(bytes).list().unwrap_err().to_string();
        assert_eq!(
            list(b"\x0c\x7f\xff\xff\xff\0\0"),
            "byte 5 announces 2147483647 elements, 2 bytes are left"
        );
        assert_eq!(
            list(b"\x0a\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            "byte 5 announces 2 elements, 15 bytes are left"
        );
        assert_eq!(list(b"\x07\0\0\0\x01\0"), "byte 0: 7 is no type of a value");
        assert_eq!(list(b"\x00\0\0\0\x01\0"), "byte 1: 0 is no type of a value");
        assert_eq!(
            Binary::new(b"\x00\0\0\0\x00").list(),
            Ok((Kind::Byte, 0)),
            "an empty list needs no type"
        );
    }
}
