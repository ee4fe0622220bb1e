//! As much of SQLite's file format as it takes to read one table's rows
//! (sqlite.org, "Database File Format"): pages are read as they are needed, each
//! at most once, so that no file leads in circles.

use std::collections::HashSet;
use std::io;

/// What a database begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Bytes of the database's header, on page 1 before that page's own.
const HEADER: usize = 100;
/// Bytes that a row may have; a kernel's header in an rpm database has some 3 MiB.
const MOST_ROW: u64 = 32 << 20;
/// Bytes that every row has beside its own: where it is, its size, its number.
const CELL: u64 = 4;
/// Columns that a row may have.
const MOST_COLUMNS: usize = 100;
/// Bytes of the schema's rows.
const MOST_SCHEMA: u64 = 1 << 20;
/// Page types: an inner node and a leaf of a table's tree.
const INNER: u8 = 5;
const LEAF: u8 = 13;

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SqliteError {
    /// Its bytes could not be read back.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// It is not what the format says.
    #[error("{0}")]
    Damaged(&'static str),
}

const fn damaged(what: &'static str) -> SqliteError {
    SqliteError::Damaged(what)
}

const TWICE: SqliteError = damaged("it leads to a page twice");

/// Fills a buffer from an offset of the file.
type Read<'a> = dyn Fn(u64, &mut [u8]) -> io::Result<()> + 'a;

/// A database.
pub(super) struct Database<'a> {
    read: &'a Read<'a>,
    page_size: usize,
    /// Bytes of a page that are in use.
    usable: usize,
    pages: u32,
    seen: HashSet<u32>,
    /// Bytes of rows that are not read yet: no more than the file has, or some
    /// are read twice.
    left: u64,
}

/// A column's value; of numbers, whole ones only.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    Number(i64),
    /// Text or blob.
    Bytes(&'a [u8]),
}

impl<'a> Database<'a> {
    /// A database of `size` bytes.
    pub(super) fn open(size: u64, read: &'a Read<'a>) -> Result<Self, SqliteError> {
        let mut header = [0; HEADER];
        if size < HEADER as u64 {
            return Err(damaged("it is too short"));
        }
        read(0, &mut header)?;
        if !header.starts_with(MAGIC) {
            return Err(damaged("it does not begin like a database"));
        }
        let page_size = match u16::from_be_bytes([header[16], header[17]]) {
            1 => 65_536,
            size if size >= 512 && size.is_power_of_two() => usize::from(size),
            _ => return Err(damaged("its page size is none")),
        };
        let usable = page_size - usize::from(header[20]);
        if usable < 480 {
            return Err(damaged("too much of its pages is reserved"));
        }
        let pages = u32::try_from(size / page_size as u64);
        Ok(Database {
            read,
            page_size,
            usable,
            pages: pages.map_err(|_| damaged("it has too many pages"))?,
            seen: HashSet::new(),
            left: size,
        })
    }

