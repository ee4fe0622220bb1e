//! Random layers: against a model too simple to be wrong, and against umoci.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::support::facts::Listing;
use crate::support::nasty::{Compression, Item, Layer, Tar};
use crate::{compare, now, umoci, unpack_tars};

/// One entry of a layer.
#[derive(Clone, Debug)]
enum Op {
    Directory(Path, u32),
    File(Path, u32),
    Symlink(Path, String),
    HardLink(Path, Path),
    Whiteout(Path),
    Opaque(Path),
}

type Path = Vec<&'static str>;

/// Few names, so that operations meet.
fn path(depth: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Path> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    prop::collection::vec(name, depth)
}

fn target(with_parents: bool) -> impl Strategy<Value = String> {
    let prefixes = match with_parents {
        true => vec!["", "", "/", "../", "a/../", "../../"],
        false => vec!["", "", "/"],
    };
    (prop::sample::select(prefixes), path(1..=2))
        .prop_map(|(prefix, path)| format!("{prefix}{}", path.join("/")))
}

fn op(with_parents: bool) -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (path(1..=3), 0o700u32..=0o777).prop_map(|(p, mode)| Op::Directory(p, mode)),
        4 => (path(1..=4), any::<u32>()).prop_map(|(p, tag)| Op::File(p, tag)),
        2 => (path(1..=3), target(with_parents)).prop_map(|(p, t)| Op::Symlink(p, t)),
        2 => (path(1..=3), path(1..=3)).prop_map(|(p, t)| Op::HardLink(p, t)),
        2 => path(1..=3).prop_map(Op::Whiteout),
        1 => path(0..=2).prop_map(Op::Opaque),
    ]
}

fn layers(with_parents: bool) -> impl Strategy<Value = Vec<Vec<Op>>> {
    prop::collection::vec(prop::collection::vec(op(with_parents), 1..25), 1..4)
}

fn tar(ops: &[Op]) -> Vec<u8> {
    let mut tar = Tar::new();
    for op in ops {
        tar.item(match op {
            Op::Directory(path, mode) => Item::dir(path.join("/")).mode(*mode),
            Op::File(path, tag) => Item::file(path.join("/"), tag.to_string()),
            Op::Symlink(path, target) => Item::symlink(path.join("/"), target),
            Op::HardLink(path, target) => Item::hard_link(path.join("/"), target.join("/")),
            Op::Whiteout(path) => {
                let (name, parent) = path.split_last().unwrap();
                let whiteout = format!(".wh.{name}");
                let parts: Vec<&str> = parent.iter().copied().chain([&whiteout[..]]).collect();
                Item::file(parts.join("/"), "")
            }
            Op::Opaque(path) => {
                let parts = path.iter().copied().chain([".wh..wh..opq"]);
                Item::file(parts.collect::<Vec<_>>().join("/"), "")
            }
        });
    }
    tar.finish()
}

/// A file system as a flat list of canonical paths.
#[derive(Clone, Default)]
struct Model {
    names: BTreeMap<Vec<String>, Named>,
    inodes: usize,
    layer: usize,
}

#[derive(Clone, Debug)]
struct Named {
    what: What,
    /// The layer that last brought the name or went through it.
    layer: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Directory(u32),
    File { inode: usize, tag: u32 },
    Symlink { inode: usize, target: String },
}

/// Letter, mode, content, and the first name of the same file, by path.
type Summary = BTreeMap<Vec<u8>, (char, u32, Vec<u8>, Vec<u8>)>;

/// The model has one error; which one it is, other tests say.
struct Refused;

impl Model {
    fn what(&self, path: &[String]) -> Option<&What> {
        self.names.get(path).map(|named| &named.what)
    }

    fn is_directory(&self, path: &[String]) -> bool {
        path.is_empty() || matches!(self.what(path), Some(What::Directory(_)))
    }

    /// The path without links; what is absent stays as it is.
    fn canonical(&self, path: &str, budget: &mut u32) -> Result<Vec<String>, Refused> {
        self.canonical_from(Vec::new(), path, budget)
    }

