//! Outputs, keys, bundles and the command line.

use super::*;

const BUNDLE: &str = "out/tiny-1.0.0.oci.tar";

// The output.

#[test]
fn no_space_left() {
    cli::needs_root();
    for size in ["256k", "8M", "60M"] {
        let place = Place::with("tiny");
        place.shell("mkdir out").ok();
        let script = format!(
            "mount -t tmpfs -o size={size} tmpfs out
             {} {BUILD} keys/signer.key.pgp || code=$?
             ls -A out
             exit ${{code:-0}}",
            cli::PROGRAM
        );
        place.write("full.sh", script);
        let said = place.run("unshare --mount bash full.sh").fails(
            1,
            &[
                "error: ",
                "No space left on device",
                "hint: make room on the file system of out",
            ],
        );
        assert_eq!(said.out, "", "{size}: something is left behind");
        assert_eq!(place.listing("tmp"), Vec::<String>::new());
    }
}

/// A limit on the size of files is said, it does not kill.
#[test]
fn file_size_limit() {
    let place = Place::with("tiny");
    place.build().ok();
    let trust = "--trust keys/signer.cert.pgp";
    for (folder, verb) in [
        (
            "limited",
            format!("{BUILD} keys/signer.key.pgp").replace("-o out", "-o limited"),
        ),
        ("limited", format!("disk {BUNDLE} {trust} -o limited/x.raw")),
        ("tmp", format!("verify --deep {BUNDLE} {trust}")),
    ] {
        place.shell("mkdir -p limited").ok();
        let limited = format!("ulimit -f 4096; {} {verb}", cli::PROGRAM);
        let words = ["error: ", "File too large", "hint: raise the limit"];
        place.shell(&limited).fails(1, &words);
        assert_eq!(place.listing(folder), Vec::<String>::new(), "{verb}");
    }
}

/// A full disk is no word on the bundle.
#[test]
fn no_space_left_for_what_is_derived() {
    cli::needs_root();
    let place = Place::with("tiny");
    place.build().ok();
    place.shell("mkdir disks").ok();
    let trust = "--trust keys/signer.cert.pgp";
    for (folder, verb) in [
        ("tmp", format!("verify --deep {BUNDLE} {trust}")),
        (
            "tmp",
            format!("verify out/tiny-1.0.0.raw --bundle {BUNDLE} {trust}"),
        ),
        ("tmp", format!("diff --no-verify {BUNDLE} {BUNDLE}")),
        ("disks", format!("disk {BUNDLE} {trust} -o disks/x.raw")),
        (
            "disks",
            format!("disk {BUNDLE} {trust} -o disks/x.qcow2 --format qcow2"),
        ),
    ] {
        for size in ["64k", "2M", "24M"] {
            place.write(
                "full.sh",
                format!(
                    "mount -t tmpfs -o size={size} tmpfs {folder}
                     {} {verb} || code=$?
                     ls -A {folder}
                     exit ${{code:-0}}",
                    cli::PROGRAM
                ),
            );
            let hint = match folder {
                "tmp" => place.at("tmp").display().to_string(),
                other => other.to_owned(),
            };
            let hint = format!("hint: make room on the file system of {hint}");
            let words = ["error: ", "No space left on device", &hint];
            let said = place.run("unshare --mount bash full.sh").fails(1, &words);
            assert!(!said.err.contains("do not use it"), "{said}");
            assert_eq!(said.out, "", "{verb}, {size}: something is left behind");
        }
    }
}

#[test]
fn an_output_that_exists() {
    let place = Place::with("tiny");
    place.build().ok();
    for name in [
        "tiny-1.0.0.oci.tar",
        "tiny-1.0.0.raw",
        "SHA256SUMS",
        "SHA256SUMS.asc",
    ] {
        refused(
            &place,
            &["out/tiny-1.0.0.oci.tar exists already", "hint:", "--force"],
        );
        let other = Place::with("tiny");
        other.write(&format!("out/{name}"), "precious");
        refused(&other, &[name, "exists already", "hint:", "--force"]);
    }
    place
        .standby(&format!("{BUILD} keys/signer.key.pgp --force"))
        .ok();
    place
        .shell("cd out && sha256sum --strict -c SHA256SUMS")
        .ok();
}

