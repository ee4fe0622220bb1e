//! What changed inside a text file.

use std::time::Duration;

use similar::TextDiff;

use crate::escape;

/// Bytes of a file that is compared by lines.
pub(super) const MOST: u64 = 1 << 20;
/// Lines around a change.
const CONTEXT: usize = 3;
/// After this, what is found so far is given out: right, if not the shortest.
const TIME: Duration = Duration::from_secs(2);

/// The lines of a unified diff, printable; none if either side is no text.
pub(super) fn unified(before: &[u8], after: &[u8]) -> Option<Vec<String>> {
    let text = |bytes| {
        let text = std::str::from_utf8(bytes).ok()?;
        (!text.contains('\0')).then_some(text)
    };
    let (before, after) = (text(before)?, text(after)?);
    let diff = TextDiff::configure()
        .timeout(TIME)
        .diff_lines(before, after);
    let unified = diff.unified_diff().context_radius(CONTEXT).to_string();
    Some(unified.split_terminator('\n').map(escape::line).collect())
}

#[cfg(test)]
mod tests {
    use super::unified;

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
        let lines =
            |from: u32| -> String { (from..from + 100_000).map(|i| format!("{i}\n")).collect() };
        let (a, b) = (lines(0), lines(200_000));
        assert!(unified(a.as_bytes(), b.as_bytes()).is_some());
    }
}
