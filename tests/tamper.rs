//! Whatever is changed in a bundle or a disk: `verify` exits 3, names the entry
//! and leaves nothing behind.

#![allow(clippy::unwrap_used)]

#[path = "support/cli.rs"]
mod cli;

use std::fs;
use std::os::unix::fs::FileExt;

use cli::{Entry, Files, Place, Said, header, in_order, tar_of};
use serde_json::Value;

const BUNDLE: &str = "out/tiny-1.0.0.oci.tar";
const DISK: &str = "out/tiny-1.0.0.raw";

/// A built bundle that is changed in place, judged and changed back.
struct Victim {
    place: Place,
    file: fs::File,
    entries: Vec<Entry>,
    length: u64,
}

impl Victim {
    fn new() -> Self {
        let place = Place::with("tiny");
        place.build().ok();
        let path = place.at(BUNDLE);
        verify(&place, BUNDLE).ok();
        let file = fs::File::options().read(true).write(true).open(&path);
        Victim {
            file: file.unwrap(),
            entries: cli::entries(&path),
            length: fs::metadata(&path).unwrap().len(),
            place,
        }
    }

    /// The entry of a byte; the last one's for the trailer.
    fn entry_at(&self, offset: u64) -> &Entry {
        let found = self.entries.iter().find(|entry| offset < entry.end);
        found.unwrap_or_else(|| self.entries.last().unwrap())
    }

    /// Flips a bit, expects the refusal, flips it back.
    #[track_caller]
    fn flip(&self, offset: u64, bit: u8) {
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, offset).unwrap();
        let flipped = [byte[0] ^ (1 << bit)];
        self.file.write_all_at(&flipped, offset).unwrap();
        let said = refused(&self.place, BUNDLE);
        self.file.write_all_at(&byte, offset).unwrap();
        let entry = self.entry_at(offset);
        let what = format!("bit {bit} of byte {offset}, {}", entry.name);
        assert!(named(&said, entry), "{what}: not named: {said}");
    }
}

fn verify(place: &Place, file: &str) -> Said {
    place.standby(&format!("verify {file} --trust keys/signer.cert.pgp"))
}

/// Verifies what must not hold: exit code 3, no result, no file more or less.
#[track_caller]
fn refused(place: &Place, file: &str) -> Said {
    let before = (place.listing("out"), place.listing("tmp"));
    let said = verify(place, file).fails(3, &["error: ", file]);
    assert_eq!(said.out, "", "{said}");
    assert_eq!(before, (place.listing("out"), place.listing("tmp")));
    said
}

/// Whether a message names an entry: by name, by digest, or by its header's place.
fn named(said: &Said, entry: &Entry) -> bool {
    let last = entry.name.rsplit('/').next().unwrap();
    said.err.contains(last)
        || said
            .err
            .contains(&format!("byte {} of the tar", entry.header))
}

/// Small numbers that are the same in every run.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn a_bit_in_every_field_of_a_header() {
    let victim = Victim::new();
    // POSIX.1-1988 ustar: name and length of each field, and the rest of the block.
    let fields = [
        ("name", 100),
        ("mode", 8),
        ("uid", 8),
        ("gid", 8),
        ("size", 12),
        ("mtime", 12),
        ("chksum", 8),
        ("typeflag", 1),
        ("linkname", 100),
        ("magic", 6),
        ("version", 2),
        ("uname", 32),
        ("gname", 32),
        ("devmajor", 8),
        ("devminor", 8),
        ("prefix", 155),
        ("rest", 12),
    ];
    assert_eq!(fields.iter().map(|(_, len)| len).sum::<u64>(), 512);
    let last = victim.entries.len() - 1;
    for entry in [0, last / 2, last].map(|at| &victim.entries[at]) {
        let mut at = entry.header;
        for (_, len) in fields {
            victim.flip(at, 0);
            victim.flip(at + len - 1, 6);
            at += len;
        }
    }
}

#[test]
fn a_bit_in_every_padding_and_in_the_trailer() {
    let victim = Victim::new();
    let padded = victim.entries.iter().filter(|e| e.content + e.size < e.end);
    let mut count = 0;
    for entry in padded {
        victim.flip(entry.content + entry.size, 7);
        victim.flip(entry.end - 1, 0);
        count += 1;
    }
    assert!(count > 10, "most entries have padding");
    let end = victim.entries.last().unwrap().end;
    assert_eq!(victim.length, end + 1024);
    for at in [0, 511, 512, 1023] {
        victim.flip(end + at, 3);
    }
}

