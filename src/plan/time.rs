//! RFC 3339 times, whole seconds, without a clock.

use std::fmt;

/// Seconds since the epoch, from 1970 to the end of 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// 9999-12-31T23:59:59Z.
const LAST: u64 = 253_402_300_799;
const DAY: u64 = 86_400;

impl Timestamp {
    /// A time by its seconds since the epoch; none after the year 9999.
    pub fn new(seconds: u64) -> Option<Self> {
        (seconds <= LAST).then_some(Timestamp(seconds))
    }

    /// Seconds since the epoch.
    pub fn seconds(self) -> u64 {
        self.0
    }

    /// This time and `seconds` more, at most the end of the year 9999.
    pub fn after(self, seconds: u64) -> Self {
        Timestamp(self.0.saturating_add(seconds).min(LAST))
    }

    /// Reads `2026-01-31T12:00:00Z` or with an offset such as `+02:00`.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse(text).ok_or_else(|| {
            format!(
                "'{}' is not a date and time in whole seconds with a zone, such as 2026-01-31T12:00:00Z",
                text.escape_debug()
            )
        })
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC: `2026-01-31T12:00:00Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date(self.0 / DAY);
        let second = self.0 % DAY;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = text.get(from..to)?;
        let all = digits.bytes().all(|byte| byte.is_ascii_digit());
        if all { digits.parse().ok() } else { None }
    };
    let marks = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if !text.is_ascii() || marks.iter().any(|(at, mark)| bytes.get(*at) != Some(mark)) {
        return None;
    }
    if !matches!(bytes.get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let longest = days_of_month(year, month)?;
    if year < 1970 || !(1..=longest).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let local = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    let seconds = match bytes.get(19)? {
        b'Z' | b'z' if bytes.len() == 20 => local,
        sign @ (b'+' | b'-') if bytes.len() == 25 && bytes.get(22) == Some(&b':') => {
            let (hours, minutes) = (number(20, 22)?, number(23, 25)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 3600 + minutes * 60;
            if *sign == b'+' {
                local.checked_sub(offset)?
            } else {
                local + offset
            }
        }
        _ => return None,
    };
    Timestamp::new(seconds)
}

fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of_month(year: u64, month: u64) -> Option<u64> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(28 + u64::from(leap(year))),
        _ => None,
    }
}

/// Days before `year`, counted from the year 0 of the Gregorian calendar.
fn days_before(year: u64) -> u64 {
    let past = year.saturating_sub(1);
    year * 365 + past / 4 - past / 100 + past / 400
}

fn days(year: u64, month: u64, day: u64) -> u64 {
    let months: u64 = (1..month).filter_map(|m| days_of_month(year, m)).sum();
    (days_before(year) - days_before(1970)) + months + day - 1
}

fn date(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while days_before(year + 1) - days_before(1970) <= days {
        year += 1;
    }
    let mut rest = days - (days_before(year) - days_before(1970));
    let mut month = 1;
    while let Some(length) = days_of_month(year, month).filter(|length| rest >= *length) {
        rest -= length;
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2026-01-01T00:00:00Z", 1_767_225_600),
            ("2026-01-01T02:00:00+02:00", 1_767_225_600),
            ("2025-12-31T18:30:00-05:30", 1_767_225_600),
            ("9999-12-31T23:59:59Z", LAST),
        ] {
            assert_eq!(
                Timestamp::parse(text).map(Timestamp::seconds),
                Ok(seconds),
                "{text}"
            );
        }
        for text in [
            "",
            "2026-01-01",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-01-01T00:00:00",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00.5Z",
            "2026-01-01T00:00:00+0200",
            "+026-01-01T00:00:00Z",
            "1970-01-01T00:00:00+00:01",
        ] {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn round_trip(seconds in 0..=LAST) {
            let time = Timestamp::new(seconds).unwrap();
            proptest::prop_assert_eq!(Timestamp::parse(&time.to_string()), Ok(time));
        }

        #[test]
        fn any_text(text in ".{0,40}") {
            let _ = Timestamp::parse(&text);
        }
    }
}
