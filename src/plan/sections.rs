//! One function a table of `standby.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use standby_contract::cmdline::Policy;
use standby_contract::service::MOST_SEQUENCE;

use super::model::{Boot, Front, FrontSource, Probe, Runtime, RuntimeNetwork, Service, Snapshot};
use super::problem::At;
use super::reader::{Table, Value};
use super::time::Timestamp;
use super::values;

fn path(value: &Value<'_>) -> Option<At<PathBuf>> {
    Some(value.string(values::plain)?.map(PathBuf::from))
}

fn port(value: &Value<'_>) -> Option<u16> {
    u16::try_from(value.integer(1..65_536)?).ok()
}

pub(super) fn service(table: &Table<'_>) -> Option<Service> {
    let name = table
        .need("name")
        .and_then(|v| v.string(values::service_name));
    let version = table
        .need("version")
        .and_then(|v| v.string(values::version));
    let sequence = table
        .need("sequence")
        .and_then(|v| v.integer(1..MOST_SEQUENCE + 1));
    let max_age = table
        .get("max_age")
        .and_then(|v| v.string(values::duration));
    let created = table.get("created").and_then(|v| v.time(Timestamp::parse));
    Some(Service {
        name: name?.value,
        version: version?.value,
        sequence: sequence?,
        max_age: max_age.map(|max_age| max_age.value),
        created: created.map(|created| created.value),
    })
}

pub(super) fn runtime(table: &Table<'_>) -> Option<Runtime> {
    let image = table.need("image").and_then(|v| v.string(values::image));
    let platform = match table.get("platform") {
        Some(value) => value
            .string(values::platform)
            .map(|platform| platform.value),
        None => values::platform("linux/amd64").ok(),
    };
    let network = table.get("network");
    let shared = network
        .as_ref()
        .and_then(|v| v.string(|text| values::one_of(text, &["isolated", "host"])))
        .is_some_and(|choice| choice.value == 1);
    let port_value = table.need("port");
    let port = port_value.as_ref().and_then(port);
    if let (Some(value), Some(80 | 443), true) = (&port_value, port, shared) {
        value.refuse("80 and 443 are the front's; choose another or leave network = \"isolated\"");
    }
    let health = table.get("health").and_then(|v| v.string(values::url_path));
    let env = table
        .get("env")
        .and_then(|v| v.string_map(values::variable, values::argument));
    let args = table.get("args").and_then(|v| v.strings(values::argument));
    let user = table.get("user").and_then(|v| v.string(values::user));
    let writable = table.get("writable").and_then(|v| writable(&v));
    let memory = table.get("memory").and_then(|v| v.string(values::size));
    let cpus = table.get("cpus").and_then(|v| v.number(values::milli_cpus));
    Some(Runtime {
        image: image?,
        platform: platform?,
        port: port?,
        health: health.map_or_else(|| "/".to_owned(), |health| health.value),
        env: env.unwrap_or_default(),
        args: args.map(|args| args.into_iter().map(|arg| arg.value).collect()),
        user,
        writable: writable.unwrap_or_default(),
        network: if shared {
            RuntimeNetwork::Host
        } else {
            RuntimeNetwork::Isolated
        },
        memory: memory.map(|memory| memory.value),
        milli_cpus: cpus.map(|cpus| cpus.value),
    })
}

/// `{ "/run" = "4M" }`, or `["/run"]` with the default size.
fn writable(value: &Value<'_>) -> Option<BTreeMap<String, u64>> {
    let mut folders = BTreeMap::new();
    if value.is_array() {
        for path in value.strings(values::mount)? {
            folders.insert(path.value, values::DEFAULT_TMPFS);
        }
        return Some(folders);
    }
    for (path, limit) in value.map()? {
        match values::mount(&path.value) {
            Ok(path) => {
                if let Some(size) = limit.string(values::size) {
                    folders.insert(path, size.value);
                }
            }
            Err(message) => limit.refuse(message),
        }
    }
    Some(folders)
}