#[test]
fn a_bit_in_every_entry() {
    let victim = Victim::new();
    let files = cli::files(&victim.place.at(BUNDLE));
    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    // Every kind of content is among the entries.
    for kind in [
        "kit.v1",
        "snapshot.v1",
        "machine.v1",
        "cyclonedx+json",
        "statement.v1+json",
        "signature.v1+pgp",
    ] {
        let listed = cli::artefacts(&index, kind);
        assert_eq!(listed.len(), 1, "{kind}");
        assert!(files.contains_key(&cli::payload(&files, listed[0])));
    }
    for name in ["oci-layout", "manifest.json", "index.json"] {
        assert!(files.contains_key(name), "{name}");
    }
    for entry in &victim.entries {
        for at in [0, entry.size / 2, entry.size - 1] {
            victim.flip(entry.content + at, 1);
        }
    }
}

#[test]
fn any_bit_of_the_index_or_the_image_list() {
    let victim = Victim::new();
    for name in ["index.json", "manifest.json", "oci-layout"] {
        let entry = victim.entries.iter().find(|e| e.name == name).unwrap();
        for at in (0..entry.size).step_by(3) {
            victim.flip(entry.content + at, u8::try_from(at % 8).unwrap());
        }
    }
}

#[test]
fn two_hundred_random_bits() {
    let victim = Victim::new();
    let mut state = 0x5eed_0f57_a9db_1e55;
    for _ in 0..200 {
        let offset = random(&mut state) % victim.length;
        victim.flip(offset, u8::try_from(random(&mut state) % 8).unwrap());
    }
}

#[test]
fn cut_off_or_longer() {
    let Victim {
        place,
        entries,
        length,
        ..
    } = Victim::new();
    let whole = fs::read(place.at(BUNDLE)).unwrap();
    let middle = &entries[entries.len() / 2];
    let cuts = [
        0,
        1,
        511,
        512,
        middle.header,
        middle.header + 100,
        middle.content + middle.size / 2,
        middle.end,
        length - 1024,
        length - 512,
        length - 1,
    ];
    for cut in cuts {
        place.write("out/cut.oci.tar", &whole[..usize::try_from(cut).unwrap()]);
        refused(&place, "out/cut.oci.tar").says(&["of the tar"]);
    }
    for more in [&[0_u8][..], &[0; 512], &[0; 1024], b"more", &whole] {
        place.write("out/cut.oci.tar", [&whole, more].concat());
        refused(&place, "out/cut.oci.tar").says(&["after index.json", "after the end"]);
    }
}

#[test]
fn entries_added_doubled_swapped_or_taken_away() {
    let place = Place::with("tiny");
    place.build().ok();
    let files = in_order(&place.at(BUNDLE));
    // The test's own writer writes the same bytes, so that only the change counts.
    assert!(tar_of(&files) == fs::read(place.at(BUNDLE)).unwrap());
    let changed = "out/changed.oci.tar";
    let judge = |files: &Files, name: &str| {
        place.write(changed, tar_of(files));
        let said = refused(&place, changed);
        let last = name.rsplit('/').next().unwrap();
        assert!(said.err.contains(last), "{name} is not named: {said}");
    };
    for (name, content) in [
        ("extra", "x"),
        ("blobs/sha256/extra", ""),
        ("blobs/oci-layout", "{}"),
    ] {
        for at in [0, files.len() / 2, files.len()] {
            let mut more = files.clone();
            more.insert(at, (name.into(), content.into()));
            judge(&more, name);
        }
    }
    // Each of the small ones at the end, and some of those before.
    let few = |at: &usize| at.is_multiple_of(5) || at + 8 > files.len();
    for at in (0..files.len()).filter(few) {
        let mut fewer = files.clone();
        let (name, _) = fewer.remove(at);
        judge(&fewer, &name);
        let mut double = files.clone();
        double.insert(at, files[at].clone());
        judge(&double, &name);
        double.remove(at);
        double.push(files[at].clone());
        if at + 1 < files.len() {
            judge(&double, "");
            let mut swapped = files.clone();
            swapped.swap(at, at + 1);
            judge(&swapped, &swapped[at].0);
        }
        let mut renamed = files.clone();
        renamed[at].0.push('x');
        judge(&renamed, &name);
    }
    place.write(changed, tar_of(&files));
    verify(&place, changed).ok();
}

