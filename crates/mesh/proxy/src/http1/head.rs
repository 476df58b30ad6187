//! What request and response heads have in common: fields as offsets into the pinned head.

use std::mem::MaybeUninit;

use thiserror::Error;

use crate::http1::name::Name;

/// The most fields of a head, whatever the configuration says.
pub(crate) const MOST_FIELDS: usize = 256;

/// What [`httparse`] fills.
pub(crate) type RawFields<'a> = [MaybeUninit<httparse::Header<'a>>; MOST_FIELDS];

/// Space for [`httparse`] on the stack, at no cost.
#[inline]
pub(crate) fn raw_fields<'a>() -> RawFields<'a> {
    [const { MaybeUninit::uninit() }; MOST_FIELDS]
}

/// The limits of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of the whole head.
    pub(crate) bytes: usize,
    /// Fields.
    pub(crate) fields: usize,
}

/// Why a message is refused, and the status that says so.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{reason}")]
pub(crate) struct Refused {
    /// The status for the client, if a client sent it.
    pub(crate) status: u16,
    /// What is wrong, for whoever must correct it.
    pub(crate) reason: &'static str,
}

impl Refused {
    pub(crate) const fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason }
    }

    /// 400.
    pub(crate) const fn bad(reason: &'static str) -> Self {
        Self::new(400, reason)
    }
}

/// A part of the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slice {
    start: u32,
    length: u32,
}

impl Slice {
    pub(crate) const EMPTY: Self = Self {
        start: 0,
        length: 0,
    };

    #[inline]
    pub(crate) fn new(start: usize, length: usize) -> Self {
        Self {
            start: start as u32,
            length: length as u32,
        }
    }

    /// Where `part`, a part of `head`, lies in it.
    #[inline]
    pub(crate) fn of(head: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize);
        debug_assert!(start + part.len() <= head.len());
        Self::new(start, part.len())
    }

    /// The bytes, if `head` is the head that this was made of.
    #[inline]
    pub(crate) fn get(self, head: &[u8]) -> &[u8] {
        &head[self.start as usize..][..self.length as usize]
    }

    pub(crate) fn start(self) -> usize {
        self.start as usize
    }

    pub(crate) fn end(self) -> usize {
        self.start as usize + self.length as usize
    }

    pub(crate) fn is_empty(self) -> bool {
        self.length == 0
    }
}

/// One field line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) id: Name,
    pub(crate) name: Slice,
    pub(crate) value: Slice,
}

/// The field lines of a head, in order, with the first of each known name at hand.
#[derive(Debug)]
pub(crate) struct Fields {
    list: Vec<Field>,
    /// Index + 1 of the first field of each known name.
    first: [u16; Name::COUNT],
    /// The known names of which there are several fields, a bit for each.
    repeated: u64,
    /// The other names, a bit for each, which a few of them share: most that are asked for are not there.
    others: u64,
}

const _: () = assert!(Name::COUNT <= 64);

/// The bit of a name, which its length and its last letter choose; case does not matter.
#[inline]
fn bit_of(name: &[u8]) -> u64 {
    let last = name.last().map_or(0, |last| last | 0x20);
    1 << ((name.len() + 5 * usize::from(last)) % 64)
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            list: Vec::with_capacity(16),
            first: [0; Name::COUNT],
            repeated: 0,
            others: 0,
        }
    }
}

impl Fields {
    /// Takes over what `httparse` found in `head`; refuses lines that end in a bare LF.
    pub(crate) fn fill(
        &mut self,
        head: &[u8],
        parsed: &[httparse::Header<'_>],
    ) -> Result<(), Refused> {
        self.list.clear();
        self.first = [0; Name::COUNT];
        (self.repeated, self.others) = (0, 0);
        for header in parsed {
            let name = Slice::of(head, header.name.as_bytes());
            // The line before this one: httparse itself is content with LF alone.
            if name.start() < 2 || head[name.start() - 2] != b'\r' {
                return Err(Refused::bad("a line of the head ends in a bare LF"));
            }
            let id = Name::of(header.name.as_bytes());
            let value = Slice::of(head, header.value);
            self.list.push(Field { id, name, value });
            match self.first.get_mut(id as usize) {
                None => self.others |= bit_of(header.name.as_bytes()),
                Some(first @ 0) => *first = self.list.len() as u16,
                Some(_) => self.repeated |= 1 << (id as u8),
            }
        }
        if head.ends_with(b"\r\n\r\n") {
            Ok(())
        } else {
            Err(Refused::bad("a line of the head ends in a bare LF"))
        }
    }

    /// All fields in order.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Field> {
        self.list.iter()
    }