#[test]
fn an_output_that_cannot_be_made() {
    let place = Place::with("tiny");
    place.write("out", "a file");
    let said = place.standby(&format!("{BUILD} keys/signer.key.pgp"));
    said.fails(1, &["cannot make the folder out"]);
    assert_eq!(fs::read(place.at("out")).unwrap(), b"a file");
}

/// Starts a build over old outputs and sends a signal so long after it has begun
/// to write; whether the signal found it at work.
fn interrupted(place: &Place, signal: &str, after: Duration) -> bool {
    let mut building = place
        .command(cli::PROGRAM)
        .args(format!("{BUILD} keys/signer.key.pgp --force").split(' '))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let open = format!("/proc/{}/fd", building.id());
    let out = place.at("out").canonicalize().unwrap();
    // Its outputs have no names yet, but they are open.
    let writes = || {
        let files = fs::read_dir(&open).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        targets.any(|target| target.starts_with(&out))
    };
    while !writes() && building.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(after);
    place.run(&format!("kill -{signal} {}", building.id())).ok();
    building.wait().unwrap().signal().is_some()
}

#[test]
fn an_output_that_is_a_device() {
    let place = Place::with("tiny");
    for force in ["", "--force"] {
        place
            .standby(&format!(
                "disk x.oci.tar --trust keys/signer.cert.pgp -o /dev/null {force}"
            ))
            .fails(1, &["/dev/null is a device", "dd if=FILE"]);
    }
    place.run("test -c /dev/null").ok();
}

#[test]
fn an_output_that_is_a_link() {
    use std::os::unix::fs::symlink;
    let place = Place::with("tiny");
    place.build().ok();
    place.run("mkfifo pipe").ok();
    for (to, what) in [
        ("/dev/null", "is a device"),
        ("/dev/stdout", "is a pipe"),
        ("pipe", "is a pipe"),
        ("in", "is a folder"),
        ("none", "leads to no file"),
        ("link", "leads to no file"),
    ] {
        symlink(to, place.at("link")).unwrap();
        for force in ["", "--force"] {
            let said = place
                .standby(&format!(
                    "disk {BUNDLE} --trust keys/signer.cert.pgp -o link {force}"
                ))
                .fails(1, &["error: link ", what, "hint: "]);
            assert!(!said.err.contains("--force"), "{said}");
            assert_eq!(said.err.contains("dd if=FILE"), to == "/dev/null", "{said}");
            assert_eq!(fs::read_link(place.at("link")).unwrap().to_str(), Some(to));
        }
        fs::remove_file(place.at("link")).unwrap();
    }
    for direct in ["pipe", "in"] {
        place
            .standby(&format!(
                "disk {BUNDLE} --trust keys/signer.cert.pgp -o {direct} --force"
            ))
            .fails(1, &["not a file"]);
    }
    // What a link leads to is what is written, and the link stays.
    place.write("store/real.oci.tar", "");
    cli::copy(&place.at(BUNDLE), &place.at("store/real.oci.tar"));
    symlink("store/real.oci.tar", place.at("link")).unwrap();
    place
        .standby("keys generate --user-id S<s@example.org> -o keys --name second")
        .ok();
    place
        .standby("sign link --signer-key keys/second.key.pgp")
        .ok();
    let said = place.standby("inspect store/real.oci.tar --json").ok();
    assert_eq!(said.json()["signatures"], 2, "{said}");
    place
        .standby("sign link --export link")
        .fails(1, &["exists already", "--force"]);
    place
        .standby(&format!("sign {BUNDLE} --export link --force"))
        .ok();
    assert!(
        fs::read(place.at("store/real.oci.tar"))
            .unwrap()
            .starts_with(b"{")
    );
    assert!(fs::read_link(place.at("link")).is_ok());
    assert_eq!(place.listing("store").len(), 1, "nothing is left beside it");
}

