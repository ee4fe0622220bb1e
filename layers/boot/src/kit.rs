//! The boot kit as an OCI 1.1 artifact: a manifest, a config blob that says
//! what the kit is, and one blob each for the parts of a disk's boot.
//!
//! The manifest and the config have one form only, the one that this writer
//! makes. A reader that gets any other refuses it, so duplicate keys, hidden
//! fields and differing readings cannot occur.

use std::fmt;
use std::io;

use oci_spec::image::{Descriptor, Digest as OciDigest, ImageManifest, ImageManifestBuilder};
use oci_spec::image::{MediaType, SCHEMA_VERSION};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use standby_contract::cmdline::parse_hash;

use crate::elf::{self, ElfError};
use crate::initrd::{self, InitrdError};
use crate::materials::{Materials, MaterialsError};
use crate::modules::{self, Absent, ModulesError};
use crate::wanted::Wanted;

/// The manifest's `artifactType`.
pub const ARTIFACT_TYPE: &str = "application/vnd.standby.kit.v1";
/// Media type of the config blob.
pub const CONFIG_TYPE: &str = "application/vnd.standby.kit.config.v1+json";
/// The version that this code writes and reads.
pub const KIT_VERSION: u32 = 1;
/// The one architecture there is.
pub const ARCHITECTURE: &str = "amd64";
/// The annotation that names a part's file.
const TITLE: &str = "org.opencontainers.image.title";
/// Most bytes of a kit's manifest.
pub const MANIFEST_LIMIT: u64 = 64 << 10;
/// Most bytes of a kit's config.
pub const CONFIG_LIMIT: u64 = 1 << 20;

/// A part of the kit. The order is that of the manifest's layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The Linux kernel, a bzImage.
    Kernel,
    /// The initial RAM disk, cpio in zstd.
    Initrd,
    /// The EFI stub that a UKI starts with.
    EfiStub,
    /// GRUB's `boot.img`, for sector 0.
    BiosBoot,
    /// GRUB's `core.img`, for the BIOS boot partition.
    BiosCore,
}

impl Role {
    /// All parts; every kit has each once.
    pub const ALL: [Role; 5] = [
        Role::Kernel,
        Role::Initrd,
        Role::EfiStub,
        Role::BiosBoot,
        Role::BiosCore,
    ];

    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Role::Kernel => "application/vnd.standby.kit.kernel.v1",
            Role::Initrd => "application/vnd.standby.kit.initrd.v1+zstd",
            Role::EfiStub => "application/vnd.standby.kit.efi-stub.v1",
            Role::BiosBoot => "application/vnd.standby.kit.bios-boot.v1",
            Role::BiosCore => "application/vnd.standby.kit.bios-core.v1",
        }
    }

    /// The name of its file, when it is one.
    pub const fn title(self) -> &'static str {
        match self {
            Role::Kernel => "vmlinuz",
            Role::Initrd => "initrd.zst",
            Role::EfiStub => "linuxx64.efi.stub",
            Role::BiosBoot => "boot.img",
            Role::BiosCore => "core.img",
        }
    }

    /// Most bytes that it may have.
    pub const fn size_limit(self) -> u64 {
        match self {
            Role::Kernel | Role::Initrd => 256 << 20,
            Role::EfiStub | Role::BiosCore => 1 << 20,
            Role::BiosBoot => 512,
        }
    }
}

/// A blob's digest and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// SHA-256.
    pub sha256: [u8; 32],
    /// Bytes.
    pub size: u64,
}

impl Blob {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        // Whoever bakes or derives a disk waits for this; ring is fast everywhere.
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Blob {
            sha256,
            size: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        }
    }

    /// The digest's 64 hex digits.
    pub fn hex(&self) -> String {
        hex(&self.sha256)
    }
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A package that a kit was made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name.
    pub package: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the `.deb`, 64 hex digits.
    pub sha256: String,
}

