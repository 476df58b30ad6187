//! Several segments become one.

use std::collections::HashSet;
use std::sync::Arc;

use periplus_model::{SpanGroup, TraceId};
use periplus_segment::{
    BuildError, Builder, EncodeOptions, MergeError, ReadError, Segment as Reader,
};
use thiserror::Error;

use super::part::Damage;
use super::segment::{Encoded, Segment};

/// The most heap for the spans of segments that are built anew.
const MAX_HEAP_BYTES: usize = 128 << 20;

/// The most row groups that a trace may lie in to be built anew: all of them are decoded at once.
const MAX_PIECES: usize = 16;

/// Why segments are not merged.
#[derive(Debug, Error)]
pub(super) enum Unmerged {
    #[error("segment {0} cannot be read: {1}")]
    Unread(u64, String),
    #[error("together they take too much memory")]
    TooLarge,
    #[error("the store is being closed")]
    Stopped,
}

/// Puts the spans of segments of one hour, given in the order in which their spans came, into one.
/// The spans of each trace stay in that order. Asks now and then whether to stop.
pub(super) fn merge(
    hour: u64,
    segments: &[Arc<Segment>],
    stop: &dyn Fn() -> bool,
) -> Result<Encoded, Unmerged> {
    let readers: Vec<Reader> = segments.iter().map(|segment| segment.reader()).collect();
    let merged = periplus_segment::merge(&readers, &EncodeOptions::default(), stop);
    let bytes = match merged {
        Ok(bytes) => bytes,
        Err(MergeError::TooManyKeys) => build_anew(segments, stop)?,
        Err(MergeError::Read { input, source }) => return Err(unread(&segments[input], source)),
        Err(MergeError::Stopped) => return Err(Unmerged::Stopped),
        Err(_) => return Err(Unmerged::TooLarge),
    };
    Ok(Encoded {
        hour,
        bytes: bytes.into(),
    })
}

/// The same, span by span: where some attributes must move to the residual column.
fn build_anew(segments: &[Arc<Segment>], stop: &dyn Fn() -> bool) -> Result<Vec<u8>, Unmerged> {
    let mut builder = Builder::new();
    for segment in segments {
        if stop() {
            return Err(Unmerged::Stopped);
        }
        append(&mut builder, segment)?;
    }
    Ok(builder.encode(&EncodeOptions::default()))
}

fn append(builder: &mut Builder, segment: &Segment) -> Result<(), Unmerged> {
    let reader = segment.reader();
    let mut before = None;
    for number in 0..reader.group_count() {
        let read = first_trace(&reader, number + 1)
            .and_then(|next| whole_traces(&reader, number, before, next));
        let (traces, last) = read.map_err(|error| unread(segment, error))?;
        let traces = traces.ok_or(Unmerged::TooLarge)?;
        let appended = builder.append_groups(traces.iter().flatten());
        match appended {
            Ok(()) if builder.heap_bytes() <= MAX_HEAP_BYTES => {}
            Ok(()) | Err(BuildError::Full) => return Err(Unmerged::TooLarge),
            Err(error) => return Err(Unmerged::Unread(segment.entry().id, error.to_string())),
        }
        before = last.or(before);
    }
    Ok(())
}

/// The spans of some traces.
type Traces = Vec<Vec<SpanGroup>>;

/// The traces of a row group, without the one that was there before, and with all of the last one if
/// it goes on in the next, unless that is too large; and the id of the last one.
fn whole_traces(
    reader: &Reader,
    number: usize,
    before: Option<TraceId>,
    next: Option<TraceId>,
) -> Result<(Option<Traces>, Option<TraceId>), ReadError> {
    let whole = |id: TraceId| match reader.find(id)?.len() {
        pieces if pieces > MAX_PIECES => Ok(None),
        _ => Ok(Some(reader.trace(id)?.unwrap_or_default())),
    };
    let group = reader.group(number);
    let ids: Vec<TraceId> = group.traces()?.map(|(id, _)| id).collect();
    let (first, last) = (ids.first().copied(), ids.last().copied());
    let goes_on = last.is_some() && last == next;
    let is_rest = first.is_some() && first == before;
    if ids.len() == 1 && (goes_on || is_rest) {
        let trace = match (is_rest, first) {
            (false, Some(id)) => whole(id)?,
            _ => Some(Vec::new()),
        };
        return Ok((trace.map(|trace| vec![trace]), last));
    }
    let mut traces = group.all()?;
    if let (true, Some(id), Some(trace)) = (goes_on, last, traces.last_mut()) {
        match whole(id)? {
            Some(all) => *trace = all,
            None => return Ok((None, last)),
        }
    }
    if is_rest && !traces.is_empty() {
        traces.remove(0);
    }
    Ok((Some(traces), last))
}

fn first_trace(reader: &Reader, number: usize) -> Result<Option<TraceId>, ReadError> {
    if number >= reader.group_count() {
        return Ok(None);
    }
    let group = reader.group(number);
    let mut traces = group.traces()?;
    Ok(traces.next().map(|(id, _)| id))
}

fn unread(segment: &Segment, error: ReadError) -> Unmerged {
    let damage = Damage::from(error);
    segment.damaged(&damage);
    Unmerged::Unread(segment.entry().id, damage.reason)
}

/// Whether some trace lies both in these segments and in another one whose spans came between
/// theirs: then no order of segments would give the order in which its spans came.
pub(super) fn would_mix(group: &[Arc<Segment>], all: &[Arc<Segment>]) -> Result<bool, Unmerged> {
    let covers = covers(group);
    let ids: HashSet<u64> = group.iter().map(|segment| segment.entry().id).collect();
    let between: Vec<Reader> = (all.iter())
        .filter(|other| {
            let (first, last) = other.entry().covers();
            !ids.contains(&other.entry().id) && first <= covers.1 && last >= covers.0
        })
        .map(|other| other.reader())
        .collect();
    if between.is_empty() {
        return Ok(false);
    }
    let mut seen = HashSet::new();
    for segment in group {
        let reader = segment.reader();
        for number in 0..reader.group_count() {
            let row_group = reader.group(number);
            let traces = row_group.traces().map_err(|error| unread(segment, error))?;
            for (id, _) in traces.filter(|(id, _)| seen.insert(*id)) {
                for other in &between {
                    let mixes = match other.find(id) {
                        Ok(places) => !places.is_empty(),
                        // What is damaged there nobody can read.
                        Err(error) => !Damage::from(error).lasting,
                    };
                    if mixes {
                        return Ok(true);
                    }
                }
            }
        }
    }
    Ok(false)
}

/// When the spans of all of these came; see [`super::SegmentEntry::covers`].
pub(super) fn covers(group: &[Arc<Segment>]) -> (u64, u64) {
    let covers = group.iter().map(|segment| segment.entry().covers());
    covers.fold((u64::MAX, 0), |all, one| {
        (all.0.min(one.0), all.1.max(one.1))
    })
}
