//! What is in the bundle, and what is only said to be.

use serde_json::{Value, json};
use standby::bundle::component::{ArtifactLayer, Component, Role, SBOM};
use standby::oci::{Blob, Digest};

use crate::cli::{Said, header, tar_of};
use crate::forge::{Forge, edit_index, files};
use crate::{BUNDLE, CERT, case, first, refused, refuses};

#[test]
fn an_old_snapshot_with_a_new_runtime() {
    let place = case();
    let old = Forge::of(&first());
    let mut mixed = Forge::read(&place);
    let snapshot = |forge: &Forge| {
        let found = forge
            .components
            .iter()
            .position(|c| c.role == Role::Snapshot);
        found.unwrap()
    };
    let (from, to) = (snapshot(&old), snapshot(&mixed));
    mixed.components[to] = old.components[from].clone();
    mixed.put(&place);
    refused(&place, CERT, 3, &["snapshot"]);
}

/// Puts other bytes of the same length into a file of the tar.
fn swap(name: impl Fn(&str, &[u8]) -> bool, change: impl Fn(&mut Vec<u8>)) {
    let place = case();
    let mut files = files(&place);
    let (name, content) = files.iter_mut().find(|(n, c)| name(n, c)).unwrap();
    let before = content.clone();
    change(content);
    assert!(before.len() == content.len() && before != *content);
    let last = name.rsplit('/').next().unwrap().to_owned();
    place.write(BUNDLE, tar_of(&files));
    refused(&place, CERT, 3, &[&last]);
}

#[test]
fn a_swapped_manifest_of_the_same_size() {
    let is_manifest = |name: &str, content: &[u8]| {
        name.starts_with("blobs/")
            && content.starts_with(b"{")
            && content.windows(8).any(|w| w == b"\"layers\"")
    };
    swap(is_manifest, |content| {
        let text = String::from_utf8(content.clone()).unwrap();
        let at = text.find("\"size\":").unwrap() + 7;
        content[at] = if content[at] == b'1' { b'2' } else { b'1' };
    });
}

#[test]
fn a_swapped_manifest_json() {
    // podman and docker load by this file: it must not lead them elsewhere.
    swap(
        |name, _| name == "manifest.json",
        |content| {
            let text = String::from_utf8(content.clone()).unwrap();
            *content = text.replace("/front:", "/frond:").into_bytes();
        },
    );
}

#[test]
fn an_extra_file() {
    for at in [0, 3] {
        let place = case();
        let mut files = files(&place);
        files.insert(at, ("etc/profile".into(), b"true".to_vec()));
        place.write(BUNDLE, tar_of(&files));
        refused(&place, CERT, 3, &["etc/profile"]);
    }
}

#[test]
fn words_that_look_like_ours() {
    let forged = "x\nverified  9.9 MiB, every byte\n\u{202e}\u{9b}31mred";
    let place = case();
    let mut all = files(&place);
    all.push((forged.into(), b"".to_vec()));
    place.write(BUNDLE, tar_of(&all));
    let nothing_of_it = |said: &Said| {
        let lines = said.out.lines().chain(said.err.lines());
        assert!(
            !lines.into_iter().any(|line| line.starts_with("verified")),
            "{said}"
        );
        assert!(!said.to_string().contains(['\u{202e}', '\u{9b}']), "{said}");
    };
    let said = refuses(
        &place,
        &format!("verify {BUNDLE} --trust {CERT}"),
        3,
        &["\\u{9b}"],
    );
    nothing_of_it(&said);
    // Of ten thousand, an error shows some.
    let place = case();
    let mut all = files(&place);
    all.extend((0..2000).map(|n| (format!("extra/{n}"), b"".to_vec())));
    place.write(BUNDLE, tar_of(&all));
    let said = refuses(
        &place,
        &format!("verify {BUNDLE} --trust {CERT}"),
        3,
        &["and 1980 more"],
    );
    assert!(said.err.len() < 4000, "{said}");
    // Nor what a statement says of itself, signed or not.
    for field in ["version", "created"] {
        let place = case();
        let mut forge = Forge::read(&place);
        forge.edit(|statement| match field {
            "version" => statement["service"]["version"] = json!(forged),
            _ => statement[field] = json!(forged),
        });
        forge.sign(&place, &["signer"]).put(&place);
        nothing_of_it(&refuses(
            &place,
            &format!("inspect {BUNDLE}"),
            3,
            &["printable"],
        ));
    }
}

