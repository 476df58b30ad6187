//! The spans of a run, as files: OTLP requests for us, rows for the peers, and what is known of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, ensure};
use periplus_model::{Batch, Resource, Span, SpanKind, StatusCode, TraceId};
use periplus_wire::otlp::decode_protobuf;
use periplus_workload::{demo_requests, tracegen_requests};

use super::rows;

const HOUR_NANO: u64 = 3_600_000_000_000;

/// Of this many traces one is watched.
const WATCHED: u64 = 64;

/// How many different traces are asked for.
const SAMPLES: usize = 200;

/// A reference workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Workload {
    /// Like the OpenTelemetry demo.
    Demo,
    /// Jaeger's load generator, as in its ClickHouse benchmark.
    Tracegen,
}

impl Workload {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Tracegen => "tracegen",
        }
    }

    /// The requests. Both begin in an hour that has passed, so that they look like recent spans and
    /// none lies in the future.
    pub(super) fn requests(
        self,
        spans: usize,
        per_request: usize,
    ) -> anyhow::Result<Box<dyn Iterator<Item = Vec<u8>>>> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let hour = u64::try_from(now.as_nanos())? / HOUR_NANO;
        Ok(match self {
            Self::Demo => Box::new(demo_requests(spans, (hour - 1) * HOUR_NANO, per_request)),
            Self::Tracegen => {
                // Ten days long.
                let start = (hour - 241) * HOUR_NANO;
                let whole_traces = per_request / 10 * 10;
                Box::new(tracegen_requests(spans / 10, 9, 10, start, whole_traces))
            }
        })
    }
}

/// The files and what is in them.
#[derive(Debug)]
pub(super) struct Corpus {
    pub(super) workload: Workload,
    /// Requests, each behind its length as four bytes.
    pub(super) requests: PathBuf,
    pub(super) spans: u64,
    pub(super) bytes: u64,
    pub(super) facts: Facts,
    /// The peers' rows.
    pub(super) chunks: Vec<PathBuf>,
    pub(super) resources: PathBuf,
    pub(super) keys: rows::Keys,
}

/// What the answers can be checked with.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Traces and how many spans they have.
    pub(super) traces: Vec<(TraceId, usize)>,
    /// Text attributes that few traces have.
    pub(super) rare: Vec<(String, String)>,
    /// Services, those with the most spans first.
    pub(super) services: Vec<String>,
    /// How many operations (name and kind) the services have.
    pub(super) operations: Vec<usize>,
    /// The first and the last start.
    pub(super) starts: (u64, u64),
    /// A service, and a duration that its failed spans never have, but others do.
    pub(super) too_long: Option<(String, u64)>,
}

impl Corpus {
    /// Makes the files. Rows are made in chunks of this many spans, or not at all.
    pub(super) fn make(
        directory: &Path,
        workload: Workload,
        spans: usize,
        per_request: usize,
        chunk: Option<usize>,
    ) -> anyhow::Result<Self> {
        let requests = directory.join("requests.otlp");
        let mut file = BufWriter::new(File::create(&requests)?);
        let mut reading = Reading::new(directory, chunk);
        let mut bytes = 0;
        for request in workload.requests(spans, per_request)? {
            file.write_all(&u32::try_from(request.len())?.to_le_bytes())?;
            file.write_all(&request)?;
            bytes += request.len() as u64;
            let decoded = decode_protobuf(&request)?;
            ensure!(decoded.refused.is_empty(), "the workload has bad spans");
            reading.take(&decoded.batch)?;
        }
        file.flush()?;
        reading.end_chunk()?;
        let resources = directory.join("resources.rows");
        std::fs::write(&resources, &reading.resource_rows)?;
        Ok(Self {
            workload,
            requests,
            spans: reading.spans,
            bytes,
            facts: reading.facts(workload)?,
            chunks: std::mem::take(&mut reading.chunks),
            resources,
            keys: std::mem::take(&mut reading.keys),
        })
    }

    /// Reads the requests, one after the other.
    pub(super) fn reader(&self) -> anyhow::Result<RequestReader> {
        Ok(RequestReader(BufReader::with_capacity(
            1 << 20,
            File::open(&self.requests)?,
        )))
    }
}