#[test]
fn links_and_folders_among_the_entries() {
    let place = Place::with("tiny");
    place.build().ok();
    let files = in_order(&place.at(BUNDLE));
    let kinds = [
        tar::EntryType::Directory,
        tar::EntryType::Symlink,
        tar::EntryType::Link,
        tar::EntryType::Char,
        tar::EntryType::XGlobalHeader,
    ];
    for kind in kinds {
        let mut whole = tar_of(&files);
        whole.truncate(whole.len() - 1024);
        let mut builder = tar::Builder::new(whole);
        let mut header = header(kind, 0);
        header.set_path("other").unwrap();
        header.set_link_name("oci-layout").unwrap();
        header.set_cksum();
        builder.append(&header, &b""[..]).unwrap();
        place.write("out/more.oci.tar", builder.into_inner().unwrap());
        refused(&place, "out/more.oci.tar").says(&["other, byte", "not the canonical one"]);
    }
}

#[test]
fn another_certificate() {
    let place = Place::with("tiny");
    place.build().ok();
    place
        .standby("keys generate --user-id M<m@example.org> -o keys --name other")
        .ok();
    place
        .standby(&format!("verify {BUNDLE} --trust keys/other.cert.pgp"))
        .fails(3, &[BUNDLE, "keys/other.cert.pgp", "not trusted", "hint:"]);
    place
        .standby(&format!("verify {DISK} --trust keys/other.cert.pgp"))
        .fails(3, &["out/SHA256SUMS", "keys/other.cert.pgp", "not trusted"]);
    place
        .standby(&format!(
            "disk {BUNDLE} --trust keys/other.cert.pgp -o out/other.raw"
        ))
        .fails(3, &[BUNDLE, "not trusted"]);
    assert!(!place.at("out/other.raw").exists());
}

/// The bundle without its signature, as a whole otherwise.
fn without_signature(place: &Place) -> Files {
    let mut files = in_order(&place.at(BUNDLE));
    let by_name = cli::files(&place.at(BUNDLE));
    let mut index: Value = serde_json::from_slice(&by_name["index.json"]).unwrap();
    let signature = cli::artefacts(&index, "signature.v1+pgp")[0].clone();
    let gone = [cli::blob(&signature), cli::payload(&by_name, &signature)];
    files.retain(|(name, _)| !gone.contains(name));
    let listed = index["manifests"].as_array_mut().unwrap();
    listed.retain(|descriptor| *descriptor != signature);
    files.last_mut().unwrap().1 = serde_json::to_vec(&index).unwrap();
    files
}

#[test]
fn no_signature() {
    let place = Place::with("tiny");
    place.build().ok();
    let unsigned = "out/unsigned.oci.tar";
    place.write(unsigned, tar_of(&without_signature(&place)));
    // It is whole but for the signature.
    place.standby(&format!("inspect {unsigned}")).ok();
    refused(&place, unsigned).says(&["unsigned", "index.json", "hint:"]);
    place
        .standby(&format!(
            "disk {unsigned} --trust keys/signer.cert.pgp -o out/unsigned.raw"
        ))
        .fails(3, &["unsigned"]);
    assert!(!place.at("out/unsigned.raw").exists());
}

#[test]
fn a_good_signature_over_another_statement() {
    let place = Place::with("tiny");
    place.build().ok();
    fs::rename(place.at("out"), place.at("first")).unwrap();
    place.edit("sequence = 1", "sequence = 2");
    place.build().ok();
    // The statement of the second with the signature of the first.
    let by_name = cli::files(&place.at("first/tiny-1.0.0.oci.tar"));
    let index: Value = serde_json::from_slice(&by_name["index.json"]).unwrap();
    let packet = &by_name[&cli::payload(&by_name, cli::artefacts(&index, "signature.v1+pgp")[0])];
    let own = cli::files(&place.at(BUNDLE));
    let index: Value = serde_json::from_slice(&own["index.json"]).unwrap();
    let statement = &own[&cli::payload(&own, cli::artefacts(&index, "statement.v1+json")[0])];
    place.write("statement.json", statement);
    place.write("first.sig", packet);
    let judged = place.run("sqv --keyring keys/signer.cert.pgp first.sig statement.json");
    assert_ne!(judged.code, Some(0), "{judged}");
    let mut files = in_order(&place.at(BUNDLE));
    let signature = cli::artefacts(&index, "signature.v1+pgp")[0];
    let old = cli::payload(&own, signature);
    let manifest = cli::blob(signature);
    let hash = |bytes: &[u8]| standby::oci::Digest::of(bytes).hex();
    let new_manifest = String::from_utf8(own[&manifest].clone()).unwrap();
    let new_manifest = new_manifest.replace(old.rsplit('/').next().unwrap(), &hash(packet));
    let lengths = (own[&old].len(), packet.len());
    assert_eq!(lengths.0, lengths.1, "both are one packet of the same form");
    let new_index = String::from_utf8(own["index.json"].clone()).unwrap();
    let new_index = new_index.replace(
        manifest.rsplit('/').next().unwrap(),
        &hash(new_manifest.as_bytes()),
    );
    for (name, content) in &mut files {
        if *name == old {
            *name = format!("blobs/sha256/{}", hash(packet));
            *content = packet.clone();
        } else if *name == manifest {
            *name = format!("blobs/sha256/{}", hash(new_manifest.as_bytes()));
            *content = new_manifest.clone().into_bytes();
        } else if name == "index.json" {
            *content = new_index.clone().into_bytes();
        }
    }
    let swapped = "out/swapped.oci.tar";
    place.write(swapped, tar_of(&files));
    place.standby(&format!("inspect {swapped}")).ok();
    refused(&place, swapped).says(&["does not match the data"]);
}

