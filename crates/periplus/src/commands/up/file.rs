//! The file of a mesh: which services there are, and how their processes are started.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use periplus_local::{Mesh, PortPlan, Workload};
use periplus_proxy::bootstrap::{HISTOGRAM_BUCKETS, histogram_settings};
use serde::Deserialize;
use serde_saphyr::{DuplicateKeyPolicy, MessageFormatter as _, UserMessageFormatter};

/// More processes than this on one machine are an accident; each has a sidecar, too.
const MAX_WORKLOADS: usize = 500;
/// A file is read as a whole.
const MAX_BYTES: u64 = 1 << 20;

/// The file.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// The namespace of all services.
    #[serde(default = "default_namespace")]
    namespace: String,
    /// Directory of Istio resources, relative to the file.
    pub(super) rules: Option<PathBuf>,
    services: Vec<Service>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Service {
    name: String,
    /// The port that callers use.
    port: u16,
    versions: Vec<Version>,
}

/// A version of a service: so many processes of one command.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Version {
    #[serde(default = "default_version")]
    name: String,
    /// The program and its arguments; `${PORT}` stands for the port to listen on.
    command: Vec<String>,
    /// Where it runs, relative to the file; where the file is, if nothing.
    directory: Option<PathBuf>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default = "default_replicas")]
    replicas: u16,
    /// The path that is answered with 200 once it is ready; if there is none, it is when it listens.
    ready: Option<String>,
    service_account: Option<String>,
    /// What is asked of its sidecars, as by annotations of pods.
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn default_version() -> String {
    "v1".to_owned()
}

const fn default_replicas() -> u16 {
    1
}

/// How the process of a workload is started, with the port that it listens on.
#[derive(Debug, PartialEq)]
pub(super) struct Process {
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    pub(super) directory: PathBuf,
    pub(super) environment: Vec<(String, String)>,
    pub(super) ready: Option<String>,
}

impl File {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let cannot = || format!("cannot read {shown}");
        let size = std::fs::metadata(path).with_context(cannot)?.len();
        ensure!(
            size <= MAX_BYTES,
            "{shown} has {size} bytes, the most is {MAX_BYTES}"
        );
        let text = std::fs::read_to_string(path).with_context(cannot)?;
        Self::parse(&text).map_err(|error| anyhow::anyhow!("{shown}: {error:#}"))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let options = serde_saphyr::options! {
            duplicate_keys: DuplicateKeyPolicy::Error,
            with_snippet: false,
        };
        let file: Self = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let message = UserMessageFormatter.format_message(error.without_snippet());
            match error.location() {
                Some(at) => {
                    anyhow::anyhow!("line {}, column {}: {message}", at.line(), at.column())
                }
                None => anyhow::anyhow!("{message}"),
            }
        })?;
        file.check()?;
        Ok(file)
    }

    fn check(&self) -> anyhow::Result<()> {
        check_name(&self.namespace).context("namespace")?;
        ensure!(!self.services.is_empty(), "services: there are none");
        let mut names = HashSet::new();
        let mut workloads = 0;
        for service in &self.services {
            let of = || format!("services: {}", service.name);
            check_name(&service.name).with_context(of)?;
            ensure!(names.insert(&service.name), "{}: it is there twice", of());
            ensure!(service.port > 0, "{}: port: there is no port 0", of());
            ensure!(
                !service.versions.is_empty(),
                "{}: versions: there are none",
                of()
            );
            let mut versions = HashSet::new();
            for version in &service.versions {
                let of = || format!("{}: versions: {}", of(), version.name);
                version.check().with_context(of)?;
                ensure!(
                    versions.insert(&version.name),
                    "{}: it is there twice",
                    of()
                );
                workloads += usize::from(version.replicas);
            }
        }
        ensure!(
            workloads <= MAX_WORKLOADS,
            "services: they are {workloads} processes in all, the most is {MAX_WORKLOADS}"
        );
        Ok(())
    }

    /// The mesh, with a workload for each process.
    pub(super) fn mesh(&self, port_base: Option<u16>) -> anyhow::Result<Mesh> {
        let mut workloads = Vec::new();
        for service in &self.services {
            for version in &service.versions {
                for number in 0..version.replicas {
                    workloads.push(service.workload(version, number));
                }
            }
        }
        let names = workloads.iter().map(|workload| workload.name.as_str());
        Ok(Mesh {
            namespace: self.namespace.clone(),
            ports: PortPlan::new(port_base, names)?,
            workloads,
        })
    }

    /// How a workload of this mesh is started; relative paths begin in `directory`.
    pub(super) fn process(
        &self,
        workload: &Workload,
        port: u16,
        directory: &Path,
    ) -> Option<Process> {
        let service = self.services.iter().find(|one| one.name == workload.app)?;
        let version = service
            .versions
            .iter()
            .find(|one| one.name == workload.version)?;
        let port = port.to_string();
        let fill = |text: &String| text.replace("${PORT}", &port);
        let mut environment = vec![("PORT".to_owned(), port.clone())];
        let own = version.environment.iter();
        environment.extend(own.map(|(name, value)| (name.clone(), fill(value))));
        Some(Process {
            command: version.command.iter().map(fill).collect(),
            directory: match &version.directory {
                Some(own) => directory.join(own),
                None => directory.to_owned(),
            },
            environment,
            ready: version.ready.clone(),
        })
    }
}

impl Service {
    fn workload(&self, version: &Version, number: u16) -> Workload {
        let several = version.replicas > 1;
        let name = format!("{}-{}", self.name, version.name);
        Workload {
            name: match several {
                true => format!("{name}-{number}"),
                false => name,
            },
            app: self.name.clone(),
            version: version.name.clone(),
            service_account: (version.service_account.clone()).unwrap_or_else(|| self.name.clone()),
            service_port: self.port,
            instance: several.then_some(number),
            annotations: version.annotations.clone(),
        }
    }
}

