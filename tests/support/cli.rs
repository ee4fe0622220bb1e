//! What the tests of the command line share: a place of their own, the program
//! run there and nowhere else, and what it said.

// Each test binary uses a part of this.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::Value;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_standby");
/// Where Debian keeps what the tests run.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The inputs of an example, as `make fixtures` builds them.
pub fn fixture(name: &str) -> PathBuf {
    let all = match std::env::var_os("STANDBY_FIXTURES") {
        Some(given) => PathBuf::from(given),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fixtures"),
    };
    let folder = all.join(name);
    assert!(
        ["standby.toml", "image", "caddy", "kit"]
            .iter()
            .all(|part| folder.join(part).exists()),
        "{} is not whole: run 'make fixtures'",
        folder.display()
    );
    folder
}

/// A folder for one test, with a home and a folder for temporary files in it.
/// All commands run in it, so that paths are short and never the machine's.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// An empty place that other users may look into.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("standby-test-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let place = Place { folder };
        for (name, mode) in [("home", 0o755), ("tmp", 0o1777)] {
            fs::create_dir(place.at(name)).unwrap();
            fs::set_permissions(place.at(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        place
    }

    /// With an example's inputs in the folder `in` and a key in the folder `keys`.
    /// Caddy and the kit stay where they are, by links.
    pub fn with(example: &str) -> Self {
        let place = Place::new();
        let from = fixture(example);
        for name in ["standby.toml", "image", "snapshot"] {
            copy(&from.join(name), &place.at("in").join(name));
        }
        for name in ["caddy", "kit"] {
            symlink(
                from.join(name).canonicalize().unwrap(),
                place.at("in").join(name),
            )
            .unwrap();
        }
        place
            .standby("keys generate --user-id T<t@example.org> -o keys")
            .ok();
        place
    }

    /// A path in it.
    pub fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// A command that runs in it, in an environment of its own.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", self.at("home"))
            .env("TMPDIR", self.at("tmp"))
            .env("STANDBY_STATE", self.at("state"))
            .env("LC_ALL", "C")
            .current_dir(self.folder.path());
        command
    }

    /// Runs the program with arguments that have no spaces in them.
    pub fn standby(&self, args: &str) -> Said {
        said(self.command(PROGRAM).args(args.split_whitespace()))
    }

    /// Runs a judge the same way; it must be installed.
    pub fn run(&self, line: &str) -> Said {
        let mut words = line.split_whitespace();
        said(self.command(words.next().unwrap()).args(words))
    }

    /// Runs lines of shell, stopping at the first that fails.
    pub fn shell(&self, script: &str) -> Said {
        said(
            self.command("bash")
                .args(["-euo", "pipefail", "-c", script]),
        )
    }

    /// Builds `in` into `out` with Caddy's own check left out, for speed.
    pub fn build(&self) -> Said {
        self.standby("build -f in/standby.toml -o out --signer-key keys/signer.key.pgp --no-exec")
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Replaces text of the plan; it must be there.
    pub fn edit(&self, from: &str, to: &str) {
        let path = self.at("in/standby.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "the plan has no {from:?}:\n{text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    /// Changes one byte of a file, whatever it was: a digest or a signature may
    /// have any byte anywhere.
    pub fn alter(&self, path: &str, offset: u64) {
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).open(self.at(path)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[!byte[0]], offset).unwrap();
    }

    /// Every path below a folder of it, sorted, with size, mode and time: what
    /// a command that fails must leave as it was. Empty if there is no folder.
    pub fn listing(&self, folder: &str) -> Vec<String> {
        let mut lines = Vec::new();
        list(&self.at(folder), &mut lines);
        lines.sort();
        lines
    }
}

fn list(folder: &Path, lines: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.map(Result::unwrap) {
        let meta = entry.metadata().unwrap();
        lines.push(format!(
            "{} {} {:o} {:?}",
            entry.path().display(),
            meta.len(),
            meta.permissions().mode(),
            meta.modified().unwrap()
        ));
        if meta.is_dir() {
            list(&entry.path(), lines);
        }
    }
}

/// Copies a file or a folder; links become what they lead to.
pub fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
}

/// What a program said before it ended.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
    line: String,
}

/// Runs a command to its end.
pub fn said(command: &mut Command) -> Said {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error} (make test installs what is needed)"));
    told(&format!("{command:?}"), output)
}

