//! The runtime's image.

use super::*;

#[test]
fn an_image_that_is_whole_is_accepted() {
    // The control: all the helpers here do makes a good image, unless asked otherwise.
    let place = Place::with("tiny");
    let tar = some_tar();
    add_layer(&place, "", &tar, &tar);
    add_layer(&place, "+gzip", &tar, &gzip(&tar));
    add_layer(
        &place,
        "+zstd",
        &tar,
        &zstd::encode_all(&tar[..], 3).unwrap(),
    );
    place.build().ok();
}

/// What is signed of a layer is its tar's size; of a sparse file, that has next to
/// nothing. GNU tar makes it, in each form that it knows.
#[test]
fn a_sparse_file_is_larger_than_its_layer() {
    let place = Place::with("tiny");
    for form in ["gnu", "0.0", "0.1", "1.0"] {
        let name = format!("sparse-{form}");
        let file = fs::File::create(place.at(&name)).unwrap();
        file.set_len(40 << 20).unwrap();
        file.write_all_at(form.as_bytes(), 30 << 20).unwrap();
        let options = match form {
            "gnu" => "--format=gnu".to_owned(),
            version => format!("--format=posix --sparse-version={version}"),
        };
        place
            .run(&format!("tar --sparse {options} -cf {name}.tar {name}"))
            .ok();
        let tar = fs::read(place.at(&format!("{name}.tar"))).unwrap();
        assert!(tar.len() < 100 << 10);
        add_layer(&place, "+gzip", &tar, &gzip(&tar));
    }
    place.build().ok();
    let bundle = "out/tiny-1.0.0.oci.tar --trust keys/signer.cert.pgp";
    place.standby(&format!("verify --deep {bundle}")).ok();
    place.standby(&format!("disk {bundle} -o again.raw")).ok();
    place.run("cmp again.raw out/tiny-1.0.0.raw").ok();
    let same = "out/tiny-1.0.0.oci.tar out/tiny-1.0.0.oci.tar";
    place.standby(&format!("diff --no-verify {same}")).ok();
    place
        .shell(
            r#"
            read -r start size < <(sfdisk --json again.raw \
                | jq -r '.partitiontable.partitions[2] | "\(.start) \(.size)"')
            dd if=again.raw of=root skip="$start" count="$size" conv=sparse status=none
            fsck.erofs --extract=tree root
            for form in gnu 0.0 0.1 1.0; do
                cmp "sparse-$form" "$(find tree -name "sparse-$form")"
            done
            "#,
        )
        .ok();
}

#[test]
fn a_missing_blob() {
    let place = Place::with("tiny");
    let layer = manifest(&place)["layers"][0].clone();
    fs::remove_file(place.at(&blob_path(&layer))).unwrap();
    refused(
        &place,
        &["in/image", layer["digest"].as_str().unwrap(), "is missing"],
    );
    let config = manifest(&place)["config"].clone();
    fs::remove_file(place.at(&blob_path(&config))).unwrap();
    refused(
        &place,
        &["in/image", config["digest"].as_str().unwrap(), "is missing"],
    );
}

#[test]
fn a_truncated_blob() {
    let place = Place::with("tiny");
    let layer = manifest(&place)["layers"][0].clone();
    let file = fs::File::options()
        .write(true)
        .open(place.at(&blob_path(&layer)))
        .unwrap();
    file.set_len(1000).unwrap();
    let digest = layer["digest"].as_str().unwrap();
    refused(
        &place,
        &["in/image", digest, "has 1000 bytes, its descriptor says"],
    );
}

#[test]
fn a_wrong_digest() {
    let place = Place::with("tiny");
    let tar = some_tar();
    let digest = add_layer(&place, "", &tar, &tar);
    let path = format!("in/image/blobs/{}", digest.replace(':', "/"));
    let mut altered = tar.clone();
    altered[1000] ^= 1;
    place.write(&path, altered);
    refused(&place, &[&digest, "altered or damaged"]);
}

