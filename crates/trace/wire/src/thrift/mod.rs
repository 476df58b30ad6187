//! Thrift's wire formats: the binary protocol and the compact one.
//!
//! Both are read by [`Protocol`]: a decoder that is written over it reads either. Sizes are checked
//! against the bytes that are left before anything is done with them, so that what a decoder
//! allocates is bounded by what was sent; what a decoder does not know is skipped, nested up to
//! [`MAX_DEPTH`].

mod binary;
mod compact;
mod cursor;
mod error;

pub(crate) use binary::Binary;
pub(crate) use compact::Compact;
pub(crate) use error::ThriftError;

/// The most structs and containers around a value that is skipped.
pub(crate) const MAX_DEPTH: usize = 32;

/// The type of a value. A set is a list to a reader, and an enum an `i32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Byte,
    Double,
    I16,
    I32,
    I64,
    /// Text and raw bytes are one type on the wire.
    Binary,
    Struct,
    Map,
    List,
    Uuid,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Byte => "byte",
            Self::Double => "double",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::Binary => "string",
            Self::Struct => "struct",
            Self::Map => "map",
            Self::List => "list",
            Self::Uuid => "uuid",
        }
    }
}

/// The head of a field of a struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) id: i16,
    pub(crate) kind: Kind,
}

/// The head of a message: a call of a method. Its sequence number is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) name: &'a [u8],
    /// 1 call, 2 reply, 3 exception, 4 one-way call.
    pub(crate) kind: u8,
}

/// Reads values in one of the two formats.
///
/// A struct is its fields, one after the other:
///
/// ```ignore
/// let mut last = 0;
/// while let Some(field) = input.field(&mut last)? {
///     match field.id {
///         1 => timestamp = input.i64_of(field, "Log.timestamp")?,
///         _ => input.skip(field.kind)?,
///     }
/// }
/// ```
pub(crate) trait Protocol<'a> {
    /// The head of a message; the struct of its arguments follows.
    fn message(&mut self) -> Result<Message<'a>, ThriftError>;

    /// The head of the next field; None at the end of the struct. `last` is the id of the field
    /// before it, 0 when the struct begins: compact ids are told by their distance.
    fn field(&mut self, last: &mut i16) -> Result<Option<Field>, ThriftError>;

    /// The head of a list or a set: the type and the number of its elements. That many elements do
    /// fit into the bytes that are left; the type of an empty list means nothing.
    fn list(&mut self) -> Result<(Kind, usize), ThriftError>;

    /// The head of a map, as [`Self::list`].
    fn map(&mut self) -> Result<(Kind, Kind, usize), ThriftError>;

    fn boolean(&mut self) -> Result<bool, ThriftError>;
    fn byte(&mut self) -> Result<u8, ThriftError>;
    fn i16(&mut self) -> Result<i16, ThriftError>;
    fn i32(&mut self) -> Result<i32, ThriftError>;
    fn i64(&mut self) -> Result<i64, ThriftError>;
    fn double(&mut self) -> Result<f64, ThriftError>;
    fn bytes(&mut self) -> Result<&'a [u8], ThriftError>;
    fn uuid(&mut self) -> Result<[u8; 16], ThriftError>;

    /// Passes over a value.
    fn skip(&mut self, kind: Kind) -> Result<(), ThriftError> {
        self.skip_within(kind, MAX_DEPTH)
    }

    /// Passes over a value that may hold `depth` more levels.
    fn skip_within(&mut self, kind: Kind, depth: usize) -> Result<(), ThriftError> {
        let inner = || depth.checked_sub(1).ok_or(ThriftError::TooDeep);
        match kind {
            Kind::Bool => self.boolean().map(drop),
            Kind::Byte => self.byte().map(drop),
            Kind::Double => self.double().map(drop),
            Kind::I16 => self.i16().map(drop),
            Kind::I32 => self.i32().map(drop),
            Kind::I64 => self.i64().map(drop),
            Kind::Binary => self.bytes().map(drop),
            Kind::Uuid => self.uuid().map(drop),
            Kind::Struct => {
                let depth = inner()?;
                let mut last = 0;
                while let Some(field) = self.field(&mut last)? {
                    self.skip_within(field.kind, depth)?;
                }
                Ok(())
            }
            Kind::List => {
                let depth = inner()?;
                let (kind, count) = self.list()?;
                (0..count).try_for_each(|_| self.skip_within(kind, depth))
            }
            Kind::Map => {
                let depth = inner()?;
                let (key, value, count) = self.map()?;
                (0..count).try_for_each(|_| {
                    self.skip_within(key, depth)?;
                    self.skip_within(value, depth)
                })
            }
        }
    }

    /// The head of a list of structs: their number. `name` is the field that errors mention, as in
    /// the methods below.
    fn structs(&mut self, name: &'static str) -> Result<usize, ThriftError> {
        let (kind, count) = self.list()?;
        if count > 0 {
            expect(name, kind, Kind::Struct)?;
        }
        Ok(count)
    }

    fn structs_of(&mut self, field: Field, name: &'static str) -> Result<usize, ThriftError> {
        expect(name, field.kind, Kind::List)?;
        self.structs(name)
    }

    fn bool_of(&mut self, field: Field, name: &'static str) -> Result<bool, ThriftError> {
        expect(name, field.kind, Kind::Bool)?;
        self.boolean()
    }

    fn i32_of(&mut self, field: Field, name: &'static str) -> Result<i32, ThriftError> {
        expect(name, field.kind, Kind::I32)?;
        self.i32()
    }

    fn i64_of(&mut self, field: Field, name: &'static str) -> Result<i64, ThriftError> {
        expect(name, field.kind, Kind::I64)?;
        self.i64()
    }

    fn double_of(&mut self, field: Field, name: &'static str) -> Result<f64, ThriftError> {
        expect(name, field.kind, Kind::Double)?;
        self.double()
    }

    fn bytes_of(&mut self, field: Field, name: &'static str) -> Result<&'a [u8], ThriftError> {
        expect(name, field.kind, Kind::Binary)?;
        self.bytes()
    }
}

