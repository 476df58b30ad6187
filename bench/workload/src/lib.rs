//! Reference workloads of spans, as OTLP/protobuf requests. The same arguments give the same bytes,
//! so that every engine is measured with the same ones.
//!
//! * [`demo()`] is like the OpenTelemetry demo: 20 services with three pods each, 19 resource
//!   attributes, 8 to 16 attributes on a span, 12 spans in a trace on average, 1.2 % errors with a
//!   stack trace, collector batches of 8,192 spans in the order in which they end; 513 bytes a span.
//! * [`tracegen()`] is Jaeger's load generator with the arguments of its ClickHouse benchmark: a
//!   root and nine children, eleven attributes from 97 keys and 1,000 values.

mod demo;
mod demo_attributes;
mod otlp;
mod rng;
mod tracegen;

pub use demo::{BATCH, START_UNIX_NANO, demo, demo_requests};
pub use tracegen::{tracegen, tracegen_requests};

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers in our tables are comparable only as long as these stay what they are.
    #[test]
    fn the_bytes_stay_the_same() {
        for (name, requests, count, hash) in [
            (
                "demo",
                demo(50_000, START_UNIX_NANO),
                7,
                0xf696_7502_7a40_b452,
            ),
            (
                "demo in small requests",
                demo_requests(20_000, START_UNIX_NANO, 512).collect(),
                40,
                0x57eb_eb5a_35d2_c7fc,
            ),
            ("tracegen", tracegen(2_000, 9, 10), 3, 0x294e_52d1_aadf_1cc6),
        ] {
            assert_eq!(requests.len(), count, "{name}");
            assert_eq!(fnv(&requests), hash, "{name}");
        }
    }

    fn fnv(requests: &[Vec<u8>]) -> u64 {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        requests.iter().flatten().fold(0xcbf2_9ce4_8422_2325, step)
    }
}