#[test]
fn an_output_that_is_an_input() {
    let place = Place::with("tiny");
    place.build().ok();
    place.run(&format!("cp {BUNDLE} b.oci.tar")).ok();
    place.run("zstd -q b.oci.tar -o b.oci.tar.zst").ok();
    place
        .shell("mkdir folder; tar -xf b.oci.tar -C folder")
        .ok();
    place.standby("split b.oci.tar --size 16M").ok();
    std::os::unix::fs::symlink("b.oci.tar", place.at("link")).unwrap();
    place
        .shell("mkdir trust; cp keys/signer.cert.pgp trust")
        .ok();
    let inside = "disk b.oci.tar --trust trust -o trust/signer.cert.pgp --force";
    place.standby(inside).fails(1, &["this command reads it"]);
    place
        .run("cmp trust/signer.cert.pgp keys/signer.cert.pgp")
        .ok();
    let trust = "--trust keys/signer.cert.pgp";
    for (bundle, output) in [
        ("b.oci.tar", "b.oci.tar"),
        ("b.oci.tar", "./out/../b.oci.tar"),
        ("b.oci.tar", "link"),
        ("link", "b.oci.tar"),
        ("b.oci.tar", "keys/signer.cert.pgp"),
        ("b.oci.tar.zst", "b.oci.tar.zst"),
        ("folder", "folder/index.json"),
        ("b.oci.tar.parts", "b.oci.tar.002"),
        ("b.oci.tar.parts", "b.oci.tar.parts"),
        ("b.oci.tar.001", "b.oci.tar.parts"),
    ] {
        let before = place.listing(".");
        for verb in [
            format!("disk {bundle} {trust} -o {output} --force"),
            format!("sign {bundle} --export {output} --force"),
        ] {
            if verb.starts_with("sign") && output.starts_with("keys") {
                continue;
            }
            place
                .standby(&verb)
                .fails(1, &[output, "this command reads it", "hint: "]);
            let after = place.listing(".").into_iter();
            // The first verb may remember what it accepts.
            let of_state = |line: &String| line.contains("/state");
            let after: Vec<_> = after.filter(|line| !of_state(line)).collect();
            let before = before.iter().filter(|line| !of_state(line)).cloned();
            assert_eq!(before.collect::<Vec<_>>(), after, "{verb}");
        }
    }
    let key = "--signer-key keys/signer.key.pgp";
    place
        .standby(&format!(
            "sign b.oci.tar {key} -o keys/signer.key.pgp --force"
        ))
        .fails(1, &["keys/signer.key.pgp", "this command reads it"]);
    // Where standard output goes.
    place
        .shell(&format!(
            "{} disk b.oci.tar {trust} -o x.raw --force >x.raw",
            cli::PROGRAM
        ))
        .fails(1, &["x.raw", "speaks to it"]);
    // By name or not: in its own place a bundle may be signed.
    let key = "--signer-key keys/second.key.pgp";
    place
        .standby("keys generate --user-id S<s@example.org> -o keys --name second")
        .ok();
    place
        .standby(&format!("sign b.oci.tar {key} -o b.oci.tar"))
        .fails(1, &["b.oci.tar"]);
    place
        .standby(&format!("sign b.oci.tar {key} -o b.oci.tar --force"))
        .ok();
    let said = place.standby("inspect b.oci.tar --json").ok();
    assert_eq!(said.json()["signatures"], 2, "{said}");
}

#[test]
fn an_interrupted_build() {
    let place = Place::with("links");
    place.build().ok();
    for signal in ["INT", "TERM", "HUP", "KILL"] {
        for after in [0, 80, 160] {
            let before = place.listing("out");
            let at_work = interrupted(&place, signal, Duration::from_millis(after));
            assert!(
                at_work,
                "the build ended within {after} ms, before {signal}"
            );
            assert_eq!(place.listing("out"), before, "{signal} after {after} ms");
            assert_eq!(place.listing("tmp"), Vec::<String>::new());
        }
    }
    place
        .shell("cd out && sha256sum --strict -c SHA256SUMS")
        .ok();
    place
        .standby("verify out/links-1.0.0.oci.tar --trust keys/signer.cert.pgp")
        .ok();
    place
        .standby(&format!("{BUILD} keys/signer.key.pgp --force"))
        .ok();
}

