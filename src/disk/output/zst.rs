//! A raw image in zstd (RFC 8878): one frame for every 4 MiB, so that frames
//! can be made by several threads and the file is the same for any number of
//! them. Every tool reads frames in a row as one stream.

use std::io::{BufReader, Read, Write};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::{DiskSink, OutputError, read};
use crate::disk::source::{Source, wide};

/// Bytes of the disk in a frame; part of what makes the file reproducible.
pub const FRAME: u64 = 4 << 20;
/// Compression level, likewise.
pub const LEVEL: i32 = 3;
/// The largest window that a reader allows: that of a whole frame.
const WINDOW_LOG: u32 = 22;

type Frame = Result<Vec<u8>, OutputError>;

/// Writes `disk` compressed, in `workers` threads of about 16 MiB each; returns
/// the file's length.
pub fn write<S, W>(disk: &S, mut output: W, workers: NonZeroUsize) -> Result<u64, OutputError>
where
    S: Source + ?Sized,
    W: Write,
{
    // No worker without a frame.
    let frames = usize::try_from(disk.length().div_ceil(FRAME)).unwrap_or(usize::MAX);
    let workers = workers.get().min(frames);
    let step = FRAME.saturating_mul(wide(workers));
    std::thread::scope(|scope| {
        // Worker n makes frames n, n + workers, …; each waits for its turn.
        let mut lines: Vec<Receiver<Frame>> = Vec::new();
        let mut first = 0;
        for _ in 0..workers {
            let (sender, receiver) = sync_channel(1);
            lines.push(receiver);
            scope.spawn(move || compress(disk, first, step, &sender));
            first += FRAME;
        }
        let mut written = 0;
        for line in lines.iter().cycle() {
            // A worker that has no more frames hangs up: then nobody has.
            let Ok(frame) = line.recv() else { break };
            let frame = frame?;
            output
                .write_all(&frame)
                .map_err(|source| OutputError::Write {
                    offset: written,
                    source,
                })?;
            written += wide(frame.len());
        }
        Ok(written)
    })
}

fn compress<S: Source + ?Sized>(disk: &S, first: u64, step: u64, to: &SyncSender<Frame>) {
    let mut buffer = Vec::new();
    let mut at = first;
    while at < disk.length() {
        let length = disk.length().saturating_sub(at).min(FRAME);
        buffer.resize(usize::try_from(length).unwrap_or(0), 0);
        let frame = read(disk, at, &mut buffer).and_then(|()| {
            let encode = |source| OutputError::Write { offset: at, source };
            let mut encoder = zstd::bulk::Compressor::new(LEVEL).map_err(encode)?;
            encoder.include_checksum(true).map_err(encode)?;
            encoder.compress(&buffer).map_err(encode)
        });
        // Nobody listens any more if writing failed.
        if to.send(frame).is_err() {
            return;
        }
        at = at.saturating_add(step);
    }
}

/// Decompresses a disk into `sink`; it must be exactly as long as that is.
pub fn read_into<R, D>(input: R, sink: &D) -> Result<(), OutputError>
where
    R: Read,
    D: DiskSink + ?Sized,
{
    let decode = |offset, source| OutputError::Decode { offset, source };
    let mut decoder =
        zstd::Decoder::with_buffer(BufReader::new(input)).map_err(|source| decode(0, source))?;
    decoder
        .window_log_max(WINDOW_LOG)
        .map_err(|source| decode(0, source))?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let count = decoder
            .read(&mut buffer)
            .map_err(|source| decode(at, source))?;
        if count == 0 {
            break;
        }
        let now = buffer.get(..count).unwrap_or_default();
        sink.write_at(at, now)?;
        at += wide(count);
    }
    match at == sink.length() {
        true => Ok(()),
        false => Err(OutputError::Length(sink.length())),
    }
}
