//! The OTLP door takes what the decoder gives, and refuses what it refuses.

use periplus_segment::{Builder, EncodeOptions, OtlpError, Segment};
use periplus_wire::otlp::{decode_protobuf, encode_protobuf};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::round_trip::check;
use crate::support::batch;

/// Both doors, one after the other, and how the answers compare.
fn compare(bodies: &[Vec<u8>]) {
    let mut builder = Builder::new();
    let mut taken = Vec::new();
    for body in bodies {
        match (builder.append_otlp(body), decode_protobuf(body)) {
            (Ok(refused), Ok(decoded)) => {
                assert_eq!(refused, decoded.refused);
                taken.push(decoded.batch);
            }
            (Err(OtlpError::Decode(_)), Err(_)) => {}
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }
    let bytes = builder.encode(&EncodeOptions::default().with_group_spans(5));
    check(&Segment::open(bytes).expect("a sound segment"), &taken);
}

/// A change to valid bytes.
#[derive(Clone, Debug)]
enum Mutation {
    Cut(usize),
    Set(usize, u8),
    Insert(usize, u8),
    Remove(usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        any::<usize>().prop_map(Mutation::Cut),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        any::<usize>().prop_map(Mutation::Remove),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let Some(length) = (!bytes.is_empty()).then_some(bytes.len()) else {
        return;
    };
    match *mutation {
        Mutation::Cut(at) => bytes.truncate(at % length),
        Mutation::Set(at, byte) => bytes[at % length] = byte,
        Mutation::Insert(at, byte) => bytes.insert(at % length, byte),
        Mutation::Remove(at) => {
            bytes.remove(at % length);
        }
    }
}

/// A field of type bytes that is shorter than 128 bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

#[test]
fn what_is_said_of_all_spans_may_stand_anywhere_among_them() {
    let span = |id: u8| field(2, &[field(1, &[id; 16]), field(2, &[id; 8])].concat());
    let scope = |name: &str| field(1, &field(1, name.as_bytes()));
    let url = |url: &str| field(3, url.as_bytes());
    let parts = [scope("a"), span(1), scope("b"), span(2), url("c"), url("d")];
    let bodies = (0..parts.len()).flat_map(|first| {
        let parts = &parts;
        (1..=parts.len()).map(move |count| {
            let parts = parts.iter().cycle().skip(first).take(count);
            let spans = parts.cloned().collect::<Vec<_>>().concat();
            let behind = [span(3), url("e")].concat();
            let scopes = [field(2, &spans), field(2, &behind)].concat();
            field(1, &scopes)
        })
    });
    compare(&bodies.collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_walk_takes_what_the_decoder_takes(batches in vec(batch(), 1..4)) {
        let bodies: Vec<_> = batches.iter().map(encode_protobuf).collect();
        compare(&bodies);
    }

    #[test]
    fn the_walk_refuses_what_the_decoder_refuses(
        batches in vec(batch(), 1..4),
        mutations in vec((0..4_usize, mutation()), 1..4),
    ) {
        let mut bodies: Vec<_> = batches.iter().map(encode_protobuf).collect();
        for (at, mutation) in &mutations {
            let at = at % bodies.len();
            mutate(&mut bodies[at], mutation);
        }
        compare(&bodies);
    }
}