    /// Whether there is a field of this name.
    #[inline]
    pub(crate) fn has(&self, name: Name) -> bool {
        self.first[name as usize] != 0
    }

    /// The first field of this name.
    #[inline]
    pub(crate) fn first(&self, name: Name) -> Option<&Field> {
        match self.first[name as usize] {
            0 => None,
            at => self.list.get(usize::from(at) - 1),
        }
    }

    /// The value of the first field of this name.
    #[inline]
    pub(crate) fn value<'a>(&self, name: Name, head: &'a [u8]) -> Option<&'a [u8]> {
        self.first(name).map(|field| field.value.get(head))
    }

    /// The only field of this name, or an error if there are several.
    pub(crate) fn single<'a>(
        &self,
        name: Name,
        head: &'a [u8],
        several: &'static str,
    ) -> Result<Option<&'a [u8]>, Refused> {
        match self.is_repeated(name) {
            false => Ok(self.value(name, head)),
            true => Err(Refused::bad(several)),
        }
    }

    /// Whether there are several fields of this known name.
    #[inline]
    fn is_repeated(&self, name: Name) -> bool {
        self.repeated >> (name as u8) & 1 != 0
    }

    /// The value of the field of this known name, if there is just one.
    #[inline]
    pub(crate) fn only<'a>(&self, name: Name, head: &'a [u8]) -> Option<&'a [u8]> {
        let at = usize::from(*self.first.get(name as usize)?).checked_sub(1)?;
        let field = self.list.get(at)?;
        (!self.is_repeated(name)).then(|| field.value.get(head))
    }

    /// Whether there may be fields of this name; `name` is in lower case.
    #[inline]
    pub(crate) fn may_have(&self, id: Name, name: &str) -> bool {
        match self.first.get(id as usize) {
            Some(first) => *first != 0,
            None => self.others & bit_of(name.as_bytes()) != 0,
        }
    }

    /// The fields among which are all of this name.
    #[inline]
    fn candidates(&self, id: Name, name: &str) -> &[Field] {
        if !self.may_have(id, name) {
            return &[];
        }
        let Some(first) = self.first.get(id as usize) else {
            return &self.list;
        };
        let from = self.list.get(usize::from(*first) - 1..);
        let from = from.unwrap_or_default();
        if self.is_repeated(id) {
            from
        } else {
            &from[..1]
        }
    }

    /// The values of all fields of this name.
    pub(crate) fn all<'a>(&'a self, name: Name, head: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.candidates(name, name.as_str())
            .iter()
            .filter(move |field| field.id == name)
            .map(move |field| field.value.get(head))
    }

    /// The values of all fields of any name, known or not; `name` is in lower case.
    pub(crate) fn all_by_text<'a>(
        &self,
        name: &str,
        head: &'a [u8],
    ) -> impl Iterator<Item = &'a [u8]> {
        self.all_named(Name::of(name.as_bytes()), name, head)
    }

    /// The same where it is known which name that is.
    #[inline]
    pub(crate) fn all_named<'a>(
        &self,
        id: Name,
        name: &str,
        head: &'a [u8],
    ) -> impl Iterator<Item = &'a [u8]> {
        let is = move |field: &&Field| {
            let is_named = || field.name.get(head).eq_ignore_ascii_case(name.as_bytes());
            field.id == id
                && (id != Name::Other || field.name.length as usize == name.len() && is_named())
        };
        let fields = self.candidates(id, name).iter().filter(is);
        fields.map(move |field| field.value.get(head))
    }
}

/// The members of a comma-separated list, trimmed, empty ones left out (RFC 9110 §5.6.1).
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}
