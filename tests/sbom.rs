//! The bill of materials: what it lists, by the judgement of CycloneDX's own
//! schema, the same twice, and never another than what is in the bundle.

#![allow(clippy::unwrap_used)]

#[path = "support/cli.rs"]
mod cli;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use cli::Place;
use serde_json::Value;
use standby::bake::sbom;
use standby::bundle::archive::Writer;
use standby::bundle::component::{ArtifactLayer, Component, Role, SBOM};
use standby::bundle::statement::Listed;
use standby::bundle::verify::{Candidate, expected};
use standby::oci::{Blob, Digest};
use standby_keys::SignerKey;

const BUNDLE: &str = "out/tiny-1.0.0.oci.tar";
const TRUST: &str = "--trust keys/signer.cert.pgp --state state";

fn schemas() -> PathBuf {
    let folder = match std::env::var_os("STANDBY_SCHEMAS") {
        Some(given) => PathBuf::from(given),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/schemas"),
    };
    assert!(
        folder.join("bom-1.5.SNAPSHOT.schema.json").exists(),
        "{} is not whole: run 'make fixtures'",
        folder.display()
    );
    folder
}

/// The components of a document whose type, or start of reference, is this.
fn of<'a>(bom: &'a Value, start: &str) -> Vec<&'a Value> {
    let all = bom["components"].as_array().unwrap().iter();
    all.filter(|c| c["bom-ref"].as_str().unwrap().starts_with(start))
        .collect()
}

#[test]
fn a_real_debian_by_the_schema() {
    let place = Place::with("links");
    let said = place.build().ok();
    assert!(!said.err.contains("bill of materials"), "{said}");
    let bundle = "out/links-1.0.0.oci.tar";
    let said = place.standby(&format!("inspect {bundle} --sbom")).ok();
    place.write("sbom.json", &said.out);
    let judge = "
import json, sys
from jsonschema import Draft7Validator, FormatChecker, RefResolver
load = lambda name: json.load(open(f'{sys.argv[1]}/{name}.SNAPSHOT.schema.json'))
schema = load('bom-1.5')
base = schema['$id'].rsplit('/', 1)[0]
store = {f'{base}/{name}.SNAPSHOT.schema.json': load(name) for name in ['spdx', 'jsf-0.82']}
store[schema['$id']] = schema
resolver = RefResolver.from_schema(schema, store=store)
judge = Draft7Validator(schema, resolver=resolver, format_checker=FormatChecker())
bom = json.load(open('sbom.json'))
errors = [error.message for error in judge.iter_errors(bom)]
assert not errors, errors
bom['components'][0]['type'] = 'no-type'
assert list(judge.iter_errors(bom)), 'the judge is asleep'
";
    place.write("judge.py", judge);
    place
        .run(&format!(
            "/usr/bin/python3 -W ignore judge.py {}",
            schemas().display()
        ))
        .ok();

    // What dpkg itself finds in the image is what is listed.
    place
        .shell("umoci unpack --keep-dirlinks --image in/image:links root >/dev/null")
        .ok();
    let query = "dpkg-query --admindir=root/rootfs/var/lib/dpkg -W \
                 -f=${db:Status-Abbrev}${Package}=${Version}:${Architecture}\\n";
    let found = place.run(query).ok();
    let mut wanted: Vec<String> = found
        .out
        .lines()
        .filter_map(|line| line.strip_prefix("ii "))
        .map(str::to_owned)
        .collect();
    wanted.sort();
    let bom = said.json();
    let package = |c: &&Value| {
        let url = c["purl"].as_str().unwrap();
        let arch = url
            .split_once("arch=")
            .unwrap()
            .1
            .split('&')
            .next()
            .unwrap();
        format!(
            "{}={}:{arch}",
            c["name"].as_str().unwrap(),
            c["version"].as_str().unwrap()
        )
    };
    let mut listed: Vec<String> = of(&bom, "runtime/pkg:deb/debian/")
        .iter()
        .map(package)
        .collect();
    listed.sort();
    assert!(wanted.len() > 50, "{wanted:?}");
    assert_eq!(listed, wanted);

    let caddy = of(&bom, "front/caddy")[0];
    let version = place.run("in/caddy version").ok().out;
    assert!(
        version.starts_with(caddy["version"].as_str().unwrap()),
        "{version}"
    );
    let digest = place.run("sha256sum in/caddy").ok().out;
    assert!(digest.starts_with(caddy["hashes"][0]["content"].as_str().unwrap()));
    let kernel = of(&bom, "kit/vmlinuz")[0];
    assert!(
        kernel["version"].as_str().unwrap().contains("-amd64"),
        "{kernel}"
    );
    assert_eq!(of(&bom, "kit/").len(), 5);
    assert_eq!(of(&bom, "runtime/distribution")[0]["name"], "debian");
    place
        .standby(&format!("verify {bundle} {TRUST} --deep"))
        .ok();
}

#[test]
fn the_same_twice() {
    let place = Place::with("tiny");
    let build = "build -f in/standby.toml --no-exec --created 2026-11-01T00:00:00Z \
                 --signer-key keys/signer.key.pgp";
    let sbom = |folder: &str, more: &str| {
        place.standby(&format!("{build} -o {folder} {more}")).ok();
        let inspect = format!("inspect {folder}/tiny-1.0.0.oci.tar --sbom");
        place.standby(&inspect).ok().out
    };
    let first = sbom("a", "--jobs 1");
    assert_eq!(first, sbom("b", "--jobs 4"));
    assert_ne!(first, sbom("c", "--sequence 2"));
    let bom: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(bom["metadata"]["timestamp"], "2026-11-01T00:00:00Z");
}

