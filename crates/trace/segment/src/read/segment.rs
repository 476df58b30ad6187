use std::sync::{Arc, OnceLock};

use periplus_model::{Resource, Scope, TraceId};

use super::footer::{Footer, GroupHead};
use super::group::Group;
use super::index::Index;
use super::schema::Schema;
use crate::codec::dictionary::Dictionary;
use crate::hash::hash_trace;
use crate::layout::{Section, VERSION};
use crate::read::{Bytes, Source};
use crate::red::Red;
use crate::trace_filter::TraceFilter;
use crate::zone::{TextFilters, Zone};
use crate::{Calls, ReadError, ServiceOperation, value};

/// An open segment. A handle: clones share what has been decoded.
///
/// Everything that is read is checked first: damaged bytes are an error, never a wrong answer. What
/// all queries need of a segment (dictionaries, the trace index) stays decoded once it is used, as
/// long as the handle does ([`Segment::undecoded`]).
#[derive(Clone, Debug)]
pub struct Segment {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) bytes: Bytes,
    pub(super) footer: Arc<Footer>,
    schema: OnceLock<Schema>,
    dictionaries: [OnceLock<Dictionary>; Section::COUNT],
    resources: OnceLock<Vec<Arc<Resource>>>,
    scopes: OnceLock<Vec<Arc<Scope>>>,
    index: OnceLock<Index>,
    filter: OnceLock<TraceFilter<'static>>,
    operations: OnceLock<Arc<Vec<ServiceOperation>>>,
    red: OnceLock<Arc<Red>>,
    calls: OnceLock<Arc<Calls>>,
    zones: OnceLock<Vec<Zone>>,
    texts: OnceLock<TextFilters>,
}

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The version of its format.
    pub version: u32,
    /// Its bytes.
    pub bytes: u64,
    /// Its spans.
    pub spans: u64,
    /// The traces that they belong to.
    pub traces: u64,
    /// Its row groups.
    pub groups: usize,
    /// When its earliest span starts.
    pub first_start_unix_nano: u64,
    /// When its latest span starts.
    pub last_start_unix_nano: u64,
    /// When its last span ends.
    pub last_end_unix_nano: u64,
}

impl Segment {
    /// Opens a segment: reads its footer, nothing else.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had, or are no segment, or the footer is damaged.
    pub fn open(source: impl Source + 'static) -> Result<Self, ReadError> {
        let bytes = Bytes::new(Arc::new(source));
        let footer = Arc::new(Footer::read(&bytes)?);
        Ok(Self::with(bytes, footer))
    }

    /// The same segment, of which nothing has been decoded yet but the footer. Dropping a handle and
    /// its row groups gives back what was decoded through it and no other.
    #[must_use]
    pub fn undecoded(&self) -> Self {
        let Inner { bytes, footer, .. } = &*self.inner;
        Self::with(bytes.uncached(), Arc::clone(footer))
    }

