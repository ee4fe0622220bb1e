//! `standby.toml`: what is accepted, what is refused and in which words, and that
//! reference, schema, template and examples say the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use standby::plan::{
    FileKind, FrontSource, KEYS, Network, Plan, RuntimeNetwork, TEMPLATE, Timestamp, Type,
};
use toml::de::{DeTable, DeValue};

/// Every key, each with a value that is not its default.
const FULL: &str = r#"[service]
name = "links"
version = "1.0.0"
sequence = 7
max_age = "30d"
created = 2026-01-31T12:00:00Z
[runtime]
image = "oci:images/links:v1"
platform = "linux/amd64"
port = 8080
health = "/healthz"
env = { LEVEL = "info" }
args = ["-v"]
user = "www-data:33"
writable = { "/run" = "4M", "/var/lib/nginx" = "64M" }
network = "host"
memory = "512M"
cpus = 1.5
[snapshot]
path = "snapshot"
mount = "/srv/links"
owner = "33:34"
taken = "2026-01-31T10:00:00+02:00"
[front]
caddy = "caddy"
hosts = ["Links.example.org", "xn--bcher-kva.example"]
caddyfile = "Caddyfile"
maintenance = "page.html"
ca_certificates = "ca.pem"
[boot]
kit = "kit"
options = ["panic=30", "console=ttyS1,115200n8"]
mbr_active = true
[network]
mode = "static"
addresses = ["192.0.2.10/32", "2001:db8::10/64"]
gateways = ["172.31.1.1", "fe80::1"]
dns = ["192.0.2.53"]
mac = "52:54:00:AB:34:56"
[[probe]]
name = "home"
path = "/?q=1"
method = "HEAD"
expect = 302
header = { Location = "https://example.org/" }
body_contains = "x"
"#;

fn parse(text: &str) -> Result<Plan, String> {
    Plan::parse("standby.toml", text.as_bytes()).map_err(|error| error.to_string())
}

/// The full plan with one line replaced, found by its beginning.
fn with(key: &str, line: &str) -> String {
    let mut found = 0;
    let lines: Vec<&str> = FULL
        .lines()
        .map(|old| {
            let hit = old.starts_with(key);
            found += usize::from(hit);
            if hit { line } else { old }
        })
        .collect();
    assert_eq!(found, 1, "{key}");
    lines.join("\n")
}

#[test]
fn every_key_is_read() {
    let plan = parse(FULL).unwrap();
    assert_eq!(plan.service.max_age, Some(30 * 86_400));
    assert_eq!(plan.service.created, Timestamp::new(1_769_860_800));
    assert_eq!(plan.runtime.writable["/run"], 4 << 20);
    assert_eq!(plan.runtime.network, RuntimeNetwork::Host);
    assert_eq!(plan.runtime.milli_cpus, Some(1500));
    assert_eq!(plan.runtime.user.as_ref().unwrap().value, "www-data:33");
    assert_eq!(plan.snapshot.owner, (33, 34));
    assert_eq!(plan.snapshot.taken, Timestamp::new(1_769_846_400));
    assert_eq!(
        plan.front.hosts,
        ["links.example.org", "xn--bcher-kva.example"]
    );
    assert!(matches!(&plan.front.source, FrontSource::Binary(path) if path.at.line == 25));
    assert!(plan.boot.mbr_active);
    assert!(
        matches!(&plan.network, Network::Static { mac: Some(mac), .. } if mac == "52:54:00:ab:34:56")
    );
    assert_eq!(plan.probes[0].header["location"], "https://example.org/");
    assert_eq!(plan.probes[0].expect, 302);
}

#[test]
fn defaults() {
    let plan = parse(
        r#"
        service = { name = "a", version = "1", sequence = 1 }
        runtime = { image = "docker-archive:a.tar", port = 80, writable = ["/tmp"] }
        snapshot = { path = "s", mount = "/srv" }
        front = { image = "oci:front", hosts = ["a.example"] }
        boot = { kit = "k" }
        "#,
    )
    .unwrap();
    assert_eq!(plan.service.max_age, None);
    assert_eq!(plan.runtime.health, "/");
    assert_eq!(plan.runtime.network, RuntimeNetwork::Isolated);
    assert_eq!(plan.runtime.writable["/tmp"], 64 << 20);
    assert_eq!(plan.runtime.args, None);
    assert_eq!(plan.runtime.platform.to_string(), "linux/amd64");
    assert_eq!(plan.snapshot.owner, (0, 0));
    assert_eq!(plan.network, Network::Dhcp);
    assert!(plan.probes.is_empty() && !plan.boot.mbr_active);
}

