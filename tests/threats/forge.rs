//! Bundles that nobody should believe, as canonical as the good ones.

use std::fs;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};
use standby::bundle::component::{Component, Role};
use standby::bundle::verify::{Candidate, expected};
use standby::bundle::{Statement, archive, open};
use standby::oci::{Blob, Digest};
use standby_keys::SignerKey;

use crate::BUNDLE;
use crate::cli::{Files, Place, in_order, tar_of};

/// A bundle taken apart.
pub struct Forge {
    pub statement: Vec<u8>,
    pub components: Vec<Component>,
    pub signatures: Vec<Vec<u8>>,
}

impl Forge {
    /// The place's own bundle.
    pub fn read(place: &Place) -> Self {
        Forge::of(&place.at(BUNDLE))
    }

    pub fn of(path: &std::path::Path) -> Self {
        let whole = Blob::whole(fs::File::open(path).unwrap()).unwrap();
        let opened = open::file(whole, tempfile::tempfile).unwrap();
        let bundle = Candidate::read(opened).unwrap().accept().unwrap();
        Forge {
            statement: bundle.statement_bytes,
            components: bundle.components,
            signatures: bundle.signatures,
        }
    }

    /// Changes fields of the statement.
    pub fn edit(&mut self, change: impl FnOnce(&mut Value)) -> &mut Self {
        let mut value: Value = serde_json::from_slice(&self.statement).unwrap();
        change(&mut value);
        self.statement = serde_json::to_vec(&value).unwrap();
        self
    }

    /// Puts another manifest and blobs in place of the runtime's; the statement
    /// follows, with these unpacked bytes.
    pub fn runtime(
        &mut self,
        manifest: &Value,
        blobs: Vec<Vec<u8>>,
        unpacked: u64,
        diff_ids: &[Digest],
    ) {
        let bytes = serde_json::to_vec(manifest).unwrap();
        let runtime = self
            .components
            .iter_mut()
            .find(|c| c.role == Role::Runtime)
            .unwrap();
        runtime.digest = Digest::of(&bytes);
        runtime.manifest = bytes;
        runtime.blobs = blobs
            .into_iter()
            .map(|blob| (Digest::of(&blob), Blob::in_memory(blob)))
            .collect();
        let (digest, size) = (runtime.digest.to_string(), runtime.manifest.len());
        let content = runtime.content_size();
        self.edit(|statement| {
            let listed = &mut statement["components"][0];
            listed["digest"] = json!(digest);
            listed["size"] = json!(size);
            listed["content_size"] = json!(content);
            listed["unpacked_size"] = json!(unpacked);
            listed["diff_ids"] = json!(diff_ids);
        });
    }

    /// The runtime's manifest, configuration and layers.
    pub fn runtime_parts(&self) -> (Value, Vec<Vec<u8>>) {
        let runtime = &self.components[0];
        let blobs = runtime
            .blobs
            .iter()
            .map(|(digest, blob)| blob.read_verified(digest, 1 << 30).unwrap());
        (
            serde_json::from_slice(&runtime.manifest).unwrap(),
            blobs.collect(),
        )
    }

    /// Signs the statement as it is now, by these keys alone.
    pub fn sign(&mut self, place: &Place, keys: &[&str]) -> &mut Self {
        self.signatures = keys
            .iter()
            .map(|key| signature(place, key, &self.statement))
            .collect();
        self
    }

    /// The canonical tar.
    pub fn write(&self) -> Vec<u8> {
        let items = expected(&self.statement, &self.signatures, &self.components).unwrap();
        let file = Arc::new(tempfile::tempfile().unwrap());
        let mut writer = archive::Writer::new(Arc::clone(&file), 0);
        for item in &items {
            writer.append(item).unwrap();
        }
        writer.finish().unwrap();
        let whole = Blob::whole(file.try_clone().unwrap()).unwrap();
        whole.read_all(1 << 40).unwrap()
    }

    /// Into the place, as its bundle.
    pub fn put(&self, place: &Place) {
        place.write(BUNDLE, self.write());
    }

    pub fn parsed(&self) -> Statement {
        Statement::parse(&self.statement).unwrap()
    }
}

/// A signature by a key of the place.
pub fn signature(place: &Place, key: &str, statement: &[u8]) -> Vec<u8> {
    let now = SystemTime::now();
    let bytes = fs::read(place.at(&format!("keys/{key}.key.pgp"))).unwrap();
    let key = SignerKey::load(&bytes, now).unwrap();
    key.sign_detached(statement, now, false).unwrap()
}

/// The files of the place's bundle, in order.
pub fn files(place: &Place) -> Files {
    in_order(&place.at(BUNDLE))
}

/// Changes the index, which no signature covers.
pub fn edit_index(place: &Place, change: impl FnOnce(String) -> String) {
    let mut files = files(place);
    let (name, content) = files.last_mut().unwrap();
    assert_eq!(name, "index.json");
    let before = String::from_utf8(content.clone()).unwrap();
    let after = change(before.clone());
    assert_ne!(before, after, "nothing was changed");
    *content = after.into_bytes();
    place.write(BUNDLE, tar_of(&files));
}
