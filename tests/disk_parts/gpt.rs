//! The partition table against gdisk and util-linux.

use std::sync::Arc;

use standby::disk::gpt::Table;
use standby::disk::source::{FileSource, Source};
use tempfile::TempDir;

use super::support::{create, esp, guids, run, shared, text, write_disk};

fn disk(active: bool) -> (TempDir, std::path::PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("disk.raw");
    write_disk(&path, &esp(&[("A", shared(*b"a"))]), None, active);
    (folder, path)
}

#[test]
fn sgdisk_finds_no_fault() {
    let (_folder, path) = disk(false);
    let verdict = run("sgdisk", &["-v", text(&path)]);
    assert!(verdict.contains("No problems found"), "{verdict}");
    let print = run("sgdisk", &["-p", text(&path)]);
    assert!(
        print.contains("D1D1D1D1-D1D1-D1D1-D1D1-D1D1D1D1D1D1"),
        "{print}"
    );
    for (number, name, kind, unique, flags) in [
        (
            "1",
            "bios",
            "21686148-6449-6E6F-744E-656564454649",
            "B1B1B1B1",
            "0000000000000000",
        ),
        (
            "2",
            "esp",
            "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
            "E5E5E5E5",
            "0000000000000000",
        ),
        (
            "3",
            "root",
            "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
            "40404040",
            "1000000000000000",
        ),
        (
            "4",
            "root-verity",
            "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5",
            "7E7E7E7E",
            "1000000000000000",
        ),
    ] {
        let info = run("sgdisk", &["-i", number, text(&path)]);
        for wanted in [
            format!("Partition name: '{name}'"),
            format!("Partition GUID code: {kind}"),
            format!("Partition unique GUID: {unique}"),
            format!("Attribute flags: {flags}"),
        ] {
            assert!(info.contains(&wanted), "{wanted} is not in\n{info}");
        }
    }
}

#[test]
fn util_linux_reads_the_same() {
    let (_folder, path) = disk(true);
    let dump = run("sfdisk", &["--dump", text(&path)]);
    let name = text(&path);
    let lines: Vec<String> = dump
        .lines()
        .map(|line| line.replace(name, "disk"))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    label: gpt
    label-id: D1D1D1D1-D1D1-D1D1-D1D1-D1D1D1D1D1D1
    device: disk
    unit: sectors
    first-lba: 34
    last-lba: 75742
    sector-size: 512

    disk1 : start=        2048, size=        2048, type=21686148-6449-6E6F-744E-656564454649, uuid=B1B1B1B1-B1B1-B1B1-B1B1-B1B1B1B1B1B1, name="bios"
    disk2 : start=        4096, size=       67584, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=E5E5E5E5-E5E5-E5E5-E5E5-E5E5E5E5E5E5, name="esp"
    disk3 : start=       71680, size=        2048, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid=40404040-4040-4040-4040-404040404040, name="root", attrs="GUID:60"
    disk4 : start=       73728, size=          16, type=2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5, uuid=7E7E7E7E-7E7E-7E7E-7E7E-7E7E7E7E7E7E, name="root-verity", attrs="GUID:60"
    "#);
    let list = run("fdisk", &["-l", text(&path)]);
    assert!(list.contains("Disklabel type: gpt"), "{list}");
    for kind in [
        "BIOS boot",
        "EFI System",
        "Linux root (x86-64)",
        "Linux root verity (x86-64)",
    ] {
        assert!(list.contains(kind), "{kind} is not in\n{list}");
    }
    let verify = run("sfdisk", &["--verify", text(&path)]);
    assert!(verify.contains("No errors detected"), "{verify}");
}

#[test]
fn a_table_that_sgdisk_wrote_is_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("disk.raw");
    create(&path).set_len(64 << 20).unwrap();
    run(
        "sgdisk",
        &[
            "-U",
            "D1D1D1D1-D1D1-D1D1-D1D1-D1D1D1D1D1D1",
            "-n",
            "1:2048:+1M",
            "-t",
            "1:ef02",
            "-c",
            "1:b",
            text(&path),
        ],
    );
    let disk = FileSource::new(Arc::new(std::fs::File::open(&path).unwrap())).unwrap();
    let mut head = vec![0; 34 * 512];
    disk.read_at(0, &mut head).unwrap();
    let (header, entries) = standby_contract::gpt::read(&head).unwrap();
    assert_eq!(header.disk_guid, guids().disk);
    assert_eq!(entries.len(), 1);
    // Its own sorts of padding differ from ours, so the strict reader may
    // refuse it, but not for a fault in the table.
    match Table::read(&disk) {
        Ok((table, mark)) => {
            assert_eq!(table.partitions[0].first_lba, 2048);
            assert!(!mark.active);
        }
        Err(error) => assert!(error.to_string().contains("does not match"), "{error}"),
    }
}
