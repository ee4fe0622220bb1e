//! Finding the root: the partitions that the root hash names, on any disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use standby_contract::gpt::{self, Guid};

use crate::console::Console;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);
/// How long disks may take to answer a look; the next one hears those that were slower.
const PROMPT: Duration = Duration::from_secs(2);
/// The first 34 blocks: boot record, header and 128 entries.
const TABLE: usize = 34 * 512;

/// A partition as the kernel sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Name beneath `/dev` and `/sys/class/block`.
    pub name: String,
    /// Device number, `major:minor`.
    pub number: String,
    /// Bytes.
    pub size: u64,
}

/// The two partitions of a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The disk they are on.
    pub disk: String,
    /// The file system.
    pub data: Partition,
    /// Its hash tree.
    pub hashes: Partition,
}

/// No disk has the root.
#[derive(Debug, thiserror::Error)]
#[error(
    "the root partition {root} and its hash partition {hashes} were not found within {} s; disks seen: {seen}",
    .waited.as_secs()
)]
pub struct NotFound {
    waited: Duration,
    root: Guid,
    hashes: Guid,
    seen: String,
}

/// The folders that are looked into.
pub struct Places {
    /// `/sys/class/block`.
    pub block: PathBuf,
    /// `/dev`.
    pub devices: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Places {
            block: PathBuf::from("/sys/class/block"),
            devices: PathBuf::from("/dev"),
        }
    }
}

/// Looks for roots. Each disk is read on a thread of its own: one that is dying may
/// not answer for minutes, and must not keep the others from being used.
pub struct Finder {
    places: Places,
    /// Disks that have been asked for their table and have not answered.
    asked: BTreeSet<String>,
    tell: Sender<Answer>,
    answers: Receiver<Answer>,
}

/// A disk's name and the beginning of it.
type Answer = (String, io::Result<Vec<u8>>);

/// The roots there are now, and what was seen on each disk.
type Seen = (Vec<Root>, BTreeMap<String, String>);

impl Finder {
    /// Will look there.
    pub fn new(places: Places) -> Self {
        let (tell, answers) = channel();
        Finder {
            places,
            asked: BTreeSet::new(),
            tell,
            answers,
        }
    }

    /// Polls until a disk has the root of this hash, or until so long after `start`;
    /// looks once in any case.
    pub fn wait(
        &mut self,
        root_hash: &[u8; 32],
        console: &Console,
        start: Instant,
        most: Duration,
    ) -> Result<Vec<Root>, NotFound> {
        let (root, hashes) = gpt::root_guids(root_hash);
        let mut said = Instant::now();
        loop {
            let (roots, seen) = self.look(root, hashes);
            if !roots.is_empty() {
                return Ok(roots);
            }
            let seen = describe(&seen);
            let waited = start.elapsed();
            if waited >= most {
                return Err(NotFound {
                    waited,
                    root,
                    hashes,
                    seen,
                });
            }
            if said.elapsed() >= Duration::from_secs(5) {
                said = Instant::now();
                console.say(format!(
                    "waiting for the root partition {root}; disks seen: {seen}"
                ));
            }
            // A machine without the disk should not be kept hot for a minute.
            let slow = start.elapsed() > Duration::from_secs(3);
            std::thread::sleep(if slow { PAUSE * 25 } else { PAUSE });
        }
    }

