use periplus_model::SpanKind;

use super::{Point, Red, ServiceOperation};
use crate::bytes::{Cursor, put_varint};
use crate::codec::Squeeze;
use crate::codec::strings::Strings;
use crate::codec::words::{put_words, read_words};

impl Red {
    /// Appends what is counted.
    pub(crate) fn put_series(&self, out: &mut Vec<u8>, squeeze: &mut Squeeze) {
        put_varint(out, self.series.len() as u64);
        let (mut services, mut names) = (Strings::default(), Strings::default());
        for series in &self.series {
            services.push(series.service.as_bytes());
            names.push(series.name.as_bytes());
        }
        services.put(out, squeeze);
        names.put(out, squeeze);
        let kinds: Vec<u8> = (self.series.iter())
            .map(|series| series.kind as u8)
            .collect();
        put_words(out, squeeze, &kinds);
    }

    /// Appends the counts.
    pub(crate) fn put_points(&self, out: &mut Vec<u8>, squeeze: &mut Squeeze) {
        put_varint(out, self.points.len() as u64);
        let mut before = (0, 0);
        let mut windows = Vec::new();
        let mut lengths = Vec::new();
        for point in &self.points {
            windows.push(point.window - before.0);
            lengths.push(point.end - before.1);
            before = (point.window, point.end);
        }
        put_words(out, squeeze, &windows);
        put_words(out, squeeze, &lengths);
        let series: Vec<u32> = self.points.iter().map(|point| point.series).collect();
        put_words(out, squeeze, &series);
        let errors: Vec<u32> = self.points.iter().map(|point| point.errors).collect();
        put_words(out, squeeze, &errors);
        put_varint(out, self.buckets.len() as u64);
        put_words(out, squeeze, &self.bucket_steps(&lengths));
        let counts: Vec<u32> = self.buckets.iter().map(|(_, count)| *count).collect();
        put_words(out, squeeze, &counts);
    }

    /// How far each bucket is from the one before it in its histogram.
    fn bucket_steps(&self, lengths: &[u32]) -> Vec<u32> {
        let mut steps = Vec::with_capacity(self.buckets.len());
        let mut rest = &self.buckets[..];
        for length in lengths {
            let (histogram, behind) = rest.split_at(*length as usize);
            rest = behind;
            let mut before = 0;
            for (bucket, _) in histogram {
                steps.push(u32::from(bucket - before));
                before = *bucket;
            }
        }
        steps
    }

    /// Reads what [`Self::put_series`] writes.
    pub(crate) fn read_series(payload: &[u8]) -> Option<Vec<ServiceOperation>> {
        let mut cursor = Cursor(payload);
        let count = cursor.u32()? as usize;
        let services = Strings::read(&mut cursor, count)?;
        let names = Strings::read(&mut cursor, count)?;
        let kinds = read_words::<u8>(&mut cursor, count)?;
        let text = |strings: &Strings, at| {
            let bytes = strings.get(at)?;
            Some(str::from_utf8(bytes).ok()?.to_owned())
        };
        let series = (0..count).map(|at| {
            Some(ServiceOperation {
                service: text(&services, at)?,
                name: text(&names, at)?,
                kind: SpanKind::from_number(i32::from(kinds[at])),
            })
        });
        let series = series.collect::<Option<_>>()?;
        cursor.is_empty().then_some(series)
    }

    /// Reads what [`Self::put_points`] writes.
    pub(crate) fn read(series: Vec<ServiceOperation>, payload: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(payload);
        let count = series.len();
        let mut red = Self {
            series,
            ..Self::default()
        };
        let points = cursor.u32()? as usize;
        let windows = read_words::<u64>(&mut cursor, points)?;
        let lengths = read_words::<u32>(&mut cursor, points)?;
        let series = read_words::<u32>(&mut cursor, points)?;
        let errors = read_words::<u32>(&mut cursor, points)?;
        let (mut window, mut end) = (0_u64, 0_u32);
        for at in 0..points {
            window = window.checked_add(windows[at])?;
            end = end.checked_add(lengths[at])?;
            red.points.push(Point {
                window,
                series: Some(series[at]).filter(|series| (*series as usize) < count)?,
                errors: errors[at],
                end,
            });
        }
        let buckets = cursor.u32()?;
        let steps = read_words::<u32>(&mut cursor, buckets as usize)?;
        let counts = read_words::<u32>(&mut cursor, buckets as usize)?;
        if end != buckets || !cursor.is_empty() {
            return None;
        }
        let mut at = 0;
        for length in lengths {
            let mut bucket = 0_u32;
            for _ in 0..length {
                bucket = bucket.checked_add(steps[at])?;
                red.buckets.push((u16::try_from(bucket).ok()?, counts[at]));
                at += 1;
            }
        }
        Some(red)
    }
}