/// Reads requests from a file.
#[derive(Debug)]
pub(super) struct RequestReader(BufReader<File>);

impl RequestReader {
    /// Puts the next request into the buffer; false if there is none.
    pub(super) fn read(&mut self, request: &mut Vec<u8>) -> anyhow::Result<bool> {
        let mut length = [0; 4];
        request.clear();
        if self.0.read(&mut length[..1])? == 0 {
            return Ok(false);
        }
        self.0.read_exact(&mut length[1..])?;
        request.resize(u32::from_le_bytes(length) as usize, 0);
        self.0.read_exact(request)?;
        Ok(true)
    }
}

/// What is seen while the requests go by.
struct Reading {
    directory: PathBuf,
    chunk: Option<usize>,
    spans: u64,
    row: Vec<u8>,
    file: Option<(BufWriter<File>, usize)>,
    chunks: Vec<PathBuf>,
    keys: rows::Keys,
    resource_ids: HashMap<Vec<u8>, u32>,
    resource_rows: Vec<u8>,
    watched: BTreeMap<TraceId, Watched>,
    services: HashMap<String, Service>,
    starts: (u64, u64),
}

#[derive(Default)]
struct Watched {
    spans: usize,
    value: Option<(String, String)>,
}

#[derive(Default)]
struct Service {
    spans: u64,
    operations: BTreeSet<(String, SpanKind)>,
    longest: u64,
    longest_failed: u64,
}

impl Reading {
    fn new(directory: &Path, chunk: Option<usize>) -> Self {
        Self {
            directory: directory.to_owned(),
            chunk,
            spans: 0,
            row: Vec::new(),
            file: None,
            chunks: Vec::new(),
            keys: rows::Keys::new(),
            resource_ids: HashMap::new(),
            resource_rows: Vec::new(),
            watched: BTreeMap::new(),
            services: HashMap::new(),
            starts: (u64::MAX, 0),
        }
    }

    fn take(&mut self, batch: &Batch) -> anyhow::Result<()> {
        for group in &batch.groups {
            let resource = self.resource(&group.resource)?;
            let name = group.resource.service_name();
            if !self.services.contains_key(name) {
                self.services.insert(name.to_owned(), Service::default());
            }
            for span in &group.spans {
                if let Some(service) = self.services.get_mut(name) {
                    service.take(span);
                }
                self.watch(span);
                let scope = (&*group.scope.name, &*group.scope.version);
                self.write_row(span, resource, scope)?;
            }
        }
        if let (Some(chunk), Some((_, written))) = (self.chunk, &self.file)
            && *written >= chunk
        {
            self.end_chunk()?;
        }
        Ok(())
    }

    fn write_row(&mut self, span: &Span, resource: u32, scope: (&str, &str)) -> anyhow::Result<()> {
        self.spans += 1;
        if self.chunk.is_none() {
            return Ok(());
        }
        let (file, written) = match &mut self.file {
            Some(file) => file,
            none => {
                let path = self
                    .directory
                    .join(format!("{:03}.rows", self.chunks.len()));
                let file = BufWriter::with_capacity(1 << 20, File::create(&path)?);
                self.chunks.push(path);
                none.insert((file, 0))
            }
        };
        self.row.clear();
        rows::span(&mut self.row, span, resource, scope, &mut self.keys)?;
        file.write_all(&self.row)?;
        *written += 1;
        Ok(())
    }

    fn end_chunk(&mut self) -> anyhow::Result<()> {
        if let Some((mut file, _)) = self.file.take() {
            file.flush()?;
        }
        Ok(())
    }

    /// The number of the resource; resources are told apart by what their row says.
    fn resource(&mut self, resource: &Arc<Resource>) -> anyhow::Result<u32> {
        let mut row = Vec::new();
        rows::resource(&mut row, 0, resource)?;
        let next = u32::try_from(self.resource_ids.len())?;
        let id = *self.resource_ids.entry(row).or_insert(next);
        if id == next {
            rows::resource(&mut self.resource_rows, id, resource)?;
        }
        Ok(id)
    }

