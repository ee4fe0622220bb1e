//! The nasty image itself: every case that a layer can bring, in one image.

use super::{Compression, Item, Kind, Layer, Style, Tar, base_256, noise, plain};

/// Entries of the directory `many`: past 16 bits.
const MANY: usize = 65_600;

/// All layers, lowest first.
pub fn image() -> Vec<Layer> {
    vec![
        Layer::new(base(), Compression::Gzip),
        Layer::new(many(), Compression::Zstd),
        Layer::new(over(), Compression::Zstd),
        Layer::new(back(), Compression::None),
        Layer::new(encodings(), Compression::Gzip),
        Layer::new(whiteouts_in_between(), Compression::Zstd),
        beyond_umoci(),
    ]
}

/// What later layers work on.
fn base() -> Vec<u8> {
    let mut tar = Tar::new();
    let mut add = |item: Item| {
        tar.item(item);
    };
    add(Item::dir("./").mode(0o750).owner(0, 5));
    add(Item::dir("./etc/"));
    add(Item::file("./etc/passwd", "root:x:0:0\n"));
    add(Item::file("./etc/shadow", "root:*\n")
        .mode(0o640)
        .owner(0, 42));
    for dir in [
        "bin",
        "dev",
        "usr",
        "usr/lib",
        "usr/share",
        "run",
        "opt",
        "srv",
    ] {
        add(Item::dir(dir));
    }
    add(Item::dir("tmp").mode(0o1777));
    add(Item::dir("usr/local").mode(0o2775).owner(0, 50));
    add(Item::symlink("lib", "usr/lib"));
    add(Item::symlink("abs", "/usr"));
    add(Item::symlink("chain", "abs/../lib"));
    add(Item::symlink("dangling", "opt/made/later"));
    add(Item::symlink("loop", "loop"));
    add(Item::file("usr/lib/libc.so", noise(1, 1_500_001)).mode(0o755));
    add(Item::file("bin/su", noise(2, 70_000)).mode(0o4755));
    add(Item::file("bin/wall", "w").mode(0o2755).owner(0, 5));
    add(Item::hard_link("bin/su2", "bin/su"));
    add(Item::hard_link("/usr/share/su3", "./bin/su"));
    add(Item::hard_link("bin/lib-link", "lib"));
    add(Item::new("dev/null", Kind::Char(1, 3)).mode(0o666));
    add(Item::new("dev/loop0", Kind::Block(7, 0))
        .mode(0o660)
        .owner(0, 6));
    add(Item::new("dev/big", Kind::Char(4095, 1_048_575)).mode(0o600));
    add(Item::new("run/fifo", Kind::Fifo).mode(0o620).owner(7, 8));
    add(Item::file("no/entry/of/their/own", "parents\n"));
    add(Item::file("a-file", "is a file\n"));
    add(Item::dir("a-dir"));
    add(Item::dir("a-dir/sub"));
    add(Item::file("a-dir/sub/x", "x"));
    add(Item::file("twice", "first"));
    add(Item::dir("twice-dir").mode(0o700));
    add(Item::file("twice-dir/kept", "kept"));
    for name in [
        "opaque",
        "opaque/old-dir",
        "opaque/both",
        "white",
        "white/dir",
    ] {
        add(Item::dir(name));
    }
    for name in ["opaque/1", "opaque/2", "opaque/old-dir/3", "opaque/both/4"] {
        add(Item::file(name, name));
    }
    for name in [
        "white/gone",
        "white/back",
        "white/dir/a",
        "white/dir/b",
        "white/late",
    ] {
        add(Item::file(name, name));
    }
    add(Item::file("original", "shared by layers\n").mode(0o604));
    add(Item::hard_link("original-2", "original"));
    add(Item::file("twice", "second and last"));
    add(Item::dir("twice-dir").mode(0o711).owner(3, 4));
    tar.finish()
}

/// A directory of more than 2^16 names.
fn many() -> Vec<u8> {
    let mut tar = Tar::new();
    tar.item(Item::dir("many"));
    for number in 0..MANY {
        tar.item(Item::file(format!("many/{number:05}"), ""));
    }
    tar.finish()
}

/// Links into lower layers, replaced types, whiteouts first and last.
fn over() -> Vec<u8> {
    let mut tar = Tar::new();
    let mut add = |item: Item| {
        tar.item(item);
    };
    let gone = |name: &str| Item::file(name, "");
    add(Item::file("lib/through-link", "lands in usr/lib"));
    add(Item::file(
        "abs/share/through-absolute",
        "lands in usr/share",
    ));
    add(Item::file("chain/through-chain", "lands in usr/lib"));
    add(Item::file("dangling/x", "made where the link points"));
    add(Item::dir("lib/subdir").mode(0o700));
    add(Item::dir("a-file").mode(0o710));
    add(Item::file("a-file/now", "a directory"));
    add(Item::file("a-dir", "now a file"));
    add(Item::dir("usr/share").mode(0o705).owner(1, 2));
    // A hard link to a lower layer's file, whose own names then change or go.
    add(Item::hard_link("linked-over", "original"));
    add(Item::hard_link("lib/linked-through", "chain/libc.so"));
    add(Item::file(
        "original",
        "new content, the link keeps the old",
    ));
    add(gone(".wh.original-2"));
    add(gone("white/.wh.gone"));
    add(gone("white/.wh.never-was"));
    add(gone("not/there/.wh.x"));
    add(gone("white/.wh.back"));
    add(Item::file("white/back", "again, after its whiteout"));
    add(Item::file("white/late", "before its whiteout"));
    add(gone("white/.wh.late"));
    add(Item::file("white/dir/c", "of this layer"));
    add(gone("white/.wh.dir"));
    add(Item::file("opaque/before", "the opaque mark"));
    add(Item::file("opaque/both/5", "beside a lower file"));
    add(Item::hard_link("opaque/linked", "bin/su"));
    add(gone("opaque/.wh..wh..opq"));
    add(Item::file("opaque/after", "the opaque mark"));
    add(gone("abs/lib/.wh.libc.so"));
    tar.finish()
}

