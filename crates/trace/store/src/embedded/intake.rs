//! From a batch to its acknowledgement: a queue, a thread that writes the log for all batches that
//! wait, and a thread that puts them into the table while the log's next group is on its way down.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use periplus_segment::limits::{MAX_DEPTH, MAX_HEAP_BYTES};
use tokio::sync::oneshot;

use super::batch;
use super::health::Health;
use super::payload::{Payload, Unfit};
use super::wal::{AppendError, HEADER, Log, Position};
use crate::{AppendOtlpError, OtlpTaken, StoreError, priority};

/// How many bytes of records go down with one sync.
const GROUP_BYTES: usize = 4 << 20;

/// A batch as the model has it takes about this many times the bytes of its record.
const BLOW_UP: u64 = 4;

/// Where batches go when they are in the log.
pub(super) trait Sink: Send + Sync + 'static {
    /// Makes a payload visible. Its record ends at `upto`.
    fn apply(&self, payload: &Payload, upto: Position) -> Result<OtlpTaken, Unfit>;

    /// The log has found no room for so many bytes.
    fn out_of_room(&self, bytes: u64);

    /// The log has found room again.
    fn found_room(&self);
}

/// The way in.
#[derive(Debug)]
pub(super) struct Intake {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    max_bytes: u64,
    /// What is between the queue and the table, and in both.
    bytes: AtomicU64,
    health: Arc<Health>,
    accepted_spans: AtomicU64,
    busy_requests: AtomicU64,
    abandoned_requests: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    payload: Payload,
    record: Bytes,
    room: Room,
    claim: Arc<Claim>,
    answer: oneshot::Sender<Answer>,
}

/// A payload that has room in the queue.
#[derive(Debug)]
pub(super) struct Reserved {
    payload: Payload,
    record: Bytes,
    room: Room,
}

/// Room in the queue, given back with it.
#[derive(Debug)]
struct Room {
    shared: Arc<Shared>,
    cost: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.bytes.fetch_sub(self.cost, Ordering::Relaxed);
    }
}

impl Entry {
    /// Takes it out of the hands of its sender; `false` if the sender is gone: then it is not to be
    /// stored.
    fn claim(&self) -> bool {
        !self.answer.is_closed() && self.claim.take()
    }
}

/// Taken once: by the writer, and then the sender waits for what comes of it; or by the sender, and
/// then nothing comes of it.
#[derive(Debug, Default)]
struct Claim(AtomicBool);

