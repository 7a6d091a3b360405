//! A time as people give it: a date and time, or how long ago.

use std::time::{Duration, SystemTime};

/// Later than all times that have a text: the year 10000, in seconds.
const END: Duration = Duration::from_secs(253_402_300_800);

/// The text is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a time from 1970 to 9999; times look like 2026-01-08T10:30:00Z or 2026-01-08, or 90m, 12h, 7d for so long ago"
)]
pub struct NoMoment;

/// Reads one. `now` is what "ago" counts from.
pub fn parse(text: &str, now: SystemTime) -> Result<SystemTime, NoMoment> {
    read(text, now).filter(|time| time.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|at| at < END)).ok_or(NoMoment)
}

fn read(text: &str, now: SystemTime) -> Option<SystemTime> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return now.checked_sub(ago);
    }
    let midnight = format!("{text}T00:00:00Z");
    let is_date = text.len() == "2026-01-08".len();
    let time = humantime::parse_rfc3339(if is_date { &midnight } else { text });
    time.ok().or_else(|| with_offset(text))
}

/// `2026-01-08T11:30:00+01:00`, which RFC 3339 allows.
fn with_offset(text: &str) -> Option<SystemTime> {
    let (local, offset) = text.split_at_checked(text.len().checked_sub("+01:00".len())?)?;
    let (sign, offset) = offset.split_at_checked(1)?;
    let (hours, minutes) = offset.split_once(':')?;
    let offset = Duration::from_secs(60 * (60 * hours.parse::<u64>().ok()? + minutes.parse::<u64>().ok()?));
    let local = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    match sign {
        "+" => local.checked_sub(offset),
        "-" => local.checked_add(offset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_767_868_200;

    #[track_caller]
    fn check(text: &str, expected: Option<u64>) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        let read = parse(text, now).ok().map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
        assert_eq!(read, expected, "{text}");
    }

    #[test]
    fn times_and_how_long_ago() {
        check("2026-01-08T10:30:00Z", Some(NOW));
        check("2026-01-08T10:30:00.5Z", Some(NOW));
        check("2026-01-08T11:30:00+01:00", Some(NOW));
        check("2026-01-08T05:00:00-05:30", Some(NOW));
        check("2026-01-08", Some(NOW - 10 * 3600 - 30 * 60));
        check("90m", Some(NOW - 90 * 60));
        check("1h 30m", Some(NOW - 90 * 60));
        check("7d", Some(NOW - 7 * 86_400));
        check("1970-01-01T01:00:00+01:00", Some(0));
        check("9999-12-31T22:59:59-01:00", Some(END.as_secs() - 1));
        check("9999-12-31T23:59:59.999Z", Some(END.as_secs() - 1));
        // They have no text, and what asks for it would panic.
        check("1970-01-01T00:00:00+01:00", None);
        check("9999-12-31T23:59:59-01:00", None);
        for wrong in
            ["", "yesterday", "10", "-1h", "2026-13-01", "2026-01-08T10:30:00", "9999999999d", "é:00", "ééé1:00"]
        {
            check(wrong, None);
        }
    }
}