/// Types changed back, and a link replaced by what it pointed to.
fn back() -> Vec<u8> {
    let mut tar = Tar::new();
    let mut add = |item: Item| {
        tar.item(item);
    };
    add(Item::file("a-file", "a file again"));
    add(Item::dir("a-dir").mode(0o555));
    add(Item::dir("lib"));
    add(Item::file("lib/own", "lib is a directory of its own now"));
    add(Item::file("bin/su2", "no longer the same file"));
    add(Item::symlink("opaque", "white"));
    add(Item::file("opaque/x", "lands in white"));
    add(Item::hard_link("run/fifo-2", "run/fifo"));
    add(Item::file("dev/null", "a device no more"));
    tar.finish()
}

/// Names, numbers and times in every form that tars have for them.
fn encodings() -> Vec<u8> {
    let mut tar = Tar::new();
    let long = |letter: &str| [letter.repeat(200), letter.repeat(255), "end".into()].join("/");
    tar.item(Item::dir("enc"));
    tar.item(Item::file(format!("enc/{}", long("p")), "PAX name"));
    tar.item(Item::file(format!("enc/{}", long("g")), "GNU name").style(Style::Gnu));
    tar.item(Item::symlink("enc/sym-pax", long("t")));
    tar.item(Item::symlink("enc/sym-gnu", long("u")).style(Style::Gnu));
    let target = format!("enc/{}", long("p"));
    tar.item(Item::hard_link("enc/hard-pax", &target));
    tar.item(Item::hard_link("enc/hard-gnu", &target).style(Style::Gnu));
    tar.item(Item::file(b"enc/latin-\xe9\xff", "not UTF-8"));
    tar.item(Item::symlink(b"enc/\x80", b"\xfe\xff"));
    tar.item(Item::file("enc/new\nline", "control character"));
    tar.item(Item::file("enc/fine", "time").time(1_500_000_000, 123_456_789));
    tar.item(Item::file("enc/before", "1970").time(-2, 250_000_000));
    tar.item(Item::file("enc/epoch", "0").time(0, 0));
    tar.item(
        Item::file("enc/before-gnu", "1970")
            .time(-7, 0)
            .style(Style::Gnu),
    );
    tar.item(Item::symlink("enc/sym-time", "x").time(1_400_000_000, 1));
    tar.item(Item::dir("enc/dir-time").time(1_400_000_001, 999_999_999));
    tar.item(Item::file("enc/owner-pax", "").owner(4_000_000_000, 3_000_000_000));
    let big = Item::file("enc/owner-gnu", "").owner(4_000_000_000, 3_000_000_000);
    tar.item(big.style(Style::Gnu));
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    tar.item(Item::file("enc/caps", "c").xattr("security.capability", capability));
    tar.item(
        Item::file("enc/attributes", "a")
            .xattr("user.one", b"\0binary\n=\xff")
            .xattr("user.empty", b"")
            .xattr("trusted.two", b"2")
            .xattr("security.selinux", b"host\0")
            .xattr("trusted.overlay.opaque", b"y"),
    );
    tar.item(Item::dir("enc/attributed").xattr("user.dir", noise(3, 300)));
    for length in [
        0, 1, 511, 512, 513, 65_535, 65_536, 262_144, 262_145, 600_000,
    ] {
        let content = noise(length as u64, length);
        tar.item(Item::file(format!("enc/size-{length}"), content));
    }
    numbers(&mut tar);
    sparse(&mut tar);
    tar.finish()
}

/// Sizes in base-256 and in PAX, prefixes, old headers.
fn numbers(tar: &mut Tar) {
    let mut header = plain(b"enc/size-base-256", b'0');
    base_256(&mut header.as_old_mut().size, 5);
    tar.raw(header, b"12345");
    tar.pax(b'x', &[(b"size".to_vec(), b"6".to_vec())]);
    tar.raw(plain(b"enc/size-pax", b'0'), b"123456");
    let mut header = plain(b"with-prefix", b'0');
    header.as_ustar_mut().unwrap().prefix[..3].copy_from_slice(b"enc");
    tar.raw(header, b"");
    for (name, kind) in [(&b"enc/v7-file"[..], 0u8), (b"enc/v7-dir/", 0)] {
        let mut header = tar::Header::new_old();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(0o711);
        header.set_uid(9);
        header.set_gid(9);
        header.set_mtime(1_234_567_890);
        header.set_size(0);
        header.as_old_mut().linkflag = [0];
        tar.raw(header, b"");
    }
    // A hard link's size counts no data, whatever it says.
    let mut header = plain(b"enc/hard-with-size", b'1');
    header.as_old_mut().linkname[..12].copy_from_slice(b"enc/size-512");
    header.set_size(512);
    tar.raw(header, b"");
}

