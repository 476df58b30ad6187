//! DuckDB, in the Python that `cargo xtask peers` prepares.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

const SCRIPT: &str = "
import duckdb, json, sys
asked = json.load(sys.stdin)
duckdb.sql(\"CREATE VIEW spans AS SELECT * FROM read_parquet('\" + asked['file'] + \"')\")
answers = []
for sql in asked['queries']:
    given = {'trace_id': asked['trace_id']} if '$trace_id' in sql else None
    answers.append(duckdb.execute(sql, given).fetchall())
json.dump(answers, sys.stdout)
";

pub(crate) struct DuckDb {
    python: PathBuf,
}

impl DuckDb {
    /// `None`, and a notice, where it is not installed; in CI it must be.
    pub(crate) fn find() -> Option<Self> {
        let python = env::var_os("PERIPLUS_PEERS_PYTHON").map(PathBuf::from);
        assert!(
            python.is_some() || env::var_os("CI").is_none(),
            "PERIPLUS_PEERS_PYTHON is not set; run the tests with: cargo xtask test"
        );
        if python.is_none() {
            eprintln!("not compared with DuckDB: run the tests with: cargo xtask test");
        }
        python.map(|python| Self { python })
    }

    /// The rows that answer each query over the view `spans` of a file.
    pub(crate) fn ask(&self, file: &Path, queries: &[&str], trace_id: &str) -> Vec<Value> {
        let mut child = Command::new(&self.python)
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let asked = json!({ "file": file, "queries": queries, "trace_id": trace_id });
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(asked.to_string().as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "duckdb failed, see above");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}
