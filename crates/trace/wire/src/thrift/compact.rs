use super::cursor::Cursor;
use super::{Field, Kind, Message, Protocol, ThriftError};

/// Reads `TCompactProtocol`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compact<'a> {
    cursor: Cursor<'a>,
    /// The value of a boolean field lies in its head.
    pending: Option<bool>,
}

const PROTOCOL_ID: u8 = 0x82;
const VERSION: u8 = 1;

impl<'a> Compact<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            cursor: Cursor::new(bytes),
            pending: None,
        }
    }

    /// From the low half of a head's byte; None for 0.
    fn kind(at: usize, nibble: u8) -> Result<Option<Kind>, ThriftError> {
        Ok(Some(match nibble {
            0 => return Ok(None),
            1 | 2 => Kind::Bool,
            3 => Kind::Byte,
            4 => Kind::I16,
            5 => Kind::I32,
            6 => Kind::I64,
            7 => Kind::Double,
            8 => Kind::Binary,
            9 | 10 => Kind::List,
            11 => Kind::Map,
            12 => Kind::Struct,
            13 => Kind::Uuid,
            found => return Err(ThriftError::UnknownType { at, found }),
        }))
    }

    fn element(at: usize, nibble: u8) -> Result<Kind, ThriftError> {
        Self::kind(at, nibble)?.ok_or(ThriftError::UnknownType { at, found: 0 })
    }

    fn size(&mut self) -> Result<u32, ThriftError> {
        // Five bytes hold 35 bits.
        let at = self.cursor.at();
        u32::try_from(self.cursor.varint(5)?).map_err(|_| ThriftError::LongNumber { at, max: 5 })
    }
}

/// The fewest bytes that a value takes in a list.
const fn least_bytes(kind: Kind) -> usize {
    match kind {
        Kind::Double => 8,
        Kind::Uuid => 16,
        _ => 1,
    }
}

const fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

