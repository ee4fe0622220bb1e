//! What is too large to keep as a file.

use std::io::{self, Read};

use standby::oci::layer::{EntryKind, LayerError, Limits, Problem, Spool, WriteAt, read};
use standby_tree::StoreId;

use crate::support::nasty::{self, Item, Tar};

/// Counts what it is given.
#[derive(Default)]
struct Count {
    written: u64,
    length: u64,
}

impl WriteAt for Count {
    fn write_all_at(&mut self, buf: &[u8], offset: u64) -> io::Result<()> {
        assert_eq!(offset, self.written, "in order, without gaps");
        self.written += buf.len() as u64;
        Ok(())
    }

    fn set_length(&mut self, length: u64) -> io::Result<()> {
        self.length = length;
        Ok(())
    }
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
        let mut spool = Spool::new(Count::default());
        let layer = read(tar, StoreId(0), &mut spool, &Limits::default()).unwrap();
        let lengths: Vec<u64> = layer
            .entries()
            .map(|entry| match entry.kind {
                EntryKind::File(extent) => extent.len,
                _ => 0,
            })
            .collect();
        assert_eq!(lengths, [NINE_GIB, 2]);
        let count = spool.into_inner();
        assert_eq!((count.written, count.length), (NINE_GIB + 2, NINE_GIB + 2));
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
    let limits = |total_bytes| Limits {
        total_bytes,
        ..Limits::default()
    };
    let mut spool = Spool::new(Count::default());
    let layer = read(&tar[..], StoreId(0), &mut spool, &limits(1 << 40)).unwrap();
    assert_eq!(layer.len(), 1);
    assert_eq!(spool.into_inner().length, 1_000_000_000_000);
    let mut spool = Spool::new(Count::default());
    let error = read(&tar[..], StoreId(0), &mut spool, &limits(1 << 39)).unwrap_err();
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
    let mut spool = Spool::new(Count::default());
    let error = read(&tar[..], StoreId(0), &mut spool, &Limits::default()).unwrap_err();
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