    fn with(bytes: Bytes, footer: Arc<Footer>) -> Self {
        let inner = Inner {
            bytes,
            footer,
            schema: OnceLock::new(),
            dictionaries: [const { OnceLock::new() }; Section::COUNT],
            resources: OnceLock::new(),
            scopes: OnceLock::new(),
            index: OnceLock::new(),
            filter: OnceLock::new(),
            operations: OnceLock::new(),
            red: OnceLock::new(),
            calls: OnceLock::new(),
            zones: OnceLock::new(),
            texts: OnceLock::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// What it holds.
    pub fn info(&self) -> Info {
        let footer = &self.inner.footer;
        let starts = || footer.groups.iter().map(|group| group.starts);
        Info {
            version: VERSION,
            bytes: self.inner.bytes.len(),
            spans: footer.spans,
            traces: footer.traces,
            groups: footer.groups.len(),
            first_start_unix_nano: starts().map(|(first, _)| first).min().unwrap_or_default(),
            last_start_unix_nano: starts().map(|(_, last)| last).max().unwrap_or_default(),
            last_end_unix_nano: footer.last_end,
        }
    }

    /// The bytes that are kept decoded, without those of [`Group`]s.
    pub fn cached_bytes(&self) -> usize {
        self.inner.bytes.cached()
    }

    /// How many row groups it has. Later ones have later traces.
    pub fn group_count(&self) -> usize {
        self.inner.footer.groups.len()
    }

    /// The start of a row group's earliest span, and that of its latest.
    ///
    /// # Panics
    ///
    /// There is no such row group.
    pub fn span_starts(&self, group: usize) -> (u64, u64) {
        self.inner.head(group).starts
    }

    /// A row group. Nothing is read yet; what is, is kept in it.
    ///
    /// # Panics
    ///
    /// There are not so many.
    pub fn group(&self, number: usize) -> Group {
        assert!(
            number < self.group_count(),
            "there is no row group {number}"
        );
        Group::new(self.clone(), number)
    }

    /// False: the trace is not here. True: it most likely is.
    ///
    /// # Errors
    ///
    /// The filter cannot be read.
    pub fn may_contain(&self, id: TraceId) -> Result<bool, ReadError> {
        Ok(self.inner.filter()?.may_contain(hash_trace(id.as_u128())))
    }
}

impl Inner {
    pub(crate) fn head(&self, group: usize) -> &GroupHead {
        &self.footer.groups[group]
    }

    pub(crate) fn schema(&self) -> Result<&Schema, ReadError> {
        self.once(&self.schema, || {
            let schema = Schema::read(&self.bytes, self.section(Section::Schema))?;
            let bytes = schema.heap_bytes();
            Ok((schema, bytes))
        })
    }

    pub(crate) fn dictionary(&self, section: Section) -> Result<&Dictionary, ReadError> {
        self.once(&self.dictionaries[section as usize], || {
            let name = section.name().to_owned();
            let dictionary = Dictionary::open(&self.bytes, self.section(section), name)?;
            Ok((dictionary, 0))
        })
    }

    pub(crate) fn resources(&self) -> Result<&[Arc<Resource>], ReadError> {
        let resources = self.once(&self.resources, || {
            self.blobs(Section::Resources, value::read_resource)
        })?;
        Ok(resources)
    }

    pub(crate) fn scopes(&self) -> Result<&[Arc<Scope>], ReadError> {
        let scopes = self.once(&self.scopes, || {
            self.blobs(Section::Scopes, value::read_scope)
        })?;
        Ok(scopes)
    }

    pub(super) fn index(&self) -> Result<&Index, ReadError> {
        self.once(&self.index, || {
            let index = Index::read(&self.bytes, self.section(Section::Index), &self.footer)?;
            let bytes = index.heap_bytes();
            Ok((index, bytes))
        })
    }

    pub(super) fn filter(&self) -> Result<&TraceFilter<'static>, ReadError> {
        self.once(&self.filter, || {
            let name = || Section::Filter.name().to_owned();
            let payload = self.bytes.chunk(self.section(Section::Filter), name)?;
            let length = payload.len();
            match TraceFilter::read(payload.into_owned().into()) {
                Some(filter) => Ok((filter, length)),
                None => Err(ReadError::damaged(name(), "its size is wrong")),
            }
        })
    }

    pub(super) fn operations(&self) -> Result<&Arc<Vec<ServiceOperation>>, ReadError> {
        let operations = self.once(&self.operations, || {
            let name = || Section::Operations.name().to_owned();
            let payload = self.bytes.chunk(self.section(Section::Operations), name)?;
            let damaged = || ReadError::damaged(name(), "they make no sense");
            let operations = Red::read_series(&payload).ok_or_else(damaged)?;
            let texts = operations.iter().map(|it| it.service.len() + it.name.len());
            let bytes = texts.sum::<usize>() + operations.len() * size_of::<ServiceOperation>();
            Ok((Arc::new(operations), bytes))
        })?;
        Ok(operations)
    }

    pub(super) fn red(&self) -> Result<&Arc<Red>, ReadError> {
        self.once(&self.red, || {
            let name = || Section::Red.name().to_owned();
            let payload = self.bytes.chunk(self.section(Section::Red), name)?;
            let red = Red::read(self.operations()?.to_vec(), &payload);
            let red = red.ok_or_else(|| ReadError::damaged(name(), "it makes no sense"))?;
            let bytes = red.heap_bytes();
            Ok((Arc::new(red), bytes))
        })
    }

    pub(super) fn calls(&self) -> Result<&Arc<Calls>, ReadError> {
        self.once(&self.calls, || {
            let name = || Section::Calls.name().to_owned();
            let payload = self.bytes.chunk(self.section(Section::Calls), name)?;
            let calls = Calls::read(&payload);
            let calls = calls.ok_or_else(|| ReadError::damaged(name(), "it makes no sense"))?;
            let bytes = calls.heap_bytes();
            Ok((Arc::new(calls), bytes))
        })
    }

    /// What is known of a row group; nothing if it was written before zones were.
    pub(crate) fn zone(&self, group: usize) -> Result<Option<Zone>, ReadError> {
        let zones = self.once(&self.zones, || {
            let groups = self.footer.groups.len();
            let zones = self.optional(Section::Zones, |payload| Zone::read_all(payload, groups))?;
            let zones = zones.unwrap_or_default();
            let bytes = zones.capacity() * size_of::<Zone>();
            Ok((zones, bytes))
        })?;
        Ok(zones.get(group).copied())
    }

    /// Which texts the columns without a dictionary have.
    pub(crate) fn texts(&self) -> Result<&TextFilters, ReadError> {
        self.once(&self.texts, || {
            let groups = self.footer.groups.len();
            let read = |payload: &[u8]| TextFilters::read_all(payload, groups);
            let filters = self.optional(Section::Texts, read)?.unwrap_or_default();
            let bytes = filters.heap_bytes();
            Ok((filters, bytes))
        })
    }

    /// A section that older segments do not have.
    fn optional<T>(
        &self,
        section: Section,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, ReadError> {
        let chunk = self.section(section);
        if chunk.length == 0 {
            return Ok(None);
        }
        let name = || section.name().to_owned();
        let payload = self.bytes.chunk(chunk, name)?;
        match read(&payload) {
            Some(found) => Ok(Some(found)),
            None => Err(ReadError::damaged(name(), "they make no sense")),
        }
    }

    fn blobs<T>(
        &self,
        section: Section,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<(Vec<Arc<T>>, usize), ReadError> {
        let dictionary = self.dictionary(section)?;
        let mut bytes = 0;
        let mut all = Vec::with_capacity(dictionary.len() as usize);
        for code in 0..dictionary.len() {
            let blob = dictionary.get(&self.bytes, code)?;
            // The model's form takes a few times the bytes of the compact one.
            bytes += size_of::<T>() + 4 * blob.len();
            let damaged = || ReadError::damaged(section.name(), "one of them makes no sense");
            all.push(Arc::new(read(blob).ok_or_else(damaged)?));
        }
        Ok((all, bytes))
    }

    /// Reads all dictionaries.
    pub(super) fn check_dictionaries(&self) -> Result<(), ReadError> {
        for section in [
            Section::Names,
            Section::EventNames,
            Section::Messages,
            Section::TraceStates,
            Section::Resources,
            Section::Scopes,
        ] {
            self.dictionary(section)?.check(&self.bytes)?;
        }
        let columns = self
            .schema()?
            .tables
            .iter()
            .flat_map(|table| &table.columns);
        for dictionary in columns.filter_map(|column| column.dictionary.as_ref()) {
            dictionary.check(&self.bytes)?;
        }
        Ok(())
    }

    pub(super) fn section(&self, section: Section) -> crate::codec::Chunk {
        self.footer.sections[section as usize]
    }

    /// What is there already, or is made now and kept.
    fn once<'a, T>(
        &'a self,
        place: &'a OnceLock<T>,
        make: impl FnOnce() -> Result<(T, usize), ReadError>,
    ) -> Result<&'a T, ReadError> {
        if let Some(value) = place.get() {
            return Ok(value);
        }
        let (value, bytes) = make()?;
        // Two that come at once make it twice; one of them is kept.
        if place.set(value).is_ok() {
            self.bytes.note_cached(bytes);
        }
        place
            .get()
            .ok_or_else(|| ReadError::damaged("the segment", "it cannot be kept"))
    }
}