/// The config blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// [`KIT_VERSION`].
    pub kit_version: u32,
    /// [`ARCHITECTURE`].
    pub architecture: String,
    /// The kernel's release.
    pub kernel_release: String,
    /// The guest's version.
    pub guest_version: String,
    /// Names of the kernel modules in the initrd, sorted.
    pub modules: Vec<String>,
    /// The packages it was made of, sorted; empty if made of single files.
    pub sources: Vec<Source>,
}

/// Why a kit could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// A part is missing or cannot be used.
    #[error(transparent)]
    Materials(#[from] MaterialsError),
    /// No working set of kernel modules.
    #[error(transparent)]
    Modules(#[from] ModulesError),
    /// The initrd.
    #[error(transparent)]
    Initrd(#[from] InitrdError),
    /// The guest cannot be PID 1 of the disk.
    #[error("the guest program cannot be used")]
    Guest(#[source] ElfError),
    /// A part larger than any real one.
    #[error("the boot kit's {0} is empty, or larger than any real one")]
    Size(&'static str),
    /// Encoding failed.
    #[error("the boot kit's manifest cannot be written: {0}")]
    Encode(String),
    /// Not a kit's manifest.
    #[error("not a boot kit's manifest: {0}")]
    Manifest(String),
    /// Not a kit's config.
    #[error("not a boot kit's config: {0}")]
    Config(String),
    /// From a later version of the tool.
    #[error(
        "the boot kit is of version {0}, this program reads version 1: make it anew, or update"
    )]
    Newer(u32),
    /// A blob is not what the manifest says.
    #[error("boot kit: the blob of the {part} is not {expected} with {size} bytes")]
    Digest {
        /// Which.
        part: &'static str,
        /// The digest it should have.
        expected: String,
        /// The size it should have.
        size: u64,
    },
    /// A blob could not be had.
    #[error("boot kit: the {part} cannot be read")]
    Blob {
        /// Which.
        part: &'static str,
        /// From the store.
        #[source]
        source: io::Error,
    },
}

/// A whole kit in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kit {
    /// The manifest's bytes; their digest is the kit's.
    pub manifest: Vec<u8>,
    /// The config's bytes.
    pub config: Vec<u8>,
    /// The parts, in the order of [`Role::ALL`].
    pub parts: Vec<(Role, Vec<u8>)>,
}

/// The guest: PID 1.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// A static x86-64 program.
    pub program: &'a [u8],
    /// Its version, for the record.
    pub version: &'a str,
}

/// A kit just made.
#[derive(Debug)]
pub struct Built {
    /// The kit.
    pub kit: Kit,
    /// What the config says.
    pub config: Config,
    /// Wanted modules that the kernel does not have.
    pub absent: Vec<Absent>,
    /// Bytes of the initrd before compression.
    pub initrd_unpacked: usize,
}

/// Makes a kit. The same materials give the same bytes.
pub fn build(
    materials: &mut Materials,
    guest: Guest<'_>,
    wanted: &[Wanted],
) -> Result<Built, KitError> {
    elf::static_program(guest.program).map_err(KitError::Guest)?;
    materials.kernel()?;
    let selection = modules::select(materials.available(), wanted)?;
    let mut carried = Vec::with_capacity(selection.names.len());
    for name in &selection.names {
        carried.push((name.clone(), materials.module(name)?));
    }
    let archive = initrd::archive(guest.program, &carried, &selection.index)?;
    let initrd = initrd::compress(&archive)?;
    let (kernel, about) = materials.kernel()?;
    let config = Config {
        kit_version: KIT_VERSION,
        architecture: ARCHITECTURE.to_owned(),
        kernel_release: about.release.clone(),
        guest_version: guest.version.to_owned(),
        modules: selection.names,
        sources: sources(materials),
    };
    let (boot, core) = materials.bios()?;
    let parts = vec![
        (Role::Kernel, kernel.to_vec()),
        (Role::Initrd, initrd),
        (Role::EfiStub, materials.stub()?.to_vec()),
        (Role::BiosBoot, boot.to_vec()),
        (Role::BiosCore, core.to_vec()),
    ];
    let config_bytes = serde_json::to_vec(&config).map_err(|e| KitError::Encode(e.to_string()))?;
    let manifest = Manifest {
        config: sized(&config_bytes, CONFIG_LIMIT, "config")?,
        parts: parts
            .iter()
            .map(|(role, bytes)| Ok((*role, sized(bytes, role.size_limit(), role.title())?)))
            .collect::<Result<_, KitError>>()?,
    };
    Ok(Built {
        kit: Kit {
            manifest: manifest.render()?,
            config: config_bytes,
            parts,
        },
        config,
        absent: selection.absent,
        initrd_unpacked: archive.len(),
    })
}