/// One file of 10 000 bytes with data at 1000..1600 and 9000..9010.
fn sparse(tar: &mut Tar) {
    let data = noise(9, 610);
    let record = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    let file = |name: &str, size: usize| {
        let mut header = plain(name.as_bytes(), b'0');
        header.set_size(size as u64);
        header
    };
    tar.pax(
        b'x',
        &[
            record("GNU.sparse.size", "10000"),
            record("GNU.sparse.numblocks", "2"),
            record("GNU.sparse.offset", "1000"),
            record("GNU.sparse.numbytes", "600"),
            record("GNU.sparse.offset", "9000"),
            record("GNU.sparse.numbytes", "10"),
        ],
    );
    tar.raw(file("enc/sparse-0.0", 610), &data);
    tar.pax(
        b'x',
        &[
            record("GNU.sparse.size", "10000"),
            record("GNU.sparse.numblocks", "2"),
            record("GNU.sparse.map", "1000,600,9000,10"),
            record("GNU.sparse.name", "enc/sparse-0.1"),
        ],
    );
    tar.raw(file("enc/GNUSparseFile.1/sparse-0.1", 610), &data);
    tar.pax(
        b'x',
        &[
            record("GNU.sparse.major", "1"),
            record("GNU.sparse.minor", "0"),
            record("GNU.sparse.name", "enc/sparse-1.0"),
            record("GNU.sparse.realsize", "10000"),
        ],
    );
    let mut with_map = b"2\n1000\n600\n9000\n10\n".to_vec();
    with_map.resize(super::BLOCK, 0);
    with_map.extend_from_slice(&data);
    tar.raw(
        file("enc/GNUSparseFile.1/sparse-1.0", with_map.len()),
        &with_map,
    );
}

/// Whiteouts that hide whole trees, the root's own included, between entries.
fn whiteouts_in_between() -> Vec<u8> {
    let mut tar = Tar::new();
    tar.item(Item::dir("srv/site"));
    tar.item(Item::file("srv/site/index", "1"));
    tar.item(Item::file(".wh.many-not", ""));
    tar.item(Item::file("usr/local/.wh..wh..opq", ""));
    tar.item(Item::file("usr/local/deep/er/file", "implicit parents"));
    tar.item(Item::file(".wh.tmp", ""));
    tar.item(Item::dir("tmp").mode(0o1770));
    // The type of a whiteout does not matter, nor does what it holds.
    tar.item(Item::dir("srv/.wh.nothing"));
    tar.item(Item::file(
        "usr/lib/.wh.through-chain",
        "content to pass over",
    ));
    tar.unfinished()
}

/// Old GNU sparse, contiguous files and global headers: umoci knows none of them.
fn beyond_umoci() -> Layer {
    let data = noise(9, 610);
    let mut content = vec![0; 10_000];
    content[1000..1600].copy_from_slice(&data[..600]);
    content[9000..9010].copy_from_slice(&data[600..]);

    let mut tar = Tar::new();
    let comment = (b"comment".to_vec(), b"made by a test".to_vec());
    let owner = (b"uid".to_vec(), b"77".to_vec());
    tar.pax(b'g', &[comment, owner]);
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..10].copy_from_slice(b"gnu-sparse");
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_600_000_000);
    header.set_size(610);
    let gnu = header.as_gnu_mut().unwrap();
    octal(&mut gnu.sparse[0].offset, 1000);
    octal(&mut gnu.sparse[0].numbytes, 600);
    octal(&mut gnu.realsize, 10_000);
    gnu.isextended = [1];
    tar.raw(header, b"");
    let mut more = [0u8; super::BLOCK];
    octal(&mut more[0..12], 9000);
    octal(&mut more[12..24], 10);
    octal(&mut more[24..36], 10_000);
    octal(&mut more[36..48], 0);
    tar.data(&more).data(&data);
    let mut header = plain(b"contiguous", b'7');
    header.set_size(3);
    tar.raw(header, b"abc");
    let junk = [tar.finish(), noise(4, 700)].concat();

    let mut plain_tar = Tar::new();
    plain_tar.item(Item::file("gnu-sparse", content).time(1_600_000_000, 0));
    plain_tar.item(Item::file("contiguous", "abc").time(1_600_000_000, 0));
    Layer {
        tar: junk,
        compression: Compression::Gzip,
        for_umoci: Some(plain_tar.finish()),
    }
}

fn octal(field: &mut [u8], value: u64) {
    let text = format!("{value:011o}\0");
    field.copy_from_slice(text.as_bytes());
}
