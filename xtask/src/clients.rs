//! The tracing clients that the tests send spans with. What is installed is what the lists in
//! `crates/periplus/tests/clients` say: a list that changed is installed anew.

use std::fs;
use std::path::Path;

use crate::shell::{command, run, sh};

/// Where they are installed, for the tests' `PERIPLUS_CLIENTS`.
pub(crate) const CLIENTS: &str = ".peers/clients";

const LISTS: &str = "crates/periplus/tests/clients";

/// Virtual environments and their lists: clients whose dependencies cannot go together have
/// environments of their own.
const PYTHON: [(&str, &str); 4] = [
    ("python", "python/requirements.txt"),
    ("python-old", "python/requirements-old.txt"),
    ("python-zipkin", "python/requirements-zipkin.txt"),
    ("python-zipkin-old", "python/requirements-zipkin-old.txt"),
];

const NODE: (&str, &str) = ("node", "node/package.json");

/// Whether an environment has what its list says.
fn is_installed((environment, list): (&str, &str)) -> bool {
    let wanted = fs::read(Path::new(LISTS).join(list));
    let installed = fs::read(stamp(environment));
    matches!((wanted, installed), (Ok(wanted), Ok(installed)) if wanted == installed)
}

/// Notes that an environment has what its list says.
fn note((environment, list): (&str, &str)) -> anyhow::Result<()> {
    fs::copy(Path::new(LISTS).join(list), stamp(environment))?;
    Ok(())
}

fn stamp(environment: &str) -> String {
    format!("{CLIENTS}/{environment}/installed")
}

pub(crate) fn has_python() -> bool {
    PYTHON.into_iter().all(is_installed)
}

pub(crate) fn has_node() -> bool {
    is_installed(NODE)
}

pub(crate) fn python() -> anyhow::Result<()> {
    for (environment, list) in PYTHON.into_iter().filter(|it| !is_installed(*it)) {
        sh(&format!("python3 -m venv --clear {CLIENTS}/{environment}"))?;
        run(command(&format!("{CLIENTS}/{environment}/bin/python"))
            .args("-m pip install --quiet --disable-pip-version-check -r".split(' '))
            .arg(format!("{LISTS}/{list}")))?;
        note((environment, list))?;
    }
    Ok(())
}

pub(crate) fn node() -> anyhow::Result<()> {
    let (environment, list) = NODE;
    let home = format!("{CLIENTS}/{environment}");
    fs::create_dir_all(&home)?;
    fs::copy(Path::new(LISTS).join(list), format!("{home}/package.json"))?;
    run(command("npm install --no-package-lock --no-audit --no-fund").current_dir(&home))?;
    note(NODE)
}