#[test]
fn the_guest_is_told() {
    let mut plan = parse(FULL).unwrap();
    let table = plan.service_table(Timestamp::new(0).unwrap(), Timestamp::new(9).unwrap(), None);
    assert_eq!(
        (table.created.as_str(), table.snapshot_taken),
        ("1970-01-01T00:00:00Z", 9)
    );
    assert_eq!(plan.front_settings("caddy").upstream, "127.0.0.1:8080");
    plan.runtime.network = RuntimeNetwork::Isolated;
    assert_eq!(plan.front_settings("caddy").upstream, "169.254.255.2:8080");
    assert!(plan.runtime_settings().isolated);
}

#[test]
fn files_are_named_with_their_places() {
    let plan = parse(FULL).unwrap();
    let files = plan.files();
    let list: Vec<String> = files
        .iter()
        .map(|file| {
            let kind = match file.kind {
                FileKind::File => "file",
                FileKind::Folder => "folder",
            };
            let at = file.path.at;
            format!(
                "{} {} {kind} {}:{}",
                file.key,
                file.path.value.display(),
                at.line,
                at.column
            )
        })
        .collect();
    assert_eq!(
        list,
        [
            "runtime.image images/links folder 8:9",
            "snapshot.path snapshot folder 20:8",
            "front.caddy caddy file 25:9",
            "front.caddyfile Caddyfile file 27:13",
            "front.maintenance page.html file 28:15",
            "front.ca_certificates ca.pem file 29:19",
            "boot.kit kit folder 31:7",
        ]
    );
    let wrong = [
        (files[6].clone(), "no such folder".to_owned()),
        (files[1].clone(), "not a folder".to_owned()),
    ];
    assert_eq!(
        plan.file_error(&wrong).unwrap().to_string(),
        "standby.toml:20:8: snapshot.path: snapshot: not a folder\n\
         standby.toml:31:7: boot.kit: kit: no such folder"
    );
    assert_eq!(plan.file_error(&[]), None);
}

/// What a person sees.
#[test]
fn all_problems_at_once() {
    let text = r#"
[service]
nmae = "links"
version = 1.0
sequence = 0
max_age = "30 days"

[runtime]
image = "links:v1"
port = 80000
helth = "/"
writable = { "/run/" = "4M", "/tmp" = 4 }
network = "hots"

[snapshot]
path = "snapshot"
mount = "srv/links"

[front]
caddy = "caddy"
image = "oci:front"
hosts = ["bücher.example", "*.example.org", "a.example", "A.example", "10.0.0.1", "https://x.example/"]

[boot]
options = ["init=/bin/sh", "roothash=00", "standby.bundle=x", "two words"]

[network]
addresses = ["192.0.2.1"]

[[probe]]
name = "one"
path = "one"

[[probes]]
"#;
    insta::assert_snapshot!(parse(text).unwrap_err());
}

#[test]
fn broken_syntax_is_reported_whole() {
    insta::assert_snapshot!(
        parse("[service]\nname = links\nversion \"1\"\n[runtime\nport = 1\nport = 2\n")
            .unwrap_err()
    );
}

#[test]
fn bytes_that_are_no_text() {
    let error = Plan::parse("p", b"[service]\nname = \"\xff\"\n").unwrap_err();
    assert_eq!(error.to_string(), "p:2:9: not UTF-8 text");
    let long = vec![b'#'; (256 << 10) + 1];
    assert!(
        Plan::parse("p", &long)
            .unwrap_err()
            .to_string()
            .contains("expected at most")
    );
}

