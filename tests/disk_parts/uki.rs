//! The unified kernel image against binutils.

use std::fs;

use standby::disk::source::{Source, read_all};
use standby::disk::uki::Sections;
use tempfile::TempDir;

use super::support::{CMDLINE, Packages, initrd, parts, run, save, text, uki};

#[test]
fn objdump_shows_the_sections() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("linux.efi");
    let packages = Packages::unpack();
    let (kernel, initrd) = (packages.kernel(), initrd("x"));
    let image = uki(&packages.stub(), parts(&kernel, &initrd));
    save(&image, &path);
    let table = run("objdump", &["-h", "-w", text(&path)]);
    let before = run("objdump", &["-h", "-w", text(&packages.stub_path())]);
    let ours = Sections::read(&image).unwrap();
    // Name, size, address and offset, as binutils sees them.
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() > 6 && words[0].parse::<u32>().is_ok())
        .collect();
    assert_eq!(rows.len(), ours.sections.len(), "{table}");
    for (row, section) in rows.iter().zip(&ours.sections) {
        let size = section.raw_size.min(section.virtual_size);
        assert_eq!(row[1], section.name);
        assert_eq!(u32::from_str_radix(row[3], 16).unwrap(), section.address);
        assert_eq!(u32::from_str_radix(row[5], 16).unwrap(), section.offset);
        assert_eq!(u32::from_str_radix(row[2], 16).unwrap(), size, "{table}");
    }
    // Those of the stub have not moved.
    for line in before.lines().filter(|line| line.contains(" .")) {
        assert!(table.contains(line), "{line}");
    }
    let names: Vec<&str> = ours
        .sections
        .iter()
        .map(|section| section.name.as_str())
        .collect();
    let last = names.len() - 5;
    assert_eq!(
        names[last..],
        [".osrel", ".uname", ".cmdline", ".initrd", ".linux"]
    );
    let header = run("objdump", &["-p", text(&path)]);
    assert!(header.contains("CheckSum\t\t00000000"), "{header}");
    let copy = folder.path().join("copy");
    for (name, content) in [(".cmdline", CMDLINE.as_bytes()), (".initrd", &initrd)] {
        let keep = format!("--only-section={name}");
        run(
            "objcopy",
            &["-O", "binary", &keep, text(&path), text(&copy)],
        );
        let read = fs::read(&copy).unwrap();
        assert!(read == content, "{name}");
        let section = ours.content(&image, name).unwrap();
        assert!(read_all(&section, 1 << 30).unwrap() == content, "{name}");
    }
    let section = ours.content(&image, ".linux").unwrap();
    let read = read_all(&section, 1 << 30).unwrap();
    assert!(section.length() - kernel.length() < 512);
    assert!(read.starts_with(&kernel));
}
