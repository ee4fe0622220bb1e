//! How fast layers are read: GB/s of a generated tar of 1 GiB in memory, and
//! entries per second of a tar of small files.
//!
//! `cargo bench -p standby --bench layers [-- FOLDER]`; plain writes, which take
//! longer than reading, go to FOLDER.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use standby::oci::layer::{Layer, Limits, WriteAt, apply, read};
use standby_tree::{StoreId, Tree};
use support::nasty::{Item, Tar, noise};

/// One tar over and over; its entries replace those of the round before.
struct Rounds<'a> {
    tar: &'a [u8],
    at: usize,
    left: usize,
}

impl Read for Rounds<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.tar.len() {
            if self.left == 0 {
                return Ok(0);
            }
            self.left -= 1;
            self.at = 0;
        }
        let count = (&self.tar[self.at..]).read(buf)?;
        self.at += count;
        Ok(count)
    }
}

fn rounds(tar: &[u8], bytes: usize) -> Rounds<'_> {
    let left = bytes.div_ceil(tar.len()) - 1;
    Rounds { tar, at: 0, left }
}

fn timed(tar: &[u8], bytes: usize) -> (Layer, Duration) {
    let start = Instant::now();
    let limits = Limits::default();
    let room = || Ok((StoreId(1), Vec::new()));
    let layer = read(rounds(tar, bytes), StoreId(0), room, &limits).unwrap();
    (layer, start.elapsed())
}

#[allow(clippy::cast_precision_loss)]
fn report(what: &str, bytes: usize, entries: usize, time: Duration) {
    let seconds = time.as_secs_f64();
    println!(
        "{what:<44} {:6.2} GB/s {:9.0} entries/s {:6.3} s",
        bytes as f64 / seconds / 1e9,
        entries as f64 / seconds,
        seconds
    );
}

fn main() {
    let folder = std::env::args()
        .nth(1)
        .filter(|argument| !argument.starts_with("--"));
    let folder = folder.map_or_else(std::env::temp_dir, PathBuf::from);
    let mut large = Tar::new();
    for (number, length) in [16 << 20, 5_000_001, 900_000, 300_000]
        .into_iter()
        .enumerate()
    {
        large.item(Item::file(
            format!("usr/lib/file-{number}"),
            noise(1, length),
        ));
    }
    let mut system = Tar::new();
    for number in 0..400 {
        let length = 1 << (number % 17);
        let name = format!("usr/share/{}/file-{number}", number % 7);
        system.item(Item::file(name, noise(number, length)));
    }
    let mut small = Tar::new();
    for number in 0..1000 {
        small.item(Item::file(format!("usr/share/doc/small-{number}"), "small"));
    }
    for (name, tar) in [
        ("large files", large.unfinished()),
        ("files of a system (11 KB on average)", system.unfinished()),
        ("files of 5 bytes", small.unfinished()),
    ] {
        let bytes = 1usize << 30;
        let (layer, time) = timed(&tar, bytes);
        report(name, bytes, layer.len(), time);
        let entries = layer.len();
        let start = Instant::now();
        apply(&mut Tree::new(), layer).unwrap();
        report(&format!("{name}, applied"), bytes, entries, start.elapsed());
    }
    million();
    plain_writes(&folder);
}

/// What the disk's cache alone takes: the bound on all the above.
fn plain_writes(folder: &std::path::Path) {
    let mut file = tempfile::tempfile_in(folder).unwrap();
    let (buffer, start) = (noise(1, 256 << 10), Instant::now());
    for number in 0..4096 {
        WriteAt::write_all_at(&mut file, &buffer, number * (256 << 10)).unwrap();
    }
    report("plain writes of 256 KiB", 1 << 30, 4096, start.elapsed());
}

/// A million names, a thousand to a folder.
fn million() {
    let mut tar = Tar::new();
    for number in 0..1_000_000 {
        let name = format!("usr/share/folder-{:04}/file-{number:07}", number / 1000);
        tar.item(Item::file(name, ""));
    }
    let tar = tar.unfinished();
    let (layer, time) = timed(&tar, tar.len());
    report("a million files, read", tar.len(), layer.len(), time);
    let entries = layer.len();
    let start = Instant::now();
    apply(&mut Tree::new(), layer).unwrap();
    report(
        "a million files, applied",
        tar.len(),
        entries,
        start.elapsed(),
    );
}
