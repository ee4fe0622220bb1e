//! What changed inside text files. All of one comparison together has a bound:
//! whoever made the files decides how many there are, and what is in them.

use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use similar::TextDiff;

use crate::escape;

/// Bytes of a file that is compared by lines.
pub(super) const MOST: u64 = 1 << 20;
/// Ends of lines of a file, on either side.
const MOST_LINES: usize = 100_000;
/// Lines that are shown of a file.
const MOST_SHOWN: usize = 10_000;
/// Bytes that are shown of all files together.
const MOST_BYTES: usize = 16 << 20;
/// What a line costs beside its bytes.
const LINE: usize = 64;
/// Lines around a change.
const CONTEXT: usize = 3;
/// After this, what is found so far is given out: right, if not the shortest.
const TIME: Duration = Duration::from_secs(2);
/// For all files together.
const MOST_TIME: Duration = Duration::from_secs(20);

/// Where the lines of a file end early.
const CUT: &str = "\\ The rest is not shown: it is too much";
/// Instead of the lines.
const NOT_SHOWN: &str = "\\ Not shown: there is too much text";
const TOO_MANY: &str = "\\ Not shown: it has too many lines";

/// What may still be spent on text.
pub(super) struct Budget {
    bytes: usize,
    time: Duration,
}

impl Budget {
    /// That of one comparison.
    pub(super) fn new() -> Self {
        Budget {
            bytes: MOST_BYTES,
            time: MOST_TIME,
        }
    }

    /// The lines of a unified diff, printable; none if either side is no text.
    pub(super) fn unified(&mut self, before: &[u8], after: &[u8]) -> Option<Vec<String>> {
        let text = |bytes| {
            let text = std::str::from_utf8(bytes).ok()?;
            (!text.contains('\0')).then_some(text)
        };
        let (before, after) = (text(before)?, text(after)?);
        if self.bytes == 0 || self.time.is_zero() {
            return Some(vec![NOT_SHOWN.to_owned()]);
        }
        let start = Instant::now();
        let lines = self.lines(before, after);
        self.time = self.time.saturating_sub(start.elapsed());
        Some(lines)
    }

    fn lines(&mut self, before: &str, after: &str) -> Vec<String> {
        let ends = |text: &str| text.bytes().filter(|byte| b"\r\n".contains(byte)).count();
        let many = |text: &str| ends(text) > MOST_LINES;
        if many(before) || many(after) {
            return vec![TOO_MANY.to_owned()];
        }
        let diff = TextDiff::configure()
            .timeout(TIME.min(self.time))
            .diff_lines(before, after);
        let mut page = Page::default();
        let mut whole = write!(page, "{}", diff.unified_diff().context_radius(CONTEXT)).is_ok();
        let mut shown = Vec::new();
        for line in page.text.split_terminator('\n') {
            let line = escape::line(line);
            let cost = line.len() + LINE;
            if cost > self.bytes {
                self.bytes = 0;
                whole = false;
                break;
            }
            self.bytes -= cost;
            shown.push(line);
        }
        if !whole {
            shown.push(CUT.to_owned());
        }
        shown
    }
}

/// Takes so many lines, then no more.
#[derive(Default)]
struct Page {
    text: String,
    lines: usize,
}

impl fmt::Write for Page {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for line in text.split_inclusive('\n') {
            if self.lines == MOST_SHOWN {
                return Err(fmt::Error);
            }
            self.lines += usize::from(line.ends_with('\n'));
            self.text.push_str(line);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unified(before: &[u8], after: &[u8]) -> Option<Vec<String>> {
        Budget::new().unified(before, after)
    }

    fn numbers(from: usize, count: usize) -> String {
        (from..from + count).map(|i| format!("{i}\n")).collect()
    }

    #[test]
    fn lines() {
        let found = unified(b"a\nb\nc\n", b"a\nx\x1b\nc").unwrap();
        assert_eq!(
            found,
            [
                "@@ -1,3 +1,3 @@",
                " a",
                "-b",
                "-c",
                "+x\\u{1b}",
                "+c",
                "\\ No newline at end of file"
            ]
        );
        assert_eq!(unified(b"\0", b""), None);
        assert_eq!(unified(b"", b"\xff"), None);
    }

    #[test]
    fn a_hostile_pair_ends() {
        let (a, b) = (numbers(0, MOST_LINES), numbers(200_000, MOST_LINES));
        assert!(unified(a.as_bytes(), b.as_bytes()).is_some());
    }

    #[test]
    fn a_file_has_so_many_lines() {
        let most = numbers(0, MOST_SHOWN - 1);
        let found = unified(b"", most.as_bytes()).unwrap();
        assert_eq!(found.len(), MOST_SHOWN);
        assert_eq!(found.last().unwrap(), &format!("+{}", MOST_SHOWN - 2));
        let more = numbers(0, MOST_SHOWN);
        let found = unified(b"", more.as_bytes()).unwrap();
        assert_eq!(found.len(), MOST_SHOWN + 1);
        assert_eq!(found.last().unwrap(), CUT);
        for end in *b"\r\n" {
            let ends = vec![end; MOST_LINES + 1];
            assert_eq!(unified(&ends, b"").unwrap(), [TOO_MANY]);
        }
    }

    #[test]
    fn all_files_together_have_so_many_bytes() {
        let mut budget = Budget::new();
        let file = "\u{1}".repeat(1 << 20);
        let shown = |lines: Vec<String>| lines.iter().map(String::len).sum::<usize>();
        let all: usize = (0..40)
            .filter_map(|_| budget.unified(b"", file.as_bytes()))
            .map(shown)
            .sum();
        assert!(all > MOST_BYTES / 2 && all < MOST_BYTES + 40 * 80, "{all}");
        assert_eq!(budget.unified(b"", b"x\n").unwrap(), [NOT_SHOWN]);
        assert_eq!(budget.unified(b"", b"\0"), None);
    }

    #[test]
    fn all_files_together_have_so_much_time() {
        let mut budget = Budget::new();
        budget.time = Duration::from_millis(20);
        let (a, b) = (numbers(0, 50_000), numbers(100_000, 50_000));
        let first = budget.unified(a.as_bytes(), b.as_bytes()).unwrap();
        assert!(first.len() > 1);
        while !budget.time.is_zero() {
            budget.unified(a.as_bytes(), b.as_bytes());
        }
        assert_eq!(budget.unified(b"a\n", b"b\n").unwrap(), [NOT_SHOWN]);
    }
}