/// Lines that are wrong, by key; `true` where the schema can tell as well.
const WRONG: &[(&str, &str, bool)] = &[
    ("name = \"links\"", "name = \"Links\"", true),
    ("name = \"links\"", "name = \"-links\"", true),
    ("name = \"links\"", "", true),
    ("version", "version = \"1.0+2\"", true),
    ("version", "version = \".1\"", true),
    ("sequence", "sequence = 0", true),
    ("sequence", "sequence = -1", true),
    ("sequence", "sequence = 9007199254740992", true),
    ("sequence", "sequence = \"1\"", true),
    ("max_age", "max_age = \"30\"", true),
    ("max_age", "max_age = \"999999999999999999999d\"", false),
    ("created", "created = \"2026-02-30T00:00:00Z\"", false),
    ("created", "created = 2026-01-01", true),
    ("created", "created = 2026-01-01T00:00:00", true),
    ("image", "image = \"links\"", true),
    ("image", "image = \"oci:\"", true),
    ("image", "image = \"dir:x\"", true),
    ("image", "image = \"docker://example.org/links:1\"", true),
    ("platform", "platform = \"windows/amd64\"", true),
    ("platform", "platform = \"linux/arm64\"", true),
    ("port", "port = 0", true),
    ("port", "port = 65536", true),
    ("port", "port = 443", true),
    ("health", "health = \"healthz\"", true),
    ("health", "health = \"/a b\"", true),
    ("health", "health = \"/a#b\"", true),
    ("env", "env = { \"A=B\" = \"c\" }", true),
    ("env", "env = { A = 1 }", true),
    ("args", "args = [1]", true),
    ("args", "args = \"-v\"", true),
    ("user", "user = \"a:b:c\"", true),
    ("user", "user = \"\"", true),
    ("writable", "writable = { \"/\" = \"4M\" }", true),
    ("writable", "writable = { \"/a/../b\" = \"4M\" }", true),
    ("writable", "writable = [\"/a//b\"]", true),
    ("writable", "writable = [\"/proc/x\"]", true),
    ("writable", "writable = { \"/run\" = \"4MB\" }", true),
    ("writable", "writable = { \"/run\" = \"1K\" }", false),
    (
        "writable",
        "writable = { \"/srv/links/x\" = \"4M\" }",
        false,
    ),
    ("network = \"host\"", "network = \"bridge\"", true),
    ("memory", "memory = \"512m\"", true),
    ("cpus", "cpus = 0", true),
    ("cpus", "cpus = \"1\"", true),
    ("path = \"snapshot\"", "path = \"\"", true),
    ("mount", "mount = \"srv\"", true),
    ("mount", "mount = \"/dev\"", true),
    ("owner", "owner = \"root:root\"", true),
    ("owner", "owner = \"4294967295:0\"", false),
    ("taken", "taken = \"yesterday\"", true),
    ("caddy = ", "", true),
    ("caddy = ", "image = \"oci:x\"\ncaddy = \"caddy\"", true),
    ("hosts", "hosts = []", true),
    ("hosts", "hosts = [\"a_b.example\"]", true),
    ("hosts", "hosts = [\"a..example\"]", true),
    ("hosts", "hosts = [\"a.example.\"]", true),
    ("hosts", "hosts = [\"-a.example\"]", true),
    ("hosts", "hosts = [\"a.123\"]", true),
    ("hosts", "hosts = [\"192.0.2.1\"]", true),
    ("hosts", "hosts = [\"a.example\", \"A.EXAMPLE\"]", false),
    ("hosts", "hosts = [\"a.example\\n}\\nrespond\"]", true),
    ("kit", "kit = 1", true),
    ("options", "options = [\"root=/dev/sda\"]", true),
    ("options", "options = [\"standby.x\"]", true),
    ("options", "options = [\"standby.check\"]", true),
    ("options", "options = [\"standby.check=often\"]", true),
    ("options", "options = [\"standby.failure=reboot\"]", true),
    (
        "options",
        "options = [\"standby.check=full\", \"standby.check=full\"]",
        false,
    ),
    ("options", "options = [\"--\"]", true),
    ("options", "options = [\"a=\\\"b c\\\"\"]", true),
    ("options", "options = [\"a;reboot\"]", true),
    ("mbr_active", "mbr_active = \"yes\"", true),
    ("mode", "mode = \"dhcp\"", true),
    ("mode", "mode = \"auto\"", true),
    ("addresses", "", true),
    ("addresses", "addresses = [\"192.0.2.10\"]", true),
    ("addresses", "addresses = [\"192.0.2.10/33\"]", false),
    ("addresses", "addresses = [\"224.0.0.1/8\"]", false),
    (
        "gateways",
        "gateways = [\"192.0.2.1\", \"192.0.2.2\"]",
        false,
    ),
    ("dns", "dns = [\"ns.example\"]", true),
    ("mac", "mac = \"52-54-00-12-34-56\"", true),
    ("mac", "mac = \"01:00:5e:00:00:01\"", true),
    ("name = \"home\"", "", true),
    (
        "name = \"home\"",
        "name = \"a\"\npath = \"/\"\n[[probe]]\nname = \"a\"",
        false,
    ),
    ("path = \"/?", "path = \"x\"", true),
    ("method", "method = \"get\"", true),
    ("expect", "expect = 600", true),
    ("header", "header = { \"a b\" = \"c\" }", true),
    ("header", "header = { a = \"b\\r\\nc\" }", true),
];