/// The bundle with another bill of materials, signed like the first.
fn with_sbom(place: &Place, change: impl Fn(&str) -> String) {
    let file = File::open(place.at(BUNDLE)).unwrap();
    let opened =
        standby::bundle::open::file(standby::oci::Blob::whole(file).unwrap(), tempfile::tempfile)
            .unwrap();
    let bundle = Candidate::read(opened).unwrap().accept().unwrap();
    let (mut components, mut statement) = (bundle.components.clone(), bundle.statement.clone());
    assert_eq!(components[5].role, Role::Sbom);
    let text = String::from_utf8(sbom::read(&components[5]).unwrap()).unwrap();
    let bytes = change(&text).into_bytes();
    assert_ne!(bytes, text.as_bytes());
    let len = bytes.len() as u64;
    let layer = ArtifactLayer {
        media_type: SBOM.to_owned(),
        digest: Digest::of(&bytes),
        blob: Blob::in_memory(bytes),
    };
    let subject = components[0].as_subject();
    components[5] = Component::artifact(Role::Sbom, SBOM, vec![layer], &subject).unwrap();
    statement.components[5] = Listed::new(&components[5], len, Vec::new());
    let bytes = statement.to_bytes().unwrap();
    let now = SystemTime::now();
    let key = fs::read(place.at("keys/signer.key.pgp")).unwrap();
    let key = SignerKey::load(&key, now).unwrap();
    let signature = key.sign_detached(&bytes, now, false).unwrap();
    let target = Arc::new(File::create(place.at("other.oci.tar")).unwrap());
    let mut writer = Writer::new(target, 0);
    for item in expected(&bytes, &[signature], &components).unwrap() {
        writer.append(&item).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn another_than_what_is_in_the_bundle() {
    let place = Place::with("tiny");
    place.build().ok();
    place
        .standby(&format!("verify {BUNDLE} {TRUST} --deep"))
        .ok();
    let verify = format!("verify other.oci.tar {TRUST}");
    with_sbom(&place, |text| text.replacen("\"caddy\"", "\"daddy\"", 1));
    place.standby(&verify).ok();
    place
        .standby(&format!("{verify} --deep"))
        .fails(3, &["does not say what is in the bundle"]);
    with_sbom(&place, |_| "{\"a\":1,\"A\":2}".to_owned());
    place
        .standby(&format!("{verify} --deep"))
        .fails(3, &["bill of materials cannot be read"]);
    // Made by a later program: its signers' word.
    with_sbom(&place, |text| {
        let ours = "{\"name\":\"standby:sbom\",\"value\":\"1\"}";
        assert!(text.contains(ours), "{text}");
        text.replacen(ours, "{\"name\":\"standby:sbom\",\"value\":\"2\"}", 1)
    });
    place.standby(&format!("{verify} --deep")).ok();
}

/// rpm itself makes a package and installs it into the image. Of the older forms
/// of its database, which Debian's rpm does not write, only the file is there.
#[test]
fn packages_of_a_real_rpm() {
    let place = Place::with("tiny");
    let spec = "Name: judge\nVersion: 1.2\nRelease: 3\nEpoch: 4\nSummary: x\nLicense: MIT\n\
                BuildArch: noarch\n%description\nx\n%files\n";
    place.write("judge.spec", spec);
    let build = |script: &str| {
        let script = format!(
            "rm -rf root out && umoci unpack --image in/image:tiny root >/dev/null
             mkdir -p root/rootfs/var/lib/rpm
             {script}
             umoci repack --image in/image:tiny root >/dev/null"
        );
        place.shell(&script).ok();
        let said = place.build().ok();
        let bom = place.standby(&format!("inspect {BUNDLE} --sbom"));
        (said, bom.ok().json())
    };
    let (said, bom) = build(
        "rpmbuild --quiet -bb --define \"_topdir $PWD/rb\" judge.spec
         rpm --force-debian --root $PWD/root/rootfs --dbpath /var/lib/rpm \
             --define '_db_backend sqlite' -i rb/RPMS/noarch/*.rpm",
    );
    assert!(!said.err.contains("rpm"), "{said}");
    let found = of(&bom, "runtime/pkg:rpm/");
    assert_eq!(found.len(), 1, "{bom:#}");
    assert_eq!(found[0]["name"], "judge");
    assert_eq!(found[0]["version"], "4:1.2-3");
    assert_eq!(found[0]["purl"], "pkg:rpm/judge@1.2-3?arch=noarch&epoch=4");

    let older = "cd root/rootfs/var/lib/rpm && rm * .rpm.lock && echo x >Packages.db && cd -";
    let (said, bom) = build(older);
    said.says(&["Packages.db: an rpm database of an older form, not read"]);
    assert_eq!(of(&bom, "runtime/pkg:").len(), 0);
    let notes = of(&bom, "runtime")[0]["properties"].to_string();
    assert!(notes.contains("older form"), "{notes}");
}
