//! Containers, from OCI runtime bundles on the read-only root.
//!
//! The container library forks, changes directory and marks its process; none
//! of that suits a process with threads that must never fail. So a starter, this
//! same program run anew, makes the container as its own sibling: a direct
//! child of the supervisor, which lives on when the starter ends.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use libcontainer::container::Container as Library;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::signal::Signal;
use oci_spec::OciSpecError;
use oci_spec::runtime::Spec;
use standby_contract::paths;

/// The starter's name as the program's first argument.
pub const STARTER: &str = "start-container";
/// The OCI image specification's annotation for a container's stop signal.
const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";

/// Why a container does not start.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Its `config.json` cannot be used.
    #[error("cannot use {path}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<OciSpecError>,
    },
    /// A file of the guest's own could not be written.
    #[error("cannot prepare {path}")]
    Prepare {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The container library says so.
    #[error("cannot {step} the container")]
    Library {
        /// What it was to do.
        step: &'static str,
        /// Why it did not.
        source: Box<LibcontainerError>,
    },
}

/// A container that can be started, again and again.
#[derive(Clone, Debug)]
pub struct Container {
    name: String,
    bundle: PathBuf,
    records: PathBuf,
    program: PathBuf,
    stop_signal: Signal,
    /// What the container runs, as far as its path is plain.
    runs: Option<PathBuf>,
}

impl Container {
    /// Reads what the supervisor has to know of a bundle. `program` is the
    /// guest's own binary.
    pub fn new(name: &str, bundle: &Path, program: &Path) -> Result<Self, ContainerError> {
        let spec = load_spec(bundle)?;
        let stop_signal = spec
            .annotations()
            .as_ref()
            .and_then(|notes| notes.get(STOP_SIGNAL))
            .and_then(|text| parse_signal(text))
            .unwrap_or(Signal::SIGTERM);
        Ok(Container {
            runs: runs(bundle, &spec),
            name: name.to_owned(),
            bundle: bundle.to_owned(),
            records: PathBuf::from(paths::CONTAINERS),
            program: program.to_owned(),
            stop_signal,
        })
    }

    /// Reads what the container runs into the page cache, while somebody else
    /// makes the container. Its pages then are verified in order and on all
    /// processors, not one by one as the program comes to need them.
    pub fn warm(&self) {
        let Some(file) = &self.runs else {
            return;
        };
        // Whatever fails here fails again, and is told, when it matters.
        if let Ok(mut file) = fs::File::open(file) {
            let _ = io::copy(&mut file, &mut io::sink());
        }
    }

    /// What asks it to end.
    pub fn stop_signal(&self) -> Signal {
        self.stop_signal
    }

    /// The starter; it ends with 0 once the container's program runs.
    pub fn starter(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg(STARTER)
            .arg(&self.name)
            .arg(&self.bundle)
            .arg(&self.records)
            .env_clear()
            .current_dir("/");
        command
    }

    /// The process number that the last starter left.
    pub fn pid(&self) -> Option<i32> {
        fs::read_to_string(pid_file(&self.records, &self.name))
            .ok()?
            .trim()
            .parse()
            .ok()
            .filter(|pid| *pid > 1)
    }
}

/// The file of the first argument; none if it is looked for in the search path.
fn runs(bundle: &Path, spec: &Spec) -> Option<PathBuf> {
    let first = spec.process().as_ref()?.args().as_ref()?.first()?;
    let inside = Path::new(first).strip_prefix("/").ok()?;
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    let root = bundle.join(spec.root().as_ref()?.path());
    inside.components().all(plain).then(|| root.join(inside))
}

fn pid_file(records: &Path, name: &str) -> PathBuf {
    records.join(format!("{name}.pid"))
}

fn load_spec(bundle: &Path) -> Result<Spec, ContainerError> {
    let path = bundle.join("config.json");
    Spec::load(&path).map_err(|source| ContainerError::Config {
        path,
        source: Box::new(source),
    })
}

/// `SIGQUIT`, `QUIT` or `3`, as image configurations have it.
fn parse_signal(text: &str) -> Option<Signal> {
    if let Ok(number) = text.parse::<i32>() {
        return Signal::try_from(number).ok();
    }
    Signal::from_str(text)
        .or_else(|_| Signal::from_str(&format!("SIG{text}")))
        .ok()
}

