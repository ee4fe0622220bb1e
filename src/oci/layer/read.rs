//! From a tar stream to a [`Layer`].

use std::io::{self, Read};

use standby_tree::{Extent, Meta, StoreId, Time};

use super::entry::{EntryKind, Layer, check_length, normalise, split};
use super::error::{LayerError, Problem};
use super::header::{BLOCK, Header, number, text};
use super::limits::Limits;
use super::pax::Pax;
use super::source::Source;
use super::sparse::Map;
use super::spool::{Spool, WriteAt};

/// Reads one layer's tar, already decompressed, to the end of the stream.
///
/// The contents of regular files are extents of `tar`: the store that has, or will
/// have, the stream as it is. Sparse files are expanded in what `room` gives, which
/// is asked for once, when the first of them comes; it is complete when this returns.
///
/// Global PAX headers are checked for their size and otherwise passed over, as
/// every container engine does. A stream that ends between entries is accepted
/// without the end marker.
///
/// # Errors
/// A tar that is malformed, truncated or above a limit, an entry that names a
/// place outside the root, and whatever the reader or the room reports.
pub fn read<R: Read, W: WriteAt>(
    reader: R,
    tar: StoreId,
    room: impl FnMut() -> io::Result<(StoreId, W)>,
    limits: &Limits,
) -> Result<Layer, LayerError> {
    let mut reader = Reader {
        source: Source::new(reader, limits.tar_bytes),
        tar,
        room,
        expanded: None,
        limits,
        layer: Layer::new(tar, limits),
    };
    reader.entries()?;
    reader.source.drain()?;
    if let Some((_, spool)) = &mut reader.expanded {
        spool.finish()?;
    }
    Ok(reader.layer)
}

struct Reader<'a, R, W, F> {
    source: Source<R>,
    tar: StoreId,
    room: F,
    /// Where sparse files go, once there was one.
    expanded: Option<(StoreId, Spool<W>)>,
    limits: &'a Limits,
    layer: Layer,
}

