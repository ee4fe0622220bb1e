//! The only code that prints: results to standard output, everything else to
//! standard error.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::Failure;
use crate::escape;

/// Lines of an error that are shown, from its front and from its end.
const FIRST_LINES: usize = 40;
const LAST_LINES: usize = 60;

/// How to speak.
#[derive(Debug)]
pub struct Ui {
    json: bool,
    quiet: bool,
    terminal: bool,
    colour: bool,
    started: Instant,
}

impl Ui {
    /// `no_colour` is the environment's NO_COLOR.
    pub fn new(json: bool, quiet: bool, no_colour: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        Ui {
            json,
            quiet,
            terminal,
            colour: terminal && !no_colour,
            started: Instant::now(),
        }
    }

    /// Whether results are wanted as JSON.
    pub fn json(&self) -> bool {
        self.json
    }

    /// A result for people; silent under `--json`.
    pub fn line(&self, text: impl Display) {
        if !self.json {
            out(&format!("{}\n", escape::line(&text.to_string())));
        }
    }

    /// A result for machines; silent without `--json`.
    pub fn value(&self, value: &impl Serialize) {
        if self.json
            && let Ok(text) = serde_json::to_string_pretty(value)
        {
            out(&format!("{}\n", json_text(&text)));
        }
    }

    /// A document as it is to standard output, whatever the mode; what a terminal
    /// would obey is shown in words there.
    pub fn raw(&self, text: &str) {
        if io::stdout().is_terminal() {
            let lines: Vec<String> = text.split('\n').map(escape::line).collect();
            out(&lines.join("\n"));
        } else {
            out(text);
        }
    }

    /// A document that is JSON to standard output, whatever the mode. A terminal may
    /// show it later, so what that would obey is written in JSON's own escapes: the
    /// value is the same.
    pub fn json_document(&self, text: &str) {
        // Outside of strings these two are blanks; inside there are none.
        out(&json_text(&text.replace(['\t', '\r'], " ")));
    }

    /// A table of names and values for people.
    pub fn table(&self, rows: &[(&str, String)]) {
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in rows {
            self.line(format!("{name:width$}  {value}"));
        }
    }

    /// What is being done.
    pub fn note(&self, text: impl Display) {
        if !self.quiet {
            self.clear();
            err(&format!("{}\n", escape::sentence(&text.to_string())));
        }
    }

    /// Something to think about that did not stop the work.
    pub fn warn(&self, text: impl Display) {
        self.clear();
        let text = escape::sentence(&text.to_string());
        err(&format!("{} {text}\n", self.paint("33", "warning:")));
    }

    /// Why the command failed.
    pub fn failure(&self, failure: &Failure) {
        self.clear();
        let shown = paragraph;
        let error = shown(&failure.error.to_string());
        let mut text = format!("{} {error}\n", self.paint("31", "error:"));
        let mut last = failure.error.to_string();
        for cause in failure.error.chain().skip(1) {
            let cause = cause.to_string();
            if cause != last {
                text.push_str(&format!("  because: {}\n", shown(&cause)));
            }
            last = cause;
        }
        if let Some(hint) = &failure.hint {
            let hint = shown(hint);
            text.push_str(&format!("{} {hint}\n", self.paint("36", "hint:")));
        }
        err(&text);
        if self.json {
            let causes: Vec<String> = failure.error.chain().map(bounded).collect();
            self.value(&serde_json::json!({
                "error": causes.join(": "), "exit_code": failure.kind.code(), "hint": failure.hint,
            }));
        }
    }

    /// A prompt on the terminal for something secret; the caller reads the answer.
    pub fn prompt(&self, text: impl Display) {
        err(&format!("{text}: "));
    }

    /// Time since the command began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// A bar of `total` bytes on a terminal; nothing elsewhere.
    pub fn progress(&self, what: &'static str, total: u64) -> Progress<'_> {
        Progress {
            ui: self,
            what,
            total,
            done: AtomicU64::new(0),
            shown: AtomicU64::new(0),
            any: AtomicBool::new(false),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[1;{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn clear(&self) {
        if self.terminal && !self.quiet {
            err("\r\x1b[K");
        }
    }
}

/// Bytes done of bytes to do. Counted from any thread.
#[derive(Debug)]
pub struct Progress<'a> {
    ui: &'a Ui,
    what: &'static str,
    total: u64,
    done: AtomicU64,
    shown: AtomicU64,
    any: AtomicBool,
}

impl Progress<'_> {
    /// So many more.
    pub fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if !self.ui.terminal || self.ui.quiet || self.total == 0 {
            return;
        }
        let percent = (done.saturating_mul(100) / self.total).min(100);
        if self.shown.fetch_max(percent + 1, Ordering::Relaxed) <= percent {
            self.any.store(true, Ordering::Relaxed);
            let filled = usize::try_from(percent / 4).unwrap_or(0);
            let bar: String = (0..25)
                .map(|i| if i < filled { '#' } else { '.' })
                .collect();
            err(&format!("\r\x1b[K{:>10} [{bar}] {percent:>3} %", self.what));
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.any.load(Ordering::Relaxed) {
            self.ui.clear();
        }
    }
}

/// Bytes in the unit a person would use.
pub fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut whole, mut rest, mut unit) = (count, 0, 0);
    while whole >= 1024 && unit + 1 < units.len() {
        rest = whole % 1024;
        whole /= 1024;
        unit += 1;
    }
    let name = units.get(unit).unwrap_or(&"B");
    if unit == 0 {
        format!("{whole} {name}")
    } else {
        format!("{whole}.{} {name}", rest * 10 / 1024)
    }
}

/// In JSON what is not printable is inside strings; line ends are the layout's.
fn json_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || escape::is_seen(c) {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

/// Text of several lines: what follows a line end is moved in, so that nothing
/// others wrote looks like a line of ours.
fn paragraph(text: &str) -> String {
    bounded(text).replace('\n', "\n    ")
}

/// Lines of an error, each with a bound, and not too many of them: a stranger's
/// document may be repeated in it before anything of it is known to be genuine.
fn bounded(text: impl Display) -> String {
    let text = text.to_string();
    let lines: Vec<&str> = text.split('\n').collect();
    let more = lines.len().saturating_sub(FIRST_LINES + LAST_LINES);
    if more == 0 {
        let shown: Vec<String> = lines.into_iter().map(escape::short).collect();
        return shown.join("\n");
    }
    // A program that failed says why at the end.
    let (first, rest) = lines.split_at(FIRST_LINES);
    let mut shown: Vec<String> = first.iter().map(|line| escape::short(line)).collect();
    shown.push(format!("… {more} lines …"));
    shown.extend(rest.iter().skip(more).map(|line| escape::short(line)));
    shown.join("\n")
}

/// A closed pipe is the reader's choice, not our failure.
fn out(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

fn err(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_orders_to_the_terminal() {
        assert_eq!(
            super::paragraph("a\tb\nverified\u{1b}[31m\u{9b}m\r\u{202e}"),
            "a b\n    verified\\u{1b}[31m\\u{9b}m\\u{d}\\u{202e}"
        );
        let many = super::paragraph(&"x\n".repeat(1000));
        assert!(many.contains("\n    … 901 lines …\n"), "{many}");
        assert_eq!(
            super::json_text("\u{9b}\n\u{e0001}"),
            "\\u009b\n\\udb40\\udc01"
        );
    }

    #[test]
    fn units() {
        assert_eq!(super::bytes(1023), "1023 B");
        assert_eq!(super::bytes(1536), "1.5 KiB");
        assert_eq!(super::bytes(u64::MAX), "16777215.9 TiB");
    }
}