/// Reads `[snapshot]`; `writable` are the runtime's folders, which may not hide it.
pub(super) fn snapshot(table: &Table<'_>, runtime: Option<&Runtime>) -> Option<Snapshot> {
    let folder = table.need("path").and_then(|v| path(&v));
    let mount_value = table.need("mount");
    let mount = mount_value.as_ref().and_then(|v| v.string(values::mount));
    if let (Some(value), Some(mount), Some(runtime)) = (&mount_value, &mount, runtime) {
        let below = runtime
            .writable
            .keys()
            .find(|folder| values::within(folder, &mount.value));
        if let Some(folder) = below {
            value.refuse(format_args!(
                "runtime.writable has '{folder}', which would cover the snapshot"
            ));
        }
    }
    let owner = table.get("owner").and_then(|v| v.string(values::owner));
    let taken = table.get("taken").and_then(|v| v.time(Timestamp::parse));
    Some(Snapshot {
        path: folder?,
        mount: mount?.value,
        owner: owner.map_or((0, 0), |owner| owner.value),
        taken: taken.map(|taken| taken.value),
    })
}

pub(super) fn front(table: &Table<'_>) -> Option<Front> {
    let caddy = table.get("caddy");
    let image = table.get("image");
    let source = match (&caddy, &image) {
        (Some(caddy), None) => path(caddy).map(FrontSource::Binary),
        (None, Some(image)) => image.string(values::image).map(FrontSource::Image),
        (Some(caddy), Some(image)) => {
            // Both are still checked for their types.
            let _ = (path(caddy), image.string(values::image));
            image.refuse("front.caddy is set too; give one of the two");
            None
        }
        (None, None) => {
            table.refuse("[front] has neither 'caddy' (a binary) nor 'image'");
            None
        }
    };
    let hosts = table.need("hosts").and_then(|v| hosts(&v));
    let caddyfile = table.get("caddyfile").and_then(|v| path(&v));
    let maintenance = table.get("maintenance").and_then(|v| path(&v));
    let ca_certificates = table.get("ca_certificates").and_then(|v| path(&v));
    Some(Front {
        source: source?,
        hosts: hosts?,
        caddyfile,
        maintenance,
        ca_certificates,
    })
}

fn hosts(value: &Value<'_>) -> Option<Vec<String>> {
    let hosts = value.strings(values::host)?;
    if hosts.is_empty() {
        value.refuse("expected at least one host name");
    }
    let mut names = Vec::with_capacity(hosts.len());
    for host in hosts {
        if names.contains(&host.value) {
            value.refuse(format_args!("'{}' is listed twice", host.value));
        }
        names.push(host.value);
    }
    Some(names)
}

pub(super) fn boot(table: &Table<'_>) -> Option<Boot> {
    let kit = table.need("kit").and_then(|v| path(&v));
    let options_value = table.get("options");
    let options = options_value
        .as_ref()
        .and_then(|v| v.strings(values::kernel_option))
        .unwrap_or_default();
    let options: Vec<String> = options.into_iter().map(|option| option.value).collect();
    // COMMAND_LINE_SIZE is 2048 on x86; ours take a few hundred.
    let length: usize = options.iter().map(|option| option.len() + 1).sum();
    if let (Some(value), true) = (&options_value, length > 1024) {
        value.refuse("more than 1024 characters; the kernel's command line has no room for them");
    }
    if let (Some(value), Err(error)) = (&options_value, Policy::parse(&options.join(" "))) {
        value.refuse(error);
    }
    let mbr_active = table.get("mbr_active").and_then(|v| v.boolean());
    Some(Boot {
        kit: kit?,
        options,
        mbr_active: mbr_active.unwrap_or(false),
    })
}

pub(super) fn probes(tables: Vec<Table<'_>>) -> Vec<Probe> {
    let mut names = BTreeSet::new();
    tables
        .iter()
        .filter_map(|table| probe(table, &mut names))
        .collect()
}

fn probe(table: &Table<'_>, names: &mut BTreeSet<String>) -> Option<Probe> {
    let name_value = table.need("name");
    let name = name_value.as_ref().and_then(|v| v.string(values::plain));
    if let (Some(value), Some(name)) = (&name_value, &name)
        && !names.insert(name.value.clone())
    {
        value.refuse("another probe has this name");
    }
    let path = table.need("path").and_then(|v| v.string(values::url_path));
    let method = table.get("method").and_then(|v| v.string(values::method));
    let expect = table.get("expect").and_then(|v| v.integer(100..600));
    let header = table
        .get("header")
        .and_then(|v| v.string_map(values::header_name, values::header_value));
    let body = table
        .get("body_contains")
        .and_then(|v| v.string(values::argument));
    Some(Probe {
        name: name?.value,
        method: method.map_or_else(|| "GET".to_owned(), |method| method.value),
        path: path?.value,
        expect: u16::try_from(expect.unwrap_or(200)).ok()?,
        header: header.unwrap_or_default(),
        body_contains: body.map(|body| body.value),
    })
}
