//! Layers against outside judges: umoci for the tree, GNU tar for its formats.
//! Needs root, as umoci must make devices and give files away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "layers/bad.rs"]
mod bad;
#[path = "layers/gnu_tar.rs"]
mod gnu_tar;
#[path = "layers/large.rs"]
mod large;
#[path = "layers/model.rs"]
mod model;
mod support;

use std::io::Read;
use std::process::Command;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use standby::oci::layer::{self, LayerError, Limits};
use standby_tree::{Stores, Tree};
use support::facts::{self, Listing};
use support::nasty::{self, Compression, Item, Layer, Tar};

/// Reads and applies layers, each through its compression.
fn unpack(layers: &[Layer]) -> Result<Listing, LayerError> {
    let mut tree = Tree::new();
    let mut stores = Stores::new();
    for layer in layers {
        let blob = nasty::compress(&layer.tar, layer.compression).unwrap();
        let reader: Box<dyn Read> = match layer.compression {
            Compression::None => Box::new(&blob[..]),
            Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(&blob[..])),
            Compression::Zstd => Box::new(zstd::Decoder::new(&blob[..]).unwrap()),
        };
        let store = stores.add(Arc::new(layer.tar.clone()));
        let room = || {
            let sparse = Arc::new(tempfile::tempfile()?);
            Ok((stores.add(Arc::clone(&sparse) as Arc<_>), sparse))
        };
        let read = layer::read(reader, store, room, &Limits::default())?;
        layer::apply(&mut tree, read)?;
    }
    Ok(facts::of_tree(&tree, &stores))
}

/// Unpacks plain tars.
fn unpack_tars(tars: impl IntoIterator<Item = Vec<u8>>) -> Result<Listing, LayerError> {
    let plain = |tar| Layer::new(tar, Compression::None);
    let layers: Vec<Layer> = tars.into_iter().map(plain).collect();
    unpack(&layers)
}

/// What `umoci unpack` makes of the same layers; its message if it refuses.
fn umoci(layers: &[Layer]) -> Result<Listing, String> {
    let dir = tempfile::tempdir().unwrap();
    let (image, bundle) = (dir.path().join("image"), dir.path().join("bundle"));
    nasty::write_layout_for_umoci(layers, &image).unwrap();
    let output = Command::new("umoci")
        .arg("unpack")
        .arg("--image")
        .arg(format!("{}:latest", image.display()))
        .arg(&bundle)
        .output()
        .expect("umoci is installed");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(facts::of_disk(&bundle.join("rootfs")))
}

/// Compares name by name, and returns the directories whose time umoci left at
/// the moment of unpacking: parents without an entry, what they were made in,
/// and lower directories that a whiteout had to reach into.
fn compare(ours: &Listing, theirs: &Listing, started: i64) -> Vec<Vec<u8>> {
    let mut undated = Vec::new();
    let mut differences = Vec::new();
    let only = |path: &[u8], side| format!("{}: only {side}", path.escape_ascii());
    for path in theirs.keys().filter(|path| !ours.contains_key(*path)) {
        differences.push(only(path, "umoci has it"));
    }
    for (path, our) in ours {
        let Some(mut their) = theirs.get(path).cloned() else {
            differences.push(only(path, "we have it"));
            continue;
        };
        if their.letter == 'd' && their.mtime.0 >= started {
            their.mtime = our.mtime;
            undated.push(path.clone());
        }
        if *our != their {
            let path = path.escape_ascii();
            differences.push(format!("{path}:\n ours  {our:?}\n umoci {their:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    undated
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

#[test]
fn the_nasty_image_is_what_umoci_unpacks() {
    let started = now();
    let layers = nasty::image();
    let ours = unpack(&layers).unwrap();
    let theirs = umoci(&layers).unwrap();
    let undated = compare(&ours, &theirs, started);
    // Where umoci has the time of its run, we have that of the entry, and the
    // epoch if there was none.
    let dated: [(&str, &str); 5] = [
        ("/", "./"),
        ("/enc", "enc"),
        ("/opt", "opt"),
        ("/usr/local", "usr/local"),
        ("/white/dir", "white/dir"),
    ];
    for path in undated {
        let path = String::from_utf8(path).unwrap();
        let entry = dated.iter().find(|(known, _)| *known == path);
        let expected = entry.map_or(0, |(_, name)| Item::dir(name).seconds);
        assert_eq!(ours[path.as_bytes()].mtime, (expected, 0), "{path}");
    }
    assert!(ours.len() > 65_600 + 100);
}

/// The nasty image holds what it is meant to hold: the comparison alone would
/// also pass if both were wrong.
#[test]
fn the_nasty_image_by_hand() {
    let mut layers = nasty::image();
    layers.remove(1);
    let ours = unpack(&layers).unwrap();
    let at = |path: &str| ours.get(path.as_bytes());
    let content = |path: &str| at(path).map(|facts| facts.content.as_slice());
    let gone = [
        "/original-2",
        "/white/gone",
        "/white/dir/a",
        "/usr/lib/libc.so",
        "/usr/lib/through-chain",
        "/many",
    ];
    for path in gone {
        assert_eq!(at(path), None, "{path}");
    }
    assert_eq!(
        content("/usr/lib/through-link"),
        Some(&b"lands in usr/lib"[..])
    );
    assert_eq!(
        content("/usr/share/through-absolute"),
        Some(&b"lands in usr/share"[..])
    );
    assert_eq!(
        content("/opt/made/later/x"),
        Some(&b"made where the link points"[..])
    );
    assert_eq!(content("/white/dir/c"), Some(&b"of this layer"[..]));
    assert_eq!(content("/white/late"), Some(&b"before its whiteout"[..]));
    assert_eq!(content("/white/x"), Some(&b"lands in white"[..]));
    assert_eq!(content("/linked-over"), Some(&b"shared by layers\n"[..]));
    assert_eq!(content("/twice"), Some(&b"second and last"[..]));
    assert_eq!(
        content("/opaque"),
        Some(&b"white"[..]),
        "a link, replacing a directory"
    );
    assert_eq!(at("/lib").map(|lib| lib.letter), Some('d'));
    assert_eq!(
        at("/enc/before").map(|file| file.mtime),
        Some((-2, 250_000_000))
    );
    let sparse = content("/enc/sparse-1.0").unwrap();
    assert_eq!(sparse.len(), 10_000);
    assert_eq!(sparse[1000..1600], nasty::noise(9, 610)[..600]);
    for form in ["/enc/sparse-0.0", "/enc/sparse-0.1", "/gnu-sparse"] {
        assert!(content(form) == Some(sparse), "{form}");
    }
    let links = at("/bin/su").unwrap().links;
    assert_eq!(
        links, 2,
        "/bin/su, /usr/share/su3; /bin/su2 was replaced, /opaque is gone"
    );
}

/// Where umoci 0.4.7 refuses what the formats allow.
#[test]
fn what_umoci_does_not_read() {
    let mut contiguous = nasty::plain(b"x", b'7');
    contiguous.set_size(1);
    let mut tars = [Tar::new(), Tar::new()];
    tars[0].raw(contiguous, b"x");
    tars[1].pax(b'g', &[(b"comment".to_vec(), b"x".to_vec())]);
    tars[1].item(Item::file("x", "x"));
    for tar in tars {
        let layer = Layer::new(tar.finish(), Compression::Gzip);
        let refusal = umoci(std::slice::from_ref(&layer)).unwrap_err();
        assert!(refusal.contains("unknown typeflag"), "{refusal}");
        let ours = unpack(&[layer]).unwrap();
        assert_eq!(ours[&b"/x"[..]].content, b"x");
    }
}
