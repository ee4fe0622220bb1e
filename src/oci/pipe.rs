//! Bytes from one thread to another, in large buffers that go round.

use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{Receiver, SendError, SyncSender, sync_channel};

use crate::oci::blob::CHUNK;

/// Buffers that go round.
const BUFFERS: usize = 4;

/// Two ends: what is written to the first is read from the second.
pub fn pipe() -> (PipeWriter, PipeReader) {
    let (full_send, full) = sync_channel(BUFFERS);
    let (empty_send, empty) = sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        let _ = empty_send.send(Vec::new());
    }
    let writer = PipeWriter {
        full: full_send,
        empty,
        current: None,
    };
    let reader = PipeReader {
        full,
        empty: empty_send,
        current: Vec::new(),
        at: 0,
    };
    (writer, reader)
}

/// The end that is written to. Once the reader is gone it accepts all and keeps
/// nothing: the reader's own result says why it went.
pub struct PipeWriter {
    full: SyncSender<io::Result<Vec<u8>>>,
    empty: Receiver<Vec<u8>>,
    current: Option<Vec<u8>>,
}

impl PipeWriter {
    /// A buffer to fill, of [`CHUNK`] bytes; none once the reader is gone.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let mut buffer = self.empty.recv().ok()?;
        buffer.resize(CHUNK, 0);
        Some(buffer)
    }

    /// Hands a filled buffer on, or an error. Once the reader is gone a buffer
    /// comes back.
    pub fn send(&mut self, filled: io::Result<Vec<u8>>) -> Option<Vec<u8>> {
        let SendError(returned) = self.full.send(filled).err()?;
        Some(returned.unwrap_or_default())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut buffer = match self.current.take() {
            Some(buffer) => buffer,
            None => match self.empty.recv() {
                Ok(mut empty) => {
                    empty.clear();
                    empty
                }
                Err(_) => return Ok(bytes.len()),
            },
        };
        let room = CHUNK.saturating_sub(buffer.len()).min(bytes.len());
        buffer.extend_from_slice(bytes.get(..room).unwrap_or_default());
        let full = buffer.len() == CHUNK;
        self.current = Some(buffer);
        if full {
            self.flush()?;
        }
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(buffer) = self.current.take().filter(|buffer| !buffer.is_empty()) {
            self.send(Ok(buffer));
        }
        Ok(())
    }
}

/// The end that is read from.
pub struct PipeReader {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.current.len() {
            let spent = std::mem::take(&mut self.current);
            if spent.capacity() > 0 {
                let _ = self.empty.send(spent);
            }
            self.at = 0;
            if let Ok(next) = self.full.recv() {
                self.current = next?;
            }
        }
        Ok(self.current.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for PipeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buf)?;
        self.consume(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let (mut writer, mut reader) = pipe();
        let bytes: Vec<u8> = (0..3 * CHUNK + 5)
            .map(|n| u8::try_from(n % 251).unwrap_or(0))
            .collect();
        let sent = bytes.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for piece in sent.chunks(100_003) {
                    writer.write_all(piece).unwrap();
                }
                writer.flush().unwrap();
            });
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            assert!(read == bytes);
        });
    }

    #[test]
    fn a_reader_that_leaves_does_not_stop_the_writer() {
        let (mut writer, reader) = pipe();
        drop(reader);
        writer.write_all(&vec![1; 9 * CHUNK]).unwrap();
        writer.flush().unwrap();
    }
}
