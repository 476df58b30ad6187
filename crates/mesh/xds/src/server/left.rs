//! The clusters that clients of the form that does not say what they hold were sent last: one that comes back on another
//! stream goes on with routes that may name them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Resource;

/// The most nodes that are remembered: of more, those go whose streams ended first.
const MOST: usize = 10_000;

#[derive(Debug)]
pub(super) struct Left {
    /// How long they are known after the end of a stream.
    time: Duration,
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    by_node: HashMap<String, Clusters>,
    last_stream: u64,
    swept: Instant,
}

#[derive(Debug)]
struct Clusters {
    /// Who has put them there: an older stream of the node may end later.
    stream: u64,
    all: Vec<Arc<Resource>>,
    ended: Option<Instant>,
}

impl Left {
    pub(super) fn new(time: Duration) -> Self {
        Self {
            time,
            most: MOST,
            inner: Mutex::new(Inner {
                by_node: HashMap::new(),
                last_stream: 0,
                swept: Instant::now(),
            }),
        }
    }

    /// A number for a new stream.
    pub(super) fn stream(&self) -> u64 {
        self.with(|inner| {
            inner.last_stream += 1;
            inner.last_stream
        })
    }

    /// A node has these from now on.
    pub(super) fn put(&self, node: &str, stream: u64, all: &[Arc<Resource>]) {
        let clusters = Clusters {
            stream,
            all: all.to_vec(),
            ended: None,
        };
        self.with(|inner| {
            if inner.swept.elapsed() > self.time {
                inner.swept = Instant::now();
                inner.by_node.retain(|_, it| it.is_known(self.time));
            }
            if inner.by_node.len() >= self.most && !inner.by_node.contains_key(node) {
                let ended = |it: &Clusters| it.ended.map(|at| (at, it.stream));
                let all = inner.by_node.iter();
                let all = all.filter_map(|(node, it)| Some((ended(it)?, node)));
                // While all of them are connected, one more is not remembered.
                let Some(first) = all.min().map(|(_, node)| node.clone()) else {
                    return;
                };
                inner.by_node.remove(&first);
            }
            inner.by_node.insert(node.to_owned(), clusters);
        });
    }

    /// The stream has ended.
    pub(super) fn end(&self, node: &str, stream: u64) {
        self.with(|inner| {
            let known = inner.by_node.get_mut(node);
            if let Some(known) = known.filter(|it| it.stream == stream) {
                known.ended = Some(Instant::now());
            }
        });
    }

    /// What a node that comes back had last, as far as that is known.
    pub(super) fn of(&self, node: &str) -> Vec<Arc<Resource>> {
        self.with(|inner| {
            let known = inner.by_node.get(node);
            let known = known.filter(|it| it.is_known(self.time));
            known.map(|it| it.all.clone()).unwrap_or_default()
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Clusters {
    fn is_known(&self, time: Duration) -> bool {
        self.ended.is_none_or(|ended| ended.elapsed() < time)
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::Any;

    use super::*;

    #[test]
    fn the_newest_stream_of_a_node_counts_and_for_a_time() {
        let clusters = |name: &str| [Arc::new(Resource::from_any(name, Any::default()))];
        let names = |left: &Left| -> Vec<String> {
            let all = left.of("n");
            all.iter().map(|one| one.name().to_owned()).collect()
        };
        let left = Left::new(Duration::from_secs(300));
        let (old, new) = (left.stream(), left.stream());
        assert_eq!(names(&left), [""; 0]);
        left.put("n", old, &clusters("a"));
        assert_eq!(
            names(&left),
            ["a"],
            "also while the stream is not seen to have ended"
        );
        left.put("n", new, &clusters("b"));
        left.end("n", old);
        assert_eq!(names(&left), ["b"]);

        let left = Left::new(Duration::ZERO);
        let stream = left.stream();
        left.put("n", stream, &clusters("a"));
        assert_eq!(names(&left), ["a"]);
        left.end("n", stream);
        assert_eq!(names(&left), [""; 0]);
        left.put("m", left.stream(), &clusters("c"));
        assert_eq!(
            left.with(|inner| inner.by_node.len()),
            1,
            "who does not come back is forgotten"
        );
    }

    #[test]
    fn of_too_many_nodes_those_are_forgotten_that_left_first() {
        let mut left = Left::new(Duration::from_secs(300));
        left.most = 2;
        let clusters = [Arc::new(Resource::from_any("a", Any::default()))];
        let put = |node: &str| {
            let stream = left.stream();
            left.put(node, stream, &clusters);
            stream
        };
        let known = || ["a", "b", "c"].map(|node| !left.of(node).is_empty());
        let (first, second) = (put("a"), put("b"));
        put("c");
        assert_eq!(known(), [true, true, false], "those are connected");
        left.end("b", second);
        left.end("a", first);
        put("c");
        assert_eq!(known(), [true, false, true]);
    }
}
