//! The two containers of a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use oci_spec::image::ImageConfiguration;
use standby_contract::paths;
use standby_tree::{Stores, Tree};

use crate::config::Config;
use crate::error::RuntimeError;
use crate::mounts::Mount;
use crate::process;
use crate::user::{self, User};

/// Memory for what the front stores (certificates, its own authority).
const FRONT_DATA: u64 = 64 << 20;
const FRONT_CONFIG: u64 = 1 << 20;
/// Below this, a port needs a capability.
const PRIVILEGED: u16 = 1024;

/// What a root process in the runtime may do beyond an ordinary user. Container
/// engines grant more; what makes devices, raw packets or further capabilities
/// is left out.
const ROOT_CAPABILITIES: [&str; 9] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];
const BIND: &str = "CAP_NET_BIND_SERVICE";

/// What the plan says of the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Host name inside the container: the service's name.
    pub hostname: String,
    /// Variables over the image's.
    pub env: BTreeMap<String, String>,
    /// Arguments instead of the image's `Cmd`.
    pub args: Option<Vec<String>>,
    /// `USER[:GROUP]` instead of the image's.
    pub user: Option<String>,
    /// TCP port on which it serves HTTP.
    pub port: u16,
    /// Writable folders and their limits in bytes.
    pub writable: BTreeMap<String, u64>,
    /// Where the snapshot is mounted, read-only.
    pub snapshot_mount: String,
    /// Whether it has a network of its own ([`paths::RUNTIME_NETNS`]).
    pub isolated: bool,
    /// Limit of its memory in bytes.
    pub memory: Option<u64>,
    /// Limit of its CPU time in thousandths of a CPU.
    pub milli_cpus: Option<u64>,
}

/// What the front's container is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontSettings {
    /// The program and its arguments, instead of the image's.
    pub args: Vec<String>,
    /// Where the runtime is, `ADDRESS:PORT`.
    pub upstream: String,
}

/// A container, ready to be put on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The bytes of `config.json`; its root is the folder `rootfs` beside it.
    pub config: Vec<u8>,
    /// Who its process is.
    pub user: User,
    /// The signal that asks it to end, such as `SIGQUIT`; also in the
    /// configuration as the annotation `org.opencontainers.image.stopSignal`.
    pub stop_signal: String,
    /// What a person should look at; nothing that stops a build.
    pub warnings: Vec<Warning>,
}

/// What a person should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The image exposes ports, but not the one of the plan.
    PortNotExposed {
        /// Of the plan.
        port: u16,
        /// What the image exposes, as it writes it.
        exposed: Vec<String>,
    },
    /// The image declares a volume that is not writable here.
    VolumeReadOnly {
        /// Its path.
        path: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::PortNotExposed { port, exposed } if exposed.is_empty() => {
                write!(f, "the image exposes no port; the plan says {port}")
            }
            Warning::PortNotExposed { port, exposed } => write!(
                f,
                "the image exposes {}, not the plan's port {port}",
                exposed.join(", ")
            ),
            Warning::VolumeReadOnly { path } => write!(
                f,
                "the image declares the volume '{path}', which is read-only here; add it to runtime.writable if the service writes there"
            ),
        }
    }
}

/// The runtime's container.
pub fn runtime(
    image: &ImageConfiguration,
    tree: &Tree,
    stores: &Stores,
    settings: &Settings,
) -> Result<Container, RuntimeError> {
    let image_user = image.config().as_ref().and_then(|c| c.user().as_deref());
    let wanted = settings.user.as_deref().or(image_user).unwrap_or_default();
    let user = user::resolve(wanted, tree, stores)?;
    let args = process::arguments(image, settings.args.as_deref())?;
    let env = process::environment(image, &settings.env, &user)?;
    let mut mounts = vec![
        Mount::File {
            path: "/etc/resolv.conf".to_owned(),
            source: paths::RESOLV_CONF,
        },
        Mount::Folder {
            path: settings.snapshot_mount.clone(),
            source: paths::SNAPSHOT,
            executable: true,
        },
    ];
    mounts.extend(settings.writable.iter().map(|(path, bytes)| Mount::Tmpfs {
        path: path.clone(),
        bytes: *bytes,
        mode: mode(tree, path),
    }));
    let capabilities: &[&str] = match (user.uid, settings.port) {
        (0, _) => &ROOT_CAPABILITIES,
        (_, ..PRIVILEGED) => &[BIND],
        _ => &[],
    };
    let config = Config {
        name: "runtime",
        hostname: &settings.hostname,
        args,
        env,
        folder: process::working_folder(image)?,
        user,
        capabilities,
        network_namespace: settings.isolated.then_some(paths::RUNTIME_NETNS),
        memory: settings.memory,
        milli_cpus: settings.milli_cpus,
        stop_signal: process::stop_signal(image)?,
        mounts,
    };
    finish(config, tree, warnings(image, settings))
}

