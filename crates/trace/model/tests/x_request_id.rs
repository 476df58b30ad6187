//! `x-request-id`: arrival, the trace reason in character 14, and the sampling decision of Envoy.

use periplus_model::propagation::request_id::{
    Decision, OnArrival, Sampling, TraceReason, WHOLE, Wishes, decide, generate, on_arrival,
    sampling_number,
};
use proptest::prelude::*;

const ALWAYS: Sampling = Sampling {
    client: WHOLE,
    random: WHOLE,
    overall: WHOLE,
};
const NEVER: Sampling = Sampling {
    client: 0,
    random: 0,
    overall: WHOLE,
};
const NO_WISHES: Wishes = Wishes {
    client_trace_id: false,
    force_trace: false,
};

/// An id with this sampling number and this character 14.
fn id(number: u32, reason: char) -> String {
    format!("{number:08x}-c075-{reason}a0d-9a54-97ff56b88bfa")
}

#[test]
fn ids_on_arrival() {
    let some = Some(b"hello".as_slice());
    let cases = [
        (None, false, false, OnArrival::Replace),
        (Some(b"".as_slice()), false, true, OnArrival::Replace),
        (None, true, true, OnArrival::Replace),
        (some, false, false, OnArrival::Keep),
        (some, false, true, OnArrival::Keep),
        (some, true, false, OnArrival::Replace),
        (some, true, true, OnArrival::KeepWithoutReason),
    ];
    for (id, edge, preserve, expected) in cases {
        assert_eq!(on_arrival(id, edge, preserve), expected);
    }
}

#[test]
fn reasons_are_read_at_character_14_of_36() {
    let cases = [
        (id(1, '4'), TraceReason::NotTraced),
        (id(1, '9'), TraceReason::Sampled),
        (id(1, 'a'), TraceReason::ServiceForced),
        (id(1, 'b'), TraceReason::ClientForced),
        (id(1, 'A'), TraceReason::NotTraced),
        (id(1, '1'), TraceReason::NotTraced),
        ("z".repeat(36), TraceReason::NotTraced),
        ("9".repeat(36), TraceReason::Sampled),
        ("9".repeat(35), TraceReason::NotTraced),
        ("9".repeat(37), TraceReason::NotTraced),
        (String::new(), TraceReason::NotTraced),
        ("hello".to_owned(), TraceReason::NotTraced),
    ];
    for (id, expected) in cases {
        assert_eq!(TraceReason::read(id.as_bytes()), expected, "{id}");
    }
}

#[test]
fn reasons_are_written_in_place() {
    let mut upper = *b"FBD46B43-C075-4A0D-9A54-97FF56B88BFA";
    TraceReason::Sampled.write(&mut upper);
    assert_eq!(&upper, b"FBD46B43-C075-9A0D-9A54-97FF56B88BFA");
    TraceReason::ServiceForced.write(&mut upper);
    assert_eq!(upper[14], b'a');
    TraceReason::ClientForced.write(&mut upper);
    assert_eq!(upper[14], b'b');
    let mut not_a_uuid = [b'z'; 36];
    TraceReason::NotTraced.write(&mut not_a_uuid);
    assert_eq!(not_a_uuid[14], b'4');
    let mut nginx = [b'c'; 32];
    TraceReason::Sampled.write(&mut nginx);
    assert_eq!(nginx, [b'c'; 32]);
}

#[test]
fn sampling_numbers() {
    let cases = [
        ("fbd46b43-c075-4a0d-9a54-97ff56b88bfa", Some(2307)),
        ("00000000-c075-4a0d-9a54-97ff56b88bfa", Some(0)),
        ("00002710-c075-4a0d-9a54-97ff56b88bfa", Some(0)),
        ("0000270f-c075-4a0d-9a54-97ff56b88bfa", Some(9999)),
        ("0000270F", Some(9999)),
        ("0000270fzzzz", Some(9999)),
        ("0x00270f", Some(9999)),
        ("0x      ", None),
        ("+000270f", None),
        ("270f    ", None),
        ("0000270", None),
        ("hello", None),
        ("", None),
        ("0000-270f", None),
        ("zzzzzzzz-c075-4a0d-9a54-97ff56b88bfa", None),
    ];
    for (id, expected) in cases {
        assert_eq!(sampling_number(id.as_bytes()), expected, "{id}");
    }
}