impl Version {
    fn check(&self) -> anyhow::Result<()> {
        check_name(&self.name)?;
        match self.command.first() {
            Some(program) if !program.is_empty() => {}
            _ => bail!(
                "command: it is empty; write a list, such as [python3, app.py, \"${{PORT}}\"]"
            ),
        }
        ensure!(
            self.replicas > 0,
            "replicas: leave the version out to have none"
        );
        if let Some(path) = &self.ready {
            ensure!(
                path.starts_with('/'),
                "ready: '{path}' is no path, it begins without /"
            );
        }
        if let Some(account) = &self.service_account {
            check_name(account).context("serviceAccount")?;
        }
        for (name, value) in &self.annotations {
            let of = || format!("annotations: {name}");
            ensure!(
                name == HISTOGRAM_BUCKETS,
                "{}: nobody heeds it here, only {HISTOGRAM_BUCKETS} is heeded",
                of()
            );
            let settings = histogram_settings(value).map_err(anyhow::Error::msg);
            settings.with_context(of)?;
        }
        Ok(())
    }
}

/// Names become parts of host names.
fn check_name(name: &str) -> anyhow::Result<()> {
    let is_label = (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !name.starts_with('-')
        && !name.ends_with('-');
    ensure!(
        is_label,
        "'{name}' is no name: use up to 63 of a-z, 0-9 and -, without - at the ends"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = r#"
rules: mesh
services:
- name: front
  port: 80
  versions:
  - command: [python3, front.py, "--port=${PORT}"]
    ready: /health
- name: stock
  port: 9080
  versions:
  - name: v1
    command: [./stock]
    replicas: 2
    environment: {LISTEN: "127.0.0.1:${PORT}", LEVEL: debug}
  - name: v2
    command: [./stock, --new]
    directory: next
    serviceAccount: stock-next
    annotations: {sidecar.istio.io/statsHistogramBuckets: '{"istiocustom": [1, 10]}'}
"#;

    #[test]
    fn a_workload_for_each_process() {
        let file = File::parse(SHOP).unwrap();
        let mesh = file.mesh(Some(30_000)).unwrap();
        let names: Vec<&str> = mesh.workloads.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["front-v1", "stock-v1-0", "stock-v1-1", "stock-v2"]);
        let [front, first, second, next] = &mesh.workloads[..] else {
            unreachable!("there are four");
        };
        assert_eq!((front.service_port, front.instance), (80, None));
        assert_eq!((first.instance, second.instance), (Some(0), Some(1)));
        assert_eq!(next.service_account, "stock-next");
        let annotations = &mesh.sidecar(next).metadata["ANNOTATIONS"];
        assert_eq!(
            annotations[HISTOGRAM_BUCKETS],
            r#"{"istiocustom": [1, 10]}"#
        );
        assert_eq!(mesh.sidecar(front).metadata.get("ANNOTATIONS"), None);
        let process = |workload| file.process(workload, 30_010, Path::new("/shop")).unwrap();
        assert_eq!(process(front).command[2], "--port=30010");
        assert_eq!(process(front).ready.as_deref(), Some("/health"));
        let environment = process(first).environment;
        for (name, value) in [
            ("PORT", "30010"),
            ("LISTEN", "127.0.0.1:30010"),
            ("LEVEL", "debug"),
        ] {
            assert!(
                environment.contains(&(name.to_owned(), value.to_owned())),
                "{name}"
            );
        }
        assert_eq!(process(first).directory, Path::new("/shop"));
        assert_eq!(process(next).directory, Path::new("/shop/next"));
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("services: []", "services: there are none"),
            ("rules: x", "missing field"),
            ("servcies: []", "line 1, column 1: unknown field `servcies`"),
            (
                "services: [{name: A, port: 1, versions: []}]",
                "services: A: 'A' is no name",
            ),
            (
                "services: [{name: a, port: 0, versions: []}]",
                "services: a: port: there is no port 0",
            ),
            (
                "services: [{name: a, port: 1, versions: []}]",
                "services: a: versions: there are none",
            ),
            (
                "services: [{name: a, port: 1, versions: [{command: ./a}]}]",
                "column",
            ),
            (
                "services: [{name: a, port: 1, versions: [{command: []}]}]",
                "services: a: versions: v1: command: it is empty; write a list",
            ),
            (
                "services: [{name: a, port: 1, versions: [{command: [x], replicas: 0}]}]",
                "replicas: leave the version out",
            ),
            (
                "services: [{name: a, port: 1, versions: [{command: [x], ready: health}]}]",
                "ready: 'health' is no path",
            ),
            (
                "services: [{name: a, port: 1, versions: [{command: [x]}, {command: [y]}]}]",
                "services: a: versions: v1: it is there twice",
            ),
            (
                "services: [{name: a, port: 1, versions: [{command: [x], replicas: 501}]}]",
                "they are 501 processes in all, the most is 500",
            ),
            (
                "services: [{name: a, port: 1, versions: [{command: [x], annotations: {a: b}}]}]",
                "services: a: versions: v1: annotations: a: nobody heeds it here, only sidecar.istio.io/statsHistogramBuckets",
            ),
            (
                "services: [{name: a, port: 1, versions: [{command: [x], annotations: \
                 {sidecar.istio.io/statsHistogramBuckets: '{\"istiocustom\": [0]}'}}]}]",
                "annotations: sidecar.istio.io/statsHistogramBuckets: istiocustom: 0 is no bound, it must be more than 0",
            ),
            ("services: [{name: a, port: 70000, versions: []}]", "line 1"),
        ];
        for (text, expected) in cases {
            let error = format!("{:#}", File::parse(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
