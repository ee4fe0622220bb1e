//! FAT's dates and times: local time without a zone, which we take as UTC;
//! two-second steps from 1980 to 2107.

/// A date and a time as a directory entry holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Bits 15..9 years since 1980, 8..5 month, 4..0 day.
    pub date: u16,
    /// Bits 15..11 hour, 10..5 minute, 4..0 two-second steps.
    pub time: u16,
}

const DAY: u64 = 86_400;
/// 1980-01-01T00:00:00Z.
const FIRST: u64 = 315_532_800;
/// 2107-12-31T23:59:58Z.
const LAST: u64 = 4_354_819_198;

impl Stamp {
    /// From seconds since 1970-01-01T00:00:00Z; times out of FAT's range become
    /// its first or its last.
    pub fn from_unix(seconds: u64) -> Self {
        let seconds = seconds.clamp(FIRST, LAST) - FIRST;
        let (mut day, mut year) = (seconds / DAY, 0);
        // Within 1980..=2107 a year is a leap year if four divides it, but 2100.
        let leap = |year: u64| year.is_multiple_of(4) && year != 120;
        while day >= 365 + u64::from(leap(year)) {
            day -= 365 + u64::from(leap(year));
            year += 1;
        }
        let mut month = 1;
        for length in [
            31,
            28 + u64::from(leap(year)),
            31,
            30,
            31,
            30,
            31,
            31,
            30,
            31,
            30,
        ] {
            if day < length {
                break;
            }
            day -= length;
            month += 1;
        }
        let second = seconds % DAY;
        let (hour, minute) = (second / 3600, second / 60 % 60);
        Stamp {
            date: narrow((year << 9) | (month << 5) | (day + 1)),
            time: narrow((hour << 11) | (minute << 5) | (second % 60 / 2)),
        }
    }
}

/// The fields above never exceed sixteen bits.
fn narrow(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

impl std::fmt::Display for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (date, time) = (self.date, self.time);
        write!(
            f,
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            1980 + (date >> 9),
            (date >> 5) & 15,
            date & 31,
            time >> 11,
            (time >> 5) & 63,
            (time & 31) * 2,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (seconds, text) in [
            (0, "1980-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_700_000_000, "2023-11-14 22:13:20"),
            (1_735_689_599, "2024-12-31 23:59:58"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (u64::MAX, "2107-12-31 23:59:58"),
        ] {
            assert_eq!(Stamp::from_unix(seconds).to_string(), text);
        }
    }
}
