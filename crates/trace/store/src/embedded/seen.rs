use std::sync::atomic::{AtomicU64, Ordering};

use periplus_model::TraceId;

/// A power of two: with the 25,000 traces of a usual table, one absent trace of 500 seems to be there.
const BITS: usize = 1 << 20;

/// Which traces a table may have, for those who ask about others: most do, and need not wait for its writer, who has
/// less of the processor than they.
#[derive(Debug)]
pub(super) struct Seen {
    bits: Box<[AtomicU64]>,
}

impl Default for Seen {
    fn default() -> Self {
        let bits = (0..BITS / 64).map(|_| AtomicU64::new(0));
        Self {
            bits: bits.collect(),
        }
    }
}

impl Seen {
    /// For the table's writer only.
    pub(super) fn add(&self, id: TraceId) {
        for bit in bits_of(id) {
            let word = &self.bits[bit / 64];
            word.store(
                word.load(Ordering::Relaxed) | 1 << (bit % 64),
                Ordering::Relaxed,
            );
        }
    }

    /// Whether the trace may have been added; if not, it has not.
    pub(super) fn may_have(&self, id: TraceId) -> bool {
        let is_set =
            |bit: usize| self.bits[bit / 64].load(Ordering::Relaxed) >> (bit % 64) & 1 == 1;
        bits_of(id).into_iter().all(is_set)
    }
}

/// Mixed by the finalizer of SplitMix64: ids need not be random in all their bits.
fn bits_of(id: TraceId) -> [usize; 2] {
    let mixed = id.low() ^ id.high();
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    let mixed = mixed ^ mixed >> 31;
    [mixed, mixed >> 32].map(|bit| bit as usize % BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_there_and_little_else() {
        let seen = Seen::default();
        // Those of clients are random; these are spread by an odd factor.
        let id = |number: u64| TraceId::from_halves(7, number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        (0..25_000).for_each(|number| seen.add(id(number)));
        assert!((0..25_000).all(|number| seen.may_have(id(number))));
        let others = (25_000..125_000).filter(|number| seen.may_have(id(*number)));
        let others = others.count();
        assert!(others < 400, "{others} of 100000 seem to be there");
    }
}
