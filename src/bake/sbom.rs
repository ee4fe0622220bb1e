//! The bill of materials: a CycloneDX 1.5 document of what is in a bundle.
//!
//! It is a function of the other components and of `created`, without chance or
//! clock: who has the bundle makes the same document, and `verify --deep` does.

use std::collections::BTreeSet;
use std::io;

use cyclonedx_bom::models::component::{Classification, Component as Item, Components};
use cyclonedx_bom::models::dependency::{Dependencies, Dependency};
use cyclonedx_bom::models::hash::{Hash, HashAlgorithm, HashValue, Hashes};
use cyclonedx_bom::models::metadata::Metadata;
use cyclonedx_bom::models::property::{Properties, Property};
use cyclonedx_bom::prelude::{Bom, DateTime, Purl, SpecVersion, UrnUuid};
use purl::GenericPurlBuilder;
use serde::Deserialize;
use standby_boot::kit;
use standby_tree::{Content, Stores, Tree};

use crate::bake::caddy::{self, Caddy};
use crate::bake::error::BakeError;
use crate::bundle::component::{ArtifactLayer, Component, Role, SBOM, Subject};
use crate::bundle::statement::Service;
use crate::disk::derive;
use crate::oci::digest::{Hasher, hex};
use crate::oci::json;
use crate::oci::{Blob, Digest, OciError};
use crate::packages::{Found, PackagesError, installed};

/// The version of this document's making. A program that makes it otherwise has
/// another, and compares only what was made with its own.
const VERSION: &str = "1";
/// The property that says so.
const PROPERTY: &str = "standby:sbom";
/// What could not be read of an image's package databases.
const NOTE: &str = "standby:note";
/// Bytes a bill of materials may have.
pub const MOST_BYTES: u64 = 64 << 20;
/// Values it may have; a package has seven, and two images have 40,000 at most.
const MOST_VALUES: u32 = 1 << 20;

