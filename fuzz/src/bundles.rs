//! A whole bundle and a whole image, as small as they can be.

use serde_json::json;
use standby::bundle::component::{ArtifactLayer, Component, MACHINE, SBOM, SNAPSHOT};
use standby::bundle::contents::{Contents, blob_name};
use standby::bundle::statement::{Disk, Listed, Service, VERSION};
use standby::bundle::{Role, Statement, verify};
use standby::oci::json::canonical;
use standby::oci::{Blob, Digest, media};

/// Files by name.
pub type Files = Vec<(String, Vec<u8>)>;

fn image(role: Role, layer: &[u8]) -> Component {
    let config = canonical(&json!({
        "architecture": "amd64",
        "config": {"Cmd": ["/bin/server"], "Env": ["A=1"], "User": "1:1"},
        "os": "linux",
        "rootfs": {"diff_ids": [Digest::of(layer)], "type": "layers"},
    }));
    let config = config.expect("JSON");
    let manifest = canonical(&json!({
        "config": {"digest": Digest::of(&config), "mediaType": media::CONFIG, "size": config.len()},
        "layers": [{"digest": Digest::of(layer), "mediaType": media::LAYER, "size": layer.len()}],
        "mediaType": media::MANIFEST,
        "schemaVersion": 2,
    }));
    let manifest = manifest.expect("JSON");
    let blob = |bytes: &[u8]| (Digest::of(bytes), Blob::in_memory(bytes.to_vec()));
    Component {
        role,
        name: Some(format!("localhost/x/{role}:1")),
        media_type: media::MANIFEST.to_owned(),
        artifact_type: None,
        digest: Digest::of(&manifest),
        manifest,
        blobs: vec![blob(&config), blob(layer)],
    }
}

fn components() -> Vec<Component> {
    let layer = |text: &str| ArtifactLayer {
        media_type: media::LAYER.to_owned(),
        digest: Digest::of(text.as_bytes()),
        blob: Blob::in_memory(text.as_bytes().to_vec()),
    };
    let runtime = image(Role::Runtime, b"runtime");
    let subject = runtime.as_subject();
    let artifact = |role, kind: &str, text: &str| {
        Component::artifact(role, kind, vec![layer(text)], &subject).expect("an artefact")
    };
    let kit = artifact(Role::Kit, "application/vnd.standby.kit.v1", "kit");
    let snapshot = artifact(Role::Snapshot, SNAPSHOT, "snapshot");
    let machine = artifact(Role::Machine, MACHINE, "machine");
    let sbom = artifact(Role::Sbom, SBOM, "sbom");
    vec![
        runtime,
        kit,
        image(Role::Front, b"front"),
        snapshot,
        machine,
        sbom,
    ]
}

/// Its statement.
pub fn statement() -> Statement {
    let listed = components().into_iter().map(|component| {
        let diff_ids = match component.role {
            Role::Kit | Role::Sbom => Vec::new(),
            _ => component.blobs.iter().skip(1).map(|blob| blob.0).collect(),
        };
        Listed::new(&component, 5, diff_ids)
    });
    Statement {
        standby_bundle: VERSION,
        service: Service {
            name: "x".into(),
            version: "1".into(),
            sequence: 7,
        },
        created: "2026-01-31T12:00:00Z".into(),
        snapshot_taken: "2026-01-30T12:00:00Z".into(),
        expires: Some("2026-03-31T12:00:00Z".into()),
        signer: None,
        platform: "linux/amd64".into(),
        components: listed.collect(),
        disk: Disk {
            version: VERSION,
            root_hash: "0".repeat(64),
            root_size: 4096,
            size: 8192,
            kernel_options: "panic=30".into(),
            mbr_active: false,
        },
    }
}

/// The bundle's files in their order.
pub fn bundle() -> Files {
    let statement = statement().to_bytes().expect("JSON");
    let items = verify::expected(&statement, &[b"signature".to_vec()], &components());
    let items = items.expect("a bundle").into_iter();
    items
        .map(|item| (item.name, item.blob.read_all(1 << 20).expect("memory")))
        .collect()
}

/// An image layout, which is also a docker-archive.
pub fn layout() -> Files {
    let mut contents = Contents::new();
    let runtime = image(Role::Runtime, b"runtime");
    contents.component(&runtime).expect("a component");
    contents
        .statement(b"{}", &runtime.as_subject())
        .expect("a statement");
    contents.finish().expect("an index");
    let read = |blob: Blob| blob.read_all(1 << 20).expect("memory");
    let items = contents.take().into_iter();
    let files = items.map(|item| (item.name, read(item.blob)));
    sort(files.collect())
}

/// An index of an index, with a platform each.
pub fn nested() -> Files {
    let mut files = layout();
    let manifest = image(Role::Runtime, b"runtime").manifest;
    let inner = canonical(&json!({
        "manifests": [{
            "digest": Digest::of(&manifest),
            "mediaType": media::MANIFEST,
            "platform": {"architecture": "amd64", "os": "linux"},
            "size": manifest.len(),
        }],
        "mediaType": media::INDEX,
        "schemaVersion": 2,
    }));
    let inner = inner.expect("JSON");
    let outer = canonical(&json!({
        "manifests": [{
            "annotations": {"org.opencontainers.image.ref.name": "x"},
            "digest": Digest::of(&inner),
            "mediaType": media::INDEX,
            "size": inner.len(),
        }],
        "schemaVersion": 2,
    }));
    files.retain(|(name, _)| name != "index.json");
    files.push((blob_name(&Digest::of(&inner)), inner));
    files.push(("index.json".into(), outer.expect("JSON")));
    files
}

/// Each file after those that it names by digest: a chunk names only those before.
fn sort(mut files: Files) -> Files {
    let mut sorted = Files::new();
    while !files.is_empty() {
        let names = |bytes: &[u8], other: &[u8]| {
            let hex = Digest::of(other).hex();
            bytes
                .windows(hex.len())
                .any(|window| window == hex.as_bytes())
        };
        let free = files.iter().position(|(_, bytes)| {
            let mut others = files.iter().filter(|(_, other)| other != bytes);
            !others.any(|(_, other)| names(bytes, other))
        });
        sorted.push(files.remove(free.unwrap_or(0)));
    }
    sorted
}

/// The bundle's files as an input for [`crate::chunks::read`]: it has them in the
/// order in which they name each other, which is not the bundle's.
pub fn chunked_bundle() -> Vec<u8> {
    crate::chunks::write(&sort(bundle()))
}
