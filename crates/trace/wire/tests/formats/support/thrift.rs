//! Thrift's two wire formats, written from a value tree: the tests' own hand, apart from the readers.

/// A Thrift value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Thrift {
    Bool(bool),
    I16(i16),
    I32(i32),
    I64(i64),
    Double(f64),
    Bytes(Vec<u8>),
    /// Fields by id, in the order in which they are written.
    Struct(Vec<(i16, Thrift)>),
    /// Elements of one type.
    List(Vec<Thrift>),
}

impl Thrift {
    pub(crate) fn text(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }

    /// The value in `TBinaryProtocol`.
    pub(crate) fn binary(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_binary(&mut out);
        out
    }

    const fn binary_type(&self) -> u8 {
        match self {
            Self::Bool(_) => 2,
            Self::Double(_) => 4,
            Self::I16(_) => 6,
            Self::I32(_) => 8,
            Self::I64(_) => 10,
            Self::Bytes(_) => 11,
            Self::Struct(_) => 12,
            Self::List(_) => 15,
        }
    }

    const fn compact_type(&self) -> u8 {
        match self {
            Self::Bool(true) => 1,
            Self::Bool(false) => 2,
            Self::I16(_) => 4,
            Self::I32(_) => 5,
            Self::I64(_) => 6,
            Self::Double(_) => 7,
            Self::Bytes(_) => 8,
            Self::List(_) => 9,
            Self::Struct(_) => 12,
        }
    }

    fn write_binary(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bool(value) => out.push(u8::from(*value)),
            Self::I16(number) => out.extend(number.to_be_bytes()),
            Self::I32(number) => out.extend(number.to_be_bytes()),
            Self::I64(number) => out.extend(number.to_be_bytes()),
            Self::Double(number) => out.extend(number.to_be_bytes()),
            Self::Bytes(bytes) => {
                out.extend((bytes.len() as u32).to_be_bytes());
                out.extend(bytes);
            }
            Self::Struct(fields) => {
                for (id, value) in fields {
                    out.push(value.binary_type());
                    out.extend(id.to_be_bytes());
                    value.write_binary(out);
                }
                out.push(0);
            }
            Self::List(elements) => {
                out.push(elements.first().map_or(12, Self::binary_type));
                out.extend((elements.len() as u32).to_be_bytes());
                elements.iter().for_each(|it| it.write_binary(out));
            }
        }
    }

    fn write_compact(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bool(value) => out.push(if *value { 1 } else { 2 }),
            Self::I16(number) => varint(out, zigzag(i64::from(*number))),
            Self::I32(number) => varint(out, zigzag(i64::from(*number))),
            Self::I64(number) => varint(out, zigzag(*number)),
            Self::Double(number) => out.extend(number.to_le_bytes()),
            Self::Bytes(bytes) => {
                varint(out, bytes.len() as u64);
                out.extend(bytes);
            }
            Self::Struct(fields) => {
                let mut last = 0;
                for (id, value) in fields {
                    let distance = id - last;
                    last = *id;
                    if (1..16).contains(&distance) {
                        out.push((distance as u8) << 4 | value.compact_type());
                    } else {
                        out.push(value.compact_type());
                        varint(out, zigzag(i64::from(*id)));
                    }
                    if !matches!(value, Self::Bool(_)) {
                        value.write_compact(out);
                    }
                }
                out.push(0);
            }
            Self::List(elements) => {
                let kind = elements.first().map_or(12, Self::compact_type);
                if elements.len() < 15 {
                    out.push((elements.len() as u8) << 4 | kind);
                } else {
                    out.push(0xf0 | kind);
                    varint(out, elements.len() as u64);
                }
                elements.iter().for_each(|it| it.write_compact(out));
            }
        }
    }
}

/// A one-way call in the binary protocol, with a strict head.
pub(crate) fn binary_call(method: &str, arguments: &Thrift) -> Vec<u8> {
    let mut out = 0x8001_0004_u32.to_be_bytes().to_vec();
    Thrift::text(method).write_binary(&mut out);
    out.extend([0, 0, 0, 0]);
    arguments.write_binary(&mut out);
    out
}

/// A one-way call in the binary protocol, with the head of old.
pub(crate) fn old_binary_call(method: &str, arguments: &Thrift) -> Vec<u8> {
    let mut out = Vec::new();
    Thrift::text(method).write_binary(&mut out);
    out.extend([4, 0, 0, 0, 0]);
    arguments.write_binary(&mut out);
    out
}

/// A one-way call in the compact protocol.
pub(crate) fn compact_call(method: &str, arguments: &Thrift) -> Vec<u8> {
    let mut out = vec![0x82, 4 << 5 | 1, 0];
    Thrift::text(method).write_compact(&mut out);
    arguments.write_compact(&mut out);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}
