//! The sections that serve searches: what they must say is computed from the spans, but for calls.

use std::collections::{BTreeMap, BTreeSet};

use periplus_model::{SpanGroup, StatusCode, TraceId, Value};

use super::columns::Values;
use super::encodings::{In, text};
use super::file::{File, Group};

/// Parquet's, of its split-block Bloom filter.
const SALTS: [u32; 8] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

fn may_contain(filter: &[u8], hash: u64) -> bool {
    let (blocks, rest) = filter.as_chunks::<32>();
    assert!(rest.is_empty());
    let block = blocks[(((hash >> 32) * blocks.len() as u64) >> 32) as usize];
    let (words, _) = block.as_chunks::<4>();
    words.iter().zip(SALTS).all(|(word, salt)| {
        let bit = (hash as u32).wrapping_mul(salt) >> 27;
        u32::from_le_bytes(*word) >> bit & 1 == 1
    })
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

fn hash_trace(id: TraceId) -> u64 {
    let id = id.as_u128();
    fold(
        id as u64 ^ 0xa076_1d64_78bd_642f,
        (id >> 64) as u64 ^ 0xe703_7ed1_a0b4_28db,
    )
}

fn hash_text(text: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let begin = &text[..text.len().min(256)];
    let fnv = begin.iter().fold(0xcbf2_9ce4_8422_2325, step);
    fold(
        fnv ^ 0xa076_1d64_78bd_642f,
        text.len() as u64 ^ 0xe703_7ed1_a0b4_28db,
    )
}

/// A point of rates, errors and durations: window, operation, failed, buckets with their counts.
pub(super) type Point = (u64, u64, u64, Vec<(u64, u64)>);

/// Calls between services: minute, caller, called, how many, how many of them failed.
pub(super) type Call = (u64, String, String, u64, u64);

impl File<'_> {
    pub(super) fn check_index(&self) {
        let ids: Vec<TraceId> = (self.groups.iter())
            .flat_map(|group| self.piece_ids(group))
            .collect();
        let mut expected: Vec<(u64, u64)> = (0..)
            .zip(&ids)
            .map(|(number, id)| (hash_trace(*id) >> 32, number))
            .collect();
        expected.sort_unstable();
        let mut index = In(self.section(7));
        let (steps, numbers) = (index.words(ids.len()), index.words(ids.len()));
        index.end();
        let mut hash = 0;
        let hashes = steps.iter().map(|step| {
            hash += step;
            hash
        });
        assert!(hashes.zip(numbers).eq(expected), "the trace index");
        let filter = self.section(8);
        assert!(ids.iter().all(|id| may_contain(filter, hash_trace(*id))));
        let others = (0..1_000).map(|n| hash_trace(TraceId::from_halves(!n, n)));
        assert!(others.filter(|hash| may_contain(filter, *hash)).count() < 500);
    }

    /// Whether the segment has zones and filters of texts; if so, they are what its spans say.
    pub(super) fn check_zones(&self) -> bool {
        let (mut zones, mut texts) = (In(self.section(12)), In(self.section(13)));
        if zones.0.is_empty() && texts.0.is_empty() {
            return false;
        }
        assert_eq!(
            (zones.count(), texts.count()),
            (self.groups.len(), self.groups.len())
        );
        for group in &self.groups {
            let kinds = self.words(group, 11, group.spans);
            let bits = kinds.iter().fold(0, |bits, kind| bits | 1 << kind);
            // The distance of an end before the start is a number of more than 63 bits: no duration.
            let durations = self.words(group, 10, group.spans).into_iter();
            let durations = durations.map(|it| if it >> 63 == 1 { 0 } else { it });
            let least = durations.clone().min().expect("spans");
            let most = durations.max().expect("spans");
            let zone = (zones.varint(), zones.varint(), zones.varint());
            assert_eq!(zone, (least, most - least, bits), "a zone");

            let mut filters = Vec::new();
            for _ in 0..texts.count() {
                filters.push((texts.count(), texts.bytes()));
            }
            self.check_texts(group, &filters);
        }
        zones.end();
        texts.end();
        true
    }

    fn check_texts(&self, group: &Group, filters: &[(usize, &[u8])]) {
        let shapes = [
            self.words(group, 21, group.spans),
            self.words(group, 27, group.events),
            self.words(group, 33, group.links),
        ];
        let columns = self.tables.iter().zip(&shapes).flat_map(|(table, shapes)| {
            let mut counts = vec![0; table.columns.len()];
            let rows = shapes.iter().map(|shape| &table.shapes[*shape as usize]);
            rows.flatten().for_each(|column| counts[*column] += 1);
            table.columns.iter().zip(counts)
        });
        let mut seen = Vec::new();
        for (number, (column, count)) in columns.enumerate() {
            if column.ty != 1 || column.dictionary.is_some() || count == 0 {
                continue;
            }
            seen.push(number);
            let filter = filters.iter().find(|(of, _)| *of == number);
            let (_, filter) = filter.expect("a filter of a column of texts");
            let Values::Strings(texts) = self.values(group, 34 + number, column, count) else {
                panic!("texts are strings");
            };
            assert!(
                texts
                    .iter()
                    .all(|text| may_contain(filter, hash_text(text)))
            );
            let others = (0..1_000).map(|n| hash_text(format!("absent {n}").as_bytes()));
            assert!(others.filter(|hash| may_contain(filter, *hash)).count() < 500);
        }
        assert!(
            filters.iter().map(|(of, _)| *of).eq(seen),
            "the columns with filters"
        );
    }

    /// Services, names of spans and kinds.
    pub(super) fn operations(&self) -> Vec<(String, String, u64)> {
        let mut section = In(self.section(9));
        let count = section.count();
        let (services, names) = (section.strings(count), section.strings(count));
        let kinds = section.words(count);
        section.end();
        let pairs = services.iter().zip(&names).zip(kinds);
        pairs
            .map(|((service, name), kind)| (text(service), text(name), kind))
            .collect()
    }

    /// The calls, and the traces that are not counted.
    pub(super) fn calls(&self) -> (Vec<Call>, Vec<TraceId>) {
        let mut section = In(self.section(11));
        let count = section.count();
        let names = section.strings(count);
        let name = |number: u64| text(&names[number as usize]);
        let count = section.count();
        let columns = [(); 5].map(|()| section.words(count));
        let call = |at: usize| {
            let [minute, caller, called, calls, failed] = columns.each_ref().map(|it| it[at]);
            (minute, name(caller), name(called), calls, failed)
        };
        let calls: Vec<Call> = (0..count).map(call).collect();
        assert!(calls.is_sorted());
        let count = section.count();
        let ids = (0..count).map(|_| TraceId::from_bytes(section.array()));
        let ids = ids.collect();
        section.end();
        (calls, ids)
    }

    pub(super) fn points(&self) -> Vec<Point> {
        let mut section = In(self.section(10));
        let count = section.count();
        let [windows, lengths, operations, failed] = [(); 4].map(|()| section.words(count));
        let buckets = section.count();
        let (steps, counts) = (section.words(buckets), section.words(buckets));
        section.end();
        let mut buckets = steps.into_iter().zip(counts);
        let mut window = 0;
        let points = (0..count).map(|at| {
            window += windows[at];
            let mut bucket = 0;
            let histogram = buckets
                .by_ref()
                .take(lengths[at] as usize)
                .map(|(step, count)| {
                    bucket += step;
                    (bucket, count)
                });
            (window, operations[at], failed[at], histogram.collect())
        });
        points.collect()
    }
}

