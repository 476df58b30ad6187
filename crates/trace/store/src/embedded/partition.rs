//! Where segments lie: a directory per hour, `p=2026-11-22T08`, and a file per segment in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

const HOUR_NANO: u64 = 3_600_000_000_000;

/// How far from the time of their arrival spans may have started to lie in the hour of their start.
/// Others lie in the hour in which they arrived, so that neither a clock that is wrong by years nor
/// made-up times can make a directory for each span, or keep a segment for ever.
const MOST_HOURS_LATE: u64 = 48;
const MOST_HOURS_EARLY: u64 = 1;

/// The hour in which something that starts then and arrives now is put. What is late lies in its hour
/// only if that is kept for another hour at least: else it would be dropped as soon as it is there.
pub(super) fn hour_of(
    start_unix_nano: u64,
    now_unix_nano: u64,
    retention: Option<Duration>,
) -> u64 {
    let (start, now) = (start_unix_nano / HOUR_NANO, now_unix_nano / HOUR_NANO);
    let kept = retention.map_or(u64::MAX, |retention| retention.as_secs() / 3_600);
    let late = MOST_HOURS_LATE.min(kept.saturating_sub(1));
    if start + late >= now && start <= now + MOST_HOURS_EARLY {
        start
    } else {
        now
    }
}

/// The end of an hour, nanoseconds since the Unix epoch.
pub(super) fn end_unix_nano(hour: u64) -> u64 {
    hour.saturating_add(1).saturating_mul(HOUR_NANO)
}

/// The directory of an hour.
pub(super) fn dir(data: &Path, hour: u64) -> PathBuf {
    data.join(format!("p={}", name(hour)))
}

/// The name of an hour.
pub(super) fn name(hour: u64) -> String {
    let (year, month, day) = date(hour / 24);
    format!("{year:04}-{month:02}-{day:02}T{:02}", hour % 24)
}

/// Whether this is the name of an hour's directory.
pub(super) fn is_dir_name(name: &str) -> bool {
    name.starts_with("p=")
}

/// The file of a segment.
pub(super) fn file_name(id: u64) -> String {
    format!("{id:012}.seg")
}

/// The Gregorian date of a day since the Unix epoch (Howard Hinnant's `civil_from_days`).
fn date(day: u64) -> (u64, u64, u64) {
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // Years begin in March here, so that the leap day is the last.
    let march = (5 * of_year + 2) / 153;
    let (month, day) = (
        if march < 10 { march + 3 } else { march - 9 },
        of_year - (153 * march + 2) / 5 + 1,
    );
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_have_the_names_of_their_date() {
        for (hour, name) in [
            (0, "p=1970-01-01T00"),
            (24 * 59 + 1, "p=1970-03-01T01"),
            (24 * 11_016, "p=2000-02-29T00"),
            (498_584 + 24, "p=2026-11-18T08"),
        ] {
            assert_eq!(dir(Path::new("/"), hour), Path::new("/").join(name));
        }
    }

    #[test]
    fn odd_times_lie_in_the_hour_of_their_arrival() {
        let at = |hour: u64| hour * HOUR_NANO + 5;
        for (start, hour) in [
            (1_000, 1_000),
            (999, 999),
            (952, 952),
            (951, 1_000),
            (1_001, 1_001),
            (1_002, 1_000),
        ] {
            assert_eq!(hour_of(at(start), at(1_000), None), hour, "{start}");
        }
        assert_eq!(hour_of(0, at(1_000), None), 1_000);
        assert_eq!(hour_of(u64::MAX, at(1_000), None), 1_000);
    }

    #[test]
    fn what_is_late_is_not_put_where_it_is_dropped_at_once() {
        let at = |hour: u64| hour * HOUR_NANO + 5;
        for (minutes, start, hour) in [
            (24 * 60, 977, 977),
            (24 * 60, 976, 1_000),
            (90, 1_000, 1_000),
            (90, 999, 1_000),
            (30, 999, 1_000),
            (0, 999, 1_000),
            (100 * 60, 952, 952),
            (100 * 60, 951, 1_000),
        ] {
            let retention = Duration::from_secs(minutes * 60);
            let put = hour_of(at(start), at(1_000), Some(retention));
            assert_eq!(put, hour, "{minutes} minutes, {start}");
            // It stays for as long as is promised, counted from the end of its hour, and an hour more.
            assert!(end_unix_nano(put) + minutes * 60_000_000_000 > at(1_000));
        }
    }
}
