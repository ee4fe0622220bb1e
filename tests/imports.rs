//! Imports go downward only, and what few may do, only those do: read from the
//! sources themselves.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// A part of the project, its level, and the parts it may import. A part may
/// import itself.
struct Part {
    name: &'static str,
    level: u32,
    imports: &'static [&'static str],
}

const fn part(name: &'static str, level: u32, imports: &'static [&'static str]) -> Part {
    Part {
        name,
        level,
        imports,
    }
}

/// `src/` by module, the crates by name. Each import is of a lower level.
const PARTS: &[Part] = &[
    part("main", 8, &["cli"]),
    part(
        "cli",
        7,
        &[
            "ui", "error", "escape", "bake", "diff", "plan", "bundle", "disk", "oci", "boot",
            "contract", "front", "keys", "snapshot",
        ],
    ),
    part("ui", 6, &["error", "escape"]),
    part("error", 5, &["bundle", "oci"]),
    part(
        "diff",
        5,
        &["bundle", "escape", "oci", "packages", "contract", "tree"],
    ),
    part(
        "bake",
        5,
        &[
            "bundle", "disk", "oci", "packages", "boot", "contract", "front", "runtime", "tree",
        ],
    ),
    part("plan", 4, &["oci", "contract", "front", "runtime"]),
    part("bundle", 4, &["escape", "oci", "contract", "tree"]),
    part("disk", 4, &["oci", "contract", "tree"]),
    part("oci", 3, &["escape", "contract", "tree"]),
    part("packages", 2, &["tree"]),
    part("boot", 2, &["contract"]),
    part("front", 2, &["contract"]),
    part("runtime", 2, &["contract", "tree"]),
    part("snapshot", 2, &[]),
    part("guest", 2, &["contract"]),
    part("keys", 1, &[]),
    part("escape", 1, &[]),
    part("tree", 1, &[]),
    part("contract", 1, &[]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Sources below a folder, without tests and examples of their own.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Where a part lives.
fn folder(name: &str) -> PathBuf {
    match name {
        "keys" => root().join("keys"),
        "boot" | "contract" | "front" | "guest" | "runtime" | "snapshot" | "tree" => {
            root().join("layers").join(name)
        }
        _ => root().join("src").join(name),
    }
}

fn is_crate(name: &str) -> bool {
    folder(name).join("Cargo.toml").exists()
}

/// Sources of a part.
fn sources_of(name: &str) -> Vec<PathBuf> {
    let folder = folder(name);
    if is_crate(name) {
        sources(&folder.join("src"))
    } else if folder.is_dir() {
        sources(&folder)
    } else {
        vec![folder.with_extension("rs")]
    }
}

/// Lines of code with their numbers, comments left out.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).unwrap();
    let numbered = text.lines().enumerate();
    numbered
        .map(|(at, line)| (at + 1, line.split("//").next().unwrap_or("").to_owned()))
        .filter(|(_, line)| !line.trim().is_empty())
        .collect()
}

/// As `code`, without the unit tests at a file's end.
fn code_without_tests(path: &Path) -> Vec<(usize, String)> {
    let code = code(path);
    let end = code
        .iter()
        .position(|(_, line)| line.trim() == "#[cfg(test)]");
    code.into_iter().take(end.unwrap_or(usize::MAX)).collect()
}

/// The words that follow `before` in a line, wherever it stands as a word.
fn words_after<'a>(line: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(before).filter_map(move |(at, _)| {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let inside = line[..at].chars().next_back().is_some_and(is_word);
        let rest = &line[at + before.len()..];
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        (!inside && end > 0).then_some(&rest[..end])
    })
}

/// The parts that a line of a part names.
fn named(part: &str, line: &str) -> Vec<String> {
    let own = if part == "main" {
        "standby::"
    } else {
        "crate::"
    };
    let modules = words_after(line, own).filter(|_| !is_crate(part));
    let crates = words_after(line, "standby_").filter(|name| is_crate(name));
    modules.chain(crates).map(str::to_owned).collect()
}

fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

#[test]
fn the_table_has_every_part_and_only_downward_arrows() {
    let mut wanted = vec!["keys".to_owned(), "main".to_owned()];
    let names = fs::read_dir(root().join("layers")).unwrap();
    wanted.extend(names.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()));
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let modules = text
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod "));
    wanted.extend(modules.map(|name| name.trim_end_matches(';').to_owned()));
    wanted.sort();
    let mut listed: Vec<_> = PARTS.iter().map(|part| part.name.to_owned()).collect();
    listed.sort();
    assert_eq!(listed, wanted);
    for part in PARTS {
        for import in part.imports {
            let lower = PARTS.iter().find(|other| other.name == *import).unwrap();
            assert!(
                lower.level < part.level,
                "{} → {import} goes upward",
                part.name
            );
        }
    }
}