// The key.

/// A key by gpg, exported to `keys/gpg.pgp`.
fn gpg_key(place: &Place, gpg_options: &str, usage: &str, expiry: &str) {
    place
        .shell(&format!(
            "export GNUPGHOME=$PWD/g; mkdir -m 700 g
             gpg --batch --quiet {gpg_options} --pinentry-mode loopback --passphrase '' \
                 --quick-generate-key 'Old <old@example.org>' ed25519 {usage} {expiry}
             gpg --batch --quiet --export-secret-keys >keys/gpg.pgp
             gpgconf --kill all"
        ))
        .ok();
}

#[test]
fn a_key_of_gpg_is_accepted() {
    let place = Place::with("tiny");
    gpg_key(&place, "", "sign", "never");
    place.standby(&format!("{BUILD} keys/gpg.pgp")).ok();
}

#[test]
fn a_key_that_cannot_sign() {
    let place = Place::with("tiny");
    gpg_key(&place, "", "cert", "never");
    let words = ["keys/gpg.pgp", "cannot sign", "not meant for signing"];
    refused_by(&place, &format!("{BUILD} keys/gpg.pgp"), 1, &words);
    // A certificate has no secret part.
    refused_by(
        &place,
        &format!("{BUILD} keys/signer.cert.pgp"),
        1,
        &["keys/signer.cert.pgp"],
    );
    place.write("keys/text", "not a key");
    refused_by(
        &place,
        &format!("{BUILD} keys/text"),
        1,
        &["keys/text", "not OpenPGP"],
    );
    refused_by(
        &place,
        &format!("{BUILD} keys/none"),
        1,
        &["keys/none", "No such file"],
    );
}

#[test]
fn an_expired_key() {
    let place = Place::with("tiny");
    gpg_key(&place, "--faked-system-time 20200101T000000!", "sign", "1d");
    let words = ["keys/gpg.pgp", "cannot sign", "expired on 2020-01-02"];
    refused_by(&place, &format!("{BUILD} keys/gpg.pgp"), 1, &words);
}

#[test]
fn a_wrong_passphrase() {
    let place = Place::with("tiny");
    place.write("right", "correct horse\n");
    place.write("wrong", "correct house\n");
    place
        .standby("keys generate --user-id L<l@example.org> -o keys --name locked --passphrase-file right")
        .ok();
    let build = format!("{BUILD} keys/locked.key.pgp");
    let words = ["keys/locked.key.pgp", "passphrase is wrong"];
    refused_by(
        &place,
        &format!("{build} --passphrase-file wrong"),
        1,
        &words,
    );
    let words = [
        "keys/locked.key.pgp",
        "needs a passphrase",
        "hint:",
        "--passphrase-file",
    ];
    refused_by(&place, &build, 1, &words[1..]);
    place
        .standby(&format!("{build} --passphrase-file right"))
        .ok();
}

// A bundle.

#[test]
fn a_bundle_of_a_newer_version() {
    let place = Place::with("tiny");
    place.build().ok();
    let path = place.at("out/tiny-1.0.0.oci.tar");
    let opened = open::file(
        standby::oci::Blob::whole(fs::File::open(&path).unwrap()).unwrap(),
        tempfile::tempfile,
    )
    .unwrap();
    let bundle = verify::Candidate::read(opened).unwrap().accept().unwrap();
    let mut statement: Value = serde_json::from_slice(&bundle.statement_bytes).unwrap();
    statement["standby_bundle"] = json!(2);
    statement["something_new"] = json!({"of": "the future"});
    let statement = serde_json::to_vec(&statement).unwrap();
    let now = SystemTime::now();
    let secret = fs::read(place.at("keys/signer.key.pgp")).unwrap();
    let key = standby_keys::SignerKey::load(&secret, now).unwrap();
    let signature = key.sign_detached(&statement, now, false).unwrap();
    let file = Arc::new(fs::File::create_new(place.at("newer.oci.tar")).unwrap());
    let mut writer = archive::Writer::new(file, 0);
    for item in verify::expected(&statement, &[signature], &bundle.components).unwrap() {
        writer.append(&item).unwrap();
    }
    writer.finish().unwrap();
    for verb in ["verify newer.oci.tar", "disk newer.oci.tar -o newer.raw"] {
        place
            .standby(&format!("{verb} --trust keys/signer.cert.pgp"))
            .fails(1, &["newer.oci.tar", "version 2", "use a newer standby"]);
    }
    assert!(!place.at("newer.raw").exists());
    // That it is newer is not believed before the signature is.
    place
        .standby("keys generate --user-id M<m@example.org> -o keys --name other")
        .ok();
    place
        .standby("verify newer.oci.tar --trust keys/other.cert.pgp")
        .fails(3, &["newer.oci.tar", "not trusted"]);
}

