//! Every way in which a layer can be wrong has its error, and none has a panic.

use proptest::prelude::*;
use standby::oci::layer::{LayerError, Limits, Problem, apply, read};
use standby_tree::{ResolveError, StoreId, Tree};

use crate::support::nasty::{self, Item, Kind, Style, Tar};

/// Reads and applies one tar over `lower`.
fn unpack(lower: &[u8], tar: &[u8], limits: &Limits) -> Result<(), LayerError> {
    let mut tree = Tree::new();
    for tar in [lower, tar] {
        let room = || Ok((StoreId(1), Vec::new()));
        let layer = read(tar, StoreId(0), room, limits)?;
        apply(&mut tree, layer)?;
    }
    Ok(())
}

fn problem_within(tar: &[u8], limits: &Limits) -> Problem {
    let error = unpack(&[], tar, limits).expect_err("a bad tar");
    error.problem().expect("the layer's own fault").clone()
}

fn problem(tar: &[u8]) -> Problem {
    problem_within(tar, &Limits::default())
}

fn of_items(items: impl IntoIterator<Item = Item>) -> Problem {
    let mut tar = Tar::new();
    for item in items {
        tar.item(item);
    }
    problem(&tar.finish())
}

fn limit(what: &'static str, limit: u64) -> Problem {
    Problem::Limit { what, limit }
}

#[test]
fn truncated_anywhere() {
    let mut tar = Tar::new();
    tar.item(Item::file("x", nasty::noise(1, 700)).xattr("user.a", "b"));
    let whole = tar.unfinished();
    assert_eq!(whole.len(), 3 * 512 + 1024);
    for length in 0..whole.len() {
        let result = unpack(&[], &whole[..length], &Limits::default());
        // Between the blocks of an extended header and its entry is no end either.
        let expected = match length {
            0 => None,
            1024 => Some(Problem::Dangling),
            _ => Some(Problem::Truncated),
        };
        let problem = result.err().and_then(|error| error.problem().cloned());
        assert_eq!(problem, expected, "{length} bytes");
    }
    assert!(
        unpack(&[], &whole, &Limits::default()).is_ok(),
        "no end marker"
    );
    let one_block = [&whole[..], &[0; 512]].concat();
    assert!(
        unpack(&[], &one_block, &Limits::default()).is_ok(),
        "half an end marker"
    );
}

#[test]
fn damaged_headers() {
    let mut tar = Tar::new();
    tar.item(Item::file("x", ""));
    let good = tar.finish();
    for at in 0..512 {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(problem(&bad), Problem::Checksum, "byte {at}");
    }
    let lone = [&[0; 512], &good[..]].concat();
    assert_eq!(problem(&lone), Problem::LoneZeroBlock);
    assert_eq!(problem(&[b'a'; 1024]), Problem::Checksum);
}

#[test]
fn what_follows_the_end_does_not_count() {
    let mut tar = Tar::new();
    tar.item(Item::file("x", ""));
    let mut bytes = tar.finish();
    bytes.extend_from_slice(&nasty::noise(5, 1001));
    assert!(unpack(&[], &bytes, &Limits::default()).is_ok());
}

#[test]
fn numbers_out_of_range() {
    type Field = fn(&mut tar::OldHeader) -> &mut [u8];
    let fields: [(&str, Field); 5] = [
        ("size", |header| &mut header.size),
        ("uid", |header| &mut header.uid),
        ("gid", |header| &mut header.gid),
        ("mode", |header| &mut header.mode),
        ("mtime", |header| &mut header.mtime),
    ];
    for (name, field) in fields {
        let mut header = nasty::plain(b"x", b'0');
        field(header.as_old_mut()).fill(b'9');
        let mut tar = Tar::new();
        tar.raw(header.clone(), b"");
        assert!(matches!(problem(&tar.finish()), Problem::Number(field) if field == name));
        if name != "mtime" {
            field(header.as_old_mut()).fill(0xff);
            let mut tar = Tar::new();
            tar.raw(header, b"");
            assert_eq!(problem(&tar.finish()), Problem::Number(name), "negative");
        }
    }
    let too_large = [Item::file("x", "").owner(1 << 32, 0)];
    assert_eq!(of_items(too_large), Problem::Number("uid"));
    let too_large = [Item::file("x", "").owner(0, 1 << 32).style(Style::Gnu)];
    assert_eq!(of_items(too_large), Problem::Number("gid"));
    for (major, minor) in [(4096, 0), (0, 1 << 20)] {
        let device = Item::new("x", Kind::Char(major, minor));
        assert_eq!(of_items([device]), Problem::Number("device"));
    }
}

