//! The dictionaries that are no attributes.

use super::error::MergeError;
use super::united::{United, Uniting};
use crate::Segment;
use crate::encode::Writer;
use crate::layout::Section;
use crate::value::{read_resource, read_scope};

/// The strings of the new segment that are no attributes.
pub(super) struct Words {
    pub(super) names: United,
    pub(super) event_names: United,
    pub(super) messages: United,
    pub(super) trace_states: United,
    pub(super) resources: United,
    pub(super) scopes: United,
    /// The service of each resource.
    pub(super) services: Vec<String>,
    /// For each input whether its resources and scopes keep their order, and with that the order of
    /// arrival that is expected.
    pub(super) keeps_order: Vec<bool>,
}

impl Words {
    pub(super) fn unite(inputs: &[Segment]) -> Result<Self, MergeError> {
        let texts = |section| unite(inputs, section, |text| str::from_utf8(text).is_ok());
        // The expected order of arrival sorts by these: they keep theirs as far as they can.
        let resources = unite(inputs, Section::Resources, |blob| {
            read_resource(blob).is_some()
        })?;
        let resources = resources.in_order();
        let scopes = unite(inputs, Section::Scopes, |blob| read_scope(blob).is_some())?;
        let scopes = scopes.in_order();
        let service = |code| {
            let resource = read_resource(resources.get(code));
            resource.map_or_else(String::new, |it| it.service_name().to_owned())
        };
        let is_sorted = |united: &United, input| united.codes_of(input).is_sorted();
        Ok(Self {
            names: texts(Section::Names)?.sorted(),
            event_names: texts(Section::EventNames)?.sorted(),
            messages: with_empty(texts(Section::Messages)?)?,
            trace_states: with_empty(texts(Section::TraceStates)?)?,
            services: (0..resources.len() as u32).map(service).collect(),
            keeps_order: (0..inputs.len())
                .map(|input| is_sorted(&resources, input) && is_sorted(&scopes, input))
                .collect(),
            resources,
            scopes,
        })
    }

    pub(super) fn put(&self, writer: &mut Writer) {
        for (section, united) in [
            (Section::Names, &self.names),
            (Section::EventNames, &self.event_names),
            (Section::Messages, &self.messages),
            (Section::TraceStates, &self.trace_states),
            (Section::Resources, &self.resources),
            (Section::Scopes, &self.scopes),
        ] {
            let out = &mut writer.out;
            writer.sections[section as usize] = united.put(&mut out.file, &mut out.squeeze);
        }
    }
}

/// Number 0 is the empty text.
fn with_empty(mut texts: Uniting) -> Result<United, MergeError> {
    texts.push(b"").ok_or(MergeError::TooLarge)?;
    Ok(texts.sorted())
}

fn unite(
    inputs: &[Segment],
    section: Section,
    check: impl Fn(&[u8]) -> bool,
) -> Result<Uniting, MergeError> {
    let mut uniting = Uniting::new(inputs.len());
    for (number, input) in inputs.iter().enumerate() {
        let inner = &input.inner;
        let dictionary = inner.dictionary(section).map_err(MergeError::of(number))?;
        uniting.add(number, (dictionary, &inner.bytes), &check)?;
    }
    Ok(uniting)
}