impl Claim {
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// A payload on its way.
#[derive(Debug)]
pub(super) struct Pending {
    claim: Arc<Claim>,
    answer: oneshot::Receiver<Answer>,
}

impl Pending {
    /// Waits for the answer; `None` if the payload was still in the queue after so long, and is out
    /// of it now. What is on its way to the log is waited for: it may be stored.
    pub(super) async fn answer(mut self, patience: Duration) -> Option<Answer> {
        let received = match tokio::time::timeout(patience, &mut self.answer).await {
            Ok(received) => received,
            Err(_) if self.claim.take() => return None,
            Err(_) => self.answer.await,
        };
        Some(received.unwrap_or_else(|_| {
            Err(StoreError::Io {
                action: "waiting for the log",
                source: io::Error::other("its thread has ended"),
            }
            .into())
        }))
    }
}

/// What a sender is told.
pub(super) type Answer = Result<OtlpTaken, AppendOtlpError>;

struct Group {
    entries: Vec<Entry>,
    /// Where the records end, one by one.
    ends: Vec<Position>,
}

impl Intake {
    /// Starts the threads; without a log, batches go to the table at once.
    pub(super) fn start(
        log: Option<Log>,
        at: Position,
        sink: Arc<dyn Sink>,
        health: Arc<Health>,
        max_bytes: u64,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            max_bytes,
            bytes: AtomicU64::new(0),
            health,
            accepted_spans: AtomicU64::new(0),
            busy_requests: AtomicU64::new(0),
            abandoned_requests: AtomicU64::new(0),
        });
        // One group in the making, one under way, one to apply: more would only be memory.
        let (sender, receiver) = sync_channel(1);
        let writer = {
            let (shared, sink) = (Arc::clone(&shared), Arc::clone(&sink));
            let name = thread::Builder::new().name("store-log".to_owned());
            name.spawn(move || {
                let _watch = shared.health.watch("writing the log");
                priority::lower(priority::INTAKE);
                shared.write_groups(log, at, &sender, &*sink);
            })?
        };
        let applier = {
            let shared = Arc::clone(&shared);
            let name = thread::Builder::new().name("store-table".to_owned());
            name.spawn(move || {
                let _watch = shared.health.watch("filling a table");
                priority::lower(priority::INTAKE);
                shared.apply_groups(&receiver, &*sink);
            })?
        };
        Ok(Self {
            shared,
            threads: Mutex::new(vec![writer, applier]),
        })
    }

    /// Takes room in the queue for a payload.
    pub(super) fn reserve(&self, payload: Payload) -> Result<Reserved, StoreError> {
        self.shared.health.check()?;
        let (record, blow_up) = match &payload {
            Payload::Otlp(body) => (body.clone(), 1),
            Payload::Batch(batch) => {
                let mut record = Vec::new();
                if !batch::encode(batch, &mut record) {
                    return Err(too_deep());
                }
                (record.into(), BLOW_UP)
            }
        };
        let cost = (record.len() + HEADER) as u64 * blow_up;
        let max_bytes = self.shared.max_bytes;
        if cost > max_bytes {
            return Err(StoreError::TooLarge {
                what: "in all",
                found_bytes: cost,
                max_bytes,
            });
        }
        let take = |bytes: u64| (bytes + cost <= max_bytes).then_some(bytes + cost);
        let taken = self
            .shared
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        if taken.is_err() {
            return Err(self.busy("too much waits to be written"));
        }
        Ok(Reserved {
            payload,
            record,
            room: Room {
                shared: Arc::clone(&self.shared),
                cost,
            },
        })
    }

    /// Queues a payload.
    pub(super) fn submit(&self, reserved: Reserved) -> Result<Pending, StoreError> {
        let (answer, receiver) = oneshot::channel();
        let claim = Arc::new(Claim::default());
        let mut queue = self.shared.queue();
        if queue.closed {
            drop(queue);
            return Err(self.busy("the store is being closed"));
        }
        queue.entries.push_back(Entry {
            payload: reserved.payload,
            record: reserved.record,
            room: reserved.room,
            claim: Arc::clone(&claim),
            answer,
        });
        drop(queue);
        self.shared.wake.notify_one();
        Ok(Pending {
            claim,
            answer: receiver,
        })
    }

    /// A refusal that is counted.
    pub(super) fn busy(&self, reason: &str) -> StoreError {
        self.shared.busy_requests.fetch_add(1, Ordering::Relaxed);
        StoreError::Busy {
            reason: reason.to_owned(),
        }
    }

    /// Spans accepted since the start.
    pub(super) fn accepted_spans(&self) -> u64 {
        self.shared.accepted_spans.load(Ordering::Relaxed)
    }

    /// Requests refused since the start because something was full.
    pub(super) fn busy_requests(&self) -> u64 {
        self.shared.busy_requests.load(Ordering::Relaxed)
    }

    /// Requests since the start whose senders went away, or were sent away, before the log had them.
    pub(super) fn abandoned_requests(&self) -> u64 {
        self.shared.abandoned_requests.load(Ordering::Relaxed)
    }

    /// Takes no more, finishes what waits, and ends the threads.
    pub(super) fn close(&self) {
        self.shared.queue().closed = true;
        self.shared.wake.notify_one();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store has crashed");
            }
        }
    }
}

impl Shared {
    fn write_groups(
        &self,
        mut log: Option<Log>,
        at: Position,
        applier: &SyncSender<Group>,
        sink: &dyn Sink,
    ) {
        let mut was_full = false;
        while let Some(mut entries) = self.next_group() {
            let written = match &mut log {
                _ if self.health.check().is_err() => None,
                None => Some(vec![at; entries.len()]),
                Some(log) => self.write(log, &entries, sink),
            };
            if std::mem::replace(&mut was_full, written.is_none()) && written.is_some() {
                sink.found_room();
            }
            match written {
                Some(ends) => {
                    for entry in &mut entries {
                        entry.record = Bytes::new();
                    }
                    // The applier ends only after this thread, unless it crashes; then its watch has
                    // told, and the senders learn that nobody knows.
                    let _ = applier.send(Group { entries, ends });
                }
                None => self.refuse(entries),
            }
        }
    }