#[test]
fn types_without_a_place_in_an_image() {
    for kind in *b"DMNVX\x018ZA" {
        let mut tar = Tar::new();
        tar.raw(nasty::plain(b"x", kind), b"");
        assert_eq!(problem(&tar.finish()), Problem::Type(kind));
    }
}

#[test]
fn names_that_lead_out() {
    for name in ["..", "../x", "a/../../x", "a/..", "/../x", "./.."] {
        assert_eq!(of_items([Item::file(name, "")]), Problem::DotDot, "{name}");
        let link = [Item::file("y", ""), Item::hard_link("x", name)];
        assert_eq!(of_items(link), Problem::DotDot, "link to {name}");
        let whiteout = format!("{name}/.wh.x");
        assert_eq!(
            of_items([Item::file(whiteout, "")]),
            Problem::DotDot,
            "{name}"
        );
    }
    assert_eq!(of_items([Item::file("./", "")]), Problem::Root);
    assert_eq!(of_items([Item::symlink("/", "x")]), Problem::Root);
}

#[test]
fn links_that_lead_out() {
    let escapes = Problem::Parent(ResolveError::Escapes);
    for target in ["..", "../etc", "/..", "a/../../x", "self/../.."] {
        let mut lower = Tar::new();
        lower.item(Item::dir("a")).item(Item::symlink("self", "."));
        lower.item(Item::symlink("out", target));
        for name in [
            "out/x",
            "out/deep/x",
            "out/.wh.x",
            "out/.wh..wh..opq",
            "a/../out/x",
        ] {
            let mut tar = Tar::new();
            tar.item(Item::file(name.trim_start_matches("a/../"), ""));
            let error = unpack(&lower.finish(), &tar.finish(), &Limits::default());
            let error = error.expect_err("leads out");
            assert_eq!(error.problem(), Some(&escapes), "{name} by {target}");
        }
        lower.item(Item::hard_link("linked", "out/passwd"));
        let target = "out/passwd".to_owned();
        let reason = ResolveError::Escapes;
        assert_eq!(problem(&lower.finish()), Problem::Link { target, reason });
    }
    let looped = [Item::symlink("l", "l"), Item::file("l/x", "")];
    assert_eq!(
        of_items(looped),
        Problem::Parent(ResolveError::TooManyLinks)
    );
    let below_file = [Item::file("f", ""), Item::file("f/x", "")];
    assert_eq!(
        of_items(below_file),
        Problem::Parent(ResolveError::NotDirectory)
    );
}

#[test]
fn hard_links_to_nothing() {
    let missing = |target: &str| Problem::Link {
        target: target.into(),
        reason: ResolveError::NotFound,
    };
    assert_eq!(of_items([Item::hard_link("x", "gone")]), missing("gone"));
    assert_eq!(of_items([Item::hard_link("x", "x")]), missing("x"));
    let itself = [Item::file("x", ""), Item::hard_link("x", "x")];
    assert_eq!(of_items(itself), missing("x"));
    let hidden = [
        Item::dir("d"),
        Item::file("d/f", ""),
        Item::file("d", "replaced"),
        Item::hard_link("x", "d/f"),
    ];
    let reason = ResolveError::NotDirectory;
    let target = "d/f".to_owned();
    assert_eq!(of_items(hidden), Problem::Link { target, reason });
    let directory = [Item::dir("d"), Item::hard_link("x", "d")];
    let target = "d".to_owned();
    assert_eq!(of_items(directory), Problem::LinkToDirectory { target });
    for target in ["", "/", "."] {
        assert_eq!(
            of_items([Item::hard_link("x", target)]),
            Problem::EmptyTarget
        );
    }
    assert_eq!(of_items([Item::symlink("x", "")]), Problem::EmptyTarget);
}

