//! A worker's clock: monotonic microseconds, the wall clock, and the text of the `date` header.

use std::cell::{Cell, RefCell};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const SECOND: &[u8; 19] = b"1970-01-01T00:00:00";
const DATE_LINE: &[u8; 37] = b"date: DDD, 00 MMM 0000 00:00:00 GMT\r\n";

/// Microseconds since the worker began.
pub(crate) type Micros = u64;

/// Reads the monotonic clock; the wall clock is read once a second and interpolated.
#[derive(Debug)]
pub(crate) struct Clock {
    base: Instant,
    /// The wall clock at `base`, in microseconds since the Unix epoch.
    wall_base: Cell<u64>,
    /// When `wall_base` and `date` are to be renewed.
    renew_at: Cell<Micros>,
    /// A whole `date` line.
    date: RefCell<[u8; DATE_LINE.len()]>,
    /// The second that was asked for last, and its text.
    second: Cell<(u64, [u8; SECOND.len()])>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let clock = Self {
            base: Instant::now(),
            wall_base: Cell::new(0),
            renew_at: Cell::new(0),
            date: RefCell::new(*DATE_LINE),
            second: Cell::new((0, *SECOND)),
        };
        clock.renew(0);
        clock
    }

    /// Now.
    #[inline]
    pub(crate) fn now(&self) -> Micros {
        let now = self.base.elapsed().as_micros() as u64;
        if now >= self.renew_at.get() {
            self.renew(now);
        }
        now
    }

    /// The wall clock at a moment: microseconds since the Unix epoch.
    #[inline]
    pub(crate) fn wall(&self, at: Micros) -> u64 {
        self.wall_base.get() + at
    }

    /// The `Instant` of a moment.
    pub(crate) fn instant(&self, at: Micros) -> Instant {
        self.base + std::time::Duration::from_micros(at)
    }

    /// The moment of an `Instant`; one before the worker began is its beginning.
    pub(crate) fn micros(&self, at: Instant) -> Micros {
        at.saturating_duration_since(self.base).as_micros() as u64
    }

    /// Appends a `date` field with the current second (RFC 9110 §6.6.1).
    #[inline]
    pub(crate) fn append_date(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&*self.date.borrow());
    }

    /// Appends a second since 1970 as RFC 3339 has it, without a zone: `2026-11-30T02:40:07`.
    pub(crate) fn append_second(&self, second: u64, out: &mut Vec<u8>) {
        let (known, mut text) = self.second.get();
        if known != second {
            text = rfc_3339(second);
            self.second.set((second, text));
        }
        out.extend_from_slice(&text);
    }

    #[cold]
    fn renew(&self, now: Micros) {
        let (wall, at) = self.pair();
        self.wall_base.set(wall.saturating_sub(at));
        self.renew_at.set(now + 1_000_000 - wall % 1_000_000);
        self.date.borrow_mut()[6..35].copy_from_slice(&imf_fixdate(wall / 1_000_000));
    }

    /// Both clocks at one moment. A thread that loses its core between the two readings would shift
    /// every span of the next second, out of its parent even: such readings are done again.
    fn pair(&self) -> (u64, Micros) {
        let mut best = (0, 0);
        let mut least = u64::MAX;
        for _ in 0..5 {
            let before = self.base.elapsed().as_micros() as u64;
            let wall = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_micros() as u64);
            let took = self.base.elapsed().as_micros() as u64 - before;
            if took < least {
                (least, best) = (took, (wall, before + took / 2));
            }
            if took <= 2 {
                break;
            }
        }
        best
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` of a number of seconds since the Unix epoch.
fn imf_fixdate(seconds: u64) -> [u8; 29] {
    const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let mut out = *b"DDD, 00 MMM 0000 00:00:00 GMT";
    let weekday = (days % 7) as usize * 3;
    out[..3].copy_from_slice(&DAYS[weekday..weekday + 3]);
    digits(&mut out[5..7], day);
    let name = (month - 1) as usize * 3;
    out[8..11].copy_from_slice(&MONTHS[name..name + 3]);
    digits(&mut out[12..16], year);
    time(&mut out[17..25], of_day);
    out
}

/// `2026-11-30T02:40:07` of a number of seconds since the Unix epoch.
fn rfc_3339(seconds: u64) -> [u8; SECOND.len()] {
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let mut out = *SECOND;
    digits(&mut out[..4], year);
    digits(&mut out[5..7], month);
    digits(&mut out[8..10], day);
    time(&mut out[11..], of_day);
    out
}

/// The digits of `08:49:37`.
fn time(out: &mut [u8], of_day: u64) {
    digits(&mut out[..2], of_day / 3600);
    digits(&mut out[3..5], of_day / 60 % 60);
    digits(&mut out[6..], of_day % 60);
}

fn digits(out: &mut [u8], mut n: u64) {
    for slot in out.iter_mut().rev() {
        *slot = b'0' + (n % 10) as u8;
        n /= 10;
    }
}

/// Year, month, day of a number of days since 1970-01-01, in the proleptic Gregorian calendar.
pub(crate) fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_imf_fixdates() {
        let text = |seconds| String::from_utf8(imf_fixdate(seconds).to_vec()).unwrap();
        assert_eq!(text(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(text(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(text(951_827_696), "Tue, 29 Feb 2000 12:34:56 GMT");
        assert_eq!(text(4_102_444_799), "Thu, 31 Dec 2099 23:59:59 GMT");
    }

    #[test]
    fn the_wall_clock_follows_the_system() {
        let clock = Clock::new();
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let ours = clock.wall(clock.now());
        assert!(ours.abs_diff(system.as_micros() as u64) < 1_000_000);
    }
}
