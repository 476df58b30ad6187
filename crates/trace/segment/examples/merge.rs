//! What merges cost: CPU time of a span, and memory beyond the segments that are merged.
//!
//! `cargo run --release -p periplus-segment --example merge -- [demo|tracegen] [spans] [segments] [times]`

use std::fs;

use periplus_segment::{Builder, EncodeOptions, Segment, merge};
use rustix::time::{ClockId, clock_gettime};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let workload = arguments.next().unwrap_or_else(|| "demo".to_owned());
    let mut number = |default: usize| {
        let given = arguments.next().and_then(|n| n.parse().ok());
        given.unwrap_or(default)
    };
    let (spans, segments, times) = (number(640_000), number(4), number(3));
    let requests = match workload.as_str() {
        "demo" => periplus_workload::demo(spans, periplus_workload::START_UNIX_NANO),
        "tracegen" => periplus_workload::tracegen(spans / 10, 9, 10),
        other => panic!("there is no workload {other}; there are demo and tracegen"),
    };
    let inputs: Vec<Segment> = requests
        .chunks(requests.len().div_ceil(segments))
        .map(|requests| {
            let mut builder = Builder::new();
            for request in requests {
                builder.append_otlp(request).expect("valid requests");
            }
            Segment::open(builder.encode(&EncodeOptions::default())).expect("a segment")
        })
        .collect();
    drop(requests);
    let bytes: usize = inputs.iter().map(|it| it.info().bytes as usize).sum();
    let traces: u64 = inputs.iter().map(|it| it.info().traces).sum();
    println!(
        "{workload}: {spans} spans in {} segments, {:.2} bytes per span, {traces} traces",
        inputs.len(),
        bytes as f64 / spans as f64
    );
    for _ in 0..times {
        let bytes = measured("column by column", spans, || {
            merge(&inputs, &EncodeOptions::default(), &|| false).expect("a merge")
        });
        let merged = Segment::open(bytes).expect("a segment").info();
        println!("    {} traces, {} groups", merged.traces, merged.groups);
    }
    measured("built anew", spans, || {
        let mut builder = Builder::new();
        for input in &inputs {
            for number in 0..input.group_count() {
                let traces = input.group(number).all().expect("spans");
                let appended = builder.append_groups(traces.iter().flatten());
                appended.expect("room");
            }
        }
        builder.encode(&EncodeOptions::default())
    });
}

fn measured(what: &str, spans: usize, run: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    // From now on the peak is counted anew.
    fs::write("/proc/self/clear_refs", "5").expect("Linux");
    let before = memory("VmRSS:");
    let begin = cpu_nano();
    let result = run();
    let nano = (cpu_nano() - begin) as f64 / spans as f64;
    let peak = memory("VmHWM:").saturating_sub(before) / 1_024;
    let bytes = result.len() as f64 / spans as f64;
    println!("{what:<20} {nano:>8.1} ns/span {peak:>6} MiB {bytes:>6.2} bytes/span");
    result
}

/// In KiB.
fn memory(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn cpu_nano() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
