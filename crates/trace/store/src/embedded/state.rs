use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use super::damaged::Lost;
use super::manifest::SegmentEntry;
use super::part::{Damage, Part};
use super::payload::{Payload, Unfit};
use super::reading::Reading;
use super::segment::Segment;
use super::table::Table;
use super::view::View;
use super::wal::Position;
use crate::OtlpTaken;

/// The tables and segments that there are.
#[derive(Debug)]
pub(super) struct State {
    layout: RwLock<Layout>,
    /// Held by who writes to the active table or puts another in its place.
    turn: Mutex<Turn>,
}

#[derive(Debug)]
struct Layout {
    active: Arc<Table>,
    /// Tables that are being written, the oldest first.
    frozen: Vec<Frozen>,
    /// In the order in which their spans came.
    segments: Arc<Vec<Arc<Segment>>>,
    /// Those that cannot be opened.
    lost: Arc<Vec<SegmentEntry>>,
}

#[derive(Debug)]
struct Turn {
    /// All before this place of the log is in some table or segment.
    applied: Position,
    /// When the first span came into the active table.
    since: Option<Instant>,
}

/// A table that takes no more spans.
#[derive(Clone, Debug)]
pub(super) struct Frozen {
    pub(super) table: Arc<Table>,
    /// All before this place of the log is in this table, an older one, or a segment.
    pub(super) upto: Position,
}

/// What became of a payload.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) outcome: Result<OtlpTaken, Unfit>,
    /// The size of the active table.
    pub(super) table_bytes: u64,
    /// Whether a table was frozen to make room.
    pub(super) frozen: bool,
}

/// Everything that was stored at one moment, each span once.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// In the order in which their spans came.
    pub(super) segments: Arc<Vec<Arc<Segment>>>,
    /// Those that cannot be opened.
    pub(super) lost: Arc<Vec<SegmentEntry>>,
    /// The oldest first.
    pub(super) tables: Vec<Arc<Table>>,
    /// Set when something of it could not be read.
    pub(super) damage: Arc<AtomicBool>,
}

impl Snapshot {
    /// In the order in which their spans came.
    pub(super) fn parts(&self) -> impl Iterator<Item = Arc<dyn Part>> {
        self.readings().chain(self.others())
    }

    /// The segments that can be read.
    pub(super) fn readings(&self) -> impl Iterator<Item = Arc<dyn Part>> {
        let reading = |segment| Arc::new(Reading::new(segment, &self.damage)) as Arc<dyn Part>;
        self.segments.iter().map(reading)
    }

    /// All parts but those.
    pub(super) fn others(&self) -> impl Iterator<Item = Arc<dyn Part>> {
        let lost = self.lost.iter().map(|entry| {
            let lost = Lost {
                entry: entry.clone(),
                damage: Arc::clone(&self.damage),
            };
            Arc::new(lost) as Arc<dyn Part>
        });
        let view = |table| Arc::new(View::of(table)) as Arc<dyn Part>;
        lost.chain(self.tables.iter().map(view))
    }

    /// Notes that something of one of its segments could not be read.
    pub(super) fn damaged(&self, segment: &Segment, damage: &Damage) {
        segment.damaged(damage);
        self.damage.store(true, Ordering::Relaxed);
    }

    /// Whether something of it could not be read since it was taken, so that an answer lacks spans.
    pub(super) fn met_damage(&self) -> bool {
        self.damage.load(Ordering::Relaxed)
    }
}

impl State {
    pub(super) fn new(
        mut segments: Vec<Arc<Segment>>,
        lost: Vec<SegmentEntry>,
        applied: Position,
    ) -> Self {
        segments.sort_by_key(|segment| segment.entry().covers());
        Self {
            layout: RwLock::new(Layout {
                active: Arc::default(),
                frozen: Vec::new(),
                segments: Arc::new(segments),
                lost: Arc::new(lost),
            }),
            turn: Mutex::new(Turn {
                applied,
                since: None,
            }),
        }
    }

    /// Puts a payload into the active table; `upto` is where its record ends in the log.
    pub(super) fn apply(&self, payload: &Payload, upto: Position) -> Applied {
        let mut turn = self.turn();
        turn.since.get_or_insert_with(Instant::now);
        let mut frozen = false;
        let outcome = loop {
            let active = Arc::clone(&self.layout().active);
            match active.append(payload) {
                Some(outcome) => break outcome,
                None if active.spans() == 0 => break Err(Unfit::TooLarge),
                None => {
                    self.freeze(&mut turn);
                    frozen = true;
                }
            }
        };
        turn.since.get_or_insert_with(Instant::now);
        turn.applied = upto;
        let table_bytes = self.layout().active.bytes();
        Applied {
            outcome,
            table_bytes,
            frozen,
        }
    }

    /// Freezes the active table if it has anything, and is due.
    pub(super) fn rotate(&self, due: impl FnOnce(&Table, Instant) -> bool) -> bool {
        let mut turn = self.turn();
        let active = Arc::clone(&self.layout().active);
        let rotated = turn.since.is_some_and(|since| due(&active, since));
        if rotated {
            self.freeze(&mut turn);
        }
        rotated
    }

    fn freeze(&self, turn: &mut Turn) {
        let mut layout = self.layout_mut();
        let table = std::mem::take(&mut layout.active);
        layout.frozen.push(Frozen {
            table,
            upto: turn.applied,
        });
        turn.since = None;
    }

    /// The oldest table that waits to be written.
    pub(super) fn oldest_frozen(&self) -> Option<Frozen> {
        self.layout().frozen.first().cloned()
    }

    /// Puts segments in the place of the oldest frozen table.
    pub(super) fn replace_oldest_frozen(&self, new: Vec<Arc<Segment>>) {
        let mut layout = self.layout_mut();
        layout.frozen.remove(0);
        Arc::make_mut(&mut layout.segments).extend(new);
    }

    /// Puts segments in the place of others, which are returned.
    pub(super) fn replace_segments(
        &self,
        old: &[u64],
        new: Option<Arc<Segment>>,
    ) -> Vec<Arc<Segment>> {
        let mut layout = self.layout_mut();
        let segments = Arc::make_mut(&mut layout.segments);
        let old: HashSet<u64> = old.iter().copied().collect();
        let is_old = |segment: &mut Arc<Segment>| old.contains(&segment.entry().id);
        let replaced = segments.extract_if(.., is_old).collect();
        segments.extend(new);
        segments.sort_by_key(|segment| segment.entry().covers());
        Arc::make_mut(&mut layout.lost).retain(|lost| !old.contains(&lost.id));
        replaced
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let layout = self.layout();
        let frozen = layout.frozen.iter().map(|frozen| &frozen.table);
        Snapshot {
            segments: Arc::clone(&layout.segments),
            lost: Arc::clone(&layout.lost),
            damage: Arc::default(),
            tables: frozen.chain([&layout.active]).cloned().collect(),
        }
    }

    /// How many bytes all tables take.
    pub(super) fn table_bytes(&self) -> u64 {
        let layout = self.layout();
        let frozen = layout.frozen.iter().map(|frozen| frozen.table.bytes());
        frozen.sum::<u64>() + layout.active.bytes()
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn layout(&self) -> std::sync::RwLockReadGuard<'_, Layout> {
        self.layout.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn layout_mut(&self) -> std::sync::RwLockWriteGuard<'_, Layout> {
        self.layout.write().unwrap_or_else(PoisonError::into_inner)
    }
}
