//! Consistent hashing with a ring (ketama): each endpoint has many places on it, a request goes to the next
//! place after its hash.

use crate::balance::hash::{murmur2, xxh64};
use crate::snapshot::{RingHash, RingHashFunction};

/// Places on the ring, in order, with whose they are.
#[derive(Debug, PartialEq)]
pub(super) struct Ring(Box<[(u64, u32)]>);

impl Ring {
    /// `shares` are the names of the endpoints and their shares, which add up to 1.
    pub(super) fn new(shares: &[(&str, f64)], options: RingHash) -> Self {
        let least = shares.iter().map(|(_, share)| *share).fold(1.0, f64::min);
        if shares.is_empty() || least <= 0.0 {
            return Self(Box::default());
        }
        // So many that the least one has a whole number of them.
        let scale = ((least * options.min_size as f64).ceil() / least).min(options.max_size as f64);
        let hash = match options.function {
            RingHashFunction::XxHash => |text: &[u8]| xxh64(text, 0),
            RingHashFunction::Murmur2 => murmur2,
        };
        let mut places = Vec::with_capacity(scale.ceil() as usize);
        let mut text = Vec::new();
        let (mut now, mut target) = (0.0, 0.0);
        for (index, (name, share)) in shares.iter().enumerate() {
            target += scale * share;
            let mut number = 0_u64;
            while now < target {
                text.clear();
                text.extend_from_slice(name.as_bytes());
                text.push(b'_');
                text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
                places.push((hash(&text), index as u32));
                number += 1;
                now += 1.0;
            }
        }
        places.sort_by_key(|(at, _)| *at);
        Self(places.into())
    }

    /// The endpoint for a hash, or the one so many places further on.
    #[inline]
    pub(super) fn choose(&self, hash: u64, further: u32) -> Option<usize> {
        let mut next = self.0.partition_point(|(at, _)| *at < hash);
        if further > 0 {
            // Behind the last place comes the first one.
            let first = if next < self.0.len() { next } else { 0 };
            next = (first + further as usize) % self.0.len().max(1);
        }
        let place = self.0.get(next).or_else(|| self.0.first());
        place.map(|(_, index)| *index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_places_come_one_after_the_other_and_around() {
        let ring = Ring(Box::new([(10, 0), (20, 1), (30, 2)]));
        let found = |hash| [0, 1, 2, 3].map(|further| ring.choose(hash, further));
        let places = |at: [usize; 4]| at.map(Some);
        assert_eq!(found(5), places([0, 1, 2, 0]));
        assert_eq!(found(20), places([1, 2, 0, 1]));
        assert_eq!(found(31), places([0, 1, 2, 0]));
        assert_eq!(Ring(Box::default()).choose(1, 2), None);
    }
}
