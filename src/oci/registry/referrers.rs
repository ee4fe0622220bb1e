//! Who refers to a manifest: kept by registries of 1.1 themselves, and in an
//! index under a tag of its own for others ("Referrers Tag Schema").

use serde_json::{Value, json};
use ureq::http::{Method, header};

use crate::oci::digest::Digest;
use crate::oci::json::canonical;
use crate::oci::layout::parse;
use crate::oci::media;
use crate::oci::registry::client::{Ask, Client};
use crate::oci::registry::error::RegistryError;
use crate::oci::registry::remote::Version;
use crate::oci::registry::retry::persist;

/// Bytes such an index may have.
const MOST_INDEX: u64 = 1 << 20;

impl Client {
    /// Whether the registry keeps the list of a manifest's referrers.
    pub fn lists_referrers(&self, subject: &Digest) -> Result<bool, RegistryError> {
        let what = format!("referrers of {subject}");
        let deadline = self.deadline(0);
        persist(deadline, || {
            let ask = Ask {
                what: &what,
                method: Method::GET,
                url: self.url("referrers", subject),
                headers: vec![(header::ACCEPT, media::INDEX.to_owned())],
                body: None,
            };
            Ok(self.ask(&ask, deadline)?.status() == 200)
        })
    }

    /// Adds descriptors to the list under the subject's tag; true if it was changed.
    pub fn add_referrers(
        &self,
        subject: &Digest,
        descriptors: &[Value],
    ) -> Result<bool, RegistryError> {
        let tag = Version::Tag(format!("sha256-{}", subject.hex()));
        let what = format!("manifest {tag}");
        let index = match self.manifest(&tag, media::INDEX, MOST_INDEX)? {
            Some(bytes) => parse(&what, &bytes).map_err(|source| RegistryError::Document {
                what: what.clone(),
                source,
            })?,
            None => json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": []}),
        };
        let Some(index) = merged(index, descriptors) else {
            return Ok(false);
        };
        let bytes =
            canonical(&index).map_err(|error| RegistryError::answer(&what, error.to_string()))?;
        self.put_manifest(&tag, media::INDEX, &bytes)?;
        Ok(true)
    }
}

/// The index with the descriptors it lacks; none if it lacks none, or is no index.
fn merged(mut index: Value, descriptors: &[Value]) -> Option<Value> {
    let listed = index.get_mut("manifests")?.as_array_mut()?;
    let before = listed.len();
    for descriptor in descriptors {
        if !listed
            .iter()
            .any(|one| one.get("digest") == descriptor.get("digest"))
        {
            listed.push(descriptor.clone());
        }
    }
    (listed.len() > before).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_referrer_is_listed_once() {
        let one = json!({"digest": "a", "artifactType": "x"});
        let two = json!({"digest": "b"});
        let index = json!({"schemaVersion": 2, "manifests": [one]});
        assert_eq!(merged(index.clone(), std::slice::from_ref(&one)), None);
        let both = merged(index, &[one.clone(), two.clone()]).unwrap();
        assert_eq!(both["manifests"], json!([one, two]));
        assert_eq!(merged(json!({}), &[two]), None);
    }
}