/// Why there is no bill of materials, or not the right one.
#[derive(Debug, thiserror::Error)]
pub enum SbomError {
    /// A package database could not be read back.
    #[error(transparent)]
    Packages(#[from] PackagesError),
    /// The front's program could not be read back.
    #[error("cannot read the front's program")]
    Caddy(#[source] io::Error),
    /// It cannot be written.
    #[error("cannot write the bill of materials: {0}")]
    Write(String),
    /// The one in the bundle is not one.
    #[error("the bill of materials cannot be read")]
    Read(#[from] OciError),
    /// The one in the bundle says something else.
    #[error("the bill of materials does not say what is in the bundle")]
    Differs,
}

/// What is looked up in the trees, before they become one.
#[derive(Debug)]
pub struct Survey {
    runtime: Found,
    front: Found,
    program: Option<(String, Content)>,
}

impl Survey {
    /// Looks into the two images; `config` is the front's OCI runtime configuration.
    pub fn take(
        runtime: &Tree,
        front: &Tree,
        config: &[u8],
        stores: &Stores,
    ) -> Result<Self, SbomError> {
        Ok(Survey {
            runtime: installed(runtime, stores)?,
            front: installed(front, stores)?,
            program: caddy::find(front, config).map_err(SbomError::Caddy)?,
        })
    }

    /// What could not be read, for the person who builds.
    pub fn notes(&self) -> Vec<String> {
        let named = |name: &str, found: &Found| -> Vec<String> {
            let notes = found.notes.iter();
            notes.map(|note| format!("the {name}: {note}")).collect()
        };
        let mut notes = named("runtime", &self.runtime);
        notes.extend(named("front", &self.front));
        notes
    }
}

/// What the document is made of.
pub struct Materials<'a> {
    /// What the images hold.
    pub survey: &'a Survey,
    /// Where the front's program is.
    pub stores: &'a Stores,
    /// The service.
    pub service: &'a Service,
    /// When the bundle was made, RFC 3339.
    pub created: &'a str,
    /// The components; a bill of materials among them is passed over.
    pub components: &'a [Component],
    /// Release of the kit's kernel.
    pub kernel: &'a str,
}

/// The bill of materials as a component of the bundle.
pub fn component(materials: &Materials<'_>, subject: &Subject) -> Result<Component, BakeError> {
    let bytes = document(materials)?;
    if bytes.len() as u64 > MOST_BYTES {
        let (found, most) = (bytes.len(), MOST_BYTES);
        let problem = format!("it comes to {found} bytes; at most {most} are accepted");
        return Err(SbomError::Write(problem).into());
    }
    let layer = ArtifactLayer {
        media_type: SBOM.to_owned(),
        digest: Digest::of(&bytes),
        blob: Blob::in_memory(bytes),
    };
    Ok(Component::artifact(Role::Sbom, SBOM, vec![layer], subject)?)
}

/// The document in a component.
pub fn read(component: &Component) -> Result<Vec<u8>, OciError> {
    match component.blobs.as_slice() {
        [_, (digest, blob)] => blob.read_verified(digest, MOST_BYTES),
        _ => Err(OciError::invalid("the sbom", "it does not have one layer")),
    }
}

/// The same, if it is strict JSON at all: for those who print what nobody signed.
pub fn read_json(component: &Component) -> Result<Vec<u8>, OciError> {
    let bytes = read(component)?;
    json::parse_long::<serde::de::IgnoredAny>(&bytes, MOST_BYTES, MOST_VALUES).map_err(
        |source| OciError::Json {
            what: "the bill of materials".to_owned(),
            source,
        },
    )?;
    Ok(bytes)
}

/// As much of a document as tells how it was made.
#[derive(Deserialize)]
struct Read {
    #[serde(default)]
    metadata: ReadMetadata,
}

#[derive(Default, Deserialize)]
struct ReadMetadata {
    #[serde(default)]
    properties: Vec<ReadProperty>,
}

#[derive(Deserialize)]
struct ReadProperty {
    name: Option<String>,
    value: Option<String>,
}

/// Whether a bundle's document is the one that follows from what is in it.
pub fn check(component: &Component, materials: &Materials<'_>) -> Result<(), SbomError> {
    let found = read(component)?;
    let parsed: Read = json::parse_long(&found, MOST_BYTES, MOST_VALUES)
        .map_err(|e| OciError::invalid("the sbom", e.to_string()))?;
    let mut properties = parsed.metadata.properties.into_iter();
    let version = properties.find(|property| property.name.as_deref() == Some(PROPERTY));
    // Made in another way: the signers' word is all there is.
    let other = version
        .and_then(|version| version.value)
        .is_some_and(|value| value != VERSION);
    if other || document(materials)? == found {
        return Ok(());
    }
    Err(SbomError::Differs)
}

/// The document.
fn document(materials: &Materials<'_>) -> Result<Vec<u8>, SbomError> {
    let failed = |error: &dyn std::fmt::Display| SbomError::Write(error.to_string());
    let mut list = List::default();
    let service = materials.service;
    let mut about = Item::new(
        Classification::Application,
        &service.name,
        &service.version,
        Some("service".to_owned()),
    );
    about.properties = Some(Properties(vec![Property::new(
        "standby:sequence",
        &service.sequence.to_string(),
    )]));
    let program = materials.survey.program.as_ref();
    let caddy = program.map(|(path, content)| caddy::read(path, content, materials.stores));
    let caddy = caddy.transpose().map_err(SbomError::Caddy)?;
    for component in materials.components {
        match component.role {
            Role::Runtime => list.image(component, service, &materials.survey.runtime, None),
            Role::Front => {
                list.image(component, service, &materials.survey.front, caddy.as_ref());
            }
            Role::Snapshot => list.top(hashed(
                item(
                    Classification::Data,
                    "snapshot",
                    &service.version,
                    "snapshot",
                ),
                &component.digest,
            )),
            Role::Kit => list.kit(component, materials.kernel),
            Role::Machine | Role::Sbom => {}
        }
    }
    list.depends.insert(0, depends("service", &list.top));
    let metadata = Metadata {
        timestamp: Some(DateTime::try_from(materials.created.to_owned()).map_err(|e| failed(&e))?),
        component: Some(about),
        properties: Some(Properties(vec![Property::new(PROPERTY, VERSION)])),
        ..Metadata::default()
    };
    let bom = Bom {
        serial_number: Some(serial(materials).map_err(|e| failed(&format!("{e:?}")))?),
        metadata: Some(metadata),
        components: Some(Components(list.items)),
        dependencies: Some(Dependencies(list.depends)),
        spec_version: SpecVersion::V1_5,
        ..empty()
    };
    let mut bytes = Vec::new();
    let written = bom.output_as_json(&mut bytes, SpecVersion::V1_5);
    written.map_err(|e| failed(&e))?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| failed(&e))?;
    json::canonical(&value).map_err(|e| failed(&e))
}

/// A document of nothing; the library's own has a serial number by chance.
fn empty() -> Bom {
    Bom {
        version: 1,
        serial_number: None,
        metadata: None,
        components: None,
        services: None,
        external_references: None,
        dependencies: None,
        compositions: None,
        properties: None,
        vulnerabilities: None,
        signature: None,
        annotations: None,
        formulation: None,
        spec_version: SpecVersion::V1_5,
    }
}

/// Everything in the document follows from these.
fn serial(materials: &Materials<'_>) -> Result<UrnUuid, cyclonedx_bom::models::bom::UrnUuidError> {
    let mut hasher = Hasher::new();
    let components = materials.components.iter();
    for component in components.filter(|component| component.role != Role::Sbom) {
        hasher.update(component.role.word());
        hasher.update(component.digest.as_bytes());
    }
    hasher.update(materials.created);
    let hex = hex(&derive::uuid(
        "bill of materials",
        hasher.finish().as_bytes(),
    ));
    let cuts = [0..8, 8..12, 12..16, 16..20, 20..32];
    let parts = cuts.map(|cut| hex.get(cut).unwrap_or_default());
    UrnUuid::new(format!("urn:uuid:{}", parts.join("-")))
}

/// What the document lists, and what belongs to what.
#[derive(Default)]
struct List {
    items: Vec<Item>,
    depends: Vec<Dependency>,
    /// References of what the service consists of.
    top: Vec<String>,
}

impl List {
    /// Adds a part of the service itself.
    fn top(&mut self, item: Item) {
        self.top.extend(item.bom_ref.clone());
        self.items.push(item);
    }

