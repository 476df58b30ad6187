//! Byte strings by number: blocks of them, each loaded when it is needed, and a header that knows
//! where each block begins.

use std::borrow::Cow;
use std::sync::OnceLock;

use super::chunk::{Chunk, put_chunk};
use super::plane::{Squeeze, read_blob};
use super::strings::Strings;
use super::words::{put_words, read_words};
use crate::ReadError;
use crate::bytes::{Cursor, put_bytes, put_varint};
use crate::read::Bytes;

/// The most strings of a block.
const BLOCK_STRINGS: usize = 1024;
/// The bytes with which a block is full.
const BLOCK_BYTES: usize = 64 * 1024;

/// Writes strings as a dictionary; returns where its header lies. If they are sorted, a reader can
/// look them up.
pub(crate) fn put_dictionary<'a>(
    file: &mut Vec<u8>,
    squeeze: &mut Squeeze,
    strings: impl Iterator<Item = &'a [u8]>,
) -> Chunk {
    let mut writer = Writer {
        header: Vec::new(),
        first_offset: file.len() as u64,
        file,
        squeeze,
        block: Block::default(),
        last: Vec::new(),
        blocks: 0,
        strings: 0,
    };
    for string in strings {
        if writer.block.is_full() {
            writer.end_block();
        }
        writer.push(string);
    }
    writer.end_block();
    let mut header = Vec::new();
    put_varint(&mut header, writer.strings);
    put_varint(&mut header, writer.first_offset);
    put_varint(&mut header, writer.blocks);
    header.extend_from_slice(&writer.header);
    put_chunk(writer.file, &header)
}

struct Writer<'a> {
    file: &'a mut Vec<u8>,
    squeeze: &'a mut Squeeze,
    first_offset: u64,
    header: Vec<u8>,
    block: Block,
    /// The string that was written last.
    last: Vec<u8>,
    blocks: u64,
    strings: u64,
}

#[derive(Default)]
struct Block {
    /// What separates the block from the one before: nothing before it is as large.
    separator: Vec<u8>,
    shared: Vec<u32>,
    own: Vec<u32>,
    text: Vec<u8>,
    bytes: usize,
}

impl Block {
    fn is_full(&self) -> bool {
        self.own.len() >= BLOCK_STRINGS || self.bytes >= BLOCK_BYTES
    }
}

impl Writer<'_> {
    fn push(&mut self, string: &[u8]) {
        let shared = (self.last.iter().zip(string))
            .take_while(|(a, b)| a == b)
            .count();
        let first = self.block.own.is_empty();
        if first {
            let end = string.len().min(shared + 1);
            self.block.separator = string[..end].to_vec();
        }
        let shared = if first { 0 } else { shared };
        self.block.shared.push(shared as u32);
        self.block.own.push((string.len() - shared) as u32);
        self.block.text.extend_from_slice(&string[shared..]);
        self.block.bytes += string.len();
        self.last.clear();
        self.last.extend_from_slice(string);
    }

    fn end_block(&mut self) {
        let block = std::mem::take(&mut self.block);
        if block.own.is_empty() {
            return;
        }
        let mut payload = Vec::new();
        put_words(&mut payload, self.squeeze, &block.shared);
        put_words(&mut payload, self.squeeze, &block.own);
        put_varint(&mut payload, block.text.len() as u64);
        self.squeeze.put_blob(&mut payload, &block.text);
        let chunk = put_chunk(self.file, &payload);
        put_varint(&mut self.header, block.own.len() as u64);
        put_varint(&mut self.header, u64::from(chunk.length));
        put_bytes(&mut self.header, &block.separator);
        self.blocks += 1;
        self.strings += block.own.len() as u64;
    }
}

/// A dictionary of a segment; what has been read of it stays.
#[derive(Debug)]
pub(crate) struct Dictionary {
    name: String,
    blocks: Vec<BlockHead>,
    len: u32,
}

#[derive(Debug)]
struct BlockHead {
    first: u32,
    count: u32,
    chunk: Chunk,
    separator: Box<[u8]>,
    strings: OnceLock<Strings>,
}

impl Dictionary {
    /// Reads the header.
    pub(crate) fn open(bytes: &Bytes, header: Chunk, name: String) -> Result<Self, ReadError> {
        let frame = bytes.chunk(header, || name.clone())?;
        match Self::parse(&frame, bytes.len()) {
            Some((blocks, len)) => Ok(Self { name, blocks, len }),
            None => Err(ReadError::damaged(name, "its header makes no sense")),
        }
    }

