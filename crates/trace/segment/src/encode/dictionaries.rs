use super::codes::{Codes, Used};
use crate::build::{Builder, Interner};
use crate::layout::Section;

/// The strings of a segment that are no attributes.
pub(super) struct Dictionaries {
    pub(super) names: Codes,
    pub(super) event_names: Codes,
    pub(super) messages: Codes,
    pub(super) trace_states: Codes,
    pub(super) resources: Codes,
    pub(super) scopes: Codes,
}

impl Dictionaries {
    /// Of these spans, events and links; of all, if they are not given.
    pub(super) fn new(
        builder: &Builder,
        rows: Option<&[u32]>,
        events: Option<&[u32]>,
        links: Option<&[u32]>,
    ) -> Self {
        let spans = &builder.spans;
        let mut messages = Used::none(&builder.messages);
        let mut states = used(&builder.trace_states, &builder.links.trace_state, links);
        // The empty text, which all others have.
        messages.mark(0);
        states.mark(0);
        // Few spans have these: those of other segments may well be counted in.
        for (_, message) in &spans.message.0 {
            messages.mark(*message);
        }
        for (_, state) in &spans.trace_state.0 {
            states.mark(*state);
        }
        let names = used(&builder.names, &spans.name, rows);
        let event_names = used(&builder.events.names, &builder.events.name, events);
        let resources = used(&builder.resources.bytes, &spans.resource, rows);
        let scopes = used(&builder.scopes.bytes, &spans.scope, rows);
        Self {
            names: Codes::sorted(&builder.names, &names),
            event_names: Codes::sorted(&builder.events.names, &event_names),
            messages: Codes::sorted(&builder.messages, &messages),
            trace_states: Codes::sorted(&builder.trace_states, &states),
            // The expected order of arrival sorts by them: they keep theirs.
            resources: Codes::in_order(&builder.resources.bytes, &resources),
            scopes: Codes::in_order(&builder.scopes.bytes, &scopes),
        }
    }

    /// Each with its section and its strings.
    pub(super) fn sections<'a>(
        &'a self,
        builder: &'a Builder,
    ) -> [(Section, &'a Codes, &'a Interner); 6] {
        [
            (Section::Names, &self.names, &builder.names),
            (
                Section::EventNames,
                &self.event_names,
                &builder.events.names,
            ),
            (Section::Messages, &self.messages, &builder.messages),
            (
                Section::TraceStates,
                &self.trace_states,
                &builder.trace_states,
            ),
            (
                Section::Resources,
                &self.resources,
                &builder.resources.bytes,
            ),
            (Section::Scopes, &self.scopes, &builder.scopes.bytes),
        ]
    }
}

fn used(strings: &Interner, codes: &[u32], rows: Option<&[u32]>) -> Used {
    let mut used = Used::none(strings);
    match rows {
        Some(rows) => rows.iter().for_each(|row| used.mark(codes[*row as usize])),
        None => codes.iter().for_each(|code| used.mark(*code)),
    }
    used
}
