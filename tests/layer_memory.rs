//! The memory that names and metadata take, in a process of its own.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{self, Read};

use standby::oci::layer::{Limits, apply, read};
use standby_tree::{StoreId, Tree};
use support::nasty::{Item, Tar};

const FILES: u32 = 250_000;

/// A tar of empty files, a thousand to a folder.
struct Files {
    number: u32,
    block: Vec<u8>,
    at: usize,
}

impl Read for Files {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() && self.number < FILES {
            let mut tar = Tar::new();
            for _ in 0..1000 {
                let (folder, file) = (self.number / 1000, self.number % 1000);
                let name = format!("usr/share/folder-{folder:04}/some-file-{file:04}");
                tar.item(Item::file(name, ""));
                self.number += 1;
            }
            self.block = tar.unfinished();
            self.at = 0;
        }
        let rest = &self.block[self.at..];
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

/// A million take four times as much: under 250 MiB with the process itself.
#[test]
fn a_quarter_of_a_million_files_stay_small() {
    let files = Files {
        number: 0,
        block: Vec::new(),
        at: 0,
    };
    let room = || Ok((StoreId(1), Vec::new()));
    let layer = read(files, StoreId(0), room, &Limits::default()).unwrap();
    assert_eq!(layer.len(), 250_000);
    let mut tree = Tree::new();
    apply(&mut tree, layer).unwrap();
    let peak = peak_kib();
    assert_eq!(tree.capacity(), 250_000 + 250 + 3);
    println!("{peak} KiB");
    assert!(peak < 62 << 10, "{peak} KiB");
}

/// The most this process ever had in memory.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.unwrap().split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}