    /// Roots on other disks than those that were tried, or what was seen for so long.
    /// One that was taken out counts as untried.
    pub fn wait_for_others(
        &mut self,
        root_hash: &[u8; 32],
        tried: &mut BTreeMap<String, String>,
        most: Duration,
    ) -> Result<Vec<Root>, String> {
        let (root, hashes) = gpt::root_guids(root_hash);
        let start = Instant::now();
        loop {
            let (mut roots, seen) = self.look(root, hashes);
            tried.retain(|disk, _| seen.contains_key(disk));
            roots.retain(|root| !tried.contains_key(&root.disk));
            if !roots.is_empty() {
                return Ok(roots);
            }
            if start.elapsed() >= most {
                return Err(describe(&seen));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn look(&mut self, root: Guid, hashes: Guid) -> Seen {
        for disk in disks(&self.places.block) {
            if self.asked.insert(disk.clone()) {
                self.ask(disk);
            }
        }
        let mut seen = Seen::default();
        let start = Instant::now();
        while !self.asked.is_empty() {
            let left = PROMPT.saturating_sub(start.elapsed());
            let Ok((disk, table)) = self.answers.recv_timeout(left) else {
                break;
            };
            self.asked.remove(&disk);
            self.read(disk, table, (root, hashes), &mut seen);
        }
        for disk in &self.asked {
            seen.1.insert(disk.clone(), "does not answer".into());
        }
        seen
    }

    fn ask(&self, disk: String) {
        let (tell, device) = (self.tell.clone(), self.places.devices.join(&disk));
        let name = disk.clone();
        let work = move || {
            let _ = tell.send((name, read_table(&device)));
        };
        let thread = std::thread::Builder::new().name("disk".into());
        if let Err(error) = thread.spawn(work) {
            let _ = self.tell.send((disk, Err(error)));
        }
    }

    fn read(
        &self,
        disk: String,
        table: io::Result<Vec<u8>>,
        (root, hashes): (Guid, Guid),
        (roots, seen): &mut Seen,
    ) {
        let words = match table.map(|table| gpt::read(&table)) {
            Err(error) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Ok(Ok((_, entries))) => {
                let find = |unique: Guid| {
                    let entry = entries.iter().find(|entry| entry.unique == unique)?;
                    partition(&self.places.block, &disk, entry)
                };
                if let (Some(data), Some(hashes)) = (find(root), find(hashes)) {
                    roots.push(Root {
                        disk: disk.clone(),
                        data,
                        hashes,
                    });
                    roots.sort_by(|a, b| a.disk.cmp(&b.disk));
                }
                format!("{} other partitions", entries.len())
            }
        };
        seen.insert(disk, words);
    }
}

fn describe(seen: &BTreeMap<String, String>) -> String {
    if seen.is_empty() {
        return "none".into();
    }
    let words: Vec<String> = seen
        .iter()
        .map(|(disk, words)| format!("{disk} ({words})"))
        .collect();
    words.join(", ")
}

/// Whole disks, sorted by name; those that only exist in memory are left out.
fn disks(block: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(block)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            !["dm-", "loop", "ram", "zram"]
                .iter()
                .any(|p| name.starts_with(p))
        })
        .filter(|name| !block.join(name).join("partition").exists())
        .filter(|name| number::<u64>(&block.join(name).join("size")).is_some_and(|size| size > 0))
        .collect();
    names.sort();
    names
}

fn read_table(device: &Path) -> io::Result<Vec<u8>> {
    let mut table = vec![0; TABLE];
    File::open(device)?.read_exact(&mut table)?;
    Ok(table)
}

/// The kernel's partition of this disk that starts and ends where the entry
/// says. The kernel numbers them, but place and size leave no doubt.
fn partition(block: &Path, disk: &str, entry: &gpt::Entry) -> Option<Partition> {
    let first = entry.first_lba.get();
    let sectors = entry.last_lba.get().checked_sub(first)?.checked_add(1)?;
    std::fs::read_dir(block.join(disk))
        .ok()?
        .filter_map(|found| found.ok()?.file_name().into_string().ok())
        .find_map(|name| {
            let folder = block.join(disk).join(&name);
            let start: u64 = number(&folder.join("start"))?;
            let size: u64 = number(&folder.join("size"))?;
            if start != first || size != sectors {
                return None;
            }
            Some(Partition {
                number: std::fs::read_to_string(folder.join("dev"))
                    .ok()?
                    .trim_end()
                    .to_owned(),
                name,
                size: size.checked_mul(gpt::SECTOR)?,
            })
        })
}

fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    std::fs::read_to_string(path).ok()?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use zerocopy::little_endian::{U32, U64};
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    const HASH: [u8; 32] = [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
        25, 26, 27, 28, 29, 30, 31,
    ];

    /// A table with two partitions of the root hash behind an empty entry.
    fn table() -> Vec<u8> {
        let (root, hashes) = gpt::root_guids(&HASH);
        let mut entries = vec![gpt::Entry::new_zeroed(); 128];
        for (index, unique, first, last) in [(1, root, 2048, 4095), (2, hashes, 4096, 4103)] {
            entries[index] = gpt::Entry {
                kind: gpt::kind::ROOT_X86_64,
                unique,
                first_lba: U64::new(first),
                last_lba: U64::new(last),
                ..gpt::Entry::new_zeroed()
            };
        }
        let mut header = gpt::Header {
            signature: *b"EFI PART",
            header_size: U32::new(92),
            my_lba: U64::new(1),
            entries_lba: U64::new(2),
            entry_count: U32::new(128),
            entry_size: U32::new(128),
            entries_crc: U32::new(gpt::crc32(entries.as_bytes())),
            ..gpt::Header::new_zeroed()
        };
        header.header_crc = U32::new(gpt::crc32(header.as_bytes()));
        let mut out = vec![0; 512];
        out.extend_from_slice(header.as_bytes());
        out.resize(1024, 0);
        out.extend_from_slice(entries.as_bytes());
        out
    }

