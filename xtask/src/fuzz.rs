//! The fuzz targets, one after the other (`fuzz/README.md`).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::shell::{command, run};

const TARGETS: &str = "fuzz/fuzz_targets";
/// Larger inputs find little more, and take longer.
const MAX_INPUT: &str = "-max_len=8192";

/// Runs these targets, or all of them, for so many seconds each. What is found stays in `fuzz/target/found`.
pub(crate) fn all(seconds: u32, only: &[String]) -> anyhow::Result<()> {
    let targets = targets(only)?;
    let cargo_fuzz = std::env::var("CARGO_FUZZ").unwrap_or_else(|_| "cargo-fuzz".to_owned());
    for target in targets {
        let found = PathBuf::from("fuzz/target/found").join(&target);
        fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
        run(command(&cargo_fuzz)
            .args(["fuzz", "run", &target])
            // New inputs go into the first.
            .arg(&found)
            .arg(Path::new("fuzz/corpus").join(&target))
            .arg("--")
            .arg(format!("-max_total_time={seconds}"))
            .args([MAX_INPUT, "-timeout=20", "-print_final_stats=1"])
            // Instrumentation needs flags that stable compilers have, but do not promise to keep.
            .env("RUSTC_BOOTSTRAP", "1"))
        .with_context(|| format!("{target} (cargo install cargo-fuzz, if it is not there)"))?;
    }
    Ok(())
}

fn targets(only: &[String]) -> anyhow::Result<Vec<String>> {
    let files = fs::read_dir(TARGETS).with_context(|| format!("cannot read {TARGETS}"))?;
    let mut known = Vec::new();
    for file in files {
        let path = file?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        known.extend(name.map(str::to_owned));
    }
    known.sort();
    for name in only {
        ensure!(
            known.contains(name),
            "there is no fuzz target {name}, but {}",
            known.join(", ")
        );
    }
    known.retain(|name| only.is_empty() || only.contains(name));
    Ok(known)
}