#[test]
fn a_wrong_digest_of_the_configuration() {
    let place = Place::with("tiny");
    let config = manifest(&place)["config"].clone();
    let path = blob_path(&config);
    let text = fs::read_to_string(place.at(&path)).unwrap();
    place.write(&path, text.replace("8080", "8081"));
    let digest = config["digest"].as_str().unwrap();
    refused(&place, &["in/image", digest, "altered or damaged"]);
}

#[test]
fn a_wrong_size() {
    let place = Place::with("tiny");
    rewrite(&place, |manifest, _| {
        let size = &mut manifest["layers"][0]["size"];
        *size = json!(size.as_u64().unwrap() + 1);
    });
    let digest = manifest(&place)["layers"][0]["digest"].clone();
    refused(
        &place,
        &["in/image", digest.as_str().unwrap(), "its descriptor says"],
    );
}

#[test]
fn a_wrong_diff_id() {
    let place = Place::with("tiny");
    let wrong = Digest::of(b"something else").to_string();
    rewrite(&place, |_, config| {
        config["rootfs"]["diff_ids"][0] = json!(wrong)
    });
    let digest = manifest(&place)["layers"][0]["digest"].clone();
    refused(
        &place,
        &[digest.as_str().unwrap(), &wrong, "configuration says"],
    );
}

/// A layer that is not what the image says may lead to any other error later: here
/// the service's program is gone.
#[test]
fn a_wrong_diff_id_explains_the_rest() {
    let place = Place::with("tiny");
    let config = read_json(&place, &blob_path(&manifest(&place)["config"]));
    let program = config["config"]["Entrypoint"][0].as_str().unwrap();
    let (folder, name) = program.rsplit_once('/').unwrap();
    let hides = format!("{folder}/.wh.{name}");
    let hiding = tar(&[(
        hides.trim_start_matches('/'),
        tar::EntryType::Regular,
        "",
        "",
    )]);
    let honest = add_layer(&place, "", &hiding, &hiding);
    let said = refused(&place, &[program]);
    assert!(!said.err.contains(&honest), "{said}");
    let place = Place::with("tiny");
    let digest = add_layer(&place, "", b"another tar", &hiding);
    refused(&place, &["oci:image:tiny", &digest, "configuration says"]);
}

#[test]
fn an_unknown_media_type() {
    let place = Place::with("tiny");
    rewrite(&place, |manifest, _| {
        manifest["layers"][0]["mediaType"] = json!("application/x-cabinet");
    });
    refused(
        &place,
        &["in/image", "application/x-cabinet", "not supported"],
    );
}

#[test]
fn no_image_for_the_platform() {
    let place = Place::with("tiny");
    let mut index = read_json(&place, "in/image/index.json");
    let name = index["manifests"][0]["annotations"].clone();
    let mut listed = Vec::new();
    for architecture in ["arm64", "s390x"] {
        let mut descriptor = index["manifests"][0].clone();
        descriptor.as_object_mut().unwrap().remove("annotations");
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        listed.push(descriptor);
    }
    let inner = json!({"schemaVersion": 2, "manifests": listed});
    let media_type = "application/vnd.oci.image.index.v1+json";
    index["manifests"][0] = put(&place, media_type, &serde_json::to_vec(&inner).unwrap());
    index["manifests"][0]["annotations"] = name;
    place.write("in/image/index.json", serde_json::to_vec(&index).unwrap());
    refused(
        &place,
        &[
            "in/image",
            "linux/amd64",
            "there is linux/arm64, linux/s390x",
        ],
    );
}

#[test]
fn a_layer_that_leaves_the_root_by_dots() {
    let file = tar::EntryType::Regular;
    for name in ["../evil", "usr/../../evil", "usr/..", "/../../evil"] {
        let place = Place::with("tiny");
        let tar = tar(&[(name, file, "", "x")]);
        let digest = add_layer(&place, "+gzip", &tar, &gzip(&tar));
        refused(&place, &[&digest, name, "'..' could leave the root"]);
    }
}