/// Whether a field has the type that it must have.
pub(crate) fn expect(name: &'static str, found: Kind, expected: Kind) -> Result<(), ThriftError> {
    if found == expected {
        Ok(())
    } else {
        Err(ThriftError::WrongType {
            field: name,
            found,
            expected,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{1: 300 i64, 2: "hi", 3: true, 4: false, 20: 0.5, 21: [7 i32, -1], 22: {1 byte: {}}, 23: -2 i16}`.
    const BINARY: &[u8] = b"\x0a\x00\x01\0\0\0\0\0\0\x01\x2c\x0b\x00\x02\0\0\0\x02hi\x02\x00\x03\x01\
        \x02\x00\x04\x00\x04\x00\x14\x3f\xe0\0\0\0\0\0\0\x0f\x00\x15\x08\0\0\0\x02\0\0\0\x07\xff\xff\xff\xff\
        \x0d\x00\x16\x03\x0c\0\0\0\x01\x01\x00\x06\x00\x17\xff\xfe\x00";
    const COMPACT: &[u8] = b"\x16\xd8\x04\x18\x02hi\x11\x12\x07\x28\0\0\0\0\0\0\xe0\x3f\
        \x19\x25\x0e\x01\x1b\x01\x3c\x01\x00\x14\x03\x00";

    fn read<'a>(mut input: impl Protocol<'a>) -> Result<String, ThriftError> {
        let mut out = String::new();
        let mut last = 0;
        while let Some(field) = input.field(&mut last)? {
            let value = match field.id {
                1 => format!("{}", input.i64_of(field, "one")?),
                2 => format!("{:?}", input.bytes_of(field, "two")?),
                3 | 4 => format!("{}", input.bool_of(field, "three")?),
                20 => format!("{}", input.double_of(field, "twenty")?),
                21 => {
                    expect("list", field.kind, Kind::List)?;
                    let (kind, count) = input.list()?;
                    let mut text = format!("{kind:?}*{count}");
                    for _ in 0..count {
                        text.push_str(&format!(" {}", input.i32()?));
                    }
                    text
                }
                22 => {
                    input.skip(field.kind)?;
                    "skipped".to_owned()
                }
                _ => format!("{}", input.i16()?),
            };
            out.push_str(&format!("{}={value};", field.id));
        }
        Ok(out)
    }

    #[test]
    fn both_formats_say_the_same() {
        let expected =
            "1=300;2=[104, 105];3=true;4=false;20=0.5;21=I32*2 7 -1;22=skipped;23=-2;".to_owned();
        assert_eq!(read(Binary::new(BINARY)), Ok(expected.clone()));
        assert_eq!(read(Compact::new(COMPACT)), Ok(expected));
    }

    fn is_cut(read: &Result<String, ThriftError>) -> bool {
        matches!(
            read,
            Err(ThriftError::CutShort { .. } | ThriftError::TooManyElements { .. })
        )
    }

    #[test]
    fn every_cut_is_refused() {
        for end in 0..BINARY.len() {
            let cut = read(Binary::new(&BINARY[..end]));
            assert!(is_cut(&cut), "{end}: {cut:?}");
        }
        for end in 0..COMPACT.len() {
            let cut = read(Compact::new(&COMPACT[..end]));
            assert!(is_cut(&cut), "{end}: {cut:?}");
        }
    }

    #[test]
    fn a_field_of_the_wrong_type_is_named() {
        let error = read(Binary::new(b"\x08\x00\x01\0\0\0\x01\x00")).unwrap_err();
        assert_eq!(error.to_string(), "one is a i32 instead of a i64");
    }

    /// A skipped value costs no more than its bytes, however it is nested.
    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| b"\x0c\x00\x01".repeat(levels);
        let skip = |bytes: &[u8]| Binary::new(bytes).skip(Kind::Struct);
        let mut bytes = nested(MAX_DEPTH - 1);
        bytes.resize(bytes.len() + MAX_DEPTH, 0);
        assert_eq!(skip(&bytes), Ok(()));
        assert_eq!(skip(&nested(100_000)), Err(ThriftError::TooDeep));
        let lists = b"\x19".repeat(100_000);
        assert_eq!(
            Compact::new(&lists).skip(Kind::List),
            Err(ThriftError::TooDeep)
        );
    }
}
