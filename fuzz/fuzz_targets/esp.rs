//! The EFI system partition's reader, on a sound volume with damage.

#![no_main]

use std::sync::{Arc, OnceLock};

use standby::disk::esp::{Esp, Listing, Volume};
use standby::disk::source::{Shared, Source, read_all};

standby_fuzz::target!(run, seeds);

/// Bytes of a file that are read.
const MOST: u64 = 1 << 20;

struct Sound {
    bytes: Vec<u8>,
    /// First table, and bytes of each.
    table: (usize, usize),
}

fn sound() -> &'static Sound {
    static SOUND: OnceLock<Sound> = OnceLock::new();
    SOUND.get_or_init(|| {
        let volume = Volume {
            serial: 1,
            label: "ESP".into(),
            time: 1_700_000_000,
            hidden_sectors: 2048,
            free: 0,
        };
        let files = [
            ("EFI/BOOT/BOOTX64.EFI", 3000),
            ("EFI/A long name with spaces.txt", 10),
            ("loader.conf", 0),
        ];
        let contents = files.map(|(_, length)| {
            Arc::new(vec![7u8; usize::try_from(length).expect("small")]) as Shared<'_>
        });
        let image = Esp::plan(&volume, &files).and_then(|esp| {
            let image = esp.image(contents.to_vec())?;
            Ok(read_all(&image, 64 << 20).expect("memory"))
        });
        let bytes = image.expect("a volume");
        let word = |at: usize| usize::from(bytes[at]) | usize::from(bytes[at + 1]) << 8;
        let table = (word(14) * 512, word(36) * 512);
        Sound { bytes, table }
    })
}

/// The volume with changes; what is elsewhere is not copied.
struct Damaged {
    /// Boot sector, start of the first table, start of the data.
    windows: [(usize, Vec<u8>); 4],
}

const LENGTHS: [usize; 3] = [512, 1024, 16 << 10];

impl Damaged {
    fn new(data: &[u8]) -> Self {
        let sound = sound();
        let (table, length) = sound.table;
        let places = [0, table, table + 2 * length];
        let mut all = Vec::new();
        for (place, length) in places.into_iter().zip(LENGTHS) {
            all.extend_from_slice(&sound.bytes[place..place + length]);
        }
        standby_fuzz::patch(&mut all, data);
        let data = all.split_off(LENGTHS[0] + LENGTHS[1]);
        let first = all.split_off(LENGTHS[0]);
        // Both tables, or no volume gets past their comparison.
        let second = (table + length, first.clone());
        Damaged {
            windows: [(0, all), (table, first), second, (places[2], data)],
        }
    }
}

impl Source for Damaged {
    fn length(&self) -> u64 {
        sound().bytes.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        sound().bytes.read_at(offset, buffer)?;
        let start = usize::try_from(offset).map_err(std::io::Error::other)?;
        for (place, bytes) in &self.windows {
            let (from, to) = (
                start.max(*place),
                (start + buffer.len()).min(place + bytes.len()),
            );
            if from < to {
                buffer[from - start..to - start].copy_from_slice(&bytes[from - place..to - place]);
            }
        }
        Ok(())
    }
}

fn run(data: &[u8]) {
    let volume = Arc::new(Damaged::new(data));
    let Ok(listing) = Listing::read(&volume) else {
        return;
    };
    let _ = listing.dump();
    for item in listing.items.iter().filter(|item| !item.directory) {
        assert!(listing.file(&item.path).is_some());
        let content = listing
            .content(volume.clone(), item)
            .expect("a file lies in the volume");
        assert_eq!(content.length(), u64::from(item.length));
        if content.length() <= MOST {
            read_all(&content, MOST).expect("and can be read");
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let data = LENGTHS[0] + LENGTHS[1];
    let patches = [
        (13, 1),
        (LENGTHS[0] + 12, 5),
        (data + 11, 0x10),
        (data + 64, 0xe5),
    ];
    let mut seeds: Vec<_> = patches
        .iter()
        .map(|(place, byte)| standby_fuzz::a_patch(*place, &[*byte]))
        .collect();
    seeds.push(Vec::new());
    seeds.push(standby_fuzz::a_patch(data + 32, &sound().bytes[..64]));
    seeds
}
