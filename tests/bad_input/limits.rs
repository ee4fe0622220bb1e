//! What the readers of a bundle refuse, a build refuses: no bundle is signed that
//! `verify --deep` or `disk` would not take.

use super::*;

/// The bundle is taken by every reader.
#[track_caller]
fn built_and_read_again(place: &Place) {
    place.build().ok();
    let bundle = "out/tiny-1.0.0.oci.tar --trust keys/signer.cert.pgp";
    place.standby(&format!("verify --deep {bundle}")).ok();
    place.standby(&format!("disk {bundle} -o again.raw")).ok();
    place.run("cmp again.raw out/tiny-1.0.0.raw").ok();
}

#[test]
fn an_artefact_that_looks_like_an_image() {
    let place = Place::with("tiny");
    rewrite(&place, |manifest, _| {
        manifest["artifactType"] = json!("application/vnd.example.thing");
    });
    refused(
        &place,
        &[
            "in/image",
            "it is no image but an artefact",
            "application/vnd.example.thing",
        ],
    );
}

#[test]
fn a_configuration_larger_than_its_readers_take() {
    let place = Place::with("tiny");
    let with = |value: &str| {
        let all: Vec<String> = (0..12).map(|n| format!("LARGE{n}={value}")).collect();
        rewrite(&place, |_, config| config["config"]["Env"] = json!(all));
    };
    // Six bytes each in JSON.
    with(&"\u{1}".repeat(100_000));
    refused(&place, &["runtime/config.json", "at most 4194304"]);
    with(&"x".repeat(131_072));
    refused(&place, &["variable 'LARGE0=xxx", "takes 131071"]);
}

/// A package's name and version are in the bill of materials several times, escaped.
#[test]
fn a_bill_of_materials_larger_than_its_readers_take() {
    let place = Place::with("tiny");
    let status: String = (0..20_000)
        .map(|n| {
            let long = "%".repeat(240);
            format!("Package: {long}{n}\nStatus: install ok installed\nVersion: 1{long}\n\n")
        })
        .collect();
    let tar = tar(&[(
        "var/lib/dpkg/status",
        tar::EntryType::Regular,
        "",
        status.as_str(),
    )]);
    add_layer(&place, "+gzip", &tar, &gzip(&tar));
    refused(&place, &["bill of materials", "at most 67108864"]);
}

/// Entries of all layers are counted together: the runtime's alone would do.
#[test]
fn more_entries_than_a_bundle_may_have() {
    let place = Place::with("tiny");
    let one = tar(&[("notes/", tar::EntryType::Directory, "", "")]);
    let add = |entries: usize| {
        let mut tar = one[..512].repeat(entries);
        tar.extend([0; 1024]);
        add_layer(&place, "+gzip", &tar, &gzip(&tar));
    };
    add(1 << 19);
    add((1 << 19) - 1000);
    built_and_read_again(&place);
    fs::remove_dir_all(place.at("out")).unwrap();
    // The example's own image has nine.
    add(1000 - 9);
    refused(&place, &["the layers", "more than 1048576 entries"]);
}

/// Names and attributes are in memory: a layer may be listed a thousand times.
#[test]
fn more_names_and_attributes_than_a_bundle_may_have() {
    let place = Place::with("tiny");
    let value = "v".repeat(60_000);
    let mut builder = tar::Builder::new(Vec::new());
    for n in 0..200 {
        let names: Vec<String> = (0..4).map(|n| format!("SCHILY.xattr.user.{n}")).collect();
        let records = names.iter().map(|name| (name.as_str(), value.as_bytes()));
        builder.append_pax_extensions(records).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, format!("notes/{n}"), &b""[..])
            .unwrap();
    }
    let tar = builder.into_inner().unwrap();
    let blob = gzip(&tar);
    add_layer(&place, "+gzip", &tar, &blob);
    add_layer(&place, "+gzip", &tar, &blob);
    built_and_read_again(&place);
    fs::remove_dir_all(place.at("out")).unwrap();
    add_layer(&place, "+gzip", &tar, &blob);
    refused(
        &place,
        &[
            "the layers",
            "more than 134217728 bytes of names and attributes",
        ],
    );
}

/// Two files that are holes: a layer's bound is of one layer.
#[test]
fn more_contents_than_a_bundle_may_have() {
    let place = Place::with("tiny");
    for name in ["a", "b"] {
        let file = fs::File::create(place.at(name)).unwrap();
        file.set_len(600 << 30).unwrap();
        place
            .run(&format!("tar --sparse -cf {name}.tar {name}"))
            .ok();
        let tar = fs::read(place.at(&format!("{name}.tar"))).unwrap();
        add_layer(&place, "+gzip", &tar, &gzip(&tar));
    }
    refused(
        &place,
        &[
            "the layers",
            "more than 1099511627776 bytes of file contents",
        ],
    );
}

/// The usual limit of 1024 open files is a soft one, and fewer than an image of
/// many layers needs.
#[test]
fn more_layers_than_open_files_at_first() {
    let place = Place::with("tiny");
    for n in 0..100 {
        let tar = tar(&[("notes", tar::EntryType::Regular, "", &n.to_string())]);
        add_layer(&place, "", &tar, &tar);
    }
    let program = env!("CARGO_BIN_EXE_standby");
    place
        .shell(&format!(
            "ulimit -S -n 64; {program} {BUILD} keys/signer.key.pgp"
        ))
        .ok();
}

/// Whatever the number of threads, up to more than there is work for.
#[test]
fn more_threads_than_frames() {
    let place = Place::with("tiny");
    place.build().ok();
    let disk = |jobs: u32| {
        let bundle = "out/tiny-1.0.0.oci.tar --trust keys/signer.cert.pgp";
        let to = format!("--format raw.zst --jobs {jobs} -o {jobs}.raw.zst");
        place.standby(&format!("disk {bundle} {to}"))
    };
    disk(1).ok();
    disk(256).ok();
    place.run("cmp 1.raw.zst 256.raw.zst").ok();
}

/// A name of 255 bytes leaves no room for what a file is called until it is whole.
#[test]
fn an_output_with_a_name_as_long_as_names_may_be() {
    let place = Place::with("tiny");
    place.build().ok();
    let name = format!("{}.raw", "n".repeat(251));
    let bundle = "out/tiny-1.0.0.oci.tar --trust keys/signer.cert.pgp";
    place.standby(&format!("disk {bundle} -o {name}")).ok();
    place.run(&format!("cmp {name} out/tiny-1.0.0.raw")).ok();
}
