//! From keys to a bundle and its disk, and what the tools of others say of both.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/cli.rs"]
mod cli;

use std::fs;

use cli::{Place, Said};
use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use serde_json::Value;
use standby_contract::paths;

const BUNDLE: &str = "out/tiny-1.0.0.oci.tar";
const TRUST: &str = "--trust keys/signer.cert.pgp";

fn built(example: &str) -> (Place, Value) {
    let place = Place::with(example);
    let said = place
        .standby("build -f in/standby.toml -o out --signer-key keys/signer.key.pgp --json --quiet");
    let json = said.ok().json();
    (place, json)
}

/// The digest of the only image of the input layout.
fn input_digest(place: &Place) -> String {
    let index = fs::read(place.at("in/image/index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let listed = index["manifests"].as_array().unwrap();
    assert_eq!(listed.len(), 1);
    listed[0]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_bundle_is_built_verified_and_inspected() {
    let (place, json) = built("tiny");
    assert_eq!(json["bundle"], BUNDLE);
    assert_eq!(json["disk"], "out/tiny-1.0.0.raw");
    let names = place.shell("ls -A out").ok().out;
    assert_eq!(
        names,
        "SHA256SUMS\nSHA256SUMS.asc\ntiny-1.0.0.oci.tar\ntiny-1.0.0.raw\n"
    );
    assert_eq!(place.listing("tmp"), Vec::<String>::new());

    let human = place.standby(&format!("verify {BUNDLE} {TRUST}")).ok();
    for word in ["tiny 1.0.0, sequence 1", "T<t@example.org>", "every byte"] {
        assert!(human.out.contains(word), "{word}: {human}");
    }
    let verified = place
        .standby(&format!("verify {BUNDLE} {TRUST} --json"))
        .ok()
        .json();
    assert_eq!(verified["verified"], true);
    assert_eq!(verified["overridden"], serde_json::json!([]));
    assert_eq!(verified["would_fail"].as_array().unwrap().len(), 3);
    assert_eq!(verified["bundle_digest"], json["bundle_digest"]);
    assert_eq!(verified["root_hash"], json["root_hash"]);
    assert_eq!(verified["signers"].as_array().unwrap().len(), 1);
    let roles = verified["components"].as_array().unwrap().iter();
    let roles: Vec<_> = roles.map(|c| c["role"].as_str().unwrap()).collect();
    assert_eq!(
        roles,
        ["runtime", "kit", "front", "snapshot", "machine", "sbom"]
    );
    assert_eq!(verified["components"][0]["digest"], input_digest(&place));
    place
        .standby(&format!("verify {BUNDLE} {TRUST} --deep"))
        .ok();

    let inspected = place
        .standby(&format!("inspect {BUNDLE} --json"))
        .ok()
        .json();
    assert_eq!(inspected["verified"], false);
    assert_eq!(inspected["statement"]["service"]["name"], "tiny");
    let human = place.standby(&format!("inspect {BUNDLE}")).ok();
    assert!(human.out.contains("not verified"), "{human}");
    // Its digest is that of the statement.
    let sum = place.shell(&format!(
        "{} inspect {BUNDLE} --statement | sha256sum",
        cli::PROGRAM
    ));
    let digest = json["bundle_digest"].as_str().unwrap();
    assert_eq!(
        sum.ok().out,
        format!("{}  -\n", digest.strip_prefix("sha256:").unwrap())
    );
}

#[test]
fn the_disk_is_derived_again_in_every_form() {
    let (place, _) = built("tiny");
    let disk = |more: &str| place.standby(&format!("disk {BUNDLE} {TRUST} {more}"));
    let before = place.listing("out");
    disk("-o again.raw").ok();
    place.run("cmp out/tiny-1.0.0.raw again.raw").ok();
    disk("-o again.raw.zst --format raw.zst").ok();
    place
        .shell("zstd -dc again.raw.zst | cmp - out/tiny-1.0.0.raw")
        .ok();
    disk("-o again.qcow2 --format qcow2").ok();
    place
        .run("qemu-img compare -f qcow2 -F raw again.qcow2 out/tiny-1.0.0.raw")
        .ok();
    place.run("qemu-img check -f qcow2 again.qcow2").ok();
    disk("-o again.raw --jobs 1").fails(1, &["again.raw exists already", "--force"]);
    disk("-o again.raw --jobs 1 --force").ok();
    place.run("cmp out/tiny-1.0.0.raw again.raw").ok();
    // It is sparse: holes where there is nothing.
    let used = place
        .shell("du -B1 again.raw | cut -f1")
        .ok()
        .out
        .trim()
        .parse::<u64>()
        .unwrap();
    let length = fs::metadata(place.at("again.raw")).unwrap().len();
    assert!(used < length, "{used} of {length} bytes");
    assert_eq!(before, place.listing("out"), "the inputs are as they were");
}

#[test]
fn build_writes_every_form() {
    let place = Place::with("tiny");
    let build = "build -f in/standby.toml --signer-key keys/signer.key.pgp --no-exec --created 2026-02-03T04:05:06Z";
    for format in ["raw", "raw.zst", "qcow2"] {
        place
            .standby(&format!("{build} --format {format} -o {format}"))
            .ok();
        place
            .shell(&format!("cd {format} && sha256sum --strict -c SHA256SUMS"))
            .ok();
        place
            .standby(&format!(
                "verify {format}/tiny-1.0.0.{format} {TRUST} --allow-stale"
            ))
            .ok();
    }
    place
        .shell("zstd -dc raw.zst/*.raw.zst | cmp - raw/tiny-1.0.0.raw")
        .ok();
    place
        .run("qemu-img compare -f qcow2 -F raw qcow2/tiny-1.0.0.qcow2 raw/tiny-1.0.0.raw")
        .ok();
}

#[test]
fn a_disk_is_verified_by_sums_and_by_bundle() {
    let (place, _) = built("tiny");
    let disk = "out/tiny-1.0.0.raw";
    let said = place.standby(&format!("verify {disk} {TRUST}")).ok();
    assert!(said.out.contains("T<t@example.org>"), "{said}");
    place
        .standby(&format!("verify {disk} --bundle {BUNDLE} {TRUST}"))
        .ok();
    // On a medium that is longer than the disk.
    place
        .shell("cp out/tiny-1.0.0.raw medium && truncate -s +1M medium")
        .ok();
    place
        .standby(&format!("verify medium --bundle {BUNDLE} {TRUST}"))
        .ok();
}

#[test]
fn a_bundle_is_accepted_compressed_and_as_a_folder() {
    let (place, json) = built("tiny");
    place
        .shell(&format!(
            "zstd -q {BUNDLE} -o b.oci.tar.zst; mkdir b; tar -C b -xf {BUNDLE}"
        ))
        .ok();
    for form in ["b.oci.tar.zst", "b"] {
        let verified = place
            .standby(&format!("verify {form} {TRUST} --deep --json"))
            .ok()
            .json();
        assert_eq!(verified["bundle_digest"], json["bundle_digest"]);
        place.standby(&format!("inspect {form}")).ok();
        place
            .standby(&format!("disk {form} {TRUST} -o again.raw --force"))
            .ok();
        place.run("cmp out/tiny-1.0.0.raw again.raw").ok();
    }
    assert_eq!(place.listing("tmp"), Vec::<String>::new());
}

#[test]
fn a_trust_folder_and_a_passphrase() {
    let (place, _) = built("tiny");
    place
        .shell("mkdir trust && cp keys/signer.cert.pgp trust")
        .ok();
    place
        .standby(&format!("verify {BUNDLE} --trust trust"))
        .ok();
    place
        .shell("mkdir -p home/.config/standby && mv trust home/.config/standby")
        .ok();
    place.standby(&format!("verify {BUNDLE}")).ok();
    place.write("secret", "correct horse\n");
    place
        .standby("keys generate --user-id L<l@example.org> -o keys --name locked --passphrase-file secret")
        .ok();
    place
        .standby(
            "build -f in/standby.toml -o locked --no-exec --signer-key keys/locked.key.pgp --passphrase-file secret",
        )
        .ok();
    place
        .standby("verify locked/tiny-1.0.0.oci.tar --trust keys/locked.cert.pgp")
        .ok();
    let modes = place.shell("stat -c '%a' keys/locked.*.pgp").ok().out;
    assert_eq!(modes, "644\n600\n600\n", "certificate, key, revocation");
}

/// `skopeo` reads both images, and finds the input's runtime.
fn skopeo(place: &Place, name: &str) {
    for image in ["runtime", "front"] {
        let reference =
            format!("oci-archive:out/{name}-1.0.0.oci.tar:localhost/{name}/{image}:1.0.0");
        let inspected = place
            .run(&format!("skopeo inspect {reference}"))
            .ok()
            .json();
        assert_eq!(inspected["Architecture"], "amd64");
        if image == "runtime" {
            assert_eq!(inspected["Digest"], input_digest(place));
        }
        place
            .run(&format!(
                "skopeo copy --quiet {reference} dir:copied-{image}"
            ))
            .ok();
        place
            .run(&format!(
                "skopeo copy --quiet {reference} oci:copied:{image}"
            ))
            .ok();
        let raw = place
            .shell(&format!("sha256sum < copied-{image}/manifest.json"))
            .ok()
            .out;
        assert_eq!(
            inspected["Digest"].as_str().unwrap(),
            format!("sha256:{}", raw.split(' ').next().unwrap())
        );
    }
}

/// `gpg` and `sqv` accept SHA256SUMS and the statement; `sha256sum` the files.
fn openpgp(place: &Place, name: &str) {
    let bundle = format!("out/{name}-1.0.0.oci.tar");
    let statement = place
        .standby(&format!("inspect {bundle} --statement"))
        .ok()
        .out;
    let files = cli::files(&place.at(&bundle));
    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let signatures = cli::artefacts(&index, "signature.v1+pgp");
    assert_eq!(signatures.len(), 1);
    place.write("statement.json", &statement);
    place.write(
        "statement.sig",
        &files[&cli::payload(&files, signatures[0])],
    );
    // A signature refers to the statement's manifest, which refers to the statement.
    let subject = &cli::document(&files, signatures[0])["subject"];
    let listed = cli::artefacts(&index, "statement.v1+json")[0];
    assert_eq!(subject["digest"], listed["digest"]);
    assert_eq!(files[&cli::payload(&files, listed)], statement.as_bytes());

    place
        .shell("mkdir -m 700 home/.gnupg && gpg --batch --quiet --import keys/signer.cert.pgp")
        .ok();
    for (signature, data) in [
        ("out/SHA256SUMS.asc", "out/SHA256SUMS"),
        ("statement.sig", "statement.json"),
    ] {
        place
            .run(&format!("gpg --batch --verify {signature} {data}"))
            .ok()
            .says(&["Good signature from \"T<t@example.org>\""]);
        place
            .run(&format!(
                "sqv --keyring keys/signer.cert.pgp {signature} {data}"
            ))
            .ok();
    }
    place
        .shell("cd out && sha256sum --strict -c SHA256SUMS")
        .ok();
}

/// The judges of the disk's parts: nothing of ours reads them here.
fn disk(place: &Place, name: &str) {
    let raw = format!("out/{name}-1.0.0.raw");
    let said = place.run(&format!("sgdisk -v {raw}")).ok();
    assert!(said.out.contains("No problems found"), "{said}");
    let table = place.run(&format!("sfdisk --json {raw}")).ok().json();
    let partitions = table["partitiontable"]["partitions"].as_array().unwrap();
    let labels: Vec<_> = partitions
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    assert_eq!(labels, ["bios", "esp", "root", "root-verity"]);
    for partition in partitions {
        let (label, start) = (partition["name"].as_str().unwrap(), &partition["start"]);
        let size = &partition["size"];
        place
            .run(&format!(
                "dd status=none if={raw} of={label} bs=512 skip={start} count={size}"
            ))
            .ok();
    }
    let bundle = format!("out/{name}-1.0.0.oci.tar");
    let statement = place
        .standby(&format!("inspect {bundle} --statement"))
        .ok()
        .json();
    let hash = statement["disk"]["root_hash"].as_str().unwrap();
    place
        .run(&format!("veritysetup verify root root-verity {hash}"))
        .ok();
    // By the Discoverable Partitions Specification the two halves name the two.
    let uuid = |at: usize| partitions[at]["uuid"].as_str().unwrap().replace('-', "");
    assert_eq!(format!("{}{}", uuid(2), uuid(3)).to_lowercase(), hash);

    place.run("fsck.fat -n esp").ok();
    place
        .run("mcopy -n -i esp ::/EFI/BOOT/BOOTX64.EFI uki.efi")
        .ok();
    uki(place, hash);
    let said = place.run("fsck.erofs --extract root").ok();
    assert!(!said.err.contains("<E>"), "{said}");
    root(place, name);
}

/// `objdump` finds the sections, of the sizes that were promised.
fn uki(place: &Place, hash: &str) {
    let said = place.run("objdump -h uki.efi").ok();
    // Of a section's line: index, name, size, two addresses, offset in the file.
    let section = |name: &str| {
        let line = said
            .out
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let found = line.into_iter().find(|words| words.get(1) == Some(&name));
        let words = found.unwrap_or_else(|| panic!("no section {name}: {said}"));
        let number = |at: usize| u64::from_str_radix(words[at], 16).unwrap();
        (number(2), number(5))
    };
    assert!(section(".initrd").0 < 12_000_000, "{said}");
    assert!(section(".linux").0 > 1_000_000, "{said}");
    for name in [".text", ".osrel", ".uname"] {
        section(name);
    }
    let whole = fs::read(place.at("uki.efi")).unwrap();
    assert!(whole.len() < 25_000_000, "{} bytes", whole.len());
    let (size, at) = section(".cmdline");
    let at = usize::try_from(at).unwrap();
    let line = &whole[at..at + usize::try_from(size).unwrap()];
    let line = String::from_utf8_lossy(line);
    assert!(
        line.contains(hash),
        "the root hash is on the command line: {line}"
    );
}

/// The crate `erofs-rs` finds the machine's files, the images and the snapshot.
fn root(place: &Place, name: &str) {
    let image = fs::read(place.at("root")).unwrap();
    let erofs = EroFS::new(SliceImage::new(&image)).unwrap();
    let names: Vec<String> = erofs
        .walk_dir("/")
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .dir_entry
                .path()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let program = if name == "tiny" { "tiny" } else { "nginx" };
    let wanted = [
        paths::SERVICE_TABLE.to_owned(),
        format!("{}/config.json", paths::RUNTIME_BUNDLE),
        format!("{}/config.json", paths::FRONT_BUNDLE),
        format!("{}/rootfs/usr/bin/caddy", paths::FRONT_BUNDLE),
    ];
    for path in &wanted {
        assert!(
            names.contains(path),
            "{path} is not among {} names",
            names.len()
        );
    }
    let end = format!("bin/{program}");
    assert!(
        names
            .iter()
            .any(|p| p.starts_with(paths::RUNTIME_BUNDLE) && p.ends_with(&end))
    );
    let files = place
        .shell("cd in/snapshot && find . -type f | cut -c3-")
        .ok()
        .out;
    for file in files.lines() {
        let path = format!("{}/{file}", paths::SNAPSHOT);
        let mut content = Vec::new();
        let mut at = 0;
        let opened = erofs.open(&path).unwrap();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = opened.read_at(&mut buffer, at).unwrap();
            if read == 0 {
                break;
            }
            content.extend_from_slice(&buffer[..read]);
            at += read as u64;
        }
        assert!(
            content == fs::read(place.at("in/snapshot").join(file)).unwrap(),
            "{path}"
        );
    }
}

/// The two images under podman, in a network name space of their own, answer
/// over TLS as the disk does. A cgroup file system of one version only: crun
/// refuses a machine that mixes two.
fn podman(place: &Place, name: &str, mount: &str, url: &str) -> Said {
    cli::needs_root();
    place.write("podman.sh", PODMAN);
    place.run(&format!(
        "unshare --mount --net bash -euo pipefail podman.sh {name} {mount} {url}"
    ))
}

const PODMAN: &str = r#"
name=$1 mount=$2 url=$3
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
ip link set lo up
p() {
    podman --root "$PWD/podman/root" --runroot "$PWD/podman/run" --tmpdir "$PWD/podman/tmp" \
        --storage-driver vfs --cgroup-manager cgroupfs --runtime /usr/bin/crun "$@"
}
options=(--cgroups=disabled --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --log-driver none)
trap 'p rm -f -t 1 -a >/dev/null' EXIT
p load -q -i "out/$name-1.0.0.oci.tar" >&2
front=localhost/$name/front:1.0.0 runtime=localhost/$name/runtime:1.0.0
p run --rm --network none "${options[@]}" --log-driver passthrough \
    --entrypoint '["/usr/bin/caddy","version"]' "$front"
# What runtime.writable is on the disk.
p run -d --network host "${options[@]}" --tmpfs /run:mode=1777 --tmpfs /var/lib/nginx:mode=1777 \
    -v "$PWD/in/snapshot:$mount:ro" "$runtime" >&2
p run -d --network host "${options[@]}" --cap-add NET_BIND_SERVICE "$front" >&2
host=$(cut -d/ -f3 <<<"$url")
for _ in $(seq 20); do
    if curl -sk --max-time 3 -w '%{http_code} %{redirect_url}\n' --resolve "$host:443:127.0.0.1" "$url"; then
        exit
    fi
    sleep 0.1
done
exit 1
"#;

#[test]
fn others_judge_the_images_of_the_small_example() {
    let (place, _) = built("tiny");
    skopeo(&place, "tiny");
    let said = podman(&place, "tiny", "/srv/site", "https://tiny.example.org/").ok();
    assert!(said.out.starts_with('v'), "caddy's version: {said}");
    assert!(said.out.ends_with("last known good\n200 \n"), "{said}");
}

#[test]
fn others_judge_the_signatures_and_the_disk_of_the_small_example() {
    let (place, _) = built("tiny");
    openpgp(&place, "tiny");
    disk(&place, "tiny");
}

#[test]
fn others_judge_the_link_service() {
    let (place, json) = built("links");
    let bundle = "out/links-1.0.0.oci.tar";
    let verified = place
        .standby(&format!("verify {bundle} {TRUST} --deep --json"))
        .ok()
        .json();
    assert_eq!(verified["bundle_digest"], json["bundle_digest"]);
    place
        .standby(&format!("disk {bundle} {TRUST} -o again.raw"))
        .ok();
    place.run("cmp out/links-1.0.0.raw again.raw").ok();
    fs::remove_file(place.at("again.raw")).unwrap();
    skopeo(&place, "links");
    openpgp(&place, "links");
    disk(&place, "links");
    let said = podman(
        &place,
        "links",
        "/srv/links",
        "https://links.example.org/go/standby",
    )
    .ok();
    assert!(
        said.out.ends_with("302 https://example.org/it-works\n"),
        "{said}"
    );
}
