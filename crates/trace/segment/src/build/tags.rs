//! The keys of attributes and their values, a few rows at a time.

use std::collections::HashSet;
use std::ops::Range;

use periplus_filter::{Scalar, Scope};
use periplus_model::Attribute;

use super::{Builder, Strings, Values};
use crate::schema::{Place, Type};
use crate::search::Window;

impl Builder {
    /// The keys of the attributes in this scope that these rows may have; some more than once.
    pub fn attribute_keys(&self, scope: Scope, rows: Range<usize>, mut see: impl FnMut(&str)) {
        let window = Window::of(self, rows);
        for place in Place::ALL.into_iter().filter(|place| place.is_in(scope)) {
            let table = self.table(place);
            for (number, column) in table.columns.iter().enumerate() {
                if column.ty == Type::Residual {
                    for slot in window.slots(place, number) {
                        let list = column.list(slot as u32);
                        list.iter().for_each(|attribute| see(&attribute.key));
                    }
                } else {
                    see(table.keys.text(column.key));
                }
            }
        }
        self.shared_attributes(scope, &window, |attribute| see(&attribute.key));
    }

    /// The values that an attribute has in these rows; some more than once.
    pub fn attribute_values(
        &self,
        (scope, key): (Scope, &str),
        rows: Range<usize>,
        mut see: impl FnMut(Scalar<'_>),
    ) {
        let window = Window::of(self, rows);
        let mut see_named = |attribute: &Attribute| {
            if attribute.key == key {
                Scalar::of(&attribute.value).into_iter().for_each(&mut see);
            }
        };
        self.shared_attributes(scope, &window, &mut see_named);
        for place in Place::ALL.into_iter().filter(|place| place.is_in(scope)) {
            let table = self.table(place);
            for (number, column) in table.columns.iter().enumerate() {
                if column.ty == Type::Residual {
                    for slot in window.slots(place, number) {
                        column.list(slot as u32).iter().for_each(&mut see_named);
                    }
                    continue;
                }
                if table.keys.text(column.key) != key {
                    continue;
                }
                let slots = window.slots(place, number);
                let text = |bytes| str::from_utf8(bytes).unwrap_or_default();
                match (&column.values, column.ty) {
                    (Values::Bytes(Strings::Dictionary { words, codes }), Type::Text) => {
                        let mut seen = HashSet::new();
                        for code in codes[slots].iter().filter(|code| seen.insert(**code)) {
                            see_named(&Attribute::new(key, words.text(*code)));
                        }
                    }
                    (Values::Bytes(strings), Type::Text) => {
                        for slot in slots {
                            see_named(&Attribute::new(key, text(strings.get(slot as u32))));
                        }
                    }
                    (Values::Bools(_) | Values::Words(_), _) => {
                        for slot in slots {
                            see_named(&Attribute::new(key, column.value(slot as u32)));
                        }
                    }
                    (_, _) => {}
                }
            }
        }
    }

    fn shared_attributes(
        &self,
        scope: Scope,
        window: &Window<'_>,
        mut see: impl FnMut(&Attribute),
    ) {
        let rows = window.range(Place::Span);
        let distinct = |codes: &[u32]| {
            let mut seen = HashSet::new();
            let codes = codes[rows.clone()].iter().map(|code| *code as usize);
            codes.filter(|code| seen.insert(*code)).collect::<Vec<_>>()
        };
        if matches!(scope, Scope::Any | Scope::Resource) {
            for resource in distinct(&self.spans.resource) {
                let attributes = &self.resources.decoded[resource].attributes;
                attributes.iter().for_each(&mut see);
            }
        }
        if matches!(scope, Scope::Any | Scope::Instrumentation) {
            for scope in distinct(&self.spans.scope) {
                let attributes = &self.scopes.decoded[scope].attributes;
                attributes.iter().for_each(&mut see);
            }
        }
    }
}