/// What an ended program said.
pub fn told(line: &str, output: Output) -> Said {
    Said {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        line: line.to_owned(),
    }
}

impl Said {
    /// It must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.code == Some(0), "not a success: {self}");
        self
    }

    /// It must have failed with a code and, of a few words, said each.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> Self {
        assert!(self.code == Some(code), "not the exit code {code}: {self}");
        self.says(words)
    }

    /// It must have said each of these on standard error.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.err.contains(word), "no word of {word:?}: {self}");
        }
        self
    }

    /// Its standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Said {
            code,
            out,
            err,
            line,
        } = self;
        write!(f, "{line}\nexit code {code:?}\n{err}{out}")
    }
}

/// The tests that mount, change users or make name spaces need root.
pub fn needs_root() {
    assert!(
        fs::metadata("/proc/self").unwrap().uid() == 0,
        "this test mounts or changes users: run it as root"
    );
}

/// An entry of a bundle's tar and where its parts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Of the header, 512 bytes.
    pub header: u64,
    /// Of the content.
    pub content: u64,
    /// Bytes of the content.
    pub size: u64,
    /// Of the next header or the trailer.
    pub end: u64,
}

/// The entries of a tar, by a reader that is not ours.
pub fn entries(path: &Path) -> Vec<Entry> {
    let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let (content, size) = (entry.raw_file_position(), entry.size());
        Entry {
            name: entry.path().unwrap().to_str().unwrap().to_owned(),
            header: entry.raw_header_position(),
            content,
            size,
            end: content + size.next_multiple_of(512),
        }
    });
    entries.collect()
}

/// A bundle's files by name.
pub fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let file = Arc::new(fs::File::open(path).unwrap());
    let read = |entry: Entry| {
        let mut content = vec![0; usize::try_from(entry.size).unwrap()];
        file.read_exact_at(&mut content, entry.content).unwrap();
        (entry.name, content)
    };
    entries(path).into_iter().map(read).collect()
}

/// Files of a bundle in order, by name.
pub type Files = Vec<(String, Vec<u8>)>;

/// A bundle's files in order.
pub fn in_order(path: &Path) -> Files {
    let files = files(path);
    let entries = entries(path).into_iter();
    entries
        .map(|e| (e.name.clone(), files[&e.name].clone()))
        .collect()
}

/// The header of a bundle's entry, by a writer that is not ours.
pub fn header(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

/// A canonical tar, by a writer that is not ours.
pub fn tar_of(files: &Files) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = header(tar::EntryType::Regular, content.len() as u64);
        builder
            .append_data(&mut header, name, &content[..])
            .unwrap();
    }
    builder.into_inner().unwrap()
}

/// The blob that a descriptor names, as JSON.
pub fn document(files: &BTreeMap<String, Vec<u8>>, descriptor: &Value) -> Value {
    serde_json::from_slice(&files[&blob(descriptor)]).unwrap()
}

/// The name of the blob that a descriptor names.
pub fn blob(descriptor: &Value) -> String {
    let digest = descriptor["digest"].as_str().unwrap();
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// The descriptors of an index of which the artefact type ends so.
pub fn artefacts<'a>(index: &'a Value, end: &str) -> Vec<&'a Value> {
    let listed = index["manifests"].as_array().unwrap().iter();
    listed
        .filter(|d| d["artifactType"].as_str().is_some_and(|t| t.ends_with(end)))
        .collect()
}

/// The blob of an artefact's only layer, by its descriptor in the index.
pub fn payload(files: &BTreeMap<String, Vec<u8>>, descriptor: &Value) -> String {
    blob(&document(files, descriptor)["layers"][0])
}
