const MAGIC: [u8; 4] = *b"pwal";

/// Bytes in front of a body.
pub(crate) const HEADER: usize = 40;

/// Records begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A batch of spans, as [`crate::embedded::batch`] writes it.
    Batch = 1,
    /// An `ExportTraceServiceRequest` in protobuf, as it came.
    Otlp = 2,
}

impl Kind {
    fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Batch),
            2 => Some(Self::Otlp),
            _ => None,
        }
    }
}

/// What every checksum of one file starts from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn new(store_id: u64, file: u64) -> Self {
        let id = crc32c::crc32c(&store_id.to_le_bytes());
        Self(crc32c::crc32c_append(id, &file.to_le_bytes()))
    }
}

/// A record that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    /// Nothing if a later version wrote it.
    pub(super) kind: Option<Kind>,
    pub(super) sequence: u64,
    pub(super) received_unix_nano: u64,
    pub(super) body: &'a [u8],
    /// Where the next one begins, from the start of this one.
    pub(super) end: usize,
}

/// How many bytes a record with such a body takes.
pub(super) fn size(body: usize) -> usize {
    (HEADER + body).next_multiple_of(ALIGNMENT)
}

/// What stands in front of a body in a record that begins at `offset` of the file.
pub(super) fn head(
    seed: Seed,
    offset: u64,
    (kind, sequence, received_unix_nano): (Kind, u64, u64),
    body: &[u8],
) -> [u8; HEADER] {
    let mut head = [0; HEADER];
    let length = u32::try_from(body.len()).expect("the size of a batch is limited");
    head[..4].copy_from_slice(&MAGIC);
    head[4..8].copy_from_slice(&length.to_le_bytes());
    head[12] = kind as u8;
    head[16..24].copy_from_slice(&sequence.to_le_bytes());
    head[24..32].copy_from_slice(&offset.to_le_bytes());
    head[32..].copy_from_slice(&received_unix_nano.to_le_bytes());
    let crc = checksum(seed, &head, body);
    head[8..12].copy_from_slice(&crc.to_le_bytes());
    head
}

/// What stands behind a body of so many bytes.
pub(super) fn padding(body: usize) -> &'static [u8] {
    &[0; ALIGNMENT][..size(body) - HEADER - body]
}

/// Reads the record at this place of a file, if there is one.
pub(super) fn read(bytes: &[u8], at: usize, seed: Seed) -> Option<Record<'_>> {
    let bytes = bytes.get(at..)?;
    let header: &[u8; HEADER] = bytes.first_chunk()?;
    let word =
        |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
    let long = |i: usize| u64::from(word(i)) | u64::from(word(i + 4)) << 32;
    if header[..4] != MAGIC || long(24) != at as u64 {
        return None;
    }
    let length = word(4) as usize;
    let body = bytes.get(HEADER..HEADER.checked_add(length)?)?;
    if checksum(seed, header, body) != word(8) {
        return None;
    }
    Some(Record {
        // The version is zero.
        kind: Kind::from_number(header[12]).filter(|_| header[13] == 0),
        sequence: long(16),
        received_unix_nano: long(32),
        body,
        end: size(length),
    })
}

/// The first place from here on at which a record begins.
pub(super) fn find(bytes: &[u8], from: usize, seed: Seed) -> Option<usize> {
    (from.next_multiple_of(ALIGNMENT)..bytes.len())
        .step_by(ALIGNMENT)
        .find(|&at| read(bytes, at, seed).is_some())
}

fn checksum(seed: Seed, head: &[u8; HEADER], body: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(seed.0, &head[4..8]);
    let crc = crc32c::crc32c_append(crc, &head[12..]);
    crc32c::crc32c_append(crc, body)
}
