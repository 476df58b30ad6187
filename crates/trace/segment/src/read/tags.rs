//! The keys of attributes and their values: from schemas and dictionaries as far as these have them.

use periplus_filter::{Scalar, Scope};
use periplus_model::Attribute;

use super::group::{Column, Group};
use super::segment::Segment;
use crate::encode::flip_of;
use crate::schema::{Place, Type};
use crate::value::read_attributes;
use crate::{AttributeKey, ReadError};

impl Segment {
    /// The keys of the attributes that are searched in this scope, each with the types of its
    /// values; some more than once. Keys that only the residual column has are not among them:
    /// [`Group::residual_keys`].
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn attribute_keys(
        &self,
        scope: Scope,
        mut see: impl FnMut(AttributeKey),
    ) -> Result<(), ReadError> {
        let schema = self.inner.schema()?;
        for place in Place::ALL.into_iter().filter(|place| place.is_in(scope)) {
            for column in &schema.table(place).columns {
                AttributeKey::of(&column.key, column.ty)
                    .into_iter()
                    .for_each(&mut see);
            }
        }
        self.shared_attributes(scope, |attribute| {
            see(AttributeKey::of_attribute(attribute));
        })
    }

    /// Values that an attribute has in dictionaries, resources and scopes. Of each dictionary only
    /// the first `limit` that begin with the prefix; others need not begin with it. Some are told
    /// more than once. [`Group::attribute_values`] has those of the other columns.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn attribute_values(
        &self,
        (scope, key): (Scope, &str),
        prefix: &str,
        limit: usize,
        mut see: impl FnMut(Scalar<'_>),
    ) -> Result<(), ReadError> {
        let bytes = &self.inner.bytes;
        let schema = self.inner.schema()?;
        for place in Place::ALL.into_iter().filter(|place| place.is_in(scope)) {
            let columns = schema.table(place).columns.iter();
            let columns = columns.filter(|column| column.key == key && column.ty == Type::Text);
            for dictionary in columns.filter_map(|column| column.dictionary.as_ref()) {
                let (first, _) = dictionary.find(bytes, prefix.as_bytes())?;
                for code in (first..dictionary.len()).take(limit) {
                    let text = dictionary.text(bytes, code)?;
                    if !text.starts_with(prefix) {
                        break;
                    }
                    see(Scalar::Text(text));
                }
            }
        }
        self.shared_attributes(scope, |attribute| {
            if attribute.key == key {
                Scalar::of(&attribute.value).into_iter().for_each(&mut see);
            }
        })
    }

    /// Whether some columns of an attribute have no dictionary: then row groups have its values.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn has_plain_values(&self, scope: Scope, key: &str) -> Result<bool, ReadError> {
        let schema = self.inner.schema()?;
        let mut places = Place::ALL.into_iter().filter(|place| place.is_in(scope));
        Ok(places.any(|place| {
            let mut columns = schema.table(place).columns.iter();
            columns.any(|column| is_plain(column.ty, column.dictionary.is_some(), &column.key, key))
        }))
    }

    /// Whether it has attributes without columns of their own.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn has_residual(&self, scope: Scope) -> Result<bool, ReadError> {
        let schema = self.inner.schema()?;
        let mut places = Place::ALL.into_iter().filter(|place| place.is_in(scope));
        Ok(places.any(|place| {
            let mut columns = schema.table(place).columns.iter();
            columns.any(|column| column.ty == Type::Residual)
        }))
    }

    fn shared_attributes(
        &self,
        scope: Scope,
        mut see: impl FnMut(&Attribute),
    ) -> Result<(), ReadError> {
        if matches!(scope, Scope::Any | Scope::Resource) {
            for resource in self.inner.resources()? {
                resource.attributes.iter().for_each(&mut see);
            }
        }
        if matches!(scope, Scope::Any | Scope::Instrumentation) {
            for scope in self.inner.scopes()? {
                scope.attributes.iter().for_each(&mut see);
            }
        }
        Ok(())
    }
}

fn is_plain(ty: Type, has_dictionary: bool, key: &str, wanted: &str) -> bool {
    match ty {
        Type::Residual => true,
        Type::Text => !has_dictionary && key == wanted,
        Type::Bool | Type::Int | Type::Double => key == wanted,
        Type::Empty | Type::Bytes | Type::Nested => false,
    }
}

impl Group {
    /// Values that an attribute has in columns without a dictionary; some more than once.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn attribute_values(
        &self,
        (scope, key): (Scope, &str),
        mut see: impl FnMut(Scalar<'_>),
    ) -> Result<(), ReadError> {
        let schema = self.inner().schema()?;
        for place in Place::ALL.into_iter().filter(|place| place.is_in(scope)) {
            for (number, column) in schema.table(place).columns.iter().enumerate() {
                if !is_plain(column.ty, column.dictionary.is_some(), &column.key, key) {
                    continue;
                }
                match (column.ty, self.attribute(place, number)?) {
                    (Type::Residual, values) => {
                        self.each_list(place, number, values, |attribute| {
                            if attribute.key == key {
                                Scalar::of(&attribute.value).into_iter().for_each(&mut see);
                            }
                        })?;
                    }
                    (Type::Bool, Column::Codes(codes)) => {
                        for value in [0, 1] {
                            if codes.contains(&value) {
                                see(Scalar::Bool(value != 0));
                            }
                        }
                    }
                    (ty, Column::Numbers(numbers)) => {
                        let mut numbers = numbers.clone();
                        numbers.sort_unstable();
                        numbers.dedup();
                        for bits in numbers {
                            see(match ty {
                                Type::Int => Scalar::Int((bits ^ flip_of(ty)) as i64),
                                _ => Scalar::Double(f64::from_bits(bits)),
                            });
                        }
                    }
                    (Type::Text, Column::Strings(strings)) => {
                        let texts = (0..strings.len()).filter_map(|at| strings.get(at));
                        for text in texts.filter_map(|bytes| str::from_utf8(bytes).ok()) {
                            see(Scalar::Text(text));
                        }
                    }
                    (_, _) => {}
                }
            }
        }
        Ok(())
    }

    /// The keys of attributes that have no columns of their own; some more than once.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn residual_keys(&self, scope: Scope, mut see: impl FnMut(&str)) -> Result<(), ReadError> {
        let schema = self.inner().schema()?;
        for place in Place::ALL.into_iter().filter(|place| place.is_in(scope)) {
            for (number, column) in schema.table(place).columns.iter().enumerate() {
                if column.ty == Type::Residual {
                    let values = self.attribute(place, number)?;
                    self.each_list(place, number, values, |attribute| see(&attribute.key))?;
                }
            }
        }
        Ok(())
    }

    fn each_list(
        &self,
        place: Place,
        column: usize,
        values: &Column,
        mut see: impl FnMut(&Attribute),
    ) -> Result<(), ReadError> {
        let mut list = |at: usize| {
            let list = read_attributes(self.string(place, column, at)?);
            let list = list.ok_or_else(|| {
                ReadError::damaged(
                    self.attribute_name(place, column),
                    "one of them makes no sense",
                )
            })?;
            list.iter().for_each(&mut see);
            Ok::<_, ReadError>(())
        };
        match values {
            Column::Codes(codes) => {
                // By the place of each code's first use: a list that many have is read once.
                let mut seen = std::collections::HashSet::new();
                let mut first = (0..codes.len()).filter(|at| seen.insert(codes[*at]));
                first.try_for_each(&mut list)
            }
            Column::Strings(strings) => (0..strings.len()).try_for_each(list),
            _ => Ok(()),
        }
    }
}