/// A bill of materials is printed without a look at who signed it.
#[test]
fn orders_to_the_terminal_in_a_bill_of_materials() {
    let print = |text: &str| {
        let place = case();
        let mut forge = Forge::read(&place);
        let runtime = forge.components[0].as_subject();
        let layer = ArtifactLayer {
            media_type: SBOM.to_owned(),
            digest: Digest::of(text.as_bytes()),
            blob: Blob::in_memory(text.as_bytes().to_vec()),
        };
        let made = Component::artifact(Role::Sbom, SBOM, vec![layer], &runtime).unwrap();
        let (digest, size, content) = (made.digest, made.manifest.len(), made.content_size());
        forge.edit(|statement| {
            let listed = &mut statement["components"][5];
            listed["digest"] = json!(digest);
            listed["size"] = json!(size);
            listed["content_size"] = json!(content);
            listed["unpacked_size"] = json!(text.len());
            listed["diff_ids"] = json!([Digest::of(text.as_bytes())]);
        });
        forge.components[5] = made;
        forge.put(&place);
        place.standby(&format!("inspect {BUNDLE} --sbom"))
    };
    for bad in [
        "\u{1b}[2Jverified",
        "{\"a\":\"\u{1b}[2J\"}",
        "{\"a\":1,\"A\":1}",
        "",
    ] {
        let said = print(bad).fails(3, &["the bill of materials", "hint: do not use it"]);
        assert_eq!(said.out, "", "{said}");
        assert!(!said.err.contains('\u{1b}'), "{said}");
    }
    let odd = "{\"a\":\r\n\t\"\u{9b}2J\u{202e}\u{7f}é\"}\n";
    let said = print(odd).ok();
    assert_eq!(said.json()["a"], "\u{9b}2J\u{202e}\u{7f}é", "{said}");
    let shown = |c: char| c == '\n' || !c.is_control() && c != '\u{202e}';
    assert!(said.out.chars().all(shown), "{said}");
}

/// Before any signature is looked at, nothing a stranger wrote fills the screen.
#[test]
fn words_that_fill_the_screen() {
    let row = format!(
        "{:80}{:80}{:80}",
        "", "verified  9.9 MiB, every byte", "signed by T"
    );
    let long = row.repeat(1500);
    let strange = |change: &dyn Fn(&str) -> String| {
        let place = case();
        edit_index(&place, |text| change(&text));
        for json in ["", "--json"] {
            let verify = format!("verify {BUNDLE} --trust {CERT} {json}");
            let said = place.standby(&verify).fails(3, &["index.json", "…"]);
            let all = format!("{}{}", said.out, said.err);
            assert!(all.len() < 2000, "{} bytes: {said}", all.len());
            assert!(!all.contains("   verified"), "{said}");
            assert!(
                !all.lines().any(|line| line.starts_with("verified")),
                "{said}"
            );
        }
    };
    // A size that is text, a key that is there twice, a media type, a digest.
    strange(&|text| {
        let mut index: Value = serde_json::from_str(text).unwrap();
        index["manifests"][0]["size"] = json!(long);
        index.to_string()
    });
    let key = json!(format!("\nverified  9.9 MiB\n{long}")).to_string();
    strange(&|text| text.replacen('{', &format!("{{{key}:1,{key}:1,"), 1));
    for field in ["digest", "artifactType"] {
        let place = case();
        edit_index(&place, |text| {
            let mut index: Value = serde_json::from_str(&text).unwrap();
            for listed in index["manifests"].as_array_mut().unwrap() {
                listed[field] = json!(long);
            }
            index.to_string()
        });
        let said = place.standby(&format!("verify {BUNDLE} --trust {CERT}"));
        assert!(
            said.code == Some(3) && said.err.len() < 2000,
            "{field}: {said}"
        );
    }
}

#[test]
fn an_image_under_another_s_name() {
    let place = case();
    let mut forge = Forge::read(&place);
    forge.edit(|statement| {
        statement["components"][0]["name"] = json!("docker.io/library/nginx:latest");
    });
    forge.sign(&place, &["signer"]).put(&place);
    refused(&place, CERT, 3, &["images are named by service"]);
}

