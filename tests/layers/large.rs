//! What is too large to keep as a file.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use standby::oci::layer::{EntryKind, Layer, LayerError, Limits, Problem, WriteAt, read};
use standby_tree::{Extent, StoreId};

use crate::support::nasty::{self, Item, Tar};

/// Remembers how long it was made.
#[derive(Clone, Default)]
struct Length(Arc<AtomicU64>);

impl WriteAt for Length {
    fn write_all_at(&mut self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::Error::other("there is nothing but holes"))
    }

    fn set_length(&mut self, length: u64) -> io::Result<()> {
        self.0.store(length, Ordering::Relaxed);
        Ok(())
    }
}

/// For layers without sparse files.
fn none() -> io::Result<(StoreId, Length)> {
    Err(io::Error::other("nothing here is sparse"))
}

fn extents(layer: &Layer) -> Vec<Extent> {
    let files = layer.entries().filter_map(|entry| match entry.kind {
        EntryKind::File(extent) => Some(extent),
        _ => None,
    });
    files.collect()
}

const NINE_GIB: u64 = 9 << 30;

/// 9 GiB do not fit eleven octal digits: the size is base-256 or in PAX.
#[test]
fn files_above_eight_gib() {
    let mut base_256 = nasty::plain(b"large", b'0');
    let size = i64::try_from(NINE_GIB).unwrap();
    nasty::base_256(&mut base_256.as_old_mut().size, size);
    let mut heads = [Tar::new(), Tar::new()];
    heads[0].raw(base_256, b"");
    let record = (b"size".to_vec(), NINE_GIB.to_string().into_bytes());
    heads[1]
        .pax(b'x', &[record])
        .raw(nasty::plain(b"large", b'0'), b"");
    let mut tail = Tar::new();
    tail.item(Item::file("after", "it"));
    for head in heads {
        let head = head.unfinished();
        let tail = tail.finish();
        let tar = head.chain(io::repeat(0).take(NINE_GIB)).chain(&tail[..]);
        let layer = read(tar, StoreId(7), none, &Limits::default()).unwrap();
        let start = head.len() as u64;
        let extent = |offset, len| Extent {
            store: StoreId(7),
            offset,
            len,
        };
        // Both are where they are in the tar.
        assert_eq!(
            extents(&layer),
            [extent(start, NINE_GIB), extent(start + NINE_GIB + 512, 2)]
        );
    }
}

/// A map may claim any size: it counts towards the limit though it takes no room.
#[test]
fn holes_count() {
    let mut tar = Tar::new();
    let records = [
        ("major", "1"),
        ("minor", "0"),
        ("realsize", "1000000000000"),
    ];
    let records = records.map(|(key, value)| (format!("GNU.sparse.{key}").into(), value.into()));
    let mut header = nasty::plain(b"x", b'0');
    header.set_size(512);
    let mut map = b"0\n".to_vec();
    map.resize(512, 0);
    tar.pax(b'x', &records).raw(header, &map);
    let tar = tar.finish();
    let limits = |content_bytes| Limits {
        content_bytes,
        ..Limits::default()
    };
    let length = Length::default();
    let room = || Ok((StoreId(1), length.clone()));
    let layer = read(&tar[..], StoreId(0), room, &limits(1 << 40)).unwrap();
    let whole = Extent {
        store: StoreId(1),
        offset: 0,
        len: 1_000_000_000_000,
    };
    assert_eq!(extents(&layer), [whole]);
    assert_eq!(length.0.load(Ordering::Relaxed), whole.len);
    let error = read(&tar[..], StoreId(0), none, &limits(1 << 39)).unwrap_err();
    let limit = 1 << 39;
    let what = "bytes of file contents";
    assert_eq!(error.problem(), Some(&Problem::Limit { what, limit }));
}

#[test]
fn errors_say_where() {
    let mut tar = Tar::new();
    tar.item(Item::file("fine", "x"));
    let offset = tar.position();
    tar.item(Item::file("etc/../../escape", "x"));
    let tar = tar.finish();
    let error = read(&tar[..], StoreId(0), none, &Limits::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("\"etc/../../escape\""), "{text}");
    assert!(text.contains(&format!("byte {offset} ")), "{text}");
    assert!(matches!(
        error,
        LayerError::Entry {
            problem: Problem::DotDot,
            ..
        }
    ));
}