fn sized(bytes: &[u8], limit: u64, part: &'static str) -> Result<Blob, KitError> {
    let blob = Blob::of(bytes);
    if (1..=limit).contains(&blob.size) {
        Ok(blob)
    } else {
        Err(KitError::Size(part))
    }
}

fn sources(materials: &Materials) -> Vec<Source> {
    let mut sources: Vec<Source> = materials
        .sources()
        .iter()
        .map(|package| Source {
            package: package.name.clone(),
            version: package.version.clone(),
            sha256: hex(&package.sha256),
        })
        .collect();
    sources.sort();
    sources
}

impl Kit {
    /// Reads a whole kit, each blob through `read` (which need not check what it
    /// reads) and checked here.
    pub fn load(
        manifest: &[u8],
        read: &mut dyn FnMut(&Blob) -> io::Result<Vec<u8>>,
    ) -> Result<Kit, KitError> {
        let parsed = Manifest::parse(manifest)?;
        let mut fetch = |blob: &Blob, part| {
            let bytes = read(blob).map_err(|source| KitError::Blob { part, source })?;
            check(blob, &bytes, part).map(|()| bytes)
        };
        let config = fetch(&parsed.config, "config")?;
        let mut parts = Vec::with_capacity(parsed.parts.len());
        for (role, blob) in &parsed.parts {
            parts.push((*role, fetch(blob, role.title())?));
        }
        parsed.config(&config)?;
        Ok(Kit {
            manifest: manifest.to_vec(),
            config,
            parts,
        })
    }

    /// A part's bytes.
    pub fn part(&self, role: Role) -> &[u8] {
        self.parts
            .iter()
            .find(|(other, _)| *other == role)
            .map_or(&[], |(_, bytes)| bytes)
    }
}

/// What a kit's manifest says: where the parts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The config blob.
    pub config: Blob,
    /// The parts, in the order of [`Role::ALL`].
    pub parts: Vec<(Role, Blob)>,
}