#[test]
fn whiteouts_of_nothing() {
    for name in [".wh.", "a/.wh.", ".wh..", ".wh..."] {
        assert_eq!(
            of_items([Item::file(name, "")]),
            Problem::EmptyWhiteout,
            "{name}"
        );
    }
}

#[test]
fn extended_headers_without_sense() {
    let dangling: [fn(&mut Tar) -> &mut Tar; 3] = [
        |tar| tar.pax(b'x', &[(b"path".into(), b"y".into())]),
        |tar| tar.long(b'L', b"y"),
        |tar| tar.long(b'K', b"y"),
    ];
    for add in dangling {
        let mut tar = Tar::new();
        assert_eq!(problem(&add(&mut tar).finish()), Problem::Dangling);
    }
    let record = |key: &str, value: &[u8]| (key.into(), value.into());
    let bad = [
        (record("path", b"a\0b"), Problem::Nul),
        (record("linkpath", b"a\0b"), Problem::Nul),
        (record("size", b"12x"), Problem::Number("size")),
        (record("uid", b"-1"), Problem::Number("uid")),
        (record("mtime", b"1e9"), Problem::Number("mtime")),
        (
            record("GNU.sparse.major", b"2"),
            Problem::Sparse("no real size"),
        ),
    ];
    for (record, expected) in bad {
        let mut tar = Tar::new();
        tar.pax(b'x', &[record]).item(Item::file("x", ""));
        assert_eq!(problem(&tar.finish()), expected);
    }
}

/// Sizes that would take memory must be refused by the header alone.
#[test]
fn limits_hold_before_memory_is_taken() {
    let limits = Limits::default();
    for kind in *b"xgLK" {
        for size in [(1 << 20) + 1, i64::MAX] {
            let mut header = nasty::plain(b"x", kind);
            nasty::base_256(&mut header.as_old_mut().size, size);
            let mut tar = Tar::new();
            tar.raw(header, b"");
            let expected = limit("bytes in an extended header", 1 << 20);
            assert_eq!(problem(&tar.finish()), expected);
        }
    }
    let long = "n".repeat(4097);
    let path = limit("bytes in a name or link target", 4096);
    for style in [Style::Pax, Style::Gnu] {
        assert_eq!(of_items([Item::file(&long, "").style(style)]), path);
        assert_eq!(of_items([Item::symlink("x", &long).style(style)]), path);
        assert_eq!(of_items([Item::hard_link("x", &long).style(style)]), path);
    }
    let name = limit("bytes in a component of the name", 255);
    assert_eq!(of_items([Item::file("n".repeat(256), "")]), name);
    let mut tar = Tar::new();
    tar.item(Item::file("a", "12345"))
        .item(Item::file("b", "67890"));
    let tar = tar.finish();
    let few = |change: fn(&mut Limits)| {
        let mut limits = limits.clone();
        change(&mut limits);
        problem_within(&tar, &limits)
    };
    assert_eq!(few(|limits| limits.entries = 1), limit("entries", 1));
    let bytes = limit("bytes in the layer's tar", 3071);
    assert_eq!(few(|limits| limits.tar_bytes = 3071), bytes);
    let contents = limit("bytes of file contents", 9);
    assert_eq!(few(|limits| limits.content_bytes = 9), contents);
    let nodes = limit("files and directories in the image", 2);
    assert_eq!(few(|limits| limits.nodes = 2), nodes);
    let names = limit("bytes of names and attributes", 1);
    assert_eq!(few(|limits| limits.metadata_bytes = 1), names);
    assert!(
        unpack(
            &[],
            &tar,
            &Limits {
                tar_bytes: 3072,
                content_bytes: 10,
                entries: 2,
                nodes: 3,
                metadata_bytes: 2,
                ..limits
            }
        )
        .is_ok()
    );
}

#[test]
fn directories_above_one_another() {
    let deep = "d/".repeat(1023);
    let mut tar = Tar::new();
    tar.item(Item::file(format!("{deep}x"), ""));
    assert!(unpack(&[], &tar.finish(), &Limits::default()).is_ok());
    // A link makes the same depth out of short names.
    tar.item(Item::symlink("l", &deep));
    tar.item(Item::file("l/d/x", ""));
    let expected = limit("directories above an entry", 1024);
    assert_eq!(problem(&tar.finish()), expected);
}

