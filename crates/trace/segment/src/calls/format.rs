use std::collections::BTreeMap;

use periplus_model::TraceId;

use super::{CallEdge, Calls, MINUTE_NANO};
use crate::bytes::{Cursor, put_varint};
use crate::codec::Squeeze;
use crate::codec::strings::Strings;
use crate::codec::words::{put_words, read_words};

impl Calls {
    /// Appends it.
    pub(crate) fn put(&self, out: &mut Vec<u8>, squeeze: &mut Squeeze) {
        let edges = &self.edges;
        let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
        let mut names = Strings::default();
        for name in edges.iter().flat_map(|edge| [&edge.parent, &edge.child]) {
            if !numbers.contains_key(&**name) {
                numbers.insert(name, names.len() as u32);
                names.push(name.as_bytes());
            }
        }
        put_varint(out, names.len() as u64);
        names.put(out, squeeze);
        put_varint(out, edges.len() as u64);
        let number = |name: &String| numbers.get(&**name).copied().unwrap_or_default();
        let minutes: Vec<u64> = (edges.iter())
            .map(|edge| edge.start_unix_nano / MINUTE_NANO)
            .collect();
        let parents: Vec<u32> = edges.iter().map(|edge| number(&edge.parent)).collect();
        let children: Vec<u32> = edges.iter().map(|edge| number(&edge.child)).collect();
        put_words(out, squeeze, &minutes);
        put_words(out, squeeze, &parents);
        put_words(out, squeeze, &children);
        let calls: Vec<u64> = edges.iter().map(|edge| edge.calls).collect();
        let errors: Vec<u64> = edges.iter().map(|edge| edge.errors).collect();
        put_words(out, squeeze, &calls);
        put_words(out, squeeze, &errors);
        put_varint(out, self.unsettled.len() as u64);
        for id in &self.unsettled {
            out.extend_from_slice(&id.to_bytes());
        }
    }

    /// Reads what [`Self::put`] writes.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(payload);
        let count = cursor.u32()? as usize;
        let names = Strings::read(&mut cursor, count)?;
        let name = |number: u32| {
            let bytes = names.get(number as usize)?;
            Some(str::from_utf8(bytes).ok()?.to_owned())
        };
        let count = cursor.u32()? as usize;
        let minutes = read_words::<u64>(&mut cursor, count)?;
        let parents = read_words::<u32>(&mut cursor, count)?;
        let children = read_words::<u32>(&mut cursor, count)?;
        let calls = read_words::<u64>(&mut cursor, count)?;
        let errors = read_words::<u64>(&mut cursor, count)?;
        let edges = (0..count).map(|at| {
            Some(CallEdge {
                start_unix_nano: minutes[at].checked_mul(MINUTE_NANO)?,
                parent: name(parents[at])?,
                child: name(children[at])?,
                calls: calls[at],
                errors: errors[at],
            })
        });
        let edges = edges.collect::<Option<_>>()?;
        let count = cursor.count()?;
        let ids = (0..count).map(|_| Some(TraceId::from_bytes(cursor.array()?)));
        let unsettled = ids.collect::<Option<_>>()?;
        cursor.is_empty().then_some(Self { edges, unsettled })
    }
}
