//! Plain words for a person: every line goes to every console.
//!
//! Each console has a queue and a thread of its own, so that a stuck serial
//! line delays neither the boot nor the screen.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::clock;

/// Lines that wait for a slow console before the oldest are given up.
const QUEUE: usize = 512;
/// Bytes of a line that are shown.
const WIDTH: usize = 480;

/// All consoles; a clone is the same consoles.
#[derive(Clone, Default)]
pub struct Console {
    sinks: Arc<Vec<Sink>>,
}

struct Sink {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Arc<str>>,
    lost: u64,
    writing: bool,
    closed: bool,
}

impl Console {
    /// Writes to these; each gets a thread.
    pub fn new(outputs: Vec<Box<dyn Write + Send>>) -> Self {
        let sinks = outputs
            .iter()
            .map(|_| Sink {
                queue: Mutex::default(),
                changed: Condvar::new(),
            })
            .collect();
        let console = Console {
            sinks: Arc::new(sinks),
        };
        for (index, output) in outputs.into_iter().enumerate() {
            let sinks = Arc::clone(&console.sinks);
            let work = move || {
                if let Some(sink) = sinks.get(index) {
                    sink.drain(output);
                }
            };
            // Without its thread a console stays silent; nothing could say so.
            let _ = std::thread::Builder::new()
                .name("console".into())
                .spawn(work);
        }
        console
    }

    /// The kernel's active consoles, the first serial port and the screen:
    /// those of them that open. `/dev` and `/sys` must be mounted.
    pub fn machine() -> Self {
        let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
        let mut names: Vec<&str> = active.split_ascii_whitespace().collect();
        for name in ["ttyS0", "tty0"] {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let outputs = names
            .into_iter()
            .map(|name| Path::new("/dev").join(name))
            .filter_map(open_terminal)
            .map(|file| Box::new(file) as Box<dyn Write + Send>)
            .collect();
        Console::new(outputs)
    }

    /// One event, one line, with the milliseconds since the kernel started.
    pub fn say(&self, text: impl AsRef<str>) {
        let text = plain(text.as_ref());
        let line: Arc<str> = format!("[{:>7} ms] standby: {text}\n", clock::milliseconds()).into();
        for sink in self.sinks.iter() {
            sink.push(Arc::clone(&line));
        }
    }

    /// Waits until all lines are out, at most this long.
    pub fn flush(&self, most: Duration) {
        let end = Instant::now() + most;
        for sink in self.sinks.iter() {
            while sink.busy() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Sink {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: Arc<str>) {
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        if queue.lines.len() >= QUEUE {
            queue.lines.pop_front();
            queue.lost += 1;
        }
        queue.lines.push_back(line);
        drop(queue);
        self.changed.notify_one();
    }

    fn busy(&self) -> bool {
        let queue = self.lock();
        !queue.closed && (queue.writing || !queue.lines.is_empty())
    }

    fn drain(&self, mut output: Box<dyn Write + Send>) {
        loop {
            let mut queue = self.lock();
            queue.writing = false;
            while queue.lines.is_empty() {
                queue = self
                    .changed
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            queue.writing = true;
            let lost = std::mem::take(&mut queue.lost);
            let line = queue.lines.pop_front();
            drop(queue);
            let mut written = Ok(());
            if lost > 0 {
                written = writeln!(output, "standby: {lost} lines lost, this console is slow");
            }
            if let Some(line) = line {
                written = written.and_then(|()| output.write_all(line.as_bytes()));
            }
            if written.is_err() {
                // A serial port that is not there opens, but does not write.
                let mut queue = self.lock();
                queue.closed = true;
                queue.lines.clear();
                return;
            }
        }
    }
}

/// Opened without waiting for a carrier, then made to block again.
fn open_terminal(path: PathBuf) -> Option<File> {
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(path)
        .ok()?;
    use std::os::fd::AsRawFd;
    let flags = OFlag::from_bits_truncate(fcntl(file.as_raw_fd(), FcntlArg::F_GETFL).ok()?);
    fcntl(
        file.as_raw_fd(),
        FcntlArg::F_SETFL(flags.difference(OFlag::O_NONBLOCK)),
    )
    .ok()?;
    Some(file)
}

/// Text without control characters, which could rewrite an operator's terminal.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(WIDTH));
    for character in text.trim_end().chars() {
        if out.len() >= WIDTH {
            out.push('…');
            break;
        }
        match character {
            '\t' => out.push(' '),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

/// An error and what caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        // Some libraries repeat their source in their own text.
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::Other.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_console_gets_the_line_and_a_broken_one_stops_nobody() {
        let text = Arc::new(Mutex::new(Vec::new()));
        let console = Console::new(vec![Box::new(Broken), Box::new(Shared(Arc::clone(&text)))]);
        console.say("one\u{1b}[2J");
        console.say("two");
        console.flush(Duration::from_secs(5));
        let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with(" ms] standby: one?[2J"), "{}", lines[0]);
        assert!(lines[1].ends_with("standby: two"));
    }

    #[test]
    fn long_lines_are_cut() {
        let shown = plain(&"é".repeat(1000));
        assert!(shown.len() <= WIDTH + 4);
        assert!(shown.ends_with('…'));
    }
}