    fn watch(&mut self, span: &Span) {
        self.starts.0 = self.starts.0.min(span.start_unix_nano);
        self.starts.1 = self.starts.1.max(span.start_unix_nano);
        if !span.trace_id.low().is_multiple_of(WATCHED) {
            return;
        }
        let watched = self.watched.entry(span.trace_id).or_default();
        watched.spans += 1;
        if watched.value.is_none() {
            // `demo` has a user of its own in every trace; `tracegen`'s pairs come again after
            // 97,000.
            let rare = |key: &str| key == "app.user.id" || key.starts_with("attr_");
            let found = span.attributes.iter().find(|a| rare(&a.key));
            watched.value = found
                .and_then(|attribute| Some((attribute.key.clone(), attribute.value.as_str()?)))
                .map(|(key, value)| (key, value.to_owned()));
        }
    }

    fn facts(&self, workload: Workload) -> anyhow::Result<Facts> {
        let step = (self.watched.len() / SAMPLES).max(1);
        let sampled: Vec<_> = self.watched.iter().step_by(step).collect();
        ensure!(!sampled.is_empty(), "too few spans");
        let mut services: Vec<_> = self.services.iter().collect();
        services.sort_by_key(|(name, service)| (std::cmp::Reverse(service.spans), *name));
        let too_long = services
            .iter()
            .find(|(_, s)| s.longest_failed > 0 && s.longest_failed < s.longest)
            .map(|(name, service)| ((*name).clone(), service.longest_failed + 1));
        let rare: Vec<_> = sampled
            .iter()
            .filter_map(|(_, watched)| watched.value.clone())
            .collect();
        ensure!(!rare.is_empty(), "{} has no rare values", workload.name());
        Ok(Facts {
            traces: sampled.iter().map(|(id, w)| (**id, w.spans)).collect(),
            rare,
            operations: services.iter().map(|(_, s)| s.operations.len()).collect(),
            services: services.iter().map(|(name, _)| (*name).clone()).collect(),
            starts: self.starts,
            too_long,
        })
    }
}

impl Service {
    fn take(&mut self, span: &Span) {
        self.spans += 1;
        let operation = (span.name.clone(), span.kind);
        self.operations.insert(operation);
        self.longest = self.longest.max(span.duration_nano());
        if span.status.code == StatusCode::Error {
            self.longest_failed = self.longest_failed.max(span.duration_nano());
        }
    }
}

/// A directory of its own for the files of a run; removed with them when dropped.
pub(super) fn directory(below: &Path) -> anyhow::Result<tempfile::TempDir> {
    std::fs::create_dir_all(below)?;
    tempfile::Builder::new()
        .prefix("store-")
        .tempdir_in(below)
        .with_context(|| format!("cannot make a directory in {}", below.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the engines' answers are checked with, counted another way.
    #[test]
    fn facts_are_those_of_the_requests() {
        let directory = tempfile::tempdir().unwrap();
        let chunk = Some(1_000);
        let corpus = Corpus::make(directory.path(), Workload::Demo, 5_000, 512, chunk).unwrap();
        let (mut reader, mut request) = (corpus.reader().unwrap(), Vec::new());
        let mut traces: HashMap<TraceId, usize> = HashMap::new();
        let (mut bytes, mut starts) = (0, (u64::MAX, 0));
        while reader.read(&mut request).unwrap() {
            bytes += request.len() as u64;
            for group in decode_protobuf(&request).unwrap().batch.groups {
                for span in group.spans {
                    *traces.entry(span.trace_id).or_default() += 1;
                    starts = (
                        span.start_unix_nano.min(starts.0),
                        span.start_unix_nano.max(starts.1),
                    );
                }
            }
        }
        assert_eq!(traces.values().sum::<usize>(), 5_000);
        assert_eq!((corpus.spans, corpus.bytes), (5_000, bytes));
        assert_eq!(corpus.facts.starts, starts);
        assert_eq!(corpus.facts.services.len(), 20);
        assert!(!corpus.facts.traces.is_empty());
        for (id, spans) in &corpus.facts.traces {
            assert_eq!(traces[id], *spans);
        }
        assert_eq!(corpus.chunks.len(), 5);
        assert!(corpus.chunks.iter().all(|chunk| chunk.exists()));
        assert_eq!(corpus.keys["a_bool"].len(), 1);
    }
}
