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
