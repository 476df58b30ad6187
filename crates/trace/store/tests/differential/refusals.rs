//! Changed bytes: taken if prost takes them, with the same content, and refused if it refuses them.

use periplus_segment::{Builder, OtlpError};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use prost::Message as _;
use std::sync::LazyLock;

use crate::oracle;
use crate::ours::{assert_same, request, written};
use crate::support::{self, mutations, proto};

/// The walk into columns, compared with prost.
fn compare(body: &[u8]) {
    let mut builder = Builder::new();
    match (builder.append_otlp(body), oracle::read(body)) {
        (Ok(refused), Ok(expected)) => {
            assert_eq!(refused.spans, expected.refused, "{refused}");
            let spans: usize = expected.traces.values().map(Vec::len).sum();
            assert_eq!(builder.span_count(), spans);
            for (id, expected) in &expected.traces {
                let found = written(&builder.trace(*id).unwrap());
                assert_same(&found, expected, *id, "in the table");
            }
        }
        (Err(OtlpError::Decode(_)), Err(_)) => assert_eq!(builder.span_count(), 0),
        (found, expected) => panic!("{found:?} instead of {expected:?}"),
    }
}

/// Valid requests, those of the codec's own tests among them.
static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut runner = TestRunner::deterministic();
    let mut samples: Vec<_> = (0..64)
        .map(|_| {
            let batch = support::batch().new_tree(&mut runner).unwrap().current();
            request(&batch.groups).encode_to_vec()
        })
        .collect();
    samples.extend(periplus_workload::demo_requests(
        60,
        1_760_000_000_000_000_000,
        4,
    ));
    samples.extend(periplus_workload::tracegen_requests(
        3,
        3,
        2,
        1_760_000_000_000_000_000,
        4,
    ));
    samples
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn changed_requests_are_taken_or_refused_as_prost_does(
        sample in any::<prop::sample::Index>(),
        mutations in mutations(),
    ) {
        let mut body = sample.get(&SAMPLES).clone();
        mutations.iter().for_each(|mutation| mutation.apply(&mut body));
        compare(&body);
    }

    #[test]
    fn random_fields_are_taken_or_refused_as_prost_does(fields: Vec<u8>, at in 0..4_usize) {
        let around = |field: u8, bytes: &[u8]| {
            let mut out = vec![field << 3 | 2];
            prost::encoding::encode_varint(bytes.len() as u64, &mut out);
            out.extend_from_slice(bytes);
            out
        };
        let span = [proto::bare_span().encode_to_vec(), fields.clone()].concat();
        let value = around(9, &around(2, &fields));
        let with_value = [proto::bare_span().encode_to_vec(), value].concat();
        let body = match at {
            0 => fields,
            1 => around(1, &around(2, &around(2, &span))),
            2 => around(1, &around(2, &around(2, &with_value))),
            _ => around(1, &fields),
        };
        compare(&body);
    }
}

/// What protobuf says of fields that come more than once, in groups, or in too many bytes.
#[test]
fn what_no_encoder_writes_is_read_as_prost_reads_it() {
    let bytes = |field: u8, bytes: &[u8]| {
        let mut out = vec![field << 3 | 2, bytes.len() as u8];
        out.extend_from_slice(bytes);
        out
    };
    let value = |value: &[u8]| bytes(9, &[bytes(1, b"key"), bytes(2, value)].concat());
    let twice = |first: &[u8], second: &[u8]| {
        bytes(
            9,
            &[bytes(1, b"key"), bytes(2, first), bytes(2, second)].concat(),
        )
    };
    let one = bytes(5, &bytes(1, &bytes(1, b"one")));
    let two = bytes(5, &bytes(1, &bytes(1, b"two")));
    let entry = bytes(6, &bytes(1, &bytes(1, b"inner")));
    let ten = |last: u8| [&[0x50][..], &[0xff; 9], &[last]].concat();
    let cases: [(&str, Vec<u8>, bool); 18] = [
        ("a value in two pieces", twice(&one, &two), true),
        (
            "an array in two pieces",
            value(&[one.clone(), two.clone()].concat()),
            true,
        ),
        (
            "a map in two pieces",
            value(&[entry.clone(), entry.clone()].concat()),
            true,
        ),
        (
            "a map behind an array",
            value(&[one.clone(), entry].concat()),
            true,
        ),
        ("a text, then nothing", twice(&bytes(1, b"text"), &[]), true),
        (
            "an array, then a text",
            twice(&one, &bytes(1, b"text")),
            true,
        ),
        ("a number of 64 bits", ten(1), true),
        ("a number of 65 bits", ten(2), false),
        (
            "an unknown group",
            vec![0xfb, 0x01, 0x08, 1, 0xfc, 0x01],
            true,
        ),
        (
            "a group in a group",
            vec![0xfb, 0x01, 0x13, 0x14, 0xfc, 0x01],
            true,
        ),
        ("the end of another group", vec![0xfb, 0x01, 0x14], false),
        (
            "a group that does not end",
            vec![0xfb, 0x01, 0x08, 1],
            false,
        ),
        ("a known field as a group", vec![0x2b, 0x2c], false),
        (
            "a field's number of 30 bits",
            vec![0x80, 0x80, 0x80, 0x80, 0x10, 0],
            false,
        ),
        (
            "the largest number of a field",
            vec![0xf8, 0xff, 0xff, 0xff, 0x0f, 0],
            true,
        ),
        ("field zero", vec![0x00, 0x00], false),
        (
            "a name that is no text, then one",
            [bytes(5, b"\xff"), bytes(5, b"n")].concat(),
            false,
        ),
        (
            "two names",
            [bytes(5, b"first"), bytes(5, b"second")].concat(),
            true,
        ),
    ];
    for (name, field, taken) in cases {
        println!("{name}");
        let span = [proto::bare_span().encode_to_vec(), field].concat();
        let body = bytes(1, &bytes(2, &bytes(2, &span)));
        assert_eq!(oracle::read(&body).is_ok(), taken, "{name}");
        compare(&body);
    }
}
