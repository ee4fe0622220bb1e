//! rpm's database in SQLite: a table `Packages` of headers (rpm.org, "RPM V4
//! Package format", header structure, without the magic that files have).

use super::sqlite::{Database, SqliteError, Value};
use super::{Found, MOST_FIELD, MOST_PACKAGES, Package, System};

/// Index entries of a header.
const MOST_ENTRIES: usize = 1 << 16;
/// Bytes of an index entry: tag, type, offset, count.
const ENTRY: usize = 16;
/// Types of values (rpmtag.h).
const INT32: u32 = 4;
const STRING: u32 = 6;
/// Tags (rpmtag.h).
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const ARCH: u32 = 1022;
/// What rpm keeps its keys as: no software.
const KEYS: &str = "gpg-pubkey";
/// Rows that are looked at; some are keys, some may be damaged.
const MOST_ROWS: usize = 2 * MOST_PACKAGES;

/// Reads a database of `size` bytes.
pub(super) fn read(
    size: u64,
    read: &dyn Fn(u64, &mut [u8]) -> std::io::Result<()>,
    path: &str,
    found: &mut Found,
) -> std::io::Result<()> {
    let (mut rows, mut left_out) = (0, 0);
    let result = Database::open(size, read).and_then(|database| {
        database.table("Packages", |columns| {
            rows += 1;
            if rows > MOST_ROWS {
                return false;
            }
            let package = match columns {
                [_, Value::Bytes(header)] => package(header),
                _ => None,
            };
            let sound = package.is_some_and(|package| package.name == KEYS || found.add(package));
            left_out += usize::from(!sound);
            true
        })
    });
    found.left_out(path, left_out);
    if rows > MOST_ROWS && found.packages.len() < MOST_PACKAGES {
        found.note(format!(
            "{path}: it has more than {MOST_ROWS} rows; the rest is left out"
        ));
    }
    match result {
        Err(SqliteError::Damaged(problem)) => {
            found.note(format!(
                "{path}: it is damaged: {problem}; not read any further"
            ));
            Ok(())
        }
        Err(SqliteError::Io(error)) => Err(error),
        Ok(()) => Ok(()),
    }
}

/// The package of a header.
fn package(header: &[u8]) -> Option<Package> {
    let number = |at: usize| -> Option<u32> {
        let bytes = header.get(at..)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes))
    };
    let entries = usize::try_from(number(0)?).ok()?;
    let len = usize::try_from(number(4)?).ok()?;
    if entries > MOST_ENTRIES {
        return None;
    }
    let data = header.get(8 + ENTRY * entries..)?.get(..len)?;
    let value = |tag: u32, kind: u32| -> Option<&[u8]> {
        let at = (0..entries)
            .map(|index| 8 + ENTRY * index)
            .find(|at| number(*at) == Some(tag) && number(at + 4) == Some(kind))?;
        data.get(usize::try_from(number(at + 8)?).ok()?..)
    };
    let text = |tag: u32| -> Option<&str> {
        let bytes = value(tag, STRING)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        // What is too long stays so.
        let end = end.min(MOST_FIELD + 1);
        std::str::from_utf8(bytes.get(..end)?).ok()
    };
    let epoch = value(EPOCH, INT32).and_then(|bytes| bytes.first_chunk());
    let epoch = match epoch.map(|bytes| u32::from_be_bytes(*bytes)) {
        None | Some(0) => String::new(),
        Some(epoch) => format!("{epoch}:"),
    };
    Some(Package {
        system: System::Rpm,
        name: text(NAME)?.to_owned(),
        architecture: text(ARCH).unwrap_or_default().to_owned(),
        version: format!("{epoch}{}-{}", text(VERSION)?, text(RELEASE)?),
    })
}
