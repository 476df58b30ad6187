//! The chapter "Encodings".

use periplus_model::{Attribute, Resource, Scope, Value};

/// Bytes from which the front is taken.
pub(super) struct In<'a>(pub(super) &'a [u8]);

impl<'a> In<'a> {
    pub(super) fn take(&mut self, n: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(n);
        self.0 = rest;
        front
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("as many")
    }

    pub(super) fn varint(&mut self) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return value;
            }
            shift += 7;
        }
    }

    pub(super) fn count(&mut self) -> usize {
        self.varint() as usize
    }

    pub(super) fn bytes(&mut self) -> &'a [u8] {
        let length = self.count();
        self.take(length)
    }

    pub(super) fn text(&mut self) -> String {
        text(self.bytes())
    }

    pub(super) fn blob(&mut self, n: usize) -> Vec<u8> {
        match self.byte() {
            0 => self.take(n).to_vec(),
            1 => {
                let bytes = zstd::bulk::decompress(self.bytes(), n).expect("Zstandard");
                assert_eq!(bytes.len(), n);
                bytes
            }
            2 => {
                let bits = self.take(n.div_ceil(8));
                (0..n).map(|i| bits[i / 8] >> (i % 8) & 1).collect()
            }
            3 => vec![self.byte(); n],
            how => panic!("a blob of kind {how}"),
        }
    }

    fn plane(&mut self, n: usize) -> Vec<u8> {
        match n {
            0 => Vec::new(),
            n => self.blob(n),
        }
    }

    pub(super) fn words(&mut self, n: usize) -> Vec<u64> {
        if n == 0 {
            return Vec::new();
        }
        match self.byte() {
            0 => vec![self.varint(); n],
            1 => {
                let (base, factor, width) = (self.varint(), self.varint(), self.byte());
                let planes: Vec<Vec<u8>> = (0..width).map(|_| self.plane(n)).collect();
                let value = |i: usize| {
                    let shifted = (0..)
                        .zip(&planes)
                        .map(|(at, plane)| u64::from(plane[i]) << (8 * at));
                    base.wrapping_add(factor.wrapping_mul(shifted.sum()))
                };
                (0..n).map(value).collect()
            }
            2 => {
                let mut colour = 0;
                let colours: Vec<u64> = (0..self.count())
                    .map(|_| {
                        colour += self.varint();
                        colour
                    })
                    .collect();
                let indexes = self.plane(n).into_iter();
                indexes.map(|index| colours[usize::from(index)]).collect()
            }
            how => panic!("words of kind {how}"),
        }
    }

    pub(super) fn strings(&mut self, n: usize) -> Vec<Vec<u8>> {
        let lengths = self.words(n);
        let sum = self.count();
        let bytes = self.blob(sum);
        let mut all = In(&bytes);
        let strings = lengths
            .iter()
            .map(|length| all.take(*length as usize).to_vec());
        let strings = strings.collect();
        all.end();
        strings
    }

    pub(super) fn value(&mut self) -> Value {
        match self.byte() {
            0 => Value::Empty,
            1 => Value::String(self.text()),
            2 => Value::Bool(false),
            3 => Value::Bool(true),
            4 => Value::Int(unzigzag(self.varint())),
            5 => Value::Double(f64::from_le_bytes(self.array())),
            6 => Value::Bytes(self.bytes().to_vec()),
            7 => Value::Array((0..self.count()).map(|_| self.value()).collect()),
            8 => Value::Map(self.list()),
            kind => panic!("a value of kind {kind}"),
        }
    }

    pub(super) fn list(&mut self) -> Vec<Attribute> {
        let count = self.count();
        let attribute = |_| Attribute {
            key: self.text(),
            value: self.value(),
        };
        (0..count).map(attribute).collect()
    }

    pub(super) fn end(self) {
        assert!(self.0.is_empty(), "{} bytes are left", self.0.len());
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

pub(super) fn unzigzag(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -(n & 1).cast_signed()
}

pub(super) fn resource(bytes: &[u8]) -> Resource {
    let mut bytes = In(bytes);
    let resource = Resource {
        schema_url: bytes.text(),
        dropped_attributes_count: bytes.varint() as u32,
        attributes: bytes.list(),
    };
    bytes.end();
    resource
}

pub(super) fn scope(bytes: &[u8]) -> Scope {
    let mut bytes = In(bytes);
    let scope = Scope {
        name: bytes.text(),
        version: bytes.text(),
        schema_url: bytes.text(),
        dropped_attributes_count: bytes.varint() as u32,
        attributes: bytes.list(),
    };
    bytes.end();
    scope
}

/// The payload of a chunk of this offset and length; nothing if there is none.
pub(super) fn chunk(file: &[u8], (offset, length): (u64, u64)) -> &[u8] {
    if length == 0 {
        return &[];
    }
    let mut chunk = In(&file[offset as usize..(offset + length) as usize]);
    let (length, crc) = (chunk.u32() as usize, chunk.u32());
    assert_eq!((chunk.0.len(), crc32c::crc32c(chunk.0)), (length, crc));
    chunk.0
}

/// All strings of the dictionary whose header lies there.
pub(super) fn dictionary(file: &[u8], header: (u64, u64)) -> Vec<Vec<u8>> {
    let mut header = In(chunk(file, header));
    let (count, mut offset) = (header.count(), header.varint());
    let mut all: Vec<Vec<u8>> = Vec::with_capacity(count);
    for _ in 0..header.count() {
        let (strings, length) = (header.count(), header.varint());
        let _separator = header.bytes();
        let mut block = In(chunk(file, (offset, length)));
        offset += length;
        let (shared, own) = (block.words(strings), block.words(strings));
        let sum = block.count();
        let bytes = block.blob(sum);
        block.end();
        let mut bytes = In(&bytes);
        let mut last: Vec<u8> = Vec::new();
        for (shared, own) in shared.into_iter().zip(own) {
            last.truncate(shared as usize);
            last.extend_from_slice(bytes.take(own as usize));
            all.push(last.clone());
        }
        bytes.end();
    }
    header.end();
    assert_eq!(all.len(), count);
    all
}
