//! What the processes print: to the consoles, but not without measure.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::console::Console;

/// Lines a second that are shown, on average.
const RATE: u32 = 10;
/// Lines at once that are shown.
const BURST: u32 = 60;
/// Bytes of a line; what is longer becomes several.
const LINE: u64 = 1024;
/// Last lines that are kept.
const KEPT: usize = 30;

/// The last lines of a process, and how many of them were not shown.
#[derive(Clone, Default)]
pub struct Tail(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    lines: VecDeque<(String, bool)>,
    hidden: u64,
}

impl Tail {
    fn keep(&self, line: String, shown: bool) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.lines.len() == KEPT {
            kept.lines.pop_front();
        }
        kept.lines.push_back((line, shown));
        kept.hidden += u64::from(!shown);
    }

    /// Those of the last lines that were held back, and how many were in all.
    pub fn take_hidden(&self) -> (u64, Vec<String>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = std::mem::take(&mut kept.lines);
        let hidden = std::mem::take(&mut kept.hidden);
        let held = lines.into_iter().filter(|(_, shown)| !shown);
        (hidden, held.map(|(line, _)| line).collect())
    }
}

/// A bucket of lines that may be shown.
struct Allowance {
    lines: u32,
    since: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Allowance {
            lines: BURST,
            since: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let line = Duration::from_secs(1) / RATE;
        let earned = now.saturating_duration_since(self.since).as_millis() / line.as_millis();
        if let Some(earned) = u32::try_from(earned).ok().filter(|earned| *earned > 0) {
            self.lines = self.lines.saturating_add(earned).min(BURST);
            self.since = now;
        }
        match self.lines.checked_sub(1) {
            Some(left) => {
                self.lines = left;
                true
            }
            None => false,
        }
    }
}

/// Shows the lines of a process until it and all that share its output end.
pub fn show(name: &str, output: impl Read, console: &Console, tail: &Tail) {
    let mut output = BufReader::new(output);
    let mut allowance = Allowance::new(Instant::now());
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match output.by_ref().take(LINE).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = crate::console::plain(&String::from_utf8_lossy(&bytes));
        let shown = allowance.take(Instant::now());
        if shown {
            console.say(format!("{name}: {line}"));
        }
        tail.keep(line, shown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_held_back_and_its_end_is_kept() {
        let text: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        let tail = Tail::default();
        show("front", text.as_bytes(), &Console::default(), &tail);
        let (hidden, last) = tail.take_hidden();
        assert!(hidden >= 900, "{hidden}");
        assert_eq!(last.len(), KEPT);
        assert_eq!(last.last().unwrap(), "line 999");
        assert_eq!(tail.take_hidden(), (0, Vec::new()));
    }

    #[test]
    fn allowance() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let taken = (0..100).filter(|_| allowance.take(start)).count();
        assert_eq!(taken, 60);
        let later = start + Duration::from_secs(1);
        let taken = (0..100).filter(|_| allowance.take(later)).count();
        assert_eq!(taken, 10);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let text = vec![b'x'; 100_000];
        let tail = Tail::default();
        show("x", text.as_slice(), &Console::default(), &tail);
        assert!(tail.take_hidden().0 > 0);
    }
}
