//! The attributes of a table, one row after the other.

use periplus_filter::Detail;
use periplus_model::{Attribute, Value};

use super::group::{Column, Group, at_or_zero};
use crate::ReadError;
use crate::encode::flip_of;
use crate::schema::{Place, Type};
use crate::value::{read_attributes, read_value};

/// Reads the attributes of rows in their order.
pub(crate) struct Rows<'g> {
    group: &'g Group,
    place: Place,
    /// The row that is read next.
    pub(crate) row: usize,
    /// For each column the place of the value that is read next.
    next: Vec<u32>,
}

impl<'g> Rows<'g> {
    /// From this row on.
    pub(super) fn from(group: &'g Group, place: Place, row: usize) -> Result<Self, ReadError> {
        Ok(Self {
            group,
            place,
            row,
            next: group.values_before(place, row)?,
        })
    }

    /// From a row on, of which the values lie there in each column.
    pub(crate) fn at(group: &'g Group, place: Place, row: usize, next: Vec<u32>) -> Self {
        Self {
            group,
            place,
            row,
            next,
        }
    }

    /// The columns of the next row's attributes.
    fn shape(&mut self) -> Result<&'g [u32], ReadError> {
        let table = self.group.inner().schema()?.table(self.place);
        let shape = at_or_zero(self.group.shapes(self.place)?, self.row) as usize;
        self.row += 1;
        table
            .shapes
            .get(shape)
            .map(|shape| &**shape)
            .ok_or_else(|| {
                let column = super::group::shape_column(self.place);
                self.group.damaged(column, "they are unknown")
            })
    }

    /// Goes on behind the next row.
    pub(super) fn skip(&mut self) -> Result<(), ReadError> {
        for &column in self.shape()? {
            self.next[column as usize] += 1;
        }
        Ok(())
    }

    /// The attributes of the next row that are wanted.
    pub(crate) fn read(&mut self, detail: Detail) -> Result<Vec<Attribute>, ReadError> {
        let table = self.group.inner().schema()?.table(self.place);
        let shape = self.shape()?;
        let mut attributes = match detail {
            Detail::Full => Vec::with_capacity(shape.len()),
            Detail::Outline(_) => Vec::new(),
        };
        let wanted = |key: &str| match detail {
            Detail::Full => true,
            Detail::Outline(keys) => keys.contains(&key),
        };
        for &column in shape {
            let column = column as usize;
            let slot = self.next[column] as usize;
            self.next[column] += 1;
            if table.columns[column].ty == Type::Residual {
                let residual = self.residual(column, slot)?.into_iter();
                attributes.extend(residual.filter(|attribute| wanted(&attribute.key)));
                continue;
            }
            if !wanted(&table.columns[column].key) {
                continue;
            }
            attributes.push(Attribute {
                key: table.columns[column].key.clone(),
                value: self.value(column, slot)?,
            });
        }
        Ok(attributes)
    }

    fn value(&self, column: usize, slot: usize) -> Result<Value, ReadError> {
        let table = self.group.inner().schema()?.table(self.place);
        let ty = table.columns[column].ty;
        let values = self.group.attribute(self.place, column)?;
        let value = match (ty, values) {
            (Type::Empty, _) => Some(Value::Empty),
            (Type::Bool, Column::Codes(codes)) => {
                codes.get(slot).map(|code| Value::Bool(*code != 0))
            }
            (Type::Int, Column::Numbers(numbers)) => {
                (numbers.get(slot)).map(|number| Value::Int((number ^ flip_of(Type::Int)) as i64))
            }
            (Type::Double, Column::Numbers(numbers)) => {
                (numbers.get(slot)).map(|number| Value::Double(f64::from_bits(*number)))
            }
            (Type::Text, _) => {
                let bytes = self.bytes(column, slot)?;
                let text = str::from_utf8(bytes).ok();
                text.map(|text| Value::String(text.to_owned()))
            }
            (Type::Bytes, _) => Some(Value::Bytes(self.bytes(column, slot)?.to_vec())),
            (Type::Nested, _) => read_value(self.bytes(column, slot)?),
            (_, _) => None,
        };
        value.ok_or_else(|| self.damaged(column, "one of them makes no sense"))
    }

    fn residual(&self, column: usize, slot: usize) -> Result<Vec<Attribute>, ReadError> {
        read_attributes(self.bytes(column, slot)?)
            .ok_or_else(|| self.damaged(column, "one of them makes no sense"))
    }

    fn bytes(&self, column: usize, slot: usize) -> Result<&'g [u8], ReadError> {
        self.group.string(self.place, column, slot)
    }

    fn damaged(&self, column: usize, reason: &'static str) -> ReadError {
        ReadError::damaged(self.group.attribute_name(self.place, column), reason)
    }
}

impl Group {
    /// A value of a column of byte strings.
    pub(crate) fn string(
        &self,
        place: Place,
        column: usize,
        slot: usize,
    ) -> Result<&[u8], ReadError> {
        let schema = &self.inner().schema()?.table(place).columns[column];
        let found = match (self.attribute(place, column)?, &schema.dictionary) {
            (Column::Codes(codes), Some(dictionary)) => match codes.get(slot) {
                Some(code) => Some(dictionary.get(&self.inner().bytes, *code)?),
                None => None,
            },
            (Column::Strings(strings), _) => strings.get(slot),
            (_, _) => None,
        };
        found.ok_or_else(|| {
            ReadError::damaged(self.attribute_name(place, column), "one of them is missing")
        })
    }
}