/// Extended headers that wait for their entry.
#[derive(Default)]
struct Extended {
    pax: Option<Pax>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extended {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

impl<R, W, F> Reader<'_, R, W, F>
where
    R: Read,
    W: WriteAt,
    F: FnMut() -> io::Result<(StoreId, W)>,
{
    fn entries(&mut self) -> Result<(), LayerError> {
        let mut extended = Extended::default();
        loop {
            let offset = self.source.offset();
            let Some(header) = self.header()? else {
                if !extended.is_empty() {
                    return Err(LayerError::tar(offset, Problem::Dangling));
                }
                return Ok(());
            };
            match header.kind {
                b'x' => {
                    let data = self.extended(offset, &header)?;
                    let pax = Pax::parse(&data, self.limits);
                    extended.pax = Some(pax.map_err(|p| LayerError::tar(offset, p))?);
                }
                b'g' => {
                    self.extended(offset, &header)?;
                }
                b'L' => extended.long_name = Some(self.long_text(offset, &header)?),
                b'K' => extended.long_link = Some(self.long_text(offset, &header)?),
                _ => self.entry(offset, &header, std::mem::take(&mut extended))?,
            }
        }
    }

    /// The next header; none at the end, marked or not.
    fn header(&mut self) -> Result<Option<Header>, LayerError> {
        let offset = self.source.offset();
        let bad = |problem| Err(LayerError::tar(offset, problem));
        let Some(block) = self.source.block()? else {
            return Ok(None);
        };
        if block == [0; BLOCK] {
            return match self.source.block()? {
                None => Ok(None),
                Some(block) if block == [0; BLOCK] => Ok(None),
                Some(_) => bad(Problem::LoneZeroBlock),
            };
        }
        let header = Header::from_block(block);
        if !header.checksum_matches() {
            return bad(Problem::Checksum);
        }
        Ok(Some(header))
    }

    /// The data of an extended header.
    fn extended(&mut self, offset: u64, header: &Header) -> Result<Vec<u8>, LayerError> {
        let bad = |problem| LayerError::tar(offset, problem);
        let size = unsigned(&header.size, "size").map_err(bad)?;
        let limit = self.limits.extended_bytes;
        let what = "bytes in an extended header";
        if size > limit {
            return Err(bad(Problem::Limit { what, limit }));
        }
        let mut data = Vec::new();
        self.source.runs(size, |run| {
            data.extend_from_slice(run);
            Ok(())
        })?;
        self.source.skip_padding(size)?;
        Ok(data)
    }

    fn long_text(&mut self, offset: u64, header: &Header) -> Result<Vec<u8>, LayerError> {
        let data = self.extended(offset, header)?;
        Ok(text(&data).to_vec())
    }

    fn entry(
        &mut self,
        offset: u64,
        header: &Header,
        extended: Extended,
    ) -> Result<(), LayerError> {
        let limit = self.limits.entries;
        if self.layer.len() as u64 >= limit {
            let what = "entries";
            return Err(LayerError::tar(offset, Problem::Limit { what, limit }));
        }
        let pax = extended.pax.unwrap_or_default();
        let name = match (&pax.sparse.name, extended.long_name, &pax.path) {
            (Some(name), _, _) if pax.sparse.is_sparse() => name.clone(),
            (_, Some(name), _) => name,
            (_, None, Some(name)) => name.clone(),
            (_, None, None) => header.path(),
        };
        let link = extended.long_link.or_else(|| pax.link_path.clone());
        let link = link.unwrap_or_else(|| text(&header.link_name).to_vec());
        self.named(offset, header, pax, &name, &link)
            .map_err(|error| match error {
                LayerError::Tar { problem, .. } => LayerError::entry(offset, &name, problem),
                other => other,
            })
    }

    fn named(
        &mut self,
        offset: u64,
        header: &Header,
        pax: Pax,
        name: &[u8],
        link: &[u8],
    ) -> Result<(), LayerError> {
        let bad = |problem| LayerError::tar(offset, problem);
        let path = normalise(name, self.limits).map_err(bad)?;
        let mut meta = meta(header, &pax).map_err(bad)?;
        let kind = match header.kind {
            0 if name.ends_with(b"/") => b'5',
            kind => kind,
        };
        if let Some((path, whiteout)) = whiteout(&path).map_err(bad)? {
            self.discard(header, &pax, kind)?;
            return self.push(&path, offset, Meta::new(0), whiteout);
        }
        let target;
        let kind = match kind {
            0 | b'0' | b'7' | b'S' => EntryKind::File(self.content(header, pax, kind)?),
            b'1' => {
                target = normalise(link, self.limits).map_err(bad)?;
                if target.is_empty() {
                    return Err(bad(Problem::EmptyTarget));
                }
                EntryKind::HardLink(&target)
            }
            b'2' => {
                check_length(link, self.limits).map_err(bad)?;
                match link {
                    b"" => return Err(bad(Problem::EmptyTarget)),
                    link if link.contains(&0) => return Err(bad(Problem::Nul)),
                    link => {
                        // Linux gives every symbolic link this mode.
                        meta.mode = 0o777;
                        EntryKind::Symlink(link)
                    }
                }
            }
            b'3' | b'4' => device(header, kind).map_err(bad)?,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            kind => return Err(bad(Problem::Type(kind))),
        };
        if path.is_empty() && kind != EntryKind::Directory {
            return Err(bad(Problem::Root));
        }
        self.push(&path, offset, meta, kind)
    }

    fn push(
        &mut self,
        path: &[u8],
        offset: u64,
        meta: Meta,
        kind: EntryKind<'_>,
    ) -> Result<(), LayerError> {
        self.layer
            .push(path, offset, meta, kind)
            .map_err(|problem| LayerError::tar(offset, problem))
    }

    /// Passes over the data of an entry whose name alone matters.
    fn discard(&mut self, header: &Header, pax: &Pax, kind: u8) -> Result<(), LayerError> {
        if matches!(kind, b'1'..=b'6') {
            return Ok(());
        }
        let size = self.stored(header, pax)?;
        self.source.skip(size)?;
        self.source.skip_padding(size)
    }

    /// Bytes of data after the header.
    fn stored(&self, header: &Header, pax: &Pax) -> Result<u64, LayerError> {
        match pax.size {
            Some(size) => Ok(size),
            None => unsigned(&header.size, "size")
                .map_err(|problem| LayerError::tar(self.source.offset(), problem)),
        }
    }

    /// Passes over a regular file's data, or expands it.
    fn content(&mut self, header: &Header, pax: Pax, kind: u8) -> Result<Extent, LayerError> {
        let at = self.source.offset();
        let bad = |problem| LayerError::tar(at, problem);
        let stored = self.stored(header, &pax)?;
        let limit = self.limits.sparse_runs;
        let map = if kind == b'S' {
            let tail = header.gnu().ok_or(bad(Problem::Sparse("no GNU header")))?;
            Some(Map::gnu(&tail, stored, &mut self.source, limit)?)
        } else if pax.sparse.is_sparse() {
            Some(Map::pax(pax.sparse, stored, &mut self.source, limit)?)
        } else {
            None
        };
        let map = map.transpose().map_err(bad)?;
        let len = map.as_ref().map_or(stored, |map| map.real_size);
        self.count(len).map_err(bad)?;
        match map {
            None => {
                let (store, offset) = (self.tar, self.source.offset());
                self.source.skip(stored)?;
                self.source.skip_padding(stored)?;
                Ok(Extent { store, offset, len })
            }
            Some(map) => {
                let (store, offset) = self.expand(&map)?;
                self.source.skip_padding(map.stored)?;
                Ok(Extent { store, offset, len })
            }
        }
    }

    fn count(&mut self, bytes: u64) -> Result<(), Problem> {
        let counted = &mut self.layer.content_bytes;
        *counted = counted.saturating_add(bytes);
        let limit = self.limits.content_bytes;
        let what = "bytes of file contents";
        if *counted > limit {
            return Err(Problem::Limit { what, limit });
        }
        Ok(())
    }

    /// Writes a sparse file's data with its holes; returns where it is.
    fn expand(&mut self, map: &Map) -> Result<(StoreId, u64), LayerError> {
        let (store, spool) = match &mut self.expanded {
            Some((store, spool)) => (*store, spool),
            none => {
                let made = (self.room)();
                let (store, target) =
                    made.map_err(|source| LayerError::Spool { offset: 0, source })?;
                let (_, spool) = none.insert((store, Spool::new(target)));
                (store, spool)
            }
        };
        let offset = spool.position();
        let mut at = 0;
        for run in &map.runs {
            spool.skip(run.offset.saturating_sub(at))?;
            self.source.runs(run.length, |bytes| spool.write(bytes))?;
            at = run.offset.saturating_add(run.length);
        }
        spool.skip(map.real_size.saturating_sub(at))?;
        Ok((store, offset))
    }
}

/// A number field that cannot be negative.
fn unsigned(field: &[u8], name: &'static str) -> Result<u64, Problem> {
    number(field)
        .and_then(|value| u64::try_from(value).ok())
        .ok_or(Problem::Number(name))
}

fn meta(header: &Header, pax: &Pax) -> Result<Meta, Problem> {
    let owner = |pax: Option<u64>, field: &[u8], name| {
        let id = match pax {
            Some(id) => id,
            None => unsigned(field, name)?,
        };
        u32::try_from(id).map_err(|_| Problem::Number(name))
    };
    let mode = unsigned(&header.mode, "mode")? & 0o7777;
    let seconds = number(&header.mtime).ok_or(Problem::Number("mtime"))?;
    Ok(Meta {
        mode: u16::try_from(mode).map_err(|_| Problem::Number("mode"))?,
        uid: owner(pax.uid, &header.uid, "uid")?,
        gid: owner(pax.gid, &header.gid, "gid")?,
        mtime: pax.mtime.unwrap_or(Time {
            seconds,
            nanoseconds: 0,
        }),
        xattrs: pax.xattrs.clone(),
    })
}

/// Device numbers as Linux has them: 12 bits and 20 bits.
fn device(header: &Header, kind: u8) -> Result<EntryKind<'static>, Problem> {
    let bad = Problem::Number("device");
    let (major, minor) = header.device().ok_or(bad.clone())?;
    let within = |value: i64, limit: u32| u32::try_from(value).ok().filter(|v| *v < limit);
    let (Some(major), Some(minor)) = (within(major, 1 << 12), within(minor, 1 << 20)) else {
        return Err(bad);
    };
    Ok(match kind {
        b'3' => EntryKind::CharDevice { major, minor },
        _ => EntryKind::BlockDevice { major, minor },
    })
}

/// What a whiteout's name hides (image-spec, "Whiteouts"); none for other names.
fn whiteout(path: &[u8]) -> Result<Option<(Vec<u8>, EntryKind<'static>)>, Problem> {
    let Some((parent, name)) = split(path) else {
        return Ok(None);
    };
    let hidden = match name.strip_prefix(b".wh.") {
        None => return Ok(None),
        Some(b".wh..opq") => return Ok(Some((parent.to_vec(), EntryKind::Opaque))),
        Some(b"" | b"." | b"..") => return Err(Problem::EmptyWhiteout),
        Some(hidden) => hidden,
    };
    let mut path = parent.to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(hidden);
    Ok(Some((path, EntryKind::Whiteout)))
}
