//! The front's image configuration (OCI image specification 1.1, `config.md`).

use oci_spec::image::ImageConfiguration;
use serde_json::{Map, Value, json};
use standby_contract::paths;

use crate::{CADDY, arguments};

/// Why an image cannot be the front.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Neither its entrypoint nor its command is `caddy`.
    #[error("the front's image runs '{0}', not caddy")]
    NotCaddy(String),
    /// The configuration is not a JSON object of the expected form.
    #[error("the front's image configuration: {0}")]
    Form(&'static str),
    /// The configuration is no JSON.
    #[error("the front's image configuration is not JSON")]
    Json(#[source] serde_json::Error),
}

/// How an image of its own starts Caddy, from its `Entrypoint` and `Cmd`: the first
/// word, which must be `caddy` with or without a folder.
pub fn program(image: &ImageConfiguration) -> Result<String, ImageError> {
    let config = image.config().as_ref();
    let words = config.and_then(|config| {
        let entrypoint = config.entrypoint().iter().flatten();
        entrypoint.chain(config.cmd().iter().flatten()).next()
    });
    let program = words.cloned().unwrap_or_default();
    match program.rsplit('/').next() {
        Some("caddy") => Ok(program),
        _ => Err(ImageError::NotCaddy(program)),
    }
}

/// The configuration of an image of one layer of ours, whose uncompressed digest is
/// `diff_id` (`sha256:…`), made at `created` (RFC 3339).
pub fn configuration(diff_id: &str, created: &str) -> Result<Vec<u8>, ImageError> {
    let base = json!({
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    changed(base, CADDY, diff_id, created)
}

/// The configuration of an image with a layer of ours on top: the same user,
/// program, variables and ports, whatever the image had.
pub fn configuration_over(
    base: &[u8],
    program: &str,
    diff_id: &str,
    created: &str,
) -> Result<Vec<u8>, ImageError> {
    let base = serde_json::from_slice(base).map_err(ImageError::Json)?;
    changed(base, program, diff_id, created)
}

fn changed(
    mut base: Value,
    program: &str,
    diff_id: &str,
    created: &str,
) -> Result<Vec<u8>, ImageError> {
    let root = base
        .as_object_mut()
        .ok_or(ImageError::Form("not an object"))?;
    let diff_ids = root
        .get_mut("rootfs")
        .and_then(|rootfs| rootfs.get_mut("diff_ids"))
        .and_then(Value::as_array_mut)
        .ok_or(ImageError::Form("rootfs.diff_ids is missing"))?;
    diff_ids.push(json!(diff_id));
    let history = json!({"created": created, "created_by": "standby build: front"});
    match root.entry("history").or_insert_with(|| json!([])) {
        Value::Array(entries) => entries.push(history),
        _ => return Err(ImageError::Form("history is not a list")),
    }
    root.insert("created".into(), json!(created));
    let config = match root.entry("config").or_insert_with(|| json!({})) {
        Value::Object(config) => config,
        other => {
            *other = json!({});
            other.as_object_mut().ok_or(ImageError::Form("config"))?
        }
    };
    override_config(config, program);
    sorted(&base)
}

/// What the guest counts on, whatever the image says.
fn override_config(config: &mut Map<String, Value>, program: &str) {
    // Health checks, triggers, volumes and shells are other engines' business.
    let kept = ["Labels"];
    config.retain(|key, _| kept.contains(&key.as_str()));
    let own = json!({
        "User": format!("{0}:{0}", paths::FRONT_ID),
        "Entrypoint": arguments(program),
        "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/data",
            "XDG_CONFIG_HOME=/config",
            "XDG_DATA_HOME=/data",
        ],
        "ExposedPorts": {"443/tcp": {}, "80/tcp": {}},
        "WorkingDir": "/",
        "StopSignal": "SIGTERM",
    });
    if let Value::Object(own) = own {
        config.extend(own);
    }
    let labels = config.entry("Labels").or_insert_with(|| json!({}));
    if !labels.is_object() {
        *labels = json!({});
    }
    labels["org.opencontainers.image.title"] = json!("standby front");
}

/// The bytes must not depend on how `serde_json` was built (`preserve_order`).
fn sorted(value: &Value) -> Result<Vec<u8>, ImageError> {
    fn sort(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let mut pairs: Vec<_> = map.iter().collect();
                pairs.sort_by_key(|(key, _)| key.as_str());
                pairs
                    .into_iter()
                    .map(|(key, value)| (key.clone(), sort(value)))
                    .collect()
            }
            Value::Array(items) => items.iter().map(sort).collect(),
            other => other.clone(),
        }
    }
    serde_json::to_vec(&sort(value)).map_err(ImageError::Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-01-01T00:00:00Z";

    fn read(bytes: &[u8]) -> ImageConfiguration {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn of_our_own() {
        let bytes = configuration("sha256:aa", TIME).unwrap();
        let image = read(&bytes);
        let config = image.config().as_ref().unwrap();
        assert_eq!(config.user().as_deref(), Some("65534:65534"));
        assert_eq!(program(&image).unwrap(), "/usr/bin/caddy");
        assert_eq!(image.rootfs().diff_ids(), &["sha256:aa"]);
        assert!(bytes.starts_with(
            br#"{"architecture":"amd64","config":{"Entrypoint":["/usr/bin/caddy","run","#
        ));
    }

    #[test]
    fn over_another() {
        let base = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:aa"]},
            "history":[{"created":"2020-01-01T00:00:00Z"}],
            "config":{"User":"root","Cmd":["caddy","run"],"Env":["A=1"],"Volumes":{"/x":{}},"Labels":{"k":"v"}}}"#;
        assert_eq!(program(&read(base)).unwrap(), "caddy");
        let bytes = configuration_over(base, "caddy", "sha256:bb", TIME).unwrap();
        let image = read(&bytes);
        let config = image.config().as_ref().unwrap();
        assert_eq!(config.user().as_deref(), Some("65534:65534"));
        assert_eq!(config.cmd(), &None);
        assert_eq!(config.volumes(), &None);
        assert_eq!(config.labels().as_ref().unwrap()["k"], "v");
        assert_eq!(image.rootfs().diff_ids(), &["sha256:aa", "sha256:bb"]);
        assert_eq!(image.history().as_ref().unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_front() {
        let nginx = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{"Cmd":["nginx"]}}"#;
        assert!(matches!(
            program(&read(nginx)),
            Err(ImageError::NotCaddy(_))
        ));
        for base in [
            &b"[]"[..],
            b"{}",
            b"{",
            br#"{"rootfs":{"diff_ids":[]},"history":1}"#,
        ] {
            assert!(configuration_over(base, "caddy", "sha256:bb", TIME).is_err());
        }
    }
}
