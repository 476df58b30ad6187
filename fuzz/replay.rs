//! Runs a check over the corpus of its target, and over inputs that are nearly those of the corpus.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// For so many seconds each target has changed inputs; without it a few that are always the same.
const SECONDS: &str = "PERIPLUS_FUZZ_SECONDS";
/// How many that are, unless they take longer than that.
const FEW: usize = 300;
const SHORT: Duration = Duration::from_secs(2);

/// The inputs of `corpus/TARGET`; `corpora` is the directory of all of them. A panic names the input
/// that is at fault.
pub(crate) fn replay(corpora: &Path, target: &str, check: fn(&[u8])) {
    let corpus = corpora.join(target);
    let mut inputs = Vec::new();
    for entry in fs::read_dir(&corpus).expect("the corpus is committed") {
        let path = entry.expect("a readable directory").path();
        let input = fs::read(&path).expect("a readable file");
        println!("{}", path.display());
        check(&input);
        inputs.push((path, input));
    }
    let count = inputs.len();
    assert!(count >= 5, "{count} inputs in {}", corpus.display());
    // In an order that does not depend on the file system.
    inputs.sort();
    let inputs: Vec<_> = inputs.into_iter().map(|(_, input)| input).collect();
    change(target, &inputs, check);
}

/// Checks inputs with a few bytes changed, cut out, doubled, or taken from another one.
fn change(target: &str, inputs: &[Vec<u8>], check: fn(&[u8])) {
    let seconds = std::env::var(SECONDS).ok();
    let seconds = seconds.map(|seconds| seconds.parse().expect("a number of seconds"));
    let begin = Instant::now();
    let seed = match seconds {
        None => 1,
        Some(_) => u64::from(std::process::id()) << 20 | u64::from(begin.elapsed().subsec_nanos()),
    };
    let mut chance = Chance(seed | 1);
    let mut checked = 0;
    loop {
        let is_over = match seconds {
            None => checked == FEW || begin.elapsed() >= SHORT,
            Some(seconds) => begin.elapsed() >= Duration::from_secs(seconds),
        };
        if is_over {
            break;
        }
        let mut input = inputs[chance.below(inputs.len())].clone();
        for _ in 0..=chance.below(4) {
            let other = &inputs[chance.below(inputs.len())];
            alter(&mut input, other, &mut chance);
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&input))) {
            let file = std::env::temp_dir().join(format!("{target}-{}", std::process::id()));
            fs::write(&file, &input).expect("a file for the input");
            println!("the input that is at fault is in {}", file.display());
            resume_unwind(panic);
        }
        checked += 1;
    }
    println!("{checked} changed inputs");
}

fn alter(input: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    let at = chance.below(input.len() + 1);
    let length = chance.below(16).min(input.len() - at);
    match chance.below(6) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << chance.below(8);
            }
        }
        1 => {
            // Values at which something changes.
            let values = [0, 1, 0x7f, 0x80, 0xff, b'\r', b'\n', b' ', b':'];
            if let Some(byte) = input.get_mut(at) {
                *byte = values[chance.below(values.len())];
            }
        }
        2 => drop(input.drain(at..at + length)),
        3 => {
            let part = input[at..at + length].to_vec();
            input.splice(at..at, part);
        }
        4 => {
            let from = chance.below(other.len() + 1);
            let to = from + chance.below(64).min(other.len() - from);
            input.splice(at..at + length, other[from..to].iter().copied());
        }
        _ => input.truncate(at),
    }
}

/// Marsaglia's xorshift: good enough for this, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most.max(1) as u64) as usize
    }
}
