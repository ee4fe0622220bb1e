//! What the container's process is started with.

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;
use standby_tree::{Kind, NodeId, ResolveError, Tree};

use crate::error::RuntimeError;
use crate::user::User;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Entrypoint and arguments: `args` stand in for the image's `Cmd`.
pub(crate) fn arguments(
    image: &ImageConfiguration,
    args: Option<&[String]>,
) -> Result<Vec<String>, RuntimeError> {
    let config = image.config().as_ref();
    let entrypoint = config.and_then(|config| config.entrypoint().as_deref());
    let command = args.or_else(|| config.and_then(|config| config.cmd().as_deref()));
    let all: Vec<String> = [entrypoint, command]
        .into_iter()
        .flatten()
        .flatten()
        .cloned()
        .collect();
    match all.first() {
        Some(program) if !program.is_empty() => Ok(all),
        _ => Err(RuntimeError::NoProgram),
    }
}

/// The image's variables with `overrides` over them, sorted by name.
pub(crate) fn environment(
    image: &ImageConfiguration,
    overrides: &BTreeMap<String, String>,
    user: &User,
) -> Result<BTreeMap<String, String>, RuntimeError> {
    let mut all = BTreeMap::from([
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
        ("HOME".to_owned(), user.home.clone()),
    ]);
    let config = image.config().as_ref();
    for entry in config
        .and_then(|config| config.env().as_deref())
        .unwrap_or_default()
    {
        match entry.split_once('=') {
            Some((name, value)) if !name.is_empty() && !entry.contains('\0') => {
                all.insert(name.to_owned(), value.to_owned());
            }
            _ => {
                return Err(RuntimeError::Field {
                    field: "Env",
                    value: entry.clone(),
                    expected: "NAME=VALUE",
                });
            }
        }
    }
    all.extend(overrides.clone());
    Ok(all)
}

/// The folder the process starts in.
pub(crate) fn working_folder(image: &ImageConfiguration) -> Result<String, RuntimeError> {
    let config = image.config().as_ref();
    match config.and_then(|config| config.working_dir().as_deref()) {
        None | Some("") => Ok("/".to_owned()),
        Some(path) if path.starts_with('/') && !path.contains('\0') => Ok(path.to_owned()),
        Some(path) => Err(RuntimeError::Field {
            field: "WorkingDir",
            value: path.to_owned(),
            expected: "an absolute path",
        }),
    }
}

/// The signal that asks the process to end, `SIGTERM` unless the image says otherwise.
pub(crate) fn stop_signal(image: &ImageConfiguration) -> Result<String, RuntimeError> {
    let config = image.config().as_ref();
    let Some(signal) = config.and_then(|config| config.stop_signal().as_deref()) else {
        return Ok("SIGTERM".to_owned());
    };
    let word = signal.strip_prefix("SIG").unwrap_or(signal);
    let named = !word.is_empty()
        && word.len() <= 9
        && word.starts_with(|first: char| first.is_ascii_alphabetic())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-'));
    match signal.parse::<u8>() {
        Ok(1..=64) => Ok(signal.to_owned()),
        Err(_) if named => Ok(format!("SIG{}", word.to_ascii_uppercase())),
        _ => Err(RuntimeError::Field {
            field: "StopSignal",
            value: signal.to_owned(),
            expected: "a signal, such as SIGTERM",
        }),
    }
}

/// Checks that the first argument is a program of the image. Folders that are
/// mounted over at run time hide what the image has there.
pub(crate) fn check_program(
    tree: &Tree,
    program: &str,
    folder: &str,
    path: &str,
) -> Result<(), RuntimeError> {
    let candidates: Vec<String> = if program.starts_with('/') {
        vec![program.to_owned()]
    } else if program.contains('/') {
        vec![format!("{folder}/{program}")]
    } else {
        path.split(':')
            .filter(|part| part.starts_with('/'))
            .map(|part| format!("{part}/{program}"))
            .collect()
    };
    let mut worst = "it is not in the image";
    for candidate in candidates {
        match tree.resolve(candidate.as_bytes(), true) {
            Ok(id) => match runnable(tree, id) {
                Ok(()) => return Ok(()),
                Err(reason) => worst = reason,
            },
            Err(ResolveError::Escapes) => worst = "its path leads out of the image",
            Err(ResolveError::TooManyLinks) => worst = "too many levels of symbolic links",
            Err(ResolveError::NotFound | ResolveError::NotDirectory) => {}
        }
    }
    Err(RuntimeError::Program {
        program: program.to_owned(),
        reason: worst,
    })
}

fn runnable(tree: &Tree, id: NodeId) -> Result<(), &'static str> {
    let node = tree.node(id);
    match &node.kind {
        Kind::File(_) if node.meta.mode & 0o111 == 0 => Err("it has no permission to be executed"),
        Kind::File(content) if content.is_empty() => Err("it is empty"),
        Kind::File(_) => Ok(()),
        _ => Err("it is not a regular file"),
    }
}
