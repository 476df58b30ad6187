//! Runs a check over the corpus of its target.

use std::fs;
use std::path::Path;

/// The inputs of `corpus/TARGET`; `corpora` is the directory of all of them. A panic names the input
/// that is at fault.
pub(crate) fn replay(corpora: &Path, target: &str, check: fn(&[u8])) {
    let corpus = corpora.join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&corpus).expect("the corpus is committed") {
        let path = entry.expect("a readable directory").path();
        let input = fs::read(&path).expect("a readable file");
        println!("{}", path.display());
        check(&input);
        inputs += 1;
    }
    assert!(inputs >= 5, "{inputs} inputs in {}", corpus.display());
}