    /// Hands the columns of every row of a table to `row`, until it is false.
    pub(super) fn table(
        mut self,
        name: &str,
        mut row: impl FnMut(&[Value<'_>]) -> bool,
    ) -> Result<(), SqliteError> {
        let mut root = None;
        self.rows(1, MOST_SCHEMA, &mut |columns| {
            if let [
                Value::Bytes(b"table"),
                Value::Bytes(found),
                _,
                Value::Number(page),
                ..,
            ] = columns
                && *found == name.as_bytes()
            {
                root = u32::try_from(*page).ok();
            }
            true
        })?;
        let root = root.ok_or(damaged("it has no table of packages"))?;
        self.rows(root, MOST_ROW, &mut row)
    }

    /// All rows of the tree at a page.
    fn rows(
        &mut self,
        root: u32,
        most: u64,
        row: &mut dyn FnMut(&[Value<'_>]) -> bool,
    ) -> Result<(), SqliteError> {
        let mut todo = vec![root];
        while let Some(number) = todo.pop() {
            let page = self.page(number)?;
            let start = if number == 1 { HEADER } else { 0 };
            let head = page.get(start..).unwrap_or_default();
            let kind = head.first().copied();
            let cells = usize::from(short(head, 3)?);
            let list = start + if kind == Some(INNER) { 12 } else { 8 };
            let cell = |index: usize| {
                let at = usize::from(short(&page, list + 2 * index)?);
                page.get(at..self.usable)
                    .ok_or(damaged("a cell is outside its page"))
            };
            match kind {
                Some(INNER) => {
                    todo.push(long(head, 8)?);
                    for index in (0..cells).rev() {
                        todo.push(long(cell(index)?, 0)?);
                    }
                    if todo.len() > self.pages as usize {
                        return Err(TWICE);
                    }
                }
                Some(LEAF) => {
                    let payloads: Vec<(u64, &[u8])> = (0..cells)
                        .map(|index| {
                            let (size, rest) = varint(cell(index)?)?;
                            let (_row_id, rest) = varint(rest)?;
                            Ok((size, rest))
                        })
                        .collect::<Result<_, SqliteError>>()?;
                    for (size, rest) in payloads {
                        let record = self.payload(size, rest, most)?;
                        if !row(&columns(&record)?) {
                            return Ok(());
                        }
                    }
                }
                _ => return Err(damaged("a page is no part of a table")),
            }
        }
        Ok(())
    }

    /// A page that was not read before; pages are counted from 1.
    fn page(&mut self, number: u32) -> Result<Vec<u8>, SqliteError> {
        if number == 0 || number > self.pages {
            return Err(damaged("it leads to a page that it does not have"));
        }
        if !self.seen.insert(number) {
            return Err(TWICE);
        }
        let mut page = vec![0; self.page_size];
        let at = u64::from(number - 1) * self.page_size as u64;
        (self.read)(at, &mut page)?;
        Ok(page)
    }

    /// A row's bytes: the first of them in its cell, the rest in a chain of pages.
    fn payload(&mut self, size: u64, cell: &[u8], most: u64) -> Result<Vec<u8>, SqliteError> {
        if size > most {
            return Err(damaged("a row is too large"));
        }
        let left = self.left.checked_sub(size.saturating_add(CELL));
        self.left = left.ok_or(damaged("its rows have more bytes than the file"))?;
        let size = usize::try_from(size).map_err(|_| damaged("a row is too large"))?;
        let usable = self.usable;
        let whole = usable - 35;
        let least = (usable - 12) * 32 / 255 - 23;
        let local = match size {
            size if size <= whole => size,
            size => match least + (size - least) % (usable - 4) {
                fit if fit <= whole => fit,
                _ => least,
            },
        };
        let cut = || damaged("a row is cut off");
        let (first, rest) = cell.split_at_checked(local).ok_or(cut())?;
        let mut bytes = first.to_vec();
        let mut next = match size > local {
            true => long(rest, 0)?,
            false => 0,
        };
        while bytes.len() < size {
            let page = self.page(next)?;
            next = long(&page, 0)?;
            let count = (size - bytes.len()).min(usable - 4);
            bytes.extend_from_slice(page.get(4..4 + count).ok_or(cut())?);
        }
        Ok(bytes)
    }
}

/// The values of a record.
fn columns(record: &[u8]) -> Result<Vec<Value<'_>>, SqliteError> {
    let (head, _) = varint(record)?;
    let head = usize::try_from(head).map_err(|_| damaged("a record's header"))?;
    let (head, mut body) = record
        .split_at_checked(head)
        .ok_or(damaged("a record's header"))?;
    let (_, mut kinds) = varint(head)?;
    let mut values = Vec::new();
    while !kinds.is_empty() {
        if values.len() == MOST_COLUMNS {
            return Err(damaged("a row has too many columns"));
        }
        let (kind, rest) = varint(kinds)?;
        kinds = rest;
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return Err(damaged("a column is of no kind")),
            kind => (kind - 12) / 2,
        };
        let size = usize::try_from(size).map_err(|_| damaged("a column is too large"))?;
        let (bytes, rest) = body
            .split_at_checked(size)
            .ok_or(damaged("a column is cut off"))?;
        body = rest;
        values.push(match kind {
            1..=6 => Value::Number(number(bytes)),
            8 => Value::Number(0),
            9 => Value::Number(1),
            0 | 7 => Value::Null,
            _ => Value::Bytes(bytes),
        });
    }
    Ok(values)
}

/// A signed big-endian number of up to eight bytes.
fn number(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let start = if negative { -1 } else { 0 };
    bytes
        .iter()
        .fold(start, |n, byte| n << 8 | i64::from(*byte))
}

/// A number in base 128, big-endian, of up to nine bytes, the ninth whole.
fn varint(bytes: &[u8]) -> Result<(u64, &[u8]), SqliteError> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(9).enumerate() {
        let rest = bytes.get(index + 1..).unwrap_or_default();
        if index == 8 {
            return Ok((value << 8 | u64::from(*byte), rest));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok((value, rest));
        }
    }
    Err(damaged("a number is cut off"))
}

fn short(bytes: &[u8], at: usize) -> Result<u16, SqliteError> {
    let found = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    found
        .map(|bytes| u16::from_be_bytes(*bytes))
        .ok_or(damaged("a page is cut off"))
}

fn long(bytes: &[u8], at: usize) -> Result<u32, SqliteError> {
    let found = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    found
        .map(|bytes| u32::from_be_bytes(*bytes))
        .ok_or(damaged("a page is cut off"))
}