#[test]
fn a_layer_that_leaves_the_root_through_a_symbolic_link() {
    let (link, file) = (tar::EntryType::Symlink, tar::EntryType::Regular);
    for target in ["../../../../../../tmp", "..", "usr/../../tmp"] {
        let place = Place::with("tiny");
        let tar = tar(&[("way", link, target, ""), ("way/evil", file, "", "x")]);
        let digest = add_layer(&place, "", &tar, &tar);
        refused(&place, &[&digest, "way/evil", "leads out of the root"]);
        assert!(!std::path::Path::new("/tmp/evil").exists());
    }
}

#[test]
fn a_layer_that_leaves_the_root_by_a_hard_link() {
    let link = tar::EntryType::Link;
    let place = Place::with("tiny");
    let tar = tar(&[("shadow", link, "../../../../etc/shadow", "")]);
    let digest = add_layer(&place, "", &tar, &tar);
    refused(&place, &[&digest, "shadow", ".."]);
}

#[test]
fn a_corrupt_gzip() {
    let tar = some_tar();
    let good = gzip(&tar);
    let mut altered = good.clone();
    let middle = altered.len() / 2;
    altered[middle..middle + 16].fill(0xff);
    let mut wrong_sum = good.clone();
    let end = wrong_sum.len();
    wrong_sum[end - 6] ^= 1;
    let mut trailed = good.clone();
    trailed.extend_from_slice(b"something else");
    for blob in [&altered, &good[..end - 10], &wrong_sum, &trailed, &tar[..]] {
        let place = Place::with("tiny");
        let digest = add_layer(&place, "+gzip", &tar, blob);
        refused(&place, &["layer ", &digest]);
    }
}

#[test]
fn a_corrupt_zstd() {
    let tar = some_tar();
    let good = zstd::encode_all(&tar[..], 3).unwrap();
    let mut altered = good.clone();
    let middle = altered.len() / 2;
    altered[middle..middle + 16].fill(0xff);
    for blob in [&altered, &good[..good.len() - 10], &gzip(&tar), &tar[..]] {
        let place = Place::with("tiny");
        let digest = add_layer(&place, "+zstd", &tar, blob);
        refused(&place, &["layer ", &digest]);
    }
}

#[test]
fn a_configuration_without_an_entrypoint() {
    let place = Place::with("tiny");
    rewrite(&place, |_, config| {
        let config = config["config"].as_object_mut().unwrap();
        config.remove("Entrypoint");
        config.remove("Cmd");
    });
    refused(
        &place,
        &["neither Entrypoint nor Cmd", "no arguments are given"],
    );
    // Arguments of the plan's own take its place.
    place.edit(
        "port = 8080",
        "port = 8080\nargs = [\"/usr/bin/tiny\", \"8080\", \"/srv/site\"]",
    );
    place.build().ok();
}

#[test]
fn a_port_that_is_not_exposed_is_a_warning() {
    let place = Place::with("tiny");
    rewrite(&place, |_, config| {
        config["config"]["ExposedPorts"] = json!({"9999/tcp": {}})
    });
    let said = place.build().ok().says(&["warning: ", "8080"]);
    assert!(place.at("out/tiny-1.0.0.oci.tar").exists(), "{said}");
}

#[test]
fn an_image_that_is_not_there() {
    let place = Place::with("tiny");
    place.edit("oci:image:tiny", "oci:image:other");
    refused(
        &place,
        &["in/standby.toml:9:", "no image is named 'other'", "tiny"],
    );
    place.edit("oci:image:other", "oci:nowhere:tiny");
    refused(&place, &["in/standby.toml:9:", "nowhere"]);
    place.edit("oci:nowhere:tiny", "carrier-pigeon:tiny");
    refused(&place, &["in/standby.toml:9:", "carrier-pigeon"]);
}

#[test]
fn an_archive_that_is_cut_off() {
    let place = Place::with("tiny");
    place
        .run("skopeo copy --quiet oci:in/image:tiny oci-archive:in/image.tar:tiny")
        .ok();
    place.edit("oci:image:tiny", "oci-archive:image.tar:tiny");
    place.shell("truncate -s 10000 in/image.tar").ok();
    refused(&place, &["in/image.tar"]);
    place.write("in/image.tar", "no archive");
    refused(&place, &["in/image.tar"]);
}