#[test]
fn a_folder() {
    let place = Place::with("tiny");
    place.build().ok();
    let folder = "out/folder";
    place
        .shell("mkdir out/folder && tar -C out/folder -xf out/tiny-1.0.0.oci.tar")
        .ok();
    verify(&place, folder).ok();
    let files = cli::files(&place.at(BUNDLE));
    for (name, content) in &files {
        let path = format!("{folder}/{name}");
        let word = name.rsplit('/').next().unwrap();
        let mut altered = content.clone();
        let middle = altered.len() / 2;
        altered[middle] ^= 4;
        place.write(&path, altered);
        refused(&place, folder).says(&[word]);
        place.write(&path, [content, &b"x"[..]].concat());
        refused(&place, folder).says(&[word]);
        fs::rename(place.at(&path), place.at("elsewhere")).unwrap();
        refused(&place, folder).says(&[word]);
        place.write("elsewhere", content);
        std::os::unix::fs::symlink(place.at("elsewhere"), place.at(&path)).unwrap();
        refused(&place, folder).says(&[word]);
        fs::remove_file(place.at(&path)).unwrap();
        place.write(&path, content);
    }
    place.write("out/folder/blobs/sha256/more", "x");
    refused(&place, folder).says(&["blobs/sha256/more"]);
    fs::remove_file(place.at("out/folder/blobs/sha256/more")).unwrap();
    place
        .shell("cd out/folder; seq -f more-%.0f 10000 | xargs touch")
        .ok();
    refused(&place, folder).says(&["more than 10000 files"]);
    place
        .shell("cd out/folder; seq -f more-%.0f 10000 | xargs rm")
        .ok();
    verify(&place, folder).ok();
}

#[test]
fn a_compressed_bundle() {
    let place = Place::with("tiny");
    place.build().ok();
    let packed = "out/tiny-1.0.0.oci.tar.zst";
    place.run(&format!("zstd -q {BUNDLE} -o {packed}")).ok();
    verify(&place, packed).ok();
    // Whoever notices: zstd, or the bundle's own digests.
    let whole = fs::read(place.at(packed)).unwrap();
    let mut state = 0x0dd5_eed5_0f57_a9db;
    for _ in 0..20 {
        let mut altered = whole.clone();
        let at = usize::try_from(random(&mut state)).unwrap() % whole.len();
        altered[at] ^= 1 << (random(&mut state) % 8);
        place.write(packed, &altered);
        verify(&place, packed).fails(3, &["error: ", packed, "hint: do not use it"]);
        assert_eq!(place.listing("tmp"), Vec::<String>::new());
    }
    // Nothing follows the frame, be it a frame that decoders skip.
    for more in [
        &b"\x50\x2a\x4d\x18\x04\0\0\0more"[..],
        &zstd::encode_all(&b"x"[..], 1).unwrap(),
    ] {
        place.write(packed, [&whole, more].concat());
        refused(&place, packed).says(&["something follows the compressed bundle"]);
    }
    // A flipped bit inside a well-formed zstd.
    let mut plain = fs::read(place.at(BUNDLE)).unwrap();
    let middle = plain.len() / 2;
    plain[middle] ^= 1;
    place.write(packed, zstd::encode_all(&plain[..], 1).unwrap());
    refused(&place, packed).says(&["altered"]);
}

