//! The root partition's way to disk, step by step: `cargo bench --bench disk`.
//!
//! 240 MB in 10,000 files, as an image of a small Linux system has them, wait
//! in one spool file in the page cache.

#![allow(clippy::print_stdout)] // a bench prints

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use standby::disk::{erofs, verity};
use standby_tree::{Content, Extent, StoreId, Stores, Tree};

const TOTAL: u64 = 240_000_000;
const FILES: u64 = 10_000;
const ROUNDS: u32 = 5;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Half the files under 4 KiB, most others under 40 KiB, a few of megabytes.
fn tree(store: StoreId) -> Tree {
    let mut tree = Tree::new();
    let mut offset = 0;
    for index in 0..FILES {
        let mixed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let len = match index % 100 {
            0 => 1_000_000 + mixed % 900_000,
            1..50 => 5_000 + mixed % 25_000,
            _ => mixed % 4_096,
        };
        let content = Content::Extent(Extent { store, offset, len });
        let path = format!("usr/lib/d{}/file-{index}.so", index % 311);
        tree.put_file(&path, 0o644, content);
        offset += len.next_multiple_of(512) + 512;
    }
    tree
}

fn spool() -> Outcome<File> {
    let mut spool = tempfile::tempfile()?;
    let mut state = 1u64;
    let mut block = Vec::new();
    for _ in 0..(TOTAL + 40_000_000) / 65_536 {
        block.clear();
        for _ in 0..8_192 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            block.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
        }
        spool.write_all(&block)?;
    }
    Ok(spool)
}

fn options(threads: usize) -> Outcome<verity::Options> {
    Ok(verity::Options {
        salt: vec![7; 32],
        uuid: [1; 16],
        threads: NonZeroUsize::new(threads).ok_or("no threads")?,
    })
}

/// Processor time of this process so far, in ticks of 10 ms: fields 14 and 15
/// of proc(5)'s `stat`, counted behind the name in parentheses.
fn ticks() -> Outcome<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no name")?;
    let fields = fields.split_whitespace().skip(11).take(2);
    Ok(fields.map(str::parse::<u64>).sum::<Result<u64, _>>()?)
}

/// Prints the fastest of some rounds, and the mean of their processor time,
/// which others on the machine disturb less.
fn best(what: &str, bytes: u64, mut round: impl FnMut() -> Outcome<()>) -> Outcome<()> {
    let mut best = Duration::MAX;
    let before = ticks()?;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        round()?;
        best = best.min(start.elapsed());
    }
    let cpu = (ticks()? - before) * 10 / u64::from(ROUNDS);
    let rate = u128::from(bytes) * 1_000 / best.as_nanos().max(1);
    let wall = best.as_secs_f64() * 1e3;
    println!("{what:<32} {wall:>6.1} ms {rate:>6} MB/s, processor {cpu:>4} ms");
    Ok(())
}

fn main() -> Outcome<()> {
    let mut stores = Stores::new();
    let store = stores.add(Arc::new(spool()?));
    let tree = tree(store);
    let plan = || erofs::Image::plan(&tree, &stores, &erofs::Options::default());
    let image = plan()?;
    let len = image.len();
    println!("{} files, an image of {len} bytes", image.inodes());
    let read = |offset: u64, buf: &mut [u8]| image.read_at(offset, buf, &stores);

    let memory = vec![0x5a; usize::try_from(len)?];
    let copy =
        |offset: u64, buf: &mut [u8]| standby_tree::ReadAt::read_exact_at(&memory, buf, offset);
    for threads in [1, 2] {
        let options = options(threads)?;
        best(&format!("verity of memory, {threads} threads"), len, || {
            verity::build(len, &options, copy, |_, _| Ok(()))?;
            Ok(())
        })?;
    }
    best("verity of zeros, 2 threads", len, || {
        let zeros = |_: u64, buf: &mut [u8]| {
            buf.fill(0);
            Ok(())
        };
        verity::build(len, &options(2)?, zeros, |_, _| Ok(()))?;
        Ok(())
    })?;
    drop(memory);
    best("plan", len, || {
        plan()?;
        Ok(())
    })?;
    best("read the image, 1 thread", len, || {
        let mut buf = vec![0; 1 << 20];
        for offset in (0..len).step_by(buf.len()) {
            let part = usize::try_from((len - offset).min(1 << 20))?;
            read(offset, &mut buf[..part])?;
        }
        Ok(())
    })?;
    best("verity of the image, 2 threads", len, || {
        verity::build(len, &options(2)?, read, |_, _| Ok(()))?;
        Ok(())
    })?;
    let folder = tempfile::tempdir()?;
    for threads in [1, 2] {
        best(
            &format!("plan, verity, write; {threads} threads"),
            len,
            || {
                let out = File::create(folder.path().join("out"))?;
                let image = plan()?;
                let read = |offset: u64, buf: &mut [u8]| image.read_at(offset, buf, &stores);
                let write = |offset: u64, chunk: &[u8]| out.write_all_at(chunk, offset);
                let built = verity::build(len, &options(threads)?, read, write)?;
                out.write_all_at(built.hash_partition(), len)?;
                Ok(())
            },
        )?;
    }
    Ok(())
}
