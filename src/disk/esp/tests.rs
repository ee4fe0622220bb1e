use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::disk::source::{Shared, Source, read_all, wide};

fn volume() -> Volume {
    Volume {
        serial: 0x1234_abcd,
        label: "STANDBY".into(),
        time: 1_700_000_000,
        hidden_sectors: 4096,
        free: 1 << 20,
    }
}

fn image(files: &[(String, Vec<u8>)]) -> (Esp, Vec<u8>) {
    let plan: Vec<(&str, u64)> = files
        .iter()
        .map(|(path, bytes)| (path.as_str(), wide(bytes.len())))
        .collect();
    let esp = Esp::plan(&volume(), &plan).unwrap();
    let contents = files
        .iter()
        .map(|(_, bytes)| Arc::new(bytes.clone()) as Shared<'_>)
        .collect();
    let image = esp.image(contents).unwrap();
    assert_eq!(image.length(), esp.length());
    let bytes = read_all(&image, 1 << 30).unwrap();
    (esp, bytes)
}

fn sample() -> Vec<(String, Vec<u8>)> {
    vec![
        ("EFI/BOOT/BOOTX64.EFI".into(), vec![1; 1500]),
        ("standby/vmlinuz".into(), vec![2; 512]),
        ("standby/a long name, with spaces.config".into(), vec![]),
        ("standby/a long name, with more.config".into(), vec![3; 1]),
        ("EFI/grub.cfg".into(), vec![4; 513]),
    ]
}

#[test]
fn dump_of_a_volume() {
    let (esp, bytes) = image(&sample());
    assert_eq!(esp.length(), 33 << 20);
    let listing = Listing::read(&bytes).unwrap();
    insta::assert_snapshot!(listing.dump(), @r#"
    fat32 label "STANDBY" serial 1234-ABCD clusters 66480 of 512 bytes, 66469 free
    dir  "EFI" (EFI) 0 bytes, 2023-11-14 22:13:20, at 3+1
    dir  "EFI/BOOT" (BOOT) 0 bytes, 2023-11-14 22:13:20, at 4+1
    file "EFI/BOOT/BOOTX64.EFI" (BOOTX64.EFI) 1500 bytes, 2023-11-14 22:13:20, at 6+3
    file "EFI/grub.cfg" (GRUB.CFG) 513 bytes, 2023-11-14 22:13:20, at 11+2
    dir  "standby" (STANDBY) 0 bytes, 2023-11-14 22:13:20, at 5+1
    file "standby/vmlinuz" (VMLINUZ) 512 bytes, 2023-11-14 22:13:20, at 9+1
    file "standby/a long name, with spaces.config" (ALONGN~1.CON) 0 bytes, 2023-11-14 22:13:20, at
    file "standby/a long name, with more.config" (ALONGN~2.CON) 1 bytes, 2023-11-14 22:13:20, at 10+1
    "#);
}

#[test]
fn content_comes_back() {
    let files = sample();
    let (_, bytes) = image(&files);
    let shared: Shared<'_> = Arc::new(bytes);
    let listing = Listing::read(&shared).unwrap();
    for (path, content) in &files {
        let item = listing.file(&path.to_lowercase()).unwrap();
        let read = listing.content(Arc::clone(&shared), item).unwrap();
        assert_eq!(&read_all(&read, 1 << 20).unwrap(), content);
    }
    assert!(listing.file("EFI").is_none());
}

#[test]
fn big_content_gets_big_clusters() {
    for (length, cluster) in [
        (10u64 << 20, 512),
        (66 << 20, 1024),
        (200 << 20, 2048),
        (3 << 30, 32768),
    ] {
        let esp = Esp::plan(&volume(), &[("A", length)]).unwrap();
        assert!(esp.length() <= length.max(33 << 20) + length / 50 + (3 << 20));
        assert!(esp.length().is_multiple_of(1 << 20));
        let text = format!("{esp:?}");
        let sectors = format!("sectors_per_cluster: {}", cluster / 512);
        assert!(text.contains(&sectors), "{length}: {text}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let plan = |files: &[(&str, u64)]| Esp::plan(&volume(), files);
    for bad in ["", "/A", "A/", "A//B", "A/../B", "A:B", "\u{0}"] {
        assert!(plan(&[(bad, 1)]).is_err(), "{bad:?}");
    }
    assert!(plan(&[("A", 1), ("a", 1)]).is_err());
    assert!(plan(&[("A", 1), ("A/B", 1)]).is_err());
    assert!(plan(&[("A/B", 1), ("a", 1)]).is_err());
    assert!(plan(&[("A", 1 << 32)]).is_err());
    assert!(plan(&[("A", (1 << 32) - 1)]).is_ok());
    let label = |label: &str| {
        let label = label.to_owned();
        Esp::plan(&Volume { label, ..volume() }, &[])
    };
    assert!(label("lower").is_err());
    assert!(label("TWELVE CHARS").is_err());
    assert!(label("").is_ok());
    let free = u64::MAX;
    assert!(Esp::plan(&Volume { free, ..volume() }, &[]).is_err());
    let esp = plan(&[("A", 2)]).unwrap();
    assert!(esp.image(vec![]).is_err());
    assert!(esp.image(vec![Arc::new(vec![0u8; 3])]).is_err());
}

/// A volume as text fields: where the table and the data start.
fn offsets(bytes: &[u8]) -> (usize, usize) {
    let table = usize::from(u16::from_le_bytes([bytes[14], bytes[15]])) * 512;
    let sectors = u32::from_le_bytes([bytes[36], bytes[37], bytes[38], bytes[39]]);
    (table, table + 2 * 512 * usize::try_from(sectors).unwrap())
}

#[test]
fn loops_and_shared_clusters_are_refused() {
    let (_, bytes) = image(&sample());
    let (table, data) = offsets(&bytes);
    let with = |cluster: usize, next: u32| {
        let mut bytes = bytes.clone();
        for copy in [table, table + (data - table) / 2] {
            let at = copy + cluster * 4;
            bytes[at..at + 4].copy_from_slice(&next.to_le_bytes());
        }
        Listing::read(&bytes).unwrap_err().to_string()
    };
    // The root is cluster 2; the first file's chain is three clusters long.
    assert!(with(2, 2).contains("used twice"));
    assert!(with(2, 0).contains("free cluster"));
    assert!(with(2, 0x0fff_fff0).contains("leaves the volume"));
    assert!(with(6, 0x0fff_ffff).contains("length"));
    let mut torn = bytes.clone();
    torn[table + 8] ^= 1;
    assert!(
        Listing::read(&torn)
            .unwrap_err()
            .to_string()
            .contains("differ")
    );
    assert!(Listing::read(&bytes[..data]).is_err());
    assert!(Listing::read(&bytes[..100]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_names_and_sizes_come_back(
        files in proptest::collection::btree_map(
            "[a-zA-Z0-9ÄéЖ日😀 ._~+-]{1,40}(/[a-zA-Z0-9._-]{1,14})?",
            proptest::collection::vec(any::<u8>(), 0..1500),
            0..24,
        ),
    ) {
        let mut kept: Vec<(String, Vec<u8>)> = Vec::new();
        for (path, content) in files {
            let mut all: Vec<(&str, u64)> = kept.iter().map(|(path, _)| (path.as_str(), 0)).collect();
            all.push((&path, 0));
            if Esp::plan(&volume(), &all).is_ok() {
                kept.push((path, content));
            }
        }
        let (_, bytes) = image(&kept);
        let shared: Shared<'_> = Arc::new(bytes);
        let listing = Listing::read(&shared).unwrap();
        let files = listing.items.iter().filter(|item| !item.directory).count();
        prop_assert_eq!(files, kept.len());
        for (path, content) in &kept {
            let item = listing.items.iter().find(|item| &item.path == path).unwrap();
            let read = listing.content(Arc::clone(&shared), item).unwrap();
            prop_assert_eq!(&read_all(&read, 1 << 20).unwrap(), content);
        }
    }

    #[test]
    fn damaged_volumes_never_crash_the_reader(
        damage in proptest::collection::vec((0usize..4096, any::<u8>()), 1..12),
    ) {
        let (_, mut bytes) = image(&sample());
        let (table, data) = offsets(&bytes);
        for (at, value) in damage {
            // Boot sector, first table and directories share the blows.
            let place = match at % 3 {
                0 => at % 512,
                1 => table + at % 64,
                _ => data + at,
            };
            bytes[place] = value;
        }
        if let Ok(listing) = Listing::read(&bytes) {
            prop_assert!(listing.items.len() < 100);
            listing.dump();
        }
    }
}
