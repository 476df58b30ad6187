use periplus_model::{Attribute, Value};

use super::DecodeError;

/// The most attributes of one span, event, link, resource or scope, and the most entries of a map.
pub const MAX_ATTRIBUTES: usize = 1024;
/// The most events of one span.
pub const MAX_EVENTS: usize = 16 * 1024;
/// The most links of one span.
pub const MAX_LINKS: usize = 4 * 1024;
/// The most arrays and maps around a value.
pub const MAX_DEPTH: usize = 32;
/// The most values within the arrays and maps of one attribute.
pub const MAX_VALUES: usize = 16 * 1024;

/// Adds to a list until it is full; then counts what is dropped.
pub(crate) fn push_bounded<T>(list: &mut Vec<T>, max: usize, dropped: &mut u32, item: T) {
    if list.len() < max {
        list.push(item);
    } else {
        *dropped = dropped.saturating_add(1);
    }
}

/// What one attribute's value may still hold.
#[derive(Clone, Copy)]
pub(super) struct Room {
    depth: usize,
    values: usize,
}

impl Room {
    pub(super) const WHOLE: Self = Self {
        depth: MAX_DEPTH,
        values: MAX_VALUES,
    };

    /// Takes one array or map; [`Self::leave`] gives it back.
    pub(super) fn enter(&mut self) -> Result<(), DecodeError> {
        self.depth = self.depth.checked_sub(1).ok_or(DecodeError::TooDeep)?;
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.depth += 1;
    }

    /// Takes one value within an array or map.
    pub(super) fn take(&mut self) -> Result<(), DecodeError> {
        self.values = self
            .values
            .checked_sub(1)
            .ok_or(DecodeError::TooManyValues)?;
        Ok(())
    }
}

/// Checks attributes that were read without [`Room`].
pub(super) fn check(attributes: &[Attribute]) -> Result<(), DecodeError> {
    attributes
        .iter()
        .try_for_each(|attribute| check_value(&attribute.value, &mut { Room::WHOLE }))
}

/// Whether attributes that came in another format keep to the limits.
pub(crate) fn within_limits(attributes: &[Attribute]) -> bool {
    attributes.len() <= MAX_ATTRIBUTES && check(attributes).is_ok()
}

fn check_value(value: &Value, room: &mut Room) -> Result<(), DecodeError> {
    let each = |value: &Value, room: &mut Room| {
        room.take()?;
        check_value(value, room)
    };
    match value {
        Value::Array(values) => {
            room.enter()?;
            values.iter().try_for_each(|value| each(value, room))?;
        }
        Value::Map(entries) => {
            room.enter()?;
            entries
                .iter()
                .try_for_each(|entry| each(&entry.value, room))?;
        }
        _ => return Ok(()),
    }
    room.leave();
    Ok(())
}