    fn parse(header: &[u8], file: u64) -> Option<(Vec<BlockHead>, u32)> {
        let mut cursor = Cursor(header);
        let strings = cursor.u32()?;
        let mut offset = cursor.varint()?;
        let count = cursor.count()?;
        let mut first = 0_u32;
        let mut blocks = Vec::with_capacity(count);
        for _ in 0..count {
            let count = cursor.u32()?;
            let length = cursor.u32()?;
            let separator = cursor.bytes()?.into();
            blocks.push(BlockHead {
                first,
                count,
                chunk: Chunk { offset, length },
                separator,
                strings: OnceLock::new(),
            });
            first = first.checked_add(count)?;
            offset = offset.checked_add(u64::from(length))?;
            if count == 0 || offset > file {
                return None;
            }
        }
        (first == strings && cursor.is_empty()).then_some((blocks, strings))
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The string of this number.
    pub(crate) fn get(&self, bytes: &Bytes, code: u32) -> Result<&[u8], ReadError> {
        let at = self.blocks.partition_point(|block| block.first <= code);
        let block = at.checked_sub(1).map(|at| &self.blocks[at]);
        let Some(block) = block.filter(|_| code < self.len) else {
            return Err(ReadError::damaged(
                &*self.name,
                "it lacks a string that is used",
            ));
        };
        let strings = self.load(bytes, block)?;
        let string = strings.get((code - block.first) as usize);
        string.ok_or_else(|| ReadError::damaged(&*self.name, "it lacks a string that is used"))
    }

    /// The string of this number, which is text.
    pub(crate) fn text(&self, bytes: &Bytes, code: u32) -> Result<&str, ReadError> {
        str::from_utf8(self.get(bytes, code)?)
            .map_err(|_| ReadError::damaged(&*self.name, "it is not UTF-8"))
    }

    /// How many strings are less than this one, and whether the next one is it. The strings must be
    /// sorted.
    pub(crate) fn find(&self, bytes: &Bytes, string: &[u8]) -> Result<(u32, bool), ReadError> {
        let at = (self.blocks).partition_point(|block| *block.separator <= *string);
        let Some(block) = at.checked_sub(1).map(|at| &self.blocks[at]) else {
            return Ok((0, false));
        };
        let strings = self.load(bytes, block)?;
        let (mut low, mut high) = (0, strings.len());
        while low < high {
            let middle = (low + high) / 2;
            match strings.get(middle).unwrap_or_default().cmp(string) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok((block.first + middle as u32, true)),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok((block.first + low as u32, false))
    }

    fn load<'d>(&'d self, bytes: &Bytes, block: &'d BlockHead) -> Result<&'d Strings, ReadError> {
        if let Some(strings) = block.strings.get() {
            return Ok(strings);
        }
        let payload = bytes.chunk(block.chunk, || self.name.clone())?;
        let strings = read_block(&payload, block.count as usize).ok_or_else(|| self.nonsense())?;
        bytes.note_cached(strings.heap_bytes());
        Ok(block.strings.get_or_init(|| strings))
    }

    /// All strings in their order; none is kept.
    pub(crate) fn each<E: From<ReadError>>(
        &self,
        bytes: &Bytes,
        mut see: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for block in &self.blocks {
            let payload = bytes.chunk(block.chunk, || self.name.clone())?;
            let strings = read_block(&payload, block.count as usize);
            let strings = strings.ok_or_else(|| self.nonsense())?;
            (0..strings.len()).try_for_each(|at| see(strings.get(at).unwrap_or_default()))?;
        }
        Ok(())
    }

    pub(crate) fn nonsense(&self) -> ReadError {
        ReadError::damaged(&*self.name, "a block of it makes no sense")
    }

    /// Reads all of it.
    pub(crate) fn check(&self, bytes: &Bytes) -> Result<(), ReadError> {
        for block in &self.blocks {
            let payload = bytes.chunk(block.chunk, || self.name.clone())?;
            if read_block(&payload, block.count as usize).is_none() {
                return Err(self.nonsense());
            }
        }
        Ok(())
    }
}

fn read_block(payload: &[u8], count: usize) -> Option<Strings> {
    let mut cursor = Cursor(payload);
    let shared = read_words::<u32>(&mut cursor, count)?;
    let own = read_words::<u32>(&mut cursor, count)?;
    let total = cursor.u32()? as usize;
    let text: Cow<'_, [u8]> = read_blob(&mut cursor, total)?;
    if !cursor.is_empty() {
        return None;
    }
    let mut rest = Cursor(&text);
    let mut strings = Strings::default();
    let mut last = Vec::new();
    for (shared, own) in shared.into_iter().zip(own) {
        if shared as usize > last.len() {
            return None;
        }
        last.truncate(shared as usize);
        last.extend_from_slice(rest.take(own as usize)?);
        strings.push_checked(&last)?;
    }
    rest.is_empty().then_some(strings)
}