/// The front's container. Whatever its image says, its process is the user
/// [`paths::FRONT_ID`] with the one capability to listen on 80 and 443.
pub fn front(
    image: &ImageConfiguration,
    tree: &Tree,
    settings: &FrontSettings,
) -> Result<Container, RuntimeError> {
    let user = User {
        uid: paths::FRONT_ID,
        gid: paths::FRONT_ID,
        groups: Vec::new(),
        home: "/data".to_owned(),
    };
    if settings.args.first().is_none_or(String::is_empty) {
        return Err(RuntimeError::NoProgram);
    }
    let own = [
        (paths::UPSTREAM_VARIABLE, settings.upstream.as_str()),
        ("HOME", "/data"),
        ("XDG_CONFIG_HOME", "/config"),
        ("XDG_DATA_HOME", "/data"),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let tmpfs = |path: &str, bytes| Mount::Tmpfs {
        path: path.to_owned(),
        bytes,
        mode: 0o700,
    };
    let config = Config {
        name: "front",
        hostname: "front",
        args: settings.args.clone(),
        env: process::environment(image, &BTreeMap::from(own), &user)?,
        folder: "/".to_owned(),
        user,
        capabilities: &[BIND],
        network_namespace: None,
        memory: None,
        milli_cpus: None,
        stop_signal: "SIGTERM".to_owned(),
        mounts: vec![
            Mount::File {
                path: "/etc/resolv.conf".to_owned(),
                source: paths::RESOLV_CONF,
            },
            Mount::Folder {
                path: paths::STATE_DIRECTORY.to_owned(),
                source: paths::STATE_DIRECTORY,
                executable: false,
            },
            tmpfs("/config", FRONT_CONFIG),
            tmpfs("/data", FRONT_DATA),
        ],
    };
    finish(config, tree, Vec::new())
}

fn finish(
    config: Config<'_>,
    tree: &Tree,
    warnings: Vec<Warning>,
) -> Result<Container, RuntimeError> {
    let program = config.args.first().map_or("", String::as_str);
    let path = config.env.get("PATH").map_or("", String::as_str);
    process::check_program(tree, program, &config.folder, path)?;
    Ok(Container {
        config: config.render()?,
        user: config.user,
        stop_signal: config.stop_signal,
        warnings,
    })
}

/// The permissions of a writable folder: the image's own (`/tmp` is 1777), but its
/// owner, the process, may always write.
fn mode(tree: &Tree, path: &str) -> u16 {
    match tree.resolve(path.as_bytes(), true) {
        Ok(id) if tree.node(id).is_directory() => tree.node(id).meta.mode | 0o700,
        _ => 0o755,
    }
}

fn warnings(image: &ImageConfiguration, settings: &Settings) -> Vec<Warning> {
    let Some(config) = image.config() else {
        return Vec::new();
    };
    let mut warnings = Vec::new();
    // The image's maps arrive in the order of a hash table.
    let exposed: BTreeSet<&String> = config.exposed_ports().iter().flatten().collect();
    let wanted = settings.port.to_string();
    let listed = exposed
        .iter()
        .any(|port| **port == wanted || port.strip_suffix("/tcp") == Some(wanted.as_str()));
    if !listed {
        warnings.push(Warning::PortNotExposed {
            port: settings.port,
            exposed: exposed.into_iter().cloned().collect(),
        });
    }
    let volumes: BTreeSet<&String> = config.volumes().iter().flatten().collect();
    for volume in volumes {
        let path = volume.trim_end_matches('/');
        let covered = settings.writable.keys().any(|folder| {
            path.strip_prefix(folder.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if !covered && path != settings.snapshot_mount {
            warnings.push(Warning::VolumeReadOnly {
                path: volume.clone(),
            });
        }
    }
    warnings
}