#[test]
fn sparse_maps_that_lie() {
    let pax = |map: &str, real_size: &str, stored: usize| {
        let mut tar = Tar::new();
        let record = |key: &str, value: &str| (key.into(), value.into());
        let size = record("GNU.sparse.size", real_size);
        tar.pax(b'x', &[size, record("GNU.sparse.map", map)]);
        tar.item(Item::file("x", vec![7; stored]));
        problem(&tar.finish())
    };
    let sparse = Problem::Sparse;
    assert_eq!(
        pax("8,4,0,2", "16", 6),
        sparse("runs overlap or are out of order")
    );
    assert_eq!(pax("8,9", "16", 9), sparse("a run ends outside the file"));
    let differ = sparse("the runs and the stored data differ in length");
    assert_eq!(pax("8,4", "16", 5), differ);
    assert_eq!(
        pax("0,18446744073709551615", "18446744073709551615", 1),
        differ
    );
    assert_eq!(
        pax("0,4", "2000000000000", 4),
        limit("bytes of file contents", 1 << 40)
    );
    let map_1_0 = |data: &[u8]| {
        let mut tar = Tar::new();
        let keys = [("major", "1"), ("minor", "0"), ("realsize", "10")];
        let keys = keys.map(|(key, value)| (format!("GNU.sparse.{key}").into(), value.into()));
        tar.pax(b'x', &keys).item(Item::file("x", data));
        problem(&tar.finish())
    };
    let too_short = sparse("the map is longer than the data");
    assert_eq!(map_1_0(b""), too_short);
    assert_eq!(map_1_0(b"1\n"), too_short, "less than a block");
    assert_eq!(map_1_0(&[b'1'; 512]), Problem::Number("sparse run"));
    let mut block = [b'\n'; 512];
    block[..6].copy_from_slice(b"999999");
    assert_eq!(map_1_0(&block), limit("runs in a sparse file", 1 << 18));
}

#[test]
fn a_failing_reader_is_not_the_layers_fault() {
    struct Fails;
    impl std::io::Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("no more"))
        }
    }
    let mut tar = Tar::new();
    tar.item(Item::file("x", "x"));
    let bytes = tar.unfinished();
    let reader = std::io::Read::chain(&bytes[..], Fails);
    let room = || Ok((StoreId(1), Vec::new()));
    let error = read(reader, StoreId(0), room, &Limits::default()).unwrap_err();
    assert!(
        matches!(error, LayerError::Read { offset: 1024, .. }),
        "{error}"
    );
}

/// Bytes changed anywhere, checksums mended: any answer will do, but an answer.
#[test]
fn damage_never_panics() {
    let good = nasty::image()[4].tar.clone();
    let mut random = nasty::Random::new(1);
    let limits = Limits {
        tar_bytes: 64 << 20,
        content_bytes: 64 << 20,
        ..Limits::default()
    };
    let is_header = |at: usize| good[at + 257..].starts_with(b"ustar");
    let blocks = (0..good.len()).step_by(512);
    let headers: Vec<usize> = blocks.filter(|at| is_header(*at)).collect();
    let mut refused = 0;
    for _ in 0..200 {
        let mut bad = good.clone();
        for _ in 0..1 + random.below(3) {
            // A header, or what comes after it: records, a map, the next header.
            let at = headers[random.below(headers.len())] + 512 * random.below(2);
            let within = at + random.below(512);
            bad[within] = random.next().to_le_bytes()[0];
            let sum: u32 = (0..512)
                .map(|i| {
                    if (148..156).contains(&i) {
                        32
                    } else {
                        u32::from(bad[at + i])
                    }
                })
                .sum();
            if &bad[at + 257..at + 262] == b"ustar" {
                bad[at + 148..at + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        refused += u32::from(unpack(&[], &bad, &limits).is_err());
    }
    assert!(refused > 20, "only {refused} refused");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_extended_header_gets_an_answer(data in prop::collection::vec(any::<u8>(), 0..600), kind in prop::sample::select(b"xgLK".to_vec())) {
        let mut header = nasty::plain(b"x", kind);
        header.set_size(data.len() as u64);
        let mut tar = Tar::new();
        tar.raw(header, &data).item(Item::file("x", "x"));
        let _ = unpack(&[], &tar.finish(), &Limits::default());
    }
}