impl<'a> Protocol<'a> for Compact<'a> {
    fn message(&mut self) -> Result<Message<'a>, ThriftError> {
        let [id, version] = self.cursor.array()?;
        if id != PROTOCOL_ID || version & 0x1f != VERSION {
            return Err(ThriftError::NoMessage {
                found: u32::from(id) << 8 | u32::from(version),
                expected: "0x82 and version 1 of the compact protocol",
            });
        }
        self.size()?;
        Ok(Message {
            name: self.bytes()?,
            kind: version >> 5,
        })
    }

    fn field(&mut self, last: &mut i16) -> Result<Option<Field>, ThriftError> {
        let at = self.cursor.at();
        let head = self.cursor.byte()?;
        let Some(kind) = Self::kind(at, head & 0x0f)? else {
            return Ok(None);
        };
        let id = match head >> 4 {
            0 => self.i16()?,
            distance => last
                .checked_add(i16::from(distance))
                .ok_or(ThriftError::FieldId { at })?,
        };
        *last = id;
        self.pending = (kind == Kind::Bool).then_some(head & 0x0f == 1);
        Ok(Some(Field { id, kind }))
    }

    fn list(&mut self) -> Result<(Kind, usize), ThriftError> {
        let at = self.cursor.at();
        let head = self.cursor.byte()?;
        let size = match head >> 4 {
            15 => self.size()?,
            size => u32::from(size),
        };
        if size == 0 {
            return Ok((Kind::Byte, 0));
        }
        let kind = Self::element(at, head & 0x0f)?;
        let count = self.cursor.fits(u64::from(size), least_bytes(kind))?;
        Ok((kind, count))
    }

    fn map(&mut self) -> Result<(Kind, Kind, usize), ThriftError> {
        let size = self.size()?;
        if size == 0 {
            return Ok((Kind::Byte, Kind::Byte, 0));
        }
        let at = self.cursor.at();
        let head = self.cursor.byte()?;
        let (key, value) = (
            Self::element(at, head >> 4)?,
            Self::element(at, head & 0x0f)?,
        );
        let least = least_bytes(key) + least_bytes(value);
        let count = self.cursor.fits(u64::from(size), least)?;
        Ok((key, value, count))
    }

    fn boolean(&mut self) -> Result<bool, ThriftError> {
        match self.pending.take() {
            Some(value) => Ok(value),
            // In a list: 1 is true; false is 2, or 0 as some write it.
            None => Ok(self.cursor.byte()? == 1),
        }
    }

    fn byte(&mut self) -> Result<u8, ThriftError> {
        self.cursor.byte()
    }

    fn i16(&mut self) -> Result<i16, ThriftError> {
        let at = self.cursor.at();
        i16::try_from(zigzag(self.cursor.varint(3)?))
            .map_err(|_| ThriftError::LongNumber { at, max: 3 })
    }

    fn i32(&mut self) -> Result<i32, ThriftError> {
        let at = self.cursor.at();
        i32::try_from(zigzag(self.cursor.varint(5)?))
            .map_err(|_| ThriftError::LongNumber { at, max: 5 })
    }

    fn i64(&mut self) -> Result<i64, ThriftError> {
        Ok(zigzag(self.cursor.varint(10)?))
    }

    /// Little-endian, as every client writes it (the first text of the protocol said otherwise).
    fn double(&mut self) -> Result<f64, ThriftError> {
        Ok(f64::from_le_bytes(self.cursor.array()?))
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
    fn the_head_of_a_message_is_read() {
        assert_eq!(
            Compact::new(b"\x82\x81\x07\x09emitBatch").message(),
            Ok(Message {
                name: b"emitBatch",
                kind: 4,
            })
        );
        assert_eq!(
            Compact::new(b"\x80\x01\x00\x04")
                .message()
                .unwrap_err()
                .to_string(),
            "a message begins with 0x8001 instead of 0x82 and version 1 of the compact protocol"
        );
    }

    #[test]
    fn numbers_keep_their_extremes() {
        for (bytes, value) in [
            (&b"\x00"[..], 0),
            (b"\x01", -1),
            (b"\x02", 1),
            (b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", i64::MAX),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", i64::MIN),
        ] {
            assert_eq!(Compact::new(bytes).i64(), Ok(value));
        }
        assert_eq!(
            Compact::new(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01").i64(),
            Err(ThriftError::LongNumber { at: 0, max: 10 })
        );
        assert_eq!(Compact::new(b"\xff\xff\xff\xff\x0f").i32(), Ok(i32::MIN));
        assert!(Compact::new(b"\x80\x80\x80\x80\x20").i32().is_err());
        assert_eq!(Compact::new(b"\xff\xff\x03").i16(), Ok(i16::MIN));
    }

    #[test]
    fn sizes_are_checked_against_what_is_left() {
        assert_eq!(
            Compact::new(b"\xfc\xff\xff\xff\xff\x0f\0\0").list(),
            Err(ThriftError::TooManyElements {
                at: 6,
                count: u64::from(u32::MAX),
                left: 2
            })
        );
        assert_eq!(
            Compact::new(b"\x27\0\0\0\0\0\0\0\0").list(),
            Err(ThriftError::TooManyElements {
                at: 1,
                count: 2,
                left: 8
            })
        );
        assert_eq!(
            Compact::new(b"\x05abcd").bytes(),
            Err(ThriftError::CutShort {
                at: 1,
                needed: 5,
                left: 4
            })
        );
    }

    #[test]
    fn booleans_lie_in_heads_and_in_lists() {
        let mut input = Compact::new(b"\x11\x12\x19\x31\x01\x02\x00\x00");
        let mut last = 0;
        let mut heads = Vec::new();
        while let Some(field) = input.field(&mut last).unwrap() {
            if field.kind == Kind::Bool {
                heads.push(input.boolean().unwrap());
            } else {
                assert_eq!(input.list(), Ok((Kind::Bool, 3)));
                let values: Vec<_> = (0..3).map(|_| input.boolean().unwrap()).collect();
                assert_eq!(values, [true, false, false]);
            }
        }
        assert_eq!(heads, [true, false]);
    }
}