    /// Waits for batches, and takes as many as one sync is for; nothing when it is time to end.
    /// Batches that nobody waits for any more are left out: their senders will send them again.
    fn next_group(&self) -> Option<Vec<Entry>> {
        let mut queue = self.queue();
        let mut bytes = 0;
        let mut group: Vec<Entry> = Vec::new();
        loop {
            match queue.entries.pop_front() {
                Some(entry) if bytes + entry.record.len() > GROUP_BYTES && !group.is_empty() => {
                    queue.entries.push_front(entry);
                    return Some(group);
                }
                Some(entry) if entry.claim() => {
                    bytes += entry.record.len();
                    group.push(entry);
                }
                Some(_) => {
                    self.abandoned_requests.fetch_add(1, Ordering::Relaxed);
                }
                None if !group.is_empty() => return Some(group),
                None if queue.closed => return None,
                None => {
                    let woken = self.wake.wait(queue);
                    queue = woken.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Writes a group; where its records end, if that went well.
    fn write(&self, log: &mut Log, entries: &[Entry], sink: &dyn Sink) -> Option<Vec<Position>> {
        let record = |entry: &Entry| (entry.payload.kind(), entry.record.clone());
        let records: Vec<_> = entries.iter().map(record).collect();
        let bodies = records.iter().map(|(kind, body)| (*kind, &**body));
        match log.append(now_unix_nano(), bodies) {
            Ok(ends) => Some(ends),
            Err(AppendError::Full(error)) => {
                tracing::warn!(%error, "the log finds no room; batches are refused until there is some");
                let bytes = records.iter().map(|(_, body)| (body.len() + HEADER) as u64);
                sink.out_of_room(bytes.sum());
                None
            }
            Err(AppendError::Broken { action, source }) => {
                self.health.fail(action, &source);
                None
            }
        }
    }

    fn refuse(&self, entries: Vec<Entry>) {
        for Entry { room, answer, .. } in entries {
            drop(room);
            let outcome = self.health.check().and_then(|()| {
                self.busy_requests.fetch_add(1, Ordering::Relaxed);
                Err(StoreError::Busy {
                    reason: "the disk is full, or too many files are open".to_owned(),
                })
            });
            let outcome = outcome.map(|()| OtlpTaken::default());
            let _ = answer.send(outcome.map_err(Into::into));
        }
    }

    fn apply_groups(&self, groups: &Receiver<Group>, sink: &dyn Sink) {
        for group in groups {
            for (entry, upto) in group.entries.into_iter().zip(group.ends) {
                let Entry {
                    payload,
                    room,
                    answer,
                    ..
                } = entry;
                let outcome = sink.apply(&payload, upto);
                drop((payload, room));
                if let Ok(taken) = &outcome {
                    self.accepted_spans
                        .fetch_add(taken.spans, Ordering::Relaxed);
                }
                // Who no longer waits has its spans stored all the same.
                let _ = answer.send(outcome.map_err(unfit));
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unfit(unfit: Unfit) -> AppendOtlpError {
    match unfit {
        Unfit::Decode(error) => AppendOtlpError::Decode(error),
        Unfit::TooDeep => too_deep().into(),
        Unfit::TooLarge => StoreError::TooLarge {
            what: "in columns",
            found_bytes: MAX_HEAP_BYTES as u64,
            max_bytes: MAX_HEAP_BYTES as u64,
        }
        .into(),
    }
}

fn too_deep() -> StoreError {
    StoreError::TooLarge {
        what: "of nesting in one value",
        found_bytes: MAX_DEPTH as u64 + 1,
        max_bytes: MAX_DEPTH as u64,
    }
}

/// The time on this machine's clock.
pub(super) fn now_unix_nano() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}