impl Manifest {
    /// Reads a manifest; exactly the form that [`build`] writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, KitError> {
        let bad = |reason: &str| KitError::Manifest(reason.to_owned());
        if u64::try_from(bytes.len()).map_or(true, |size| size > MANIFEST_LIMIT) {
            return Err(bad("it is larger than 64 KiB"));
        }
        let parsed: ImageManifest =
            serde_json::from_slice(bytes).map_err(|e| KitError::Manifest(e.to_string()))?;
        let found = parsed.artifact_type().as_ref().map(ToString::to_string);
        if found.as_deref() != Some(ARTIFACT_TYPE) {
            return Err(KitError::Manifest(format!(
                "its artifactType is {}, not {ARTIFACT_TYPE}",
                found.as_deref().unwrap_or("absent")
            )));
        }
        if parsed.layers().len() != Role::ALL.len() {
            return Err(bad("it does not have five parts"));
        }
        let manifest = Manifest {
            config: blob(parsed.config(), CONFIG_TYPE, CONFIG_LIMIT)?,
            parts: Role::ALL
                .iter()
                .zip(parsed.layers())
                .map(|(role, layer)| {
                    Ok((*role, blob(layer, role.media_type(), role.size_limit())?))
                })
                .collect::<Result<_, KitError>>()?,
        };
        if manifest.render()? == bytes {
            Ok(manifest)
        } else {
            Err(bad("it is not in the form that this program writes"))
        }
    }

    /// The manifest's bytes.
    pub fn render(&self) -> Result<Vec<u8>, KitError> {
        let encode = |reason: String| KitError::Encode(reason);
        let layers = self
            .parts
            .iter()
            .map(|(role, blob)| {
                let mut descriptor = descriptor(blob, role.media_type())?;
                let title = (TITLE.to_owned(), role.title().to_owned());
                descriptor.set_annotations(Some([title].into()));
                Ok(descriptor)
            })
            .collect::<Result<Vec<_>, KitError>>()?;
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .artifact_type(MediaType::Other(ARTIFACT_TYPE.to_owned()))
            .config(descriptor(&self.config, CONFIG_TYPE)?)
            .layers(layers)
            .build()
            .map_err(|e| encode(e.to_string()))?;
        serde_json::to_vec(&manifest).map_err(|e| encode(e.to_string()))
    }

    /// Checks and reads the config blob.
    pub fn config(&self, bytes: &[u8]) -> Result<Config, KitError> {
        #[derive(Deserialize)]
        struct Version {
            kit_version: u32,
        }
        check(&self.config, bytes, "config")?;
        let json = |e: serde_json::Error| KitError::Config(e.to_string());
        let version: Version = serde_json::from_slice(bytes).map_err(json)?;
        if version.kit_version > KIT_VERSION {
            return Err(KitError::Newer(version.kit_version));
        }
        let config: Config = serde_json::from_slice(bytes).map_err(json)?;
        if config.kit_version != KIT_VERSION || config.architecture != ARCHITECTURE {
            return Err(KitError::Config("it is not version 1 for amd64".to_owned()));
        }
        if serde_json::to_vec(&config).map_err(json)? == bytes {
            Ok(config)
        } else {
            Err(KitError::Config(
                "it is not in the form that this program writes".to_owned(),
            ))
        }
    }

    /// Checks a part's bytes against the manifest.
    pub fn check(&self, role: Role, bytes: &[u8]) -> Result<(), KitError> {
        self.parts
            .iter()
            .find(|(other, _)| *other == role)
            .map_or(Err(KitError::Size(role.title())), |(_, blob)| {
                check(blob, bytes, role.title())
            })
    }
}

fn check(blob: &Blob, bytes: &[u8], part: &'static str) -> Result<(), KitError> {
    if Blob::of(bytes) == *blob {
        Ok(())
    } else {
        Err(KitError::Digest {
            part,
            expected: blob.to_string(),
            size: blob.size,
        })
    }
}

fn descriptor(blob: &Blob, media_type: &str) -> Result<Descriptor, KitError> {
    let digest: OciDigest = blob
        .to_string()
        .parse()
        .map_err(|e: oci_spec::OciSpecError| KitError::Encode(e.to_string()))?;
    let media_type = MediaType::Other(media_type.to_owned());
    Ok(Descriptor::new(media_type, blob.size, digest))
}

/// The blob of a descriptor that must have this media type.
fn blob(descriptor: &Descriptor, media_type: &str, limit: u64) -> Result<Blob, KitError> {
    let found = descriptor.media_type().to_string();
    if found != media_type {
        return Err(KitError::Manifest(format!(
            "it has {found} where {media_type} belongs"
        )));
    }
    let digest = descriptor.digest().to_string();
    let sha256 = digest.strip_prefix("sha256:").and_then(parse_hash);
    let sha256 = sha256.ok_or_else(|| {
        KitError::Manifest(format!(
            "the digest {digest} is not sha256 in lower-case hex"
        ))
    })?;
    let size = descriptor.size();
    if size == 0 || size > limit {
        return Err(KitError::Manifest(format!(
            "the size {size} of {media_type} is not between 1 and {limit}"
        )));
    }
    Ok(Blob { sha256, size })
}