    /// An image, its distribution and packages, and Caddy if it is the front.
    fn image(
        &mut self,
        image: &Component,
        service: &Service,
        found: &Found,
        caddy: Option<&Caddy>,
    ) {
        let role = image.role.word();
        let name = format!("{}/{role}", service.name);
        let mut own = hashed(
            item(Classification::Container, &name, &service.version, role),
            &image.digest,
        );
        if !found.notes.is_empty() {
            let notes = found.notes.iter().map(|note| Property::new(NOTE, note));
            own.properties = Some(Properties(notes.collect()));
        }
        self.top(own);
        let mut parts = Vec::new();
        if let Some(distribution) = &found.distribution {
            let version = distribution.version.as_deref().unwrap_or("rolling");
            let reference = format!("{role}/distribution");
            let kind = Classification::OperatingSystem;
            parts.push(item(kind, &distribution.id, version, &reference));
        }
        let mut seen = BTreeSet::new();
        for package in &found.packages {
            let Some(url) = package.url(found.distribution.as_ref()) else {
                continue;
            };
            if !seen.insert(url.clone()) {
                continue;
            }
            let reference = format!("{role}/{url}");
            let kind = Classification::Library;
            let mut own = item(kind, &package.name, &package.version, &reference);
            own.purl = url.parse::<Purl>().ok();
            parts.push(own);
        }
        parts.extend(caddy.map(program));
        let references: Vec<String> = parts.iter().filter_map(|p| p.bom_ref.clone()).collect();
        self.depends.push(depends(role, &references));
        self.items.extend(parts);
    }

    /// The kernel and the files beside it.
    fn kit(&mut self, component: &Component, kernel: &str) {
        let blobs = component.blobs.iter().skip(1).zip(kit::Role::ALL);
        for ((digest, _), role) in blobs {
            let reference = format!("kit/{}", role.title());
            let own = match role {
                kit::Role::Kernel => {
                    let mut own = item(Classification::Application, "linux", kernel, &reference);
                    let url = GenericPurlBuilder::new("generic".to_owned(), "linux");
                    let url = url.with_version(kernel).build().ok();
                    own.purl = url.and_then(|url| url.to_string().parse().ok());
                    own
                }
                role => {
                    let mut own = item(Classification::File, role.title(), "", &reference);
                    own.version = None;
                    own
                }
            };
            self.top(hashed(own, digest));
        }
    }
}

/// Caddy, by its digest, and by its version if it tells.
fn program(caddy: &Caddy) -> Item {
    let version = caddy.version.as_deref();
    let reference = "front/caddy";
    let mut own = item(
        Classification::Application,
        "caddy",
        version.unwrap_or_default(),
        reference,
    );
    match version {
        None => own.version = None,
        Some(version) => {
            let url = GenericPurlBuilder::new("golang".to_owned(), "v2")
                .with_namespace("github.com/caddyserver/caddy")
                .with_version(version)
                .build();
            own.purl = url.ok().and_then(|url| url.to_string().parse().ok());
        }
    }
    own.properties = Some(Properties(vec![Property::new("standby:path", &caddy.path)]));
    hashed(own, &caddy.digest)
}

fn item(kind: Classification, name: &str, version: &str, reference: &str) -> Item {
    Item::new(kind, name, version, Some(reference.to_owned()))
}

fn hashed(mut item: Item, digest: &Digest) -> Item {
    item.hashes = Some(Hashes(vec![Hash {
        alg: HashAlgorithm::SHA_256,
        content: HashValue(digest.hex()),
    }]));
    item
}

fn depends(on: &str, parts: &[String]) -> Dependency {
    Dependency {
        dependency_ref: on.to_owned(),
        dependencies: parts.to_vec(),
    }
}