    fn machine(folder: &Path, partitions: &[(&str, u64, u64)]) -> Places {
        let places = Places {
            block: folder.join("block"),
            devices: folder.join("dev"),
        };
        std::fs::create_dir_all(&places.devices).unwrap();
        for disk in ["vda", "loop0", "sr0"] {
            std::fs::create_dir_all(places.block.join(disk)).unwrap();
            let size = if disk == "sr0" { "0\n" } else { "8192\n" };
            std::fs::write(places.block.join(disk).join("size"), size).unwrap();
        }
        for (index, (name, start, size)) in partitions.iter().enumerate() {
            let folder = places.block.join("vda").join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("start"), format!("{start}\n")).unwrap();
            std::fs::write(folder.join("size"), format!("{size}\n")).unwrap();
            std::fs::write(folder.join("dev"), format!("254:{}\n", index + 1)).unwrap();
        }
        places
    }

    #[test]
    fn the_partitions_of_the_root_hash_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let places = machine(
            folder.path(),
            &[("vda2", 2048, 2048), ("vda3", 4096, 8), ("vda4", 5000, 8)],
        );
        let console = Console::default();
        let devices = places.devices.clone();
        let mut finder = Finder::new(places);
        let mut look = || finder.wait(&HASH, &console, Instant::now(), Duration::ZERO);
        let error = look().unwrap_err().to_string();
        assert!(
            error.contains("were not found within 0 s; disks seen: vda ("),
            "{error}"
        );
        std::fs::write(devices.join("vda"), table()).unwrap();
        let roots = look().unwrap();
        assert_eq!(roots.len(), 1);
        assert_eq!(roots[0].disk, "vda");
        assert_eq!(roots[0].data.name, "vda2");
        assert_eq!(roots[0].data.size, 2048 * 512);
        assert_eq!(roots[0].hashes.number, "254:2");
    }

    #[test]
    fn other_disks_are_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let (root, hashes) = gpt::root_guids(&HASH);
        let places = machine(folder.path(), &[("vda2", 2048, 2047)]);
        let device = places.devices.join("vda");
        let mut finder = Finder::new(places);
        std::fs::write(&device, table()).unwrap();
        let (roots, seen) = finder.look(root, hashes);
        assert_eq!(roots, []);
        assert_eq!(describe(&seen), "vda (2 other partitions)");

        std::fs::write(&device, vec![0; TABLE]).unwrap();
        let (_, seen) = finder.look(root, hashes);
        assert_eq!(describe(&seen), "vda (no GUID partition table)");
        assert_eq!(describe(&BTreeMap::new()), "none");
    }

    #[test]
    fn a_disk_that_does_not_answer_delays_nobody_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let places = machine(folder.path(), &[("vda2", 2048, 2048), ("vda3", 4096, 8)]);
        std::fs::write(places.devices.join("vda"), table()).unwrap();
        // A pipe without a writer: whoever opens it waits.
        let dying = places.devices.join("sda");
        std::fs::create_dir(places.block.join("sda")).unwrap();
        std::fs::write(places.block.join("sda/size"), "8192\n").unwrap();
        nix::unistd::mkfifo(&dying, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut finder = Finder::new(places);
        let (root, hashes) = gpt::root_guids(&HASH);
        for _ in 0..2 {
            let (roots, seen) = finder.look(root, hashes);
            assert_eq!(roots.len(), 1);
            let words = "sda (does not answer), vda (2 other partitions)";
            assert_eq!(describe(&seen), words);
        }
        // It answers after all, to the first question.
        std::fs::write(&dying, vec![0; TABLE]).unwrap();
        let (_, seen) = finder.look(root, hashes);
        assert!(describe(&seen).starts_with("sda (no GUID"), "{seen:?}");
    }

    #[test]
    fn a_slow_disk_is_waited_for_where_the_prompt_ones_are_no_use() {
        let folder = tempfile::tempdir().unwrap();
        let places = machine(folder.path(), &[("vda2", 2048, 2048), ("vda3", 4096, 8)]);
        let (slow, block) = (places.devices.join("vda"), places.block.join("vda"));
        nix::unistd::mkfifo(&slow, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut finder = Finder::new(places);
        let mut tried = BTreeMap::from([("sda".to_owned(), "damaged".to_owned())]);
        let seen = finder.wait_for_others(&HASH, &mut tried, Duration::ZERO);
        assert_eq!(seen.unwrap_err(), "vda (does not answer)");
        assert_eq!(tried.len(), 0, "sda is not there any more");
        let answer = std::thread::spawn(move || {
            std::fs::write(&slow, table()).unwrap();
            // An ordinary disk from now on.
            std::fs::remove_file(&slow).unwrap();
            std::fs::write(&slow, table()).unwrap();
        });
        let wait = Duration::from_secs(60);
        let found = finder.wait_for_others(&HASH, &mut tried, wait).unwrap();
        assert_eq!(found.len(), 1);
        answer.join().unwrap();

        let mut look = || finder.wait_for_others(&HASH, &mut tried, Duration::ZERO);
        assert_eq!(look().unwrap().len(), 1);
        tried.insert("vda".into(), "damaged".into());
        let mut look = || finder.wait_for_others(&HASH, &mut tried, Duration::ZERO);
        assert_eq!(look().unwrap_err(), "vda (2 other partitions)");
        // Another one in its place.
        let away = block.with_file_name("sr1");
        std::fs::rename(&block, &away).unwrap();
        assert_eq!(
            look().unwrap_err(),
            "sr1 (No such file or directory (os error 2))"
        );
        std::fs::rename(&away, &block).unwrap();
        assert_eq!(look().unwrap().len(), 1);
    }
}