/// The starter's work: makes the container and starts its program. The caller's
/// standard output and error become the container's.
pub fn start(name: &str, bundle: &Path, records: &Path) -> Result<(), ContainerError> {
    let prepare = |path: &Path| {
        let path = path.to_owned();
        move |source| ContainerError::Prepare { path, source }
    };
    fs::create_dir_all(records).map_err(prepare(records))?;
    forget(name, records)?;
    give_output(&load_spec(bundle)?).map_err(prepare(Path::new("/proc/self/fd/1")))?;
    let library = |step| {
        move |source| ContainerError::Library {
            step,
            source: Box::new(source),
        }
    };
    let mut container = ContainerBuilder::new(name.to_owned(), SyscallType::default())
        .with_root_path(records)
        .and_then(|builder| builder.with_pid_file(Some(pid_file(records, name))))
        .and_then(ContainerBuilder::validate_id)
        .map_err(library("describe"))?
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(true)
        .as_sibling(true)
        .build()
        .map_err(library("make"))?;
    container.start().map_err(library("start"))
}

/// Removes what an earlier start of the same name has left.
fn forget(name: &str, records: &Path) -> Result<(), ContainerError> {
    let folder = records.join(name);
    if !folder.exists() {
        return Ok(());
    }
    // Records that cannot be read belong to a start that was cut off.
    if let Ok(mut old) = Library::load(folder.clone()) {
        let _ = old.delete(true);
    }
    match fs::remove_dir_all(&folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(ContainerError::Prepare {
            path: folder,
            source,
        }),
        _ => Ok(()),
    }
}

/// Programs open `/dev/stdout` anew, which needs the pipe to be their user's.
fn give_output(spec: &Spec) -> io::Result<()> {
    let Some(process) = spec.process() else {
        return Ok(());
    };
    let user = process.user();
    for output in [io::stdout().as_fd(), io::stderr().as_fd()] {
        std::os::unix::fs::fchown(output, Some(user.uid()), Some(user.gid()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_signals() {
        assert_eq!(parse_signal("SIGQUIT"), Some(Signal::SIGQUIT));
        assert_eq!(parse_signal("QUIT"), Some(Signal::SIGQUIT));
        assert_eq!(parse_signal("3"), Some(Signal::SIGQUIT));
        assert_eq!(parse_signal("SIGNONE"), None);
        assert_eq!(parse_signal("-1"), None);
    }

    #[test]
    fn a_missing_or_broken_configuration_is_named() {
        let bundle = tempfile::tempdir().unwrap();
        let error = Container::new("front", bundle.path(), Path::new("/x")).unwrap_err();
        assert!(error.to_string().ends_with("config.json"), "{error}");
        fs::write(bundle.path().join("config.json"), "{").unwrap();
        assert!(Container::new("front", bundle.path(), Path::new("/x")).is_err());
    }

    #[test]
    fn only_a_plain_path_is_warmed() {
        let bundle = Path::new("/b");
        for (first, file) in [
            ("/usr/bin/caddy", Some("/b/rootfs/usr/bin/caddy")),
            ("/../etc/x", None),
            ("caddy", None),
        ] {
            let text = format!(
                r#"{{"ociVersion": "1.0.2", "root": {{"path": "rootfs"}},
                    "process": {{"cwd": "/", "user": {{"uid": 0, "gid": 0}}, "args": ["{first}"]}}}}"#
            );
            let spec: Spec = serde_json::from_str(&text).unwrap();
            assert_eq!(runs(bundle, &spec), file.map(PathBuf::from), "{first}");
        }
    }

    #[test]
    fn process_numbers_of_starters() {
        let records = tempfile::tempdir().unwrap();
        let container = Container {
            name: "front".into(),
            bundle: PathBuf::from("/b"),
            records: records.path().to_owned(),
            program: PathBuf::from("/x"),
            stop_signal: Signal::SIGTERM,
            runs: None,
        };
        for (text, pid) in [("77\n", Some(77)), ("1", None), ("-5", None), ("x", None)] {
            fs::write(records.path().join("front.pid"), text).unwrap();
            assert_eq!(container.pid(), pid);
        }
    }
}