fn to_json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => number.as_str().parse::<i64>().unwrap().into(),
        DeValue::Float(number) => number.as_str().parse::<f64>().unwrap().into(),
        DeValue::Boolean(value) => (*value).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(items) => items.iter().map(|item| to_json(item.get_ref())).collect(),
        DeValue::Table(table) => table_to_json(table),
    }
}

fn table_to_json(table: &DeTable<'_>) -> Value {
    let pairs = table
        .iter()
        .map(|(key, value)| (key.get_ref().to_string(), to_json(value.get_ref())));
    Value::Object(pairs.collect())
}

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/standby.schema.json");

fn schema() -> Value {
    serde_json::from_slice(&fs::read(SCHEMA).unwrap()).unwrap()
}

/// Which of these plans the schema accepts, by the judgement of Python's jsonschema.
fn accepted_by_schema(plans: &[String]) -> Vec<bool> {
    let script = "import json, jsonschema, sys\n\
        schema = json.load(open(sys.argv[1]))\n\
        jsonschema.Draft202012Validator.check_schema(schema)\n\
        judge = jsonschema.Draft202012Validator(schema)\n\
        print(json.dumps([judge.is_valid(plan) for plan in json.load(sys.stdin)]))\n";
    let documents: Vec<Value> = plans
        .iter()
        .map(|text| table_to_json(DeTable::parse(text).unwrap().get_ref()))
        .collect();
    let mut python = Command::new("/usr/bin/python3")
        .args(["-c", script, SCHEMA])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = python.stdin.take().unwrap();
    serde_json::to_writer(&mut input, &documents).unwrap();
    drop(input);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn parser_and_schema_agree() {
    let mut plans = vec![FULL.to_owned(), TEMPLATE.to_owned()];
    assert!(plans.iter().all(|good| parse(good).is_ok()));
    let mut wanted = vec![true, true];
    for (key, line, schema_knows) in WRONG {
        let text = with(key, line);
        let error = parse(&text).expect_err(line);
        assert!(error.starts_with("standby.toml:"), "{error}");
        plans.push(text);
        wanted.push(!schema_knows);
    }
    let accepted = accepted_by_schema(&plans);
    assert_eq!(accepted.len(), plans.len());
    for ((plan, accepted), wanted) in plans.iter().zip(accepted).zip(wanted) {
        assert_eq!(accepted, wanted, "{plan}");
    }
}

/// A value of a type that no key takes, in place of each: the error names the key.
#[test]
fn no_key_is_ignored() {
    for key in KEYS {
        let line = |name: &str| format!("{name} = [[{{}}]]");
        let text = match key.name.rsplit_once('.') {
            None => line(key.name),
            Some(("probe", name)) => format!("[[probe]]\n{}", line(name)),
            Some(("network", name @ "addresses")) => {
                format!("[network]\nmode = 'static'\n{}", line(name))
            }
            Some(("network", name)) if name != "mode" => format!(
                "[network]\nmode = 'static'\naddresses = ['192.0.2.1/24']\n{}",
                line(name)
            ),
            Some((table, name)) => format!("[{table}]\n{}", line(name)),
        };
        let error = parse(&text).unwrap_err();
        let expected = format!(": {}", key.name);
        let named = |line: &str| line.contains(&expected) && line.contains("expected");
        assert!(error.lines().any(named), "{text}\n{error}");
    }
}

/// Depth that a parser might follow down its stack.
#[test]
fn deep_nesting_is_an_error() {
    let deep = 60_000;
    for text in [
        format!("{}a = 1", "a.".repeat(deep)),
        format!("[{}a]", "a.".repeat(deep)),
        format!("a = {}", "[".repeat(deep)),
        format!("a = {}1{}", "[".repeat(deep), "]".repeat(deep)),
        format!("a = {}", "{a=".repeat(deep)),
    ] {
        assert!(parse(&text).is_err());
    }
}

#[test]
fn required_keys_are_missed() {
    for key in KEYS.iter().filter(|key| key.required) {
        let text = match key.name.rsplit_once('.') {
            Some(("probe", _)) => "[[probe]]".to_owned(),
            Some((table, _)) => format!("[{table}]"),
            None => String::new(),
        };
        let expected = match key.name.rsplit_once('.') {
            Some((table, name)) => format!("[{table}] has no '{name}'"),
            None => format!("the table [{}] is missing", key.name),
        };
        let error = parse(&text).unwrap_err();
        assert!(error.contains(&expected), "{expected}\n{error}");
    }
}

#[test]
fn the_reference_has_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/standby.toml.md");
    let text = fs::read_to_string(path).unwrap();
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let line = line.replace("\\|", "/");
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`').to_owned();
        rows.push((name, cells[2].to_owned(), cells[4] == "*required*"));
    }
    let expected: Vec<(String, String, bool)> = KEYS
        .iter()
        .map(|key| {
            let kind = match key.kind {
                Type::Table | Type::Map => "table",
                Type::Tables => "array of tables",
                Type::String => "string",
                Type::Integer => "integer",
                Type::Number => "number",
                Type::Boolean => "boolean",
                Type::Strings => "array of strings",
                Type::Time => "time",
                Type::Sizes => "table or array",
            };
            (key.name.to_owned(), kind.to_owned(), key.required)
        })
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn the_schema_has_every_key() {
    let schema = schema();
    let mut names = BTreeMap::new();
    for (table, rules) in schema["properties"].as_object().unwrap() {
        let required = schema["required"]
            .as_array()
            .unwrap()
            .contains(&table.as_str().into());
        names.insert(table.clone(), required);
        let rules = if table == "probe" {
            &rules["items"]
        } else {
            rules
        };
        for key in rules["properties"].as_object().unwrap().keys() {
            let required = rules["required"].as_array();
            let required = required.is_some_and(|list| list.contains(&key.as_str().into()));
            names.insert(format!("{table}.{key}"), required);
        }
    }
    let expected: BTreeMap<String, bool> = KEYS
        .iter()
        .map(|key| (key.name.to_owned(), key.required))
        .collect();
    assert_eq!(names, expected);
}

/// Without its comment signs, too: what it shows is right.
#[test]
fn the_template_is_a_plan() {
    parse(TEMPLATE).unwrap();
    let bare: Vec<&str> = TEMPLATE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest,
            _ => line,
        })
        .collect();
    let plan = parse(&bare.join("\n")).unwrap();
    assert!(matches!(plan.network, Network::Static { .. }));
    assert!(plan.front.maintenance.is_some() && plan.snapshot.taken.is_some());
}

#[test]
fn the_examples_are_plans() {
    for name in ["links", "tiny"] {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}/standby.toml"));
        let plan = Plan::parse("standby.toml", &fs::read(path).unwrap()).unwrap();
        assert_eq!(plan.service.name, name);
        assert!(!plan.probes.is_empty());
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        let _ = Plan::parse("p", &bytes);
    }

    /// The full plan with a piece of it replaced by something else.
    #[test]
    fn no_change_panics(at in 0..FULL.len(), length in 0..40usize, with in "[\\[\\]={}\"',.#a-z0-9\n -]{0,12}") {
        let mut bytes = FULL.as_bytes().to_vec();
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, with.bytes());
        if let Err(error) = Plan::parse("p", &bytes) {
            proptest::prop_assert!(!error.problems.is_empty());
        }
    }
}
