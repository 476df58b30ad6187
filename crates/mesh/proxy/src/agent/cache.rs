//! The last good configuration on disk: what a proxy starts on while there is no control plane.
//!
//! One file, replaced as a whole: a line that names the format, the checksum of what follows, and the
//! resources as protobuf. A file that is not as it should be is as good as none, and the log says why.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use thiserror::Error;

use crate::balance::xxh64;

const MAGIC: &[u8] = b"periplus proxy configuration 1\n";
/// A larger file is not read, and not written.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// The resources of each type that the proxy runs on.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Cached {
    /// `node.id` of whom it was for.
    #[prost(string, tag = "1")]
    pub(super) node: String,
    #[prost(btree_map = "string, message", tag = "2")]
    pub(super) types: BTreeMap<String, CachedType>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CachedType {
    /// Of the newest response that was accepted.
    #[prost(string, tag = "1")]
    pub(super) version: String,
    #[prost(btree_map = "string, message", tag = "2")]
    pub(super) resources: BTreeMap<String, CachedResource>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CachedResource {
    #[prost(string, tag = "1")]
    pub(super) version: String,
    #[prost(message, optional, tag = "2")]
    pub(super) body: Option<Any>,
}

/// Why there is nothing to start on.
#[derive(Debug, Error)]
pub(super) enum CacheError {
    #[error("it cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("it has {0} bytes, more than {MAX_BYTES}")]
    TooLarge(u64),
    #[error("it is of another format, or of another version of it")]
    Format,
    #[error("its checksum is wrong: it was damaged, or not written to its end")]
    Checksum,
    #[error("it cannot be decoded: {0}")]
    Decode(#[from] prost::DecodeError),
    #[error("it is that of node {0:?}")]
    OtherNode(String),
}

/// Where the configuration is kept.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    path: PathBuf,
}

impl Cache {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What was kept for this node; none if there is no file.
    pub(super) fn read(&self, node: &str) -> Result<Option<Cached>, CacheError> {
        let file = match std::fs::metadata(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        // A pipe would be waited for.
        if !file.is_file() {
            return Err(CacheError::Format);
        }
        if file.len() > MAX_BYTES {
            return Err(CacheError::TooLarge(file.len()));
        }
        let bytes = std::fs::read(&self.path)?;
        let cached = decode(&bytes)?;
        if cached.node != node {
            return Err(CacheError::OtherNode(cached.node));
        }
        Ok(Some(cached))
    }

    /// Replaces the file.
    pub(super) fn write(&self, cached: &Cached) -> Result<(), CacheError> {
        let bytes = encode(cached);
        if bytes.len() as u64 > MAX_BYTES {
            return Err(CacheError::TooLarge(bytes.len() as u64));
        }
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(name);
        let written = (|| {
            let mut options = std::fs::OpenOptions::new();
            // A private key may stand in a listener.
            let options = options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&temporary, &self.path)
        })();
        if written.is_err() {
            // What is left of it is of no use; an error here changes nothing about the first one.
            let _ = std::fs::remove_file(&temporary);
        }
        Ok(written?)
    }
}

fn encode(cached: &Cached) -> Vec<u8> {
    let body = cached.encode_to_vec();
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&xxh64(&body, 0).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Cached, CacheError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(CacheError::Format)?;
    let (checksum, body) = rest.split_first_chunk::<8>().ok_or(CacheError::Checksum)?;
    if xxh64(body, 0) != u64::from_le_bytes(*checksum) {
        return Err(CacheError::Checksum);
    }
    Ok(Cached::decode(body)?)
}

impl CachedType {
    /// Takes over a response that was accepted.
    pub(super) fn update(
        &mut self,
        version: &str,
        resources: Vec<(String, CachedResource)>,
        gone: impl Fn(&str) -> bool,
    ) {
        version.clone_into(&mut self.version);
        self.resources.retain(|name, _| !gone(name));
        self.resources.extend(resources);
    }

    pub(super) fn bodies(&self) -> Vec<Any> {
        let resources = self.resources.values();
        resources.filter_map(|one| one.body.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Cached {
        let mut cached = Cached {
            node: "me".to_owned(),
            ..Cached::default()
        };
        let body = Any {
            type_url: "t".to_owned(),
            value: vec![1, 2, 3],
        };
        let resource = CachedResource {
            version: "7".to_owned(),
            body: Some(body),
        };
        let of_type = cached.types.entry("t".to_owned()).or_default();
        of_type.update("v", vec![("a".to_owned(), resource)], |_| false);
        cached
    }

    #[test]
    fn what_is_written_is_read_back_and_what_is_damaged_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = Cache::new(directory.path().join("config"));
        assert!(cache.read("me").expect("no error").is_none());
        cache.write(&sample()).expect("written");
        assert_eq!(cache.read("me").expect("valid"), Some(sample()));
        let other = cache.read("you").expect_err("another node").to_string();
        assert_eq!(other, "it is that of node \"me\"");
        let left: Vec<_> = std::fs::read_dir(directory.path())
            .expect("a list")
            .collect();
        assert_eq!(left.len(), 1, "no temporary file stays");

        let good = std::fs::read(cache.path()).expect("read");
        for cut in [0, 5, MAGIC.len(), MAGIC.len() + 8, good.len() - 1] {
            std::fs::write(cache.path(), &good[..cut]).expect("write");
            cache.read("me").expect_err("cut");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(cache.path(), &bad).expect("write");
            cache.read("me").expect_err("damaged");
        }
        std::fs::remove_file(cache.path()).expect("remove");
        std::fs::create_dir(cache.path()).expect("a directory in its place");
        cache.read("me").expect_err("no file");
        cache.write(&sample()).expect_err("cannot replace it");
    }
}