#[test]
fn what_is_no_bundle() {
    let place = Place::with("tiny");
    place
        .standby("verify none.oci.tar --trust keys/signer.cert.pgp")
        .fails(1, &["none.oci.tar", "No such file"]);
    place
        .standby("verify in/image --trust keys/none")
        .fails(1, &["keys/none", "No such file"]);
    place
        .standby("verify in/image --trust in/standby.toml")
        .fails(1, &["in/standby.toml", "not OpenPGP"]);
    for (name, content) in [
        ("text.oci.tar", &b"not a bundle"[..]),
        ("empty.oci.tar", b""),
    ] {
        place.write(name, content);
        place
            .standby(&format!("verify {name} --trust keys/signer.cert.pgp"))
            .fails(3, &[name]);
        place.standby(&format!("inspect {name}")).fails(3, &[name]);
    }
    place
        .standby("verify in/image --trust keys/signer.cert.pgp")
        .fails(3, &["in/image", "index.json"]);
    place
        .standby("verify in/image")
        .fails(1, &["no certificate to trust", "hint:", "--trust CERT"]);
}

// The command line.

#[test]
fn usage() {
    let place = Place::with("tiny");
    for args in [
        "",
        "bake",
        "build",
        "build --signer-key keys/signer.key.pgp",
        "build -o out --signer-key keys/signer.key.pgp --format iso",
        "build -o out --signer-key keys/signer.key.pgp --jobs 0",
        "build -o out --signer-key keys/signer.key.pgp --jobs 257",
        "build -f in/standby.toml -o out --signer-key keys/signer.key.pgp --created yesterday",
        "build -o out --signer-key keys/signer.key.pgp --sequence 0",
        "build -o out --signer-key keys/signer.key.pgp --sequence 9007199254740992",
        "verify",
        "verify x --at yesterday",
        "verify x --at 2026-01-31T12:00:00",
        "disk x",
        "keys generate -o keys",
        "keys generate -o keys --user-id A --name a/b",
    ] {
        let said = place.standby(args);
        assert!(said.code == Some(2) && !said.err.is_empty(), "{said}");
    }
    assert_eq!(place.listing("out"), Vec::<String>::new());
    for args in [
        "--help",
        "--version",
        "build --help",
        "keys generate --help",
    ] {
        let said = place.standby(args).ok();
        assert!(said.err.is_empty() && !said.out.is_empty(), "{said}");
    }
}

#[test]
fn a_clock_of_the_environment_that_is_none() {
    let place = Place::with("tiny");
    let said = cli::said(
        place
            .command(cli::PROGRAM)
            .args(format!("{BUILD} keys/signer.key.pgp").split(' '))
            .env("SOURCE_DATE_EPOCH", "noon"),
    );
    said.fails(1, &["SOURCE_DATE_EPOCH"]);
    assert_eq!(place.listing("out"), Vec::<String>::new());
}

#[test]
fn errors_as_json() {
    let place = Place::with("tiny");
    place.edit("port = 8080", "prot = 8080");
    let said = place.standby(&format!("{BUILD} keys/signer.key.pgp --json"));
    let json = said.fails(1, &["error: "]).json();
    assert_eq!(json["exit_code"], 1);
    assert!(json["error"].as_str().unwrap().contains("prot"), "{json}");
}
