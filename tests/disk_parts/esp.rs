//! The EFI system partition against dosfstools and mtools, in both directions.

use std::fs;
use std::sync::Arc;

use standby::disk::esp::Listing;
use standby::disk::source::{FileSource, Shared, read_all};
use tempfile::TempDir;

use super::support::{create, esp, run, save, shared, text};

fn files() -> Vec<(&'static str, Vec<u8>)> {
    let noise = |length: u32| {
        (0..length)
            .map(|n| n.wrapping_mul(40_503).to_le_bytes()[1])
            .collect()
    };
    vec![
        ("EFI/BOOT/BOOTX64.EFI", noise(700_001)),
        ("standby/vmlinuz", noise(512)),
        ("standby/initrd", noise(513)),
        ("standby/grub.cfg", vec![]),
        ("standby/a much longer name.configuration", noise(1)),
        ("standby/a much longer nickname.configuration", noise(2)),
        ("standby/exactly-26-characters-long", noise(3)),
        ("standby/thirteen.char", noise(4)),
        ("standby/Grüße, Ж und 日本.txt", noise(5)),
        (".hidden", noise(6)),
        ("many/deep/down/below/x", noise(7)),
    ]
}

fn check(path: &str) {
    let verdict = run("fsck.fat", &["-n", "-v", path]);
    assert!(!verdict.to_lowercase().contains("dirty"), "{verdict}");
    assert!(verdict.contains("files, "), "{verdict}");
}

#[test]
fn fsck_and_mtools_agree() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("esp.img");
    let sources: Vec<(&str, Shared<'static>)> = files()
        .into_iter()
        .map(|(name, bytes)| (name, shared(bytes)))
        .collect();
    save(&esp(&sources), &path);
    check(text(&path));
    let listing = run("mdir", &["-i", text(&path), "::/standby"]);
    assert!(
        listing.contains("Volume in drive : is STANDBY"),
        "{listing}"
    );
    assert!(listing.contains("Serial Number is 5741-4E44"), "{listing}");
    assert!(listing.contains("2023-11-14  22:13"), "{listing}");
    assert!(
        listing.contains("GRUB     CFG") || listing.contains("grub     cfg"),
        "{listing}"
    );
    let copy = folder.path().join("copy");
    for (name, bytes) in files() {
        run(
            "mcopy",
            &[
                "-n",
                "-o",
                "-i",
                text(&path),
                &format!("::/{name}"),
                text(&copy),
            ],
        );
        assert!(fs::read(&copy).unwrap() == bytes, "{name}");
        fs::remove_file(&copy).unwrap();
    }
}

#[test]
fn larger_clusters_pass_fsck() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("esp.img");
    let big = shared(vec![7; 70 << 20]);
    save(
        &esp(&[("standby/big", big), ("standby/empty", shared([]))]),
        &path,
    );
    check(text(&path));
    let verdict = run("fsck.fat", &["-n", "-v", text(&path)]);
    assert!(verdict.contains("1024 bytes per cluster"), "{verdict}");
}

#[test]
fn a_volume_that_other_tools_made_is_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("esp.img");
    create(&path).set_len(64 << 20).unwrap();
    run(
        "mkfs.fat",
        &["-F", "32", "-s", "1", "-n", "OTHER", text(&path)],
    );
    let content = folder.path().join("content");
    for (name, bytes) in files() {
        fs::write(&content, &bytes).unwrap();
        let parents: Vec<&str> = name.split('/').collect();
        for depth in 1..parents.len() {
            let parent = format!("::/{}", parents[..depth].join("/"));
            let known = Listing::read(&fs::read(&path).unwrap()).unwrap();
            if !known
                .items
                .iter()
                .any(|item| format!("::/{}", item.path) == parent)
            {
                run("mmd", &["-i", text(&path), &parent]);
            }
        }
        run(
            "mcopy",
            &["-i", text(&path), text(&content), &format!("::/{name}")],
        );
    }
    run("mdel", &["-i", text(&path), "::/standby/grub.cfg"]);
    let volume: Shared<'_> =
        Arc::new(FileSource::new(Arc::new(fs::File::open(&path).unwrap())).unwrap());
    let listing = Listing::read(&volume).unwrap();
    for (name, bytes) in files() {
        if name == "standby/grub.cfg" {
            assert!(listing.file(name).is_none());
            continue;
        }
        let item = listing
            .file(name)
            .unwrap_or_else(|| panic!("{name}\n{}", listing.dump()));
        let read = listing.content(Arc::clone(&volume), item).unwrap();
        assert!(read_all(&read, 1 << 20).unwrap() == bytes, "{name}");
    }
}
