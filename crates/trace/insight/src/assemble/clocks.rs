//! Where each span lies in time.

use std::collections::HashMap;

use periplus_model::{Resource, Span, SpanKind, Value};

use super::parents::Parents;
use super::{Children, Spans};
use crate::text::short_duration;

/// Up to here it cannot be told whether a clock is wrong: formats count in microseconds, a thread
/// may be scheduled late before it reads the clock, and synchronised hosts differ by as much. A
/// child that sticks out of its parent by no more is pushed inside without a word.
const NOISE_NANO: u64 = 1_000_000;

/// A span without a start and with an end below this has a duration and no timestamp: Zipkin allows
/// that.
const LONGEST_TIMELESS_NANO: u64 = 24 * 3_600 * 1_000_000_000;

/// A span's place in time.
pub(super) struct Placed {
    pub(super) start: u64,
    pub(super) duration: u64,
    /// What was added to the start to undo the difference of two clocks.
    pub(super) skew: i64,
    pub(super) clock: Clock,
}

/// What is known about a span's clock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// Taken as it is, or moved by no more than noise.
    Trusted,
    /// The first span of its host below another host's; it was moved.
    Moved,
    /// Moved as its parent was, being of the same host.
    MovedWithParent,
    /// It differs by more than can be undone.
    Hopeless,
    /// It did not say when it started.
    Absent,
}

impl Placed {
    /// Adds a sentence for everything that is wrong with the span's times.
    pub(super) fn warn(&self, span: &Span, warnings: &mut Vec<String>) {
        match self.clock {
            Clock::Moved => warnings.push(format!(
                "clock skew: moved by {}{} into its parent",
                if self.skew < 0 { "-" } else { "" },
                short_duration(self.skew.unsigned_abs())
            )),
            Clock::Hopeless => warnings.push(
                "its clock and that of its parent are centuries apart; shown where it says"
                    .to_owned(),
            ),
            Clock::Absent => warnings
                .push("this span has no start time; shown where its parent starts".to_owned()),
            Clock::Trusted | Clock::MovedWithParent => {}
        }
        if span.start_unix_nano == 0 {
            return;
        }
        if span.end_unix_nano == 0 {
            warnings.push("this span has no end time; shown without a duration".to_owned());
        } else if span.end_unix_nano < span.start_unix_nano {
            let by = short_duration(span.start_unix_nano - span.end_unix_nano);
            warnings.push(format!(
                "this span ends {by} before it starts; shown without a duration"
            ));
        }
    }
}

pub(super) fn place(spans: &Spans<'_>, parents: &Parents, children: &Children) -> Vec<Placed> {
    let mut placed: Vec<Placed> = (0..spans.len())
        .map(|i| as_it_says(spans.span(i)))
        .collect();
    let first_start = (placed.iter())
        .filter(|p| p.clock != Clock::Absent)
        .map(|p| p.start)
        .min()
        .unwrap_or_default();
    let hosts = hosts(spans);
    let mut queue = children.roots.clone();
    let mut at = 0;
    while let Some(&i) = queue.get(at) {
        at += 1;
        let i = i as usize;
        queue.extend(children.of_span(i));
        let Some(parent) = parents.parent[i].map(|parent| parent as usize) else {
            if placed[i].clock == Clock::Absent {
                placed[i].start = first_start;
            }
            continue;
        };
        let above = &placed[parent];
        let (start, skew, clock) = if placed[i].clock == Clock::Absent {
            (above.start, above.skew, Clock::Absent)
        } else if above.clock == Clock::Absent {
            continue;
        } else {
            let same_host = hosts[spans.group_of(i)] == hosts[spans.group_of(parent)];
            let may_outlive = spans.span(i).kind == SpanKind::Consumer;
            moved(above, &placed[i], same_host, may_outlive)
        };
        placed[i].start = start;
        placed[i].skew = skew;
        placed[i].clock = clock;
    }
    placed
}

fn as_it_says(span: &Span) -> Placed {
    let absent = span.start_unix_nano == 0;
    let duration = span.duration_nano();
    Placed {
        start: span.start_unix_nano,
        duration: if absent && duration > LONGEST_TIMELESS_NANO {
            0
        } else {
            duration
        },
        skew: 0,
        clock: if absent {
            Clock::Absent
        } else {
            Clock::Trusted
        },
    }
}

/// The start, skew and clock of a child below its parent, which is already in place.
fn moved(parent: &Placed, child: &Placed, same_host: bool, may_outlive: bool) -> (u64, i64, Clock) {
    let skew = if same_host {
        i128::from(parent.skew)
    } else {
        skew_against(parent, child, may_outlive)
    };
    let start = i128::from(child.start) + skew;
    let (Ok(start), Ok(skew)) = (u64::try_from(start), i64::try_from(skew)) else {
        return (child.start, 0, Clock::Hopeless);
    };
    let clock = match (skew.unsigned_abs() > NOISE_NANO, same_host) {
        (false, _) => Clock::Trusted,
        (true, true) => Clock::MovedWithParent,
        (true, false) => Clock::Moved,
    };
    (start, skew, clock)
}

/// What to add to the child's start so that it lies inside its parent. Jaeger's rule, but for what
/// may be noise: a short child at the very end of its parent does not belong into the middle.
fn skew_against(parent: &Placed, child: &Placed, may_outlive: bool) -> i128 {
    let before = i128::from(parent.start) - i128::from(child.start);
    if child.duration > parent.duration || may_outlive {
        // It ran asynchronously, or the parent gave up first. All that is certain is that it did
        // not start before its parent.
        return before.max(0);
    }
    let room = parent.duration - child.duration;
    let after = -before - i128::from(room);
    let sticks_out = before.max(after);
    if sticks_out <= 0 {
        return 0;
    }
    if sticks_out <= i128::from(NOISE_NANO) {
        return if before > 0 { before } else { -after };
    }
    // The way there and the way back took equally long.
    before + i128::from(room / 2)
}

/// A number for each group's host: equal numbers, equal clocks. The host is that of Jaeger's
/// adjusters, old and new; a resource that does not say is a host by itself.
fn hosts(spans: &Spans<'_>) -> Vec<usize> {
    let mut numbers = HashMap::new();
    (spans.groups.iter())
        .map(|group| {
            let next = numbers.len();
            *numbers.entry(host(&group.resource)).or_insert(next)
        })
        .collect()
}

#[derive(PartialEq, Eq, Hash)]
enum Host<'a> {
    Named(&'a str),
    Instance(&'a str, &'a str),
}

fn host(resource: &Resource) -> Host<'_> {
    let text = |key| resource.attribute(key).and_then(first_text);
    ["host.id", "host.ip", "host.name", "ip"]
        .into_iter()
        .find_map(text)
        .map_or_else(
            || {
                let instance = text("service.instance.id").unwrap_or_default();
                Host::Instance(resource.service_name(), instance)
            },
            Host::Named,
        )
}

fn first_text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text.as_str()),
        Value::Array(values) => values.first().and_then(Value::as_str),
        _ => None,
    }
    .filter(|text| !text.is_empty())
}
