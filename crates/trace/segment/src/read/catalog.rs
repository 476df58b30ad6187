//! What a segment says about all of its spans.

use std::collections::BTreeSet;

use periplus_filter::Scope;
use periplus_model::Attribute;

use super::segment::Segment;
use crate::codec::dictionary::Dictionary;
use crate::layout::Section;
use crate::schema::{Place, Type};
use crate::{AttributeKey, Calls, ReadError, Red, ServiceOperation};

impl Segment {
    /// The operations of its spans, sorted by service, name and kind. Spans without a service have
    /// an empty one.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn operations(&self) -> Result<&[ServiceOperation], ReadError> {
        self.inner.operations()
    }

    /// The rates, errors and durations of its spans.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn red(&self) -> Result<Red, ReadError> {
        let name = || Section::Red.name().to_owned();
        let chunk = self.inner.section(Section::Red);
        let payload = self.inner.bytes.chunk(chunk, name)?;
        let series = self.inner.operations()?.to_vec();
        let red = Red::read(series, &payload);
        red.ok_or_else(|| ReadError::damaged(name(), "it makes no sense"))
    }

    /// The calls between services that its traces tell of.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn calls(&self) -> Result<Calls, ReadError> {
        let name = || Section::Calls.name().to_owned();
        let chunk = self.inner.section(Section::Calls);
        let payload = self.inner.bytes.chunk(chunk, name)?;
        Calls::read(&payload).ok_or_else(|| ReadError::damaged(name(), "it makes no sense"))
    }

    /// The keys of the attributes that are searched in this scope, each with the types of its
    /// values, sorted. Keys that only the residual column has are not among them.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn attribute_keys(&self, scope: Scope) -> Result<Vec<AttributeKey>, ReadError> {
        let mut keys = BTreeSet::new();
        let schema = self.inner.schema()?;
        for place in Place::ALL.into_iter().filter(|place| place.is_in(scope)) {
            for column in &schema.table(place).columns {
                keys.extend(AttributeKey::of(&column.key, column.ty));
            }
        }
        if matches!(scope, Scope::Any | Scope::Resource) {
            for resource in self.inner.resources()? {
                keys.extend(resource.attributes.iter().map(AttributeKey::of_attribute));
            }
        }
        if matches!(scope, Scope::Any | Scope::Instrumentation) {
            for scope in self.inner.scopes()? {
                keys.extend(scope.attributes.iter().map(AttributeKey::of_attribute));
            }
        }
        Ok(keys.into_iter().collect())
    }

    /// Texts that an attribute has and that begin with this prefix, sorted, `limit` of each column
    /// at most: from dictionaries, so that values of which most are unique are not among them.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn attribute_values(
        &self,
        scope: Scope,
        key: &str,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<String>, ReadError> {
        let mut values = BTreeSet::new();
        let schema = self.inner.schema()?;
        for place in Place::ALL.into_iter().filter(|place| place.is_in(scope)) {
            let columns = schema.table(place).columns.iter();
            for column in columns.filter(|column| column.key == key && column.ty == Type::Text) {
                if let Some(dictionary) = &column.dictionary {
                    self.with_prefix(dictionary, prefix, limit, &mut values)?;
                }
            }
        }
        let mut add = |attributes: &[Attribute]| {
            let named = attributes.iter().filter(|attribute| attribute.key == key);
            let texts = named.filter_map(|attribute| attribute.value.as_str());
            values.extend(
                texts
                    .filter(|text| text.starts_with(prefix))
                    .map(str::to_owned),
            );
        };
        if matches!(scope, Scope::Any | Scope::Resource) {
            let resources = self.inner.resources()?.iter();
            resources.for_each(|resource| add(&resource.attributes));
        }
        if matches!(scope, Scope::Any | Scope::Instrumentation) {
            let scopes = self.inner.scopes()?.iter();
            scopes.for_each(|scope| add(&scope.attributes));
        }
        Ok(values.into_iter().collect())
    }

    fn with_prefix(
        &self,
        dictionary: &Dictionary,
        prefix: &str,
        limit: usize,
        to: &mut BTreeSet<String>,
    ) -> Result<(), ReadError> {
        let bytes = &self.inner.bytes;
        let (first, _) = dictionary.find(bytes, prefix.as_bytes())?;
        for code in (first..dictionary.len()).take(limit) {
            let text = dictionary.text(bytes, code)?;
            if !text.starts_with(prefix) {
                break;
            }
            to.insert(text.to_owned());
        }
        Ok(())
    }

    /// Reads every byte, and says what is damaged.
    pub fn verify(&self) -> Vec<ReadError> {
        let inner = &self.inner;
        let mut damages = Vec::new();
        for section in Section::ALL {
            let name = || section.name().to_owned();
            damages.extend(inner.bytes.chunk(inner.section(*section), name).err());
        }
        damages.extend(self.red().err());
        damages.extend(self.calls().err());
        damages.extend(inner.index().err());
        damages.extend(inner.check_dictionaries().err());
        for number in 0..self.group_count() {
            let group = self.group(number);
            damages.extend(group.check().err());
        }
        damages
    }
}