    fn canonical_from(
        &self,
        mut at: Vec<String>,
        path: &str,
        budget: &mut u32,
    ) -> Result<Vec<String>, Refused> {
        if path.starts_with('/') {
            at.clear();
        }
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if name == ".." {
                if !self.is_directory(&at) {
                    return Err(Refused);
                }
                at.pop().ok_or(Refused)?;
                continue;
            }
            if self.what(&at).is_some() && !self.is_directory(&at) {
                return Err(Refused);
            }
            let mut next = at.clone();
            next.push(name.to_owned());
            if let Some(What::Symlink { target, .. }) = self.what(&next) {
                *budget = budget.checked_sub(1).ok_or(Refused)?;
                at = self.canonical_from(at, target, budget)?;
            } else {
                at = next;
            }
        }
        Ok(at)
    }

    fn touch(&mut self, path: &[String]) {
        for length in 1..=path.len() {
            if let Some(named) = self.names.get_mut(&path[..length]) {
                named.layer = self.layer;
            }
        }
    }

    fn remove(&mut self, path: &[String]) {
        self.names.retain(|name, _| !name.starts_with(path));
    }

    /// The canonical place of an entry, its parents made.
    fn place(&mut self, path: &Path) -> Result<Vec<String>, Refused> {
        let (name, parent) = path.split_last().unwrap();
        let mut place = self.canonical(&parent.join("/"), &mut 40)?;
        for length in 1..=place.len() {
            let above = &place[..length];
            if self.what(above).is_none() {
                let what = What::Directory(0o755);
                let layer = self.layer;
                self.names.insert(above.to_vec(), Named { what, layer });
            }
            if !self.is_directory(above) {
                return Err(Refused);
            }
        }
        self.touch(&place);
        place.push((*name).to_owned());
        Ok(place)
    }

    fn put(&mut self, place: Vec<String>, what: What) {
        let merges = matches!(what, What::Directory(_)) && self.is_directory(&place);
        if !merges {
            self.remove(&place);
        }
        let layer = self.layer;
        self.names.insert(place, Named { what, layer });
    }

    fn apply(&mut self, op: &Op) -> Result<(), Refused> {
        self.inodes += 1;
        let inode = self.inodes;
        match op {
            Op::Directory(path, mode) => {
                let place = self.place(path)?;
                self.put(place, What::Directory(*mode));
            }
            Op::File(path, tag) => {
                let place = self.place(path)?;
                self.put(place, What::File { inode, tag: *tag });
            }
            Op::Symlink(path, target) => {
                let place = self.place(path)?;
                let target = target.clone();
                self.put(place, What::Symlink { inode, target });
            }
            Op::HardLink(path, target) => {
                let place = self.place(path)?;
                self.remove(&place);
                let (name, parent) = target.split_last().unwrap();
                let mut source = self.canonical(&parent.join("/"), &mut 40)?;
                source.push((*name).to_owned());
                let what = self.what(&source).cloned().ok_or(Refused)?;
                if matches!(what, What::Directory(_)) {
                    return Err(Refused);
                }
                self.put(place, what);
            }
            Op::Whiteout(path) => self.hide(path, true)?,
            Op::Opaque(path) => self.hide(path, false)?,
        }
        Ok(())
    }

    fn hide(&mut self, path: &Path, itself: bool) -> Result<(), Refused> {
        let (parent, name) = match itself {
            true => path
                .split_last()
                .map(|(name, parent)| (parent, Some(*name)))
                .unwrap(),
            false => (&path[..], None),
        };
        let Some(mut place) = self.existing_directory(&parent.join("/"))? else {
            return Ok(());
        };
        place.extend(name.map(str::to_owned));
        let layer = self.layer;
        self.names.retain(|name, named| {
            let below = name.starts_with(&place) && (itself || name.len() > place.len());
            !below || named.layer == layer
        });
        Ok(())
    }

    /// Absent is no error, but a loop or a way out of the root is.
    fn existing_directory(&self, path: &str) -> Result<Option<Vec<String>>, Refused> {
        let mut budget = 40;
        match self.canonical(path, &mut budget) {
            Ok(place) if self.is_directory(&place) => Ok(Some(place)),
            Ok(_) => Ok(None),
            Err(Refused) if budget == 0 || self.escapes(path) => Err(Refused),
            Err(Refused) => Ok(None),
        }
    }

    /// Whether following `path` meets `..` at the root before anything else stops it.
    fn escapes(&self, path: &str) -> bool {
        let mut at: Vec<String> = Vec::new();
        let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        for _ in 0..10_000 {
            let Some(name) = todo.pop() else { return false };
            match &name[..] {
                "" => continue,
                _ if !self.is_directory(&at) => return false,
                ".." => match at.pop() {
                    Some(_) => continue,
                    None => return true,
                },
                _ => at.push(name),
            }
            if let Some(What::Symlink { target, .. }) = self.what(&at).cloned() {
                at.pop();
                if target.starts_with('/') {
                    at.clear();
                }
                todo.extend(target.split('/').rev().map(str::to_owned));
            }
        }
        false
    }

    fn listing(&self) -> Summary {
        let mut first: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let mut listing = BTreeMap::new();
        let paths = self.names.iter().map(|(path, named)| {
            let path = format!("/{}", path.join("/")).into_bytes();
            (path, &named.what)
        });
        let paths: BTreeMap<Vec<u8>, &What> = paths.collect();
        for (path, what) in paths {
            let mut same = |inode| first.entry(inode).or_insert_with(|| path.clone()).clone();
            let facts = match what {
                What::Directory(mode) => ('d', *mode, Vec::new(), path.clone()),
                What::File { inode, tag } => {
                    ('-', 0o644, tag.to_string().into_bytes(), same(*inode))
                }
                What::Symlink { inode, target } => {
                    ('l', 0o777, target.clone().into_bytes(), same(*inode))
                }
            };
            listing.insert(path, facts);
        }
        listing
    }
}

