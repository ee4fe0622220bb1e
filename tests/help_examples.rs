//! Every example in the program's help does what it says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/cli.rs"]
mod cli;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use cli::{Place, Said};

/// Verbs whose examples need a registry; `tests/registry/` runs their like.
const ELSEWHERE: [&str; 2] = ["publish", "fetch"];

/// The commands of a verb's examples, as they stand in its help.
fn examples(command: &clap::Command, path: &str, found: &mut Vec<(String, String)>) {
    let help = command.get_after_help().map(ToString::to_string);
    for line in help.iter().flat_map(|text| text.lines()) {
        let line = line.trim_start();
        if line.starts_with("standby ") || line.starts_with("gpg ") {
            found.push((path.to_owned(), line.to_owned()));
        }
    }
    for inner in command.get_subcommands() {
        let path = format!("{path} {}", inner.get_name());
        examples(inner, path.trim_start(), found);
    }
}

/// What the examples take for granted, in the folder `in`.
fn prepared() -> Place {
    let place = Place::with("tiny");
    place.edit("name = \"tiny\"", "name = \"links\"");
    place
        .standby("keys generate --user-id S<s@example.org> -o keys --name second")
        .ok();
    place.build().ok();
    place
        .shell(
            "cp out/* keys/*.pgp in/; cp in/links-1.0.0.oci.tar in/links-1.1.0.oci.tar; mkdir in/stick
             export GNUPGHOME=$PWD/g; mkdir -m 700 g
             gpg --batch --quiet --pinentry-mode loopback --passphrase '' --quick-generate-key 'A <a@example.org>' ed25519 sign never
             gpgconf --kill all",
        )
        .ok();
    fs::create_dir(place.at("empty")).unwrap();
    kit_parts(&place);
    place
}

/// A kernel's packages, under the names of the examples.
fn kit_parts(place: &Place) {
    let packages = match std::env::var_os("STANDBY_PACKAGES") {
        Some(given) => PathBuf::from(given),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/packages"),
    };
    let guest = match std::env::var_os("STANDBY_GUEST") {
        Some(given) => PathBuf::from(given),
        None => Path::new(cli::PROGRAM).with_file_name("standby-guest"),
    };
    symlink(guest, place.at("in/standby-guest")).unwrap();
    for (prefix, name) in [
        ("linux-image-6", "linux-image.deb"),
        ("systemd-boot-efi", "systemd-boot-efi.deb"),
        ("grub-pc-bin", "grub-pc-bin.deb"),
    ] {
        let matches = |path: &PathBuf| {
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            file.starts_with(prefix) && (prefix != "linux-image-6" || file.contains("cloud"))
        };
        let entries = fs::read_dir(&packages).expect("make kit-packages");
        let mut found = entries.map(|entry| entry.unwrap().path()).filter(matches);
        symlink(found.next().expect(prefix), place.at("in").join(name)).unwrap();
    }
    place
        .shell(
            "cd in; dpkg-deb -x linux-image.deb image-root; dpkg-deb -x systemd-boot-efi.deb stub-root
             cp image-root/boot/vmlinuz-* vmlinuz; cp stub-root/usr/lib/systemd/boot/efi/linuxx64.efi.stub .
             mkdir -p lib/modules; mv image-root/lib/modules/* lib/modules/6.1.0-1-amd64",
        )
        .ok();
}

fn run(place: &Place, example: &str) -> Said {
    let line = example
        .replacen("standby ", &format!("{} ", cli::PROGRAM), 1)
        .replace("/media/stick", "stick")
        .replacen(
            "gpg ",
            "GNUPGHOME=$PWD/../g gpg --batch --pinentry-mode loopback --passphrase '' ",
            1,
        );
    let folder = if example.contains(" init ") {
        "empty"
    } else {
        "in"
    };
    place.shell(&format!("cd {folder}; rm -rf kit.new; {line}"))
}

#[test]
fn every_example_of_the_help_runs() {
    let mut all = Vec::new();
    examples(&standby::cli::command(), "", &mut all);
    let verbs = |path: &str| path.split(' ').next().unwrap_or_default().to_owned();
    for verb in [
        "init", "build", "verify", "inspect", "sign", "split", "export", "diff", "disk", "kit",
        "keys",
    ] {
        assert!(
            all.iter().any(|(path, _)| verbs(path) == verb),
            "{verb} has no example"
        );
    }
    let place = prepared();
    for (path, example) in all {
        if ELSEWHERE.contains(&verbs(&path).as_str()) {
            continue;
        }
        // Each starts from what there was.
        if verbs(&path) == "kit" {
            fs::remove_file(place.at("in/kit"))
                .or_else(|_| fs::remove_dir_all(place.at("in/kit")))
                .unwrap();
        }
        let said = run(&place, &example);
        assert_eq!(said.code, Some(0), "{path}: {example}\n{said}");
    }
}
