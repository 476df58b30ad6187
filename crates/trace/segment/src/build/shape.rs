use crate::hash::same;
use crate::schema::Type;

/// An attribute on its way into a table.
pub(crate) trait Attr {
    fn key(&self) -> &[u8];
    fn ty(&self) -> Type;
    fn datum(&self) -> Datum<'_>;
}

/// A value as its column keeps it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Datum<'a> {
    Nothing,
    /// A boolean, an integer or the bits of a double.
    Word(u64),
    /// A text, bytes, or an array or a map as bytes.
    Bytes(&'a [u8]),
}

/// An ordered list of attribute keys and types. Spans from the same place of a program have the
/// same, so that it is compared far more often than made.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// All keys, one after the other.
    keys: Box<[u8]>,
    pub(crate) entries: Box<[ShapeEntry]>,
    /// Whether some of it goes to the residual column, so that it says less than the attributes.
    pub(crate) residual: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ShapeEntry {
    /// Where its key ends.
    end: u32,
    pub(crate) ty: Type,
    pub(crate) column: u32,
}

impl Shape {
    /// Of these columns, each with its type and key.
    pub(crate) fn new<'k>(
        columns: impl Iterator<Item = (u32, Type, &'k [u8])>,
        residual: bool,
    ) -> Self {
        let mut keys = Vec::new();
        let entries = columns
            .map(|(column, ty, key)| {
                keys.extend_from_slice(key);
                ShapeEntry {
                    end: keys.len() as u32,
                    ty,
                    column,
                }
            })
            .collect();
        Self {
            keys: keys.into(),
            entries,
            residual,
        }
    }

    /// Whether this is the shape of these attributes.
    #[inline]
    pub(crate) fn is<A: Attr>(&self, attributes: &[A]) -> bool {
        if self.residual || self.entries.len() != attributes.len() {
            return false;
        }
        let mut begin = 0;
        for (entry, attribute) in self.entries.iter().zip(attributes) {
            let end = entry.end as usize;
            if entry.ty != attribute.ty() || !same(&self.keys[begin..end], attribute.key()) {
                return false;
            }
            begin = end;
        }
        true
    }

    /// Whether this attribute is what the entry stands for.
    pub(crate) fn entry_is<A: Attr>(&self, at: usize, attribute: &A) -> bool {
        let begin = match at.checked_sub(1) {
            Some(before) => self.entries[before].end,
            None => 0,
        };
        let entry = &self.entries[at];
        entry.ty == attribute.ty()
            && self.keys[begin as usize..entry.end as usize] == *attribute.key()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.keys.len() + self.entries.len() * size_of::<ShapeEntry>()
    }
}