/// A disk is not derived from a bundle that is damaged where no disk looks.
#[test]
fn a_disk_of_a_damaged_bundle() {
    let victim = Victim::new();
    let index: Value = {
        let files = cli::files(&victim.place.at(BUNDLE));
        serde_json::from_slice(&files["index.json"]).unwrap()
    };
    let files = cli::files(&victim.place.at(BUNDLE));
    let mut blobs = Vec::new();
    for listed in index["manifests"].as_array().unwrap() {
        let manifest = cli::document(&files, listed);
        let kind = listed["artifactType"].as_str().unwrap_or("image");
        if kind == "image" {
            blobs.push(cli::blob(&manifest["config"]));
        } else if kind.contains("cyclonedx") {
            blobs.push(cli::blob(&manifest["layers"][0]));
        }
    }
    assert_eq!(blobs.len(), 3);
    for name in blobs {
        let entry = victim.entries.iter().find(|entry| entry.name == name);
        let end = entry.unwrap().end;
        let offset = end - files[&name].len().next_multiple_of(512) as u64 + 20;
        let mut byte = [0];
        victim.file.read_exact_at(&mut byte, offset).unwrap();
        victim.file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
        let disk = format!("disk {BUNDLE} --trust keys/signer.cert.pgp -o again.raw");
        victim.place.standby(&disk).fails(3, &[BUNDLE, &name[13..]]);
        assert!(!victim.place.at("again.raw").exists());
        victim.file.write_all_at(&byte, offset).unwrap();
    }
}

#[test]
fn a_disk() {
    let place = Place::with("tiny");
    place.build().ok();
    verify(&place, DISK).ok();
    let with_bundle = format!("verify {DISK} --bundle {BUNDLE} --trust keys/signer.cert.pgp");
    place.standby(&with_bundle).ok();
    let length = fs::metadata(place.at(DISK)).unwrap().len();
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(place.at(DISK))
        .unwrap();
    // MBR, GPT, ESP, root, trailer of the second GPT.
    for offset in [440, 0x238, 5 << 20, 60 << 20, length / 2, length - 1] {
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
        refused(&place, DISK).says(&[DISK, "altered", "hint:"]);
        place.standby(&with_bundle).fails(
            3,
            &[DISK, &format!("byte {offset} is not what the bundle says")],
        );
        file.write_all_at(&byte, offset).unwrap();
    }
    verify(&place, DISK).ok();
    file.set_len(length + 512).unwrap();
    refused(&place, DISK);
    let words = ["warning: ", "512 bytes behind it"];
    place.standby(&with_bundle).ok().says(&words);
    file.set_len(length - 512).unwrap();
    refused(&place, DISK);
    place.standby(&with_bundle).fails(3, &[DISK, "cut off"]);
}

#[test]
fn the_sums_and_their_signature() {
    let place = Place::with("tiny");
    place.build().ok();
    let sums = fs::read_to_string(place.at("out/SHA256SUMS")).unwrap();
    for at in [0, sums.len() / 2, sums.len() - 1] {
        let mut altered = sums.clone().into_bytes();
        altered[at] ^= 1;
        place.write("out/SHA256SUMS", altered);
        refused_sums(&place, &["SHA256SUMS", "does not match the data"]);
    }
    place.write("out/SHA256SUMS", format!("{sums}\n"));
    refused_sums(&place, &["SHA256SUMS", "does not match the data"]);
    place.write("out/SHA256SUMS", &sums);
    // Signed, but for another file.
    fs::rename(place.at(DISK), place.at("out/renamed.raw")).unwrap();
    verify(&place, "out/renamed.raw").fails(3, &["does not list 'renamed.raw'", "--bundle"]);
    fs::rename(place.at("out/renamed.raw"), place.at(DISK)).unwrap();
    let signature = fs::read_to_string(place.at("out/SHA256SUMS.asc")).unwrap();
    place.write("out/SHA256SUMS.asc", signature.replacen('A', "B", 3));
    refused_sums(&place, &["SHA256SUMS"]);
    fs::remove_file(place.at("out/SHA256SUMS.asc")).unwrap();
    verify(&place, DISK).fails(1, &["SHA256SUMS.asc", "hint:"]);
}

/// As `refused`, with the disk's sums at fault, not the disk.
#[track_caller]
fn refused_sums(place: &Place, words: &[&str]) {
    verify(place, DISK).fails(3, words);
}