#[test]
fn decisions() {
    use TraceReason::{ClientForced, NotTraced, Sampled, ServiceForced};
    let with = |client, random, overall| Sampling {
        client,
        random,
        overall,
    };
    let client = Wishes {
        client_trace_id: true,
        force_trace: false,
    };
    let force = Wishes {
        client_trace_id: false,
        force_trace: true,
    };
    let both = Wishes {
        client_trace_id: true,
        force_trace: true,
    };
    let half = with(WHOLE, 5000, WHOLE);
    let nginx = "0000270f56b88bfac0754a0d9a5497ff";
    // what, id, wishes, sampling, roll -> reason, write
    let cases = [
        ("100 %", id(9999, '4'), NO_WISHES, ALWAYS, 0, Sampled, true),
        ("0 %", id(0, '4'), NO_WISHES, NEVER, 0, NotTraced, false),
        ("50 %, in", id(4999, '4'), NO_WISHES, half, 0, Sampled, true),
        (
            "50 %, out",
            id(5000, '4'),
            NO_WISHES,
            half,
            0,
            NotTraced,
            false,
        ),
        (
            "0.01 %, in",
            id(0, '4'),
            NO_WISHES,
            with(0, 1, WHOLE),
            0,
            Sampled,
            true,
        ),
        (
            "0.01 %, out",
            id(1, '4'),
            NO_WISHES,
            with(0, 1, WHOLE),
            0,
            NotTraced,
            false,
        ),
        (
            "trusts 9",
            id(9999, '9'),
            NO_WISHES,
            NEVER,
            0,
            Sampled,
            false,
        ),
        (
            "trusts a",
            id(9999, 'a'),
            NO_WISHES,
            NEVER,
            0,
            ServiceForced,
            false,
        ),
        (
            "trusts b",
            id(9999, 'b'),
            NO_WISHES,
            NEVER,
            0,
            ClientForced,
            false,
        ),
        (
            "a carried reason beats wishes",
            id(0, '9'),
            both,
            ALWAYS,
            0,
            Sampled,
            false,
        ),
        (
            "the client",
            id(9999, '4'),
            client,
            with(WHOLE, 0, WHOLE),
            9999,
            ClientForced,
            true,
        ),
        (
            "the client, in",
            id(9999, '4'),
            client,
            with(1, 0, WHOLE),
            10_000,
            ClientForced,
            true,
        ),
        (
            "the client, out",
            id(9999, '4'),
            client,
            with(1, 0, WHOLE),
            1,
            NotTraced,
            false,
        ),
        (
            "the client, out, yet by chance",
            id(0, '4'),
            client,
            with(1, 1, WHOLE),
            1,
            Sampled,
            true,
        ),
        (
            "a service",
            id(9999, '4'),
            force,
            NEVER,
            0,
            ServiceForced,
            true,
        ),
        (
            "the client before a service",
            id(0, '4'),
            both,
            ALWAYS,
            0,
            ClientForced,
            true,
        ),
        (
            "a service after the client",
            id(0, '4'),
            both,
            NEVER,
            0,
            ServiceForced,
            true,
        ),
        (
            "overall, in",
            id(99, '4'),
            force,
            with(0, 0, 100),
            0,
            ServiceForced,
            true,
        ),
        (
            "overall, out",
            id(100, '4'),
            force,
            with(0, 0, 100),
            0,
            NotTraced,
            true,
        ),
        (
            "overall resets what is carried",
            id(1, '9'),
            NO_WISHES,
            with(0, 0, 1),
            0,
            NotTraced,
            true,
        ),
        (
            "overall lets through",
            id(0, '9'),
            NO_WISHES,
            with(0, 0, 1),
            0,
            Sampled,
            false,
        ),
        (
            "not a UUID",
            "hello".to_owned(),
            both,
            ALWAYS,
            0,
            NotTraced,
            false,
        ),
        (
            "36 characters",
            "z".repeat(36),
            both,
            ALWAYS,
            0,
            NotTraced,
            false,
        ),
        (
            "nginx",
            nginx.to_owned(),
            NO_WISHES,
            ALWAYS,
            0,
            Sampled,
            true,
        ),
        (
            "nginx, out",
            nginx.to_owned(),
            NO_WISHES,
            half,
            0,
            NotTraced,
            false,
        ),
        ("empty", String::new(), both, ALWAYS, 0, NotTraced, false),
    ];
    for (what, id, wishes, sampling, roll, reason, write) in cases {
        let decision = decide(Some(id.as_bytes()), wishes, sampling, || roll);
        assert_eq!(decision, Decision { reason, write }, "{what}");
    }
    let none = decide(None, both, ALWAYS, || 0);
    assert!(!none.reason.is_traced());
}

proptest! {
    #[test]
    fn generated_ids_are_uuids_of_version_4(random: [u8; 16]) {
        let id = generate(random);
        for (at, byte) in id.iter().enumerate() {
            match at {
                8 | 13 | 18 | 23 => prop_assert_eq!(*byte, b'-'),
                14 => prop_assert_eq!(*byte, b'4'),
                19 => prop_assert!(b"89ab".contains(byte)),
                _ => prop_assert!(matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
            }
        }
        let number = u32::from_be_bytes([random[0], random[1], random[2], random[3]]);
        prop_assert_eq!(sampling_number(&id), Some(number % WHOLE));
    }

    #[test]
    fn reasons_read_back(random: [u8; 16]) {
        use TraceReason::{ClientForced, NotTraced, Sampled, ServiceForced};
        let mut id = generate(random);
        for reason in [Sampled, ServiceForced, ClientForced, NotTraced] {
            reason.write(&mut id);
            prop_assert_eq!(TraceReason::read(&id), reason);
        }
        prop_assert_eq!(id, generate(random));
    }

    #[test]
    fn no_id_makes_it_panic(
        mut id in proptest::collection::vec(any::<u8>(), 0..40), client_trace_id: bool,
        force_trace: bool, client: u32, random: u32, overall: u32, roll: u64,
    ) {
        let wishes = Wishes { client_trace_id, force_trace };
        let decision = decide(Some(&id), wishes, Sampling { client, random, overall }, || roll);
        let length = id.len();
        decision.reason.write(&mut id);
        prop_assert_eq!(id.len(), length);
        prop_assert!(overall != 0 || !decision.reason.is_traced());
    }
}
