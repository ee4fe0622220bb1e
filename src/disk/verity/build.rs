//! The tree, from data read once.

use std::io;
use std::num::NonZeroUsize;
use std::slice::ChunksMut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use standby_contract::verity::{BLOCK_SIZE, DIGEST_SIZE, Superblock};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::geometry::{BLOCK, Level, levels};
use super::hasher::Hasher;
use super::{Digest, VerityError, hash_size};

/// Data that a thread reads, hashes and hands on at once: 1 MiB, whose digests
/// fill two hash blocks.
const CHUNK: usize = 256 * BLOCK_SIZE;
const CHUNK_DIGESTS: usize = 256 * DIGEST_SIZE;

/// What is the same for every block of a tree.
#[derive(Clone, Debug)]
pub struct Options {
    /// Prepended to each block: at most 256 bytes.
    pub salt: Vec<u8>,
    /// The hash partition's UUID in its superblock.
    pub uuid: [u8; 16],
    /// Threads that hash; the result does not depend on it.
    pub threads: NonZeroUsize,
}

/// A finished tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verity {
    root: Digest,
    partition: Vec<u8>,
}

impl Verity {
    /// The root hash.
    pub fn root_hash(&self) -> &Digest {
        &self.root
    }

    /// The hash partition: superblock, then the tree, top level first;
    /// [`hash_size`] bytes.
    pub fn hash_partition(&self) -> &[u8] {
        &self.partition
    }

    /// The hash partition, without a copy.
    pub fn into_hash_partition(self) -> Vec<u8> {
        self.partition
    }
}

/// Hashes `len` bytes, which `read` fills from an offset, in chunks of up to
/// 1 MiB, and gives each chunk once to `emit`, the last one padded with zeros
/// to whole blocks. Both are called from several threads, in no order. Holds
/// the hash partition (1/127 of the data) and a chunk a thread.
///
/// # Errors
/// If several chunks fail, any one of them is named; others may have been
/// emitted by then.
pub fn build<R, E>(len: u64, options: &Options, read: R, emit: E) -> Result<Verity, VerityError>
where
    R: Fn(u64, &mut [u8]) -> io::Result<()> + Sync,
    E: Fn(u64, &[u8]) -> io::Result<()> + Sync,
{
    let data_blocks = len.div_ceil(BLOCK);
    if data_blocks == 0 {
        return Err(VerityError::Empty);
    }
    let superblock = superblock(data_blocks, options)?;
    let hasher = Hasher::new(&options.salt);
    let levels = levels(data_blocks);
    let size = to_usize(hash_size(len))?;
    let mut partition = Vec::new();
    let room = partition.try_reserve_exact(size);
    room.map_err(|_| VerityError::Memory { size })?;
    partition.resize(size, 0);
    partition[..size_of::<Superblock>()].copy_from_slice(superblock.as_bytes());
    let mut single = Digest::default();
    let leaves = match levels.first() {
        Some(level) => {
            let start = to_usize(level.offset)?;
            &mut partition[start..][..to_usize(data_blocks)? * DIGEST_SIZE]
        }
        None => &mut single[..],
    };
    let job = Job {
        len,
        read,
        emit,
        hasher: &hasher,
        stop: AtomicBool::new(false),
        queue: Mutex::new(leaves.chunks_mut(CHUNK_DIGESTS).enumerate()),
    };
    job.run(options.threads)?;
    let root = upper_levels(&mut partition, &levels, &hasher)?.unwrap_or(single);
    Ok(Verity { root, partition })
}

fn to_usize(size: u64) -> Result<usize, VerityError> {
    usize::try_from(size).map_err(|_| VerityError::TooLarge)
}

fn superblock(data_blocks: u64, options: &Options) -> Result<Superblock, VerityError> {
    let too_long = VerityError::Salt(options.salt.len());
    let mut salt = [0; 256];
    let Some(used) = salt.get_mut(..options.salt.len()) else {
        return Err(too_long);
    };
    used.copy_from_slice(&options.salt);
    let mut algorithm = [0; 32];
    algorithm[..6].copy_from_slice(b"sha256");
    let block = U32::new(u32::try_from(BLOCK).map_err(|_| VerityError::TooLarge)?);
    Ok(Superblock {
        signature: Superblock::SIGNATURE,
        version: U32::new(1),
        hash_type: U32::new(1),
        uuid: options.uuid,
        algorithm,
        data_block_size: block,
        hash_block_size: block,
        data_blocks: U64::new(data_blocks),
        salt_size: U16::new(u16::try_from(options.salt.len()).map_err(|_| too_long)?),
        reserved_1: [0; 6],
        salt,
        reserved_2: [0; 168],
    })
}

type Queue<'a> = std::iter::Enumerate<ChunksMut<'a, u8>>;

struct Job<'a, R, E> {
    len: u64,
    read: R,
    emit: E,
    hasher: &'a Hasher,
    stop: AtomicBool,
    /// Where the digests of each chunk go.
    queue: Mutex<Queue<'a>>,
}

impl<R, E> Job<'_, R, E>
where
    R: Fn(u64, &mut [u8]) -> io::Result<()> + Sync,
    E: Fn(u64, &[u8]) -> io::Result<()> + Sync,
{
    fn run(&self, threads: NonZeroUsize) -> Result<(), VerityError> {
        let failure = Mutex::new(None);
        let work = || {
            if let Err(error) = self.work() {
                self.stop.store(true, Ordering::Relaxed);
                lock(&failure).get_or_insert(error);
            }
        };
        std::thread::scope(|scope| {
            let chunks = lock(&self.queue).len();
            for _ in 1..threads.get().min(chunks) {
                scope.spawn(work);
            }
            work();
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn work(&self) -> Result<(), VerityError> {
        let mut buffer = vec![0; CHUNK];
        while !self.stop.load(Ordering::Relaxed) {
            let Some((index, digests)) = lock(&self.queue).next() else {
                break;
            };
            let offset = index as u64 * CHUNK as u64;
            let data = to_usize((self.len - offset).min(CHUNK as u64))?;
            let padded = data.next_multiple_of(BLOCK_SIZE);
            let chunk = &mut buffer[..padded];
            let (content, padding) = chunk.split_at_mut(data);
            (self.read)(offset, content).map_err(|source| VerityError::Read { offset, source })?;
            padding.fill(0);
            self.hasher.blocks(chunk, digests);
            (self.emit)(offset, chunk).map_err(|source| VerityError::Write { offset, source })?;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fills every level above the first; the digest of the top block, if any.
/// One thread is enough for 1/128 of the work.
fn upper_levels(
    partition: &mut [u8],
    levels: &[Level],
    hasher: &Hasher,
) -> Result<Option<Digest>, VerityError> {
    for pair in levels.windows(2) {
        let [below, above] = pair else { continue };
        // A higher level stands before the one it covers.
        let (head, tail) = partition.split_at_mut(to_usize(below.offset)?);
        let digests = head
            .get_mut(to_usize(above.offset)?..)
            .ok_or(VerityError::TooLarge)?;
        let blocks = tail
            .get(..to_usize(below.blocks * BLOCK)?)
            .ok_or(VerityError::TooLarge)?;
        hasher.blocks(blocks, digests);
    }
    let Some(top) = levels.last() else {
        return Ok(None);
    };
    let block = partition
        .get(to_usize(top.offset)?..)
        .and_then(|rest| rest.get(..BLOCK_SIZE));
    Ok(Some(hasher.block(block.ok_or(VerityError::TooLarge)?)))
}