#[test]
fn an_extra_blob() {
    let place = case();
    let mut files = files(&place);
    let digest = Digest::of(b"more").hex();
    files.insert(1, (format!("blobs/sha256/{digest}"), b"more".to_vec()));
    place.write(BUNDLE, tar_of(&files));
    refused(&place, CERT, 3, &[&digest]);
}

#[test]
fn an_extra_descriptor() {
    let place = case();
    edit_index(&place, |text| {
        let mut index: Value = serde_json::from_str(&text).unwrap();
        let listed = index["manifests"].as_array_mut().unwrap();
        let mut again = listed[0].clone();
        again["annotations"] = json!({"org.opencontainers.image.ref.name": "other:latest"});
        listed.push(again);
        index.to_string()
    });
    refused(&place, CERT, 3, &["index.json"]);
}

#[test]
fn a_duplicate_tar_entry() {
    // Of two entries of a name, others take the last.
    let place = case();
    let mut files = files(&place);
    let index = files.last().unwrap().clone();
    files.push(index);
    place.write(BUNDLE, tar_of(&files));
    refused(&place, CERT, 3, &["index.json", "twice"]);
}

/// Adds an entry of a type and name to the tar.
fn entry(kind: tar::EntryType, name: &str, link: &str) {
    let place = case();
    let mut whole = std::fs::read(place.at(BUNDLE)).unwrap();
    whole.truncate(whole.len() - 1024);
    let mut header = header(kind, 0);
    let field = &mut header.as_old_mut().name;
    field[..name.len()].copy_from_slice(name.as_bytes());
    let field = &mut header.as_old_mut().linkname;
    field[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    whole.extend_from_slice(header.as_bytes());
    whole.extend_from_slice(&[0; 1024]);
    place.write(BUNDLE, whole);
    refused(&place, CERT, 3, &["of the tar"]);
}

#[test]
fn a_symlink_in_the_tar() {
    entry(tar::EntryType::Symlink, "blobs", "/etc");
}

#[test]
fn a_hard_link_in_the_tar() {
    entry(tar::EntryType::Link, "link", "index.json");
}

#[test]
fn a_device_in_the_tar() {
    entry(tar::EntryType::Block, "disk", "");
    entry(tar::EntryType::Char, "null", "");
    entry(tar::EntryType::Fifo, "pipe", "");
}

#[test]
fn an_absolute_name_in_the_tar() {
    entry(tar::EntryType::Regular, "/etc/passwd", "");
}

#[test]
fn a_name_with_dots_in_the_tar() {
    entry(tar::EntryType::Regular, "../../etc/passwd", "");
    entry(tar::EntryType::Regular, "blobs/../index.json", "");
}

#[test]
fn duplicate_json_keys() {
    let place = case();
    edit_index(&place, |text| text.replacen('{', "{\"manifests\":[],", 1));
    refused(&place, CERT, 3, &["index.json", "manifests"]);
}

#[test]
fn case_variant_json_keys() {
    // Go's decoders take either for the same key.
    let place = case();
    edit_index(&place, |text| text.replacen('{', "{\"Manifests\":[],", 1));
    refused(&place, CERT, 3, &["index.json", "anifests"]);
    let place = case();
    let mut forge = Forge::read(&place);
    let text = String::from_utf8(forge.statement.clone()).unwrap();
    forge.statement = text
        .replacen('{', "{\"Created\":\"2020-01-01T00:00:00Z\",", 1)
        .into_bytes();
    forge.sign(&place, &["signer"]).put(&place);
    refused(&place, CERT, 3, &["statement"]);
}

/// Changes the first descriptor of the index.
fn descriptor(change: impl Fn(&mut Value), words: &[&str]) {
    let place = case();
    edit_index(&place, |text| {
        let mut index: Value = serde_json::from_str(&text).unwrap();
        change(&mut index["manifests"][0]);
        index.to_string()
    });
    refused(&place, CERT, 3, words);
}

/// Changes the descriptor of a layer in the signed runtime's manifest, signed again.
fn layer(change: impl Fn(&mut Value), words: &[&str]) {
    let place = case();
    let mut forge = Forge::read(&place);
    let (mut manifest, blobs) = forge.runtime_parts();
    change(&mut manifest["layers"][0]);
    let listed = forge.parsed().components[0].clone();
    forge.runtime(&manifest, blobs, listed.unpacked_size, &listed.diff_ids);
    forge.sign(&place, &["signer"]).put(&place);
    refused(&place, CERT, 3, words);
}

/// A diff ID is checked when a layer is unpacked, whoever has signed it.
#[test]
fn a_wrong_diff_id() {
    let place = case();
    let mut forge = Forge::read(&place);
    let (manifest, blobs) = forge.runtime_parts();
    let listed = forge.parsed().components[0].clone();
    let wrong = vec![Digest::of(b"another tar"); listed.diff_ids.len()];
    forge.runtime(&manifest, blobs, listed.unpacked_size, &wrong);
    forge.sign(&place, &["signer"]).put(&place);
    let digest = manifest["layers"][0]["digest"].as_str().unwrap();
    for verb in ["verify --deep", "disk -o disk.raw"] {
        let words = [digest, "configuration says", "do not use it"];
        refuses(
            &place,
            &format!("{verb} {BUNDLE} --trust {CERT}"),
            3,
            &words,
        );
    }
}

#[test]
fn urls() {
    let urls = json!(["https://example.org/layer"]);
    descriptor(|d| d["urls"] = urls.clone(), &["index.json"]);
    layer(|d| d["urls"] = urls.clone(), &["urls"]);
}

#[test]
fn wrong_data() {
    let data = json!("bm90IHRoaXM=");
    descriptor(|d| d["data"] = data.clone(), &["index.json"]);
    layer(|d| d["data"] = data.clone(), &["data"]);
}

#[test]
fn a_digest_of_another_algorithm() {
    let other = format!("sha512:{}", "ab".repeat(64));
    descriptor(|d| d["digest"] = json!(other), &["index.json"]);
    layer(|d| d["digest"] = json!(other), &["sha512"]);
}

#[test]
fn a_digest_in_capitals() {
    let upper = |d: &mut Value| {
        let text = d["digest"].as_str().unwrap();
        let (algorithm, hex) = text.split_once(':').unwrap();
        d["digest"] = json!(format!("{algorithm}:{}", hex.to_uppercase()));
    };
    descriptor(upper, &["index.json"]);
    layer(upper, &["digest"]);
}

#[test]
fn a_nested_index() {
    let nested = json!("application/vnd.oci.image.index.v1+json");
    descriptor(|d| d["mediaType"] = nested.clone(), &["index.json"]);
    let place = case();
    let mut forge = Forge::read(&place);
    let (_, blobs) = forge.runtime_parts();
    let index = json!({"schemaVersion": 2, "mediaType": nested, "manifests": []});
    forge.runtime(&index, blobs, 0, &[]);
    forge.edit(|s| s["components"][0]["media_type"] = nested.clone());
    forge.sign(&place, &["signer"]);
    // Such a thing cannot even be written by our own writer's rules: it has no layers.
    forge.put(&place);
    refused(&place, CERT, 3, &["runtime"]);
}

#[test]
fn sizes_that_lie() {
    for size in [0u64, 1, 1 << 40, u64::MAX] {
        descriptor(|d| d["size"] = json!(size), &["index.json"]);
        layer(|d| d["size"] = json!(size), &["runtime", "descriptor"]);
    }
    for (field, size) in [("size", 1u64), ("content_size", 5), ("size", 1 << 50)] {
        let place = case();
        let mut forge = Forge::read(&place);
        forge.edit(|s| s["components"][0][field] = json!(size));
        forge.sign(&place, &["signer"]).put(&place);
        refused(&place, CERT, 3, &["runtime"]);
    }
}

#[test]
fn bytes_after_the_tar() {
    for more in [&[0u8; 512][..], b"x", b"PK\x05\x06"] {
        let place = case();
        let mut whole = std::fs::read(place.at(BUNDLE)).unwrap();
        whole.extend_from_slice(more);
        place.write(BUNDLE, whole);
        refused(&place, CERT, 3, &["after the end"]);
    }
}

#[test]
fn cut_off() {
    let place = case();
    let whole = std::fs::read(place.at(BUNDLE)).unwrap();
    for len in [
        whole.len() - 1,
        whole.len() - 1024,
        whole.len() / 2,
        512,
        1,
        0,
    ] {
        place.write(BUNDLE, &whole[..len]);
        refused(&place, CERT, 3, &["tar"]);
    }
}