/// What the model makes of random layers.
struct Outcome {
    /// The operations that it took, and the tree they make.
    taken: Vec<Vec<Op>>,
    model: Model,
    /// Layers that end in an operation that it refused.
    refused: Option<Vec<Vec<Op>>>,
}

/// Leaves out what the model refuses, so that long histories come about.
fn outcome(layers: Vec<Vec<Op>>) -> Outcome {
    let mut model = Model::default();
    let mut taken: Vec<Vec<Op>> = Vec::new();
    let mut refused = None;
    for ops in layers {
        model.layer += 1;
        taken.push(Vec::new());
        for op in ops {
            let before = model.clone();
            let is_taken = model.apply(&op).is_ok();
            taken.last_mut().unwrap().push(op);
            if !is_taken {
                model = before;
                refused = Some(taken.clone());
                taken.last_mut().unwrap().pop();
            }
        }
    }
    Outcome {
        taken,
        model,
        refused,
    }
}

fn tars(layers: &[Vec<Op>]) -> Vec<Vec<u8>> {
    layers.iter().map(|ops| tar(ops)).collect()
}

fn summary(listing: &Listing) -> Summary {
    listing
        .iter()
        .filter(|(path, _)| *path != b"/")
        .map(|(path, facts)| {
            let content = facts.content.clone();
            let same_as = facts.same_as.clone();
            (path.clone(), (facts.letter, facts.mode, content, same_as))
        })
        .collect()
}

/// The same cases on every run.
fn runner(cases: u32) -> TestRunner {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, random)
}

#[test]
fn random_layers_are_what_the_model_says() {
    let refusals = std::cell::Cell::new(0);
    let result = runner(3000).run(&layers(true), |layers| {
        let outcome = outcome(layers);
        let ours = unpack_tars(tars(&outcome.taken)).unwrap();
        prop_assert_eq!(summary(&ours), outcome.model.listing());
        if let Some(refused) = outcome.refused {
            prop_assert!(unpack_tars(tars(&refused)).is_err());
            refusals.set(refusals.get() + 1);
        }
        Ok(())
    });
    result.unwrap();
    assert!(refusals.get() > 500, "only {} refusals", refusals.get());
}

#[test]
fn random_layers_are_what_umoci_unpacks() {
    let started = now();
    let judge = |layers: &[Vec<Op>]| {
        let gzip = |tar| Layer::new(tar, Compression::Gzip);
        umoci(&tars(layers).into_iter().map(gzip).collect::<Vec<_>>())
    };
    let result = runner(80).run(&layers(false), |layers| {
        let outcome = outcome(layers);
        let theirs = judge(&outcome.taken).map_err(TestCaseError::fail)?;
        let mut ours = unpack_tars(tars(&outcome.taken)).unwrap();
        // No entry sets the root's own facts; umoci's come from its mkdir.
        ours.get_mut(&b"/"[..]).unwrap().mtime = theirs[&b"/"[..]].mtime;
        compare(&ours, &theirs, started);
        if let Some(refused) = outcome.refused {
            prop_assert!(judge(&refused).is_err(), "umoci takes {:?}", refused);
        }
        Ok(())
    });
    result.unwrap();
}