#[test]
fn every_import_is_in_the_table() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for part in PARTS {
        for path in sources_of(part.name) {
            for (number, line) in code_without_tests(&path) {
                for name in named(part.name, &line) {
                    seen += 1;
                    if name != part.name && !part.imports.contains(&name.as_str()) {
                        wrong.push(format!("{}:{number}: {} → {name}", short(&path), part.name));
                    }
                }
            }
        }
    }
    assert!(seen > 200, "the scan sees the imports: {seen}");
    assert!(
        wrong.is_empty(),
        "imports against the direction:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn no_arrow_of_the_table_is_unused() {
    for part in PARTS {
        let lines: Vec<_> = sources_of(part.name)
            .iter()
            .flat_map(|path| code_without_tests(path))
            .collect();
        for import in part.imports {
            let used = lines
                .iter()
                .any(|(_, line)| named(part.name, line).iter().any(|name| name == import));
            assert!(used, "{} → {import}: no source uses it", part.name);
        }
    }
}

#[test]
fn the_crates_depend_as_the_table_says() {
    for part in PARTS.iter().filter(|part| is_crate(part.name)) {
        let path = folder(part.name).join("Cargo.toml");
        let manifest: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        let empty = toml::Table::new();
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        for name in dependencies.unwrap_or(&empty).keys() {
            if let Some(crate_name) = name.strip_prefix("standby-") {
                assert!(
                    part.imports.contains(&crate_name),
                    "{}: {crate_name} is not below {}",
                    short(&path),
                    part.name
                );
            }
        }
    }
}

/// The places outside `allowed` where one of `words` stands in code that runs.
fn places(words: &[&str], allowed: &[&str], parts: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    for path in parts.iter().flat_map(|part| sources_of(part)) {
        let name = short(&path);
        if allowed.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        for (number, line) in code_without_tests(&path) {
            if words.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{name}:{number}: {}", line.trim()));
            }
        }
    }
    wrong
}

/// All but the guest, which is a program of its own.
const BUILDER: &[&str] = &[
    "main", "cli", "ui", "error", "escape", "bake", "diff", "plan", "bundle", "disk", "oci",
    "packages", "boot", "front", "runtime", "snapshot", "keys", "tree", "contract",
];

#[test]
fn only_the_keys_crate_knows_sequoia() {
    let all: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
    let sources = places(&["sequoia"], &["keys/"], &all);
    assert!(sources.is_empty(), "{}", sources.join("\n"));
    let mut importers = Vec::new();
    let crates = PARTS
        .iter()
        .map(|part| part.name)
        .filter(|name| is_crate(name));
    let manifests = crates.map(|name| folder(name).join("Cargo.toml"));
    for path in manifests.chain([root().join("Cargo.toml")]) {
        let manifest: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let listed = manifest.get(section).and_then(toml::Value::as_table);
            if listed.is_some_and(|listed| listed.keys().any(|name| name.contains("sequoia"))) {
                importers.push(short(&path));
            }
        }
    }
    importers.dedup();
    assert_eq!(importers, ["keys/Cargo.toml"]);
}

#[test]
fn only_ui_prints() {
    let words = ["print!(", "println!(", "dbg!(", "stdout()", "stderr()"];
    // To ask whether there is a terminal is not to print.
    let wrong: Vec<_> = places(&words, &["src/ui.rs"], BUILDER)
        .into_iter()
        .filter(|place| !place.contains(".is_terminal()") && !place.contains("use_stderr()"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_command_line_reads_environment_and_clock() {
    let words = ["env::", "SystemTime::now", "temp_dir()"];
    let wrong = places(&words, &["src/cli/"], BUILDER);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // How long something takes: for the person who waits, and to end what hangs.
    let allowed = [
        "src/cli/",
        "src/ui.rs",
        "src/diff/text.rs",
        "src/oci/registry/retry.rs",
        "layers/front/src/validate.rs",
    ];
    let wrong = places(&["Instant::now"], &allowed, BUILDER);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_system_calls_and_vector_units_have_unsafe_code() {
    let all: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
    let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
    let allowed = ["layers/guest/src/sys.rs", "src/disk/verity/lanes/mod.rs"];
    let wrong = places(&words, &allowed, &all);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