fn operation(group: &SpanGroup) -> (String, String, u64) {
    let span = &group.spans[0];
    let service = group.resource.service_name().to_owned();
    (service, span.name.clone(), span.kind as u64)
}

/// What [`File::operations`] must be, of spans each in a group of its own.
pub(super) fn operations_of<'a>(
    spans: impl Iterator<Item = &'a SpanGroup>,
) -> Vec<(String, String, u64)> {
    let sorted: BTreeSet<_> = spans.map(operation).collect();
    sorted.into_iter().collect()
}

/// What [`File::points`] must be.
pub(super) fn points_of<'a>(
    spans: impl Iterator<Item = &'a SpanGroup>,
    operations: &[(String, String, u64)],
) -> Vec<Point> {
    let mut points: BTreeMap<(u64, u64), (u64, BTreeMap<u64, u64>)> = BTreeMap::new();
    for group in spans {
        let span = &group.spans[0];
        let place = operations.binary_search(&operation(group));
        let place = place.expect("an operation of the segment") as u64;
        let point = points.entry((span.start_unix_nano / 10_000_000_000, place));
        let (failed, buckets) = point.or_default();
        let error = (span.attributes.iter()).find(|attribute| attribute.key == "error");
        let by_attribute = match error.map(|attribute| &attribute.value) {
            Some(Value::Bool(failed)) => *failed,
            Some(Value::String(text)) => text == "true",
            _ => false,
        };
        *failed += u64::from(by_attribute || span.status.code == StatusCode::Error);
        let duration = span.end_unix_nano.saturating_sub(span.start_unix_nano);
        let bucket = match duration.checked_ilog2() {
            Some(p) if p >= 5 => u64::from(32 * (p - 4)) + (duration >> (p - 5)) % 32,
            _ => duration,
        };
        *buckets.entry(bucket).or_default() += 1;
    }
    let point = |((window, operation), (failed, buckets)): (_, (u64, BTreeMap<u64, u64>))| {
        (window, operation, failed, buckets.into_iter().collect())
    };
    points.into_iter().map(point).collect()
}
