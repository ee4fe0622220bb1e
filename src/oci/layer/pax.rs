//! Extended headers: PAX records (POSIX.1-2017 `pax`, "pax Extended Header").

use standby_tree::{Time, Xattrs};

use super::error::Problem;
use super::limits::Limits;
use super::sparse::Run;

/// Where star, GNU tar and Go put extended attributes. libarchive writes this
/// key too, beside its own `LIBARCHIVE.xattr.`, which no container engine reads.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// Attributes that belong to the host or to its overlay mounts, never to an
/// image (umoci leaves out the same ones).
const HOST_XATTRS: [&[u8]; 2] = [b"security.selinux", b"system.nfs4_acl"];
const OVERLAY_XATTRS: &[u8] = b"trusted.overlay.";

/// What one extended header says about the entry after it.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Xattrs,
    pub(super) sparse: SparseKeys,
}

/// The `GNU.sparse.` keys of the formats 0.0, 0.1 and 1.0 (GNU tar manual,
/// "Storing Sparse Files").
#[derive(Debug, Default)]
pub(super) struct SparseKeys {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    pub(super) count: Option<u64>,
    pub(super) runs: Vec<Run>,
    /// Format 0.0: an offset that waits for its length.
    pending: Option<u64>,
}

impl Pax {
    /// Reads all records of an extended header. A later record of a key wins, an
    /// empty value takes an earlier one back.
    pub(super) fn parse(mut data: &[u8], limits: &Limits) -> Result<Self, Problem> {
        let mut pax = Pax::default();
        while !data.is_empty() {
            let (key, value, rest) = record(data)?;
            pax.take(key, value, limits)?;
            data = rest;
        }
        if pax.sparse.pending.is_some() {
            return Err(Problem::Sparse("an offset without a length"));
        }
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8], limits: &Limits) -> Result<(), Problem> {
        match key {
            b"path" => self.path = name(value)?,
            b"linkpath" => self.link_path = name(value)?,
            b"size" => self.size = decimal(value, "size")?,
            b"uid" => self.uid = decimal(value, "uid")?,
            b"gid" => self.gid = decimal(value, "gid")?,
            b"mtime" => self.mtime = time(value)?,
            _ => match key.strip_prefix(XATTR) {
                Some(attribute) => return self.take_xattr(attribute, value, limits),
                None => {
                    if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                        self.sparse.take(key, value)?;
                    }
                }
            },
        }
        Ok(())
    }

    fn take_xattr(&mut self, key: &[u8], value: &[u8], limits: &Limits) -> Result<(), Problem> {
        let limit = |what, limit| Err(Problem::Limit { what, limit });
        if key.is_empty() {
            return Err(Problem::Extended("an attribute without a name"));
        }
        if key.len() as u64 > limits.name_bytes {
            return limit("bytes in an attribute's name", limits.name_bytes);
        }
        if value.len() as u64 > limits.xattr_bytes {
            return limit("bytes in an attribute", limits.xattr_bytes);
        }
        if HOST_XATTRS.contains(&key) || key.starts_with(OVERLAY_XATTRS) {
            return Ok(());
        }
        if value.is_empty() {
            self.xattrs.remove(key);
            return Ok(());
        }
        self.xattrs.insert(key.into(), value.into());
        if self.xattrs.len() as u64 > limits.xattrs {
            return limit("attributes of an entry", limits.xattrs);
        }
        Ok(())
    }
}

impl SparseKeys {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Problem> {
        match key {
            b"major" => self.major = decimal(value, "GNU.sparse.major")?,
            b"minor" => self.minor = decimal(value, "GNU.sparse.minor")?,
            b"name" => self.name = name(value)?,
            b"size" | b"realsize" => self.real_size = decimal(value, "GNU.sparse.size")?,
            b"numblocks" => self.count = decimal(value, "GNU.sparse.numblocks")?,
            b"offset" => {
                let offset = required(value, "GNU.sparse.offset")?;
                if self.pending.replace(offset).is_some() {
                    return Err(Problem::Sparse("an offset without a length"));
                }
            }
            b"numbytes" => {
                let length = required(value, "GNU.sparse.numbytes")?;
                let offset = self.pending.take();
                let offset = offset.ok_or(Problem::Sparse("a length without an offset"))?;
                self.runs.push(Run { offset, length });
            }
            b"map" => self.runs = map(value)?,
            _ => {}
        }
        Ok(())
    }
}

/// Format 0.1: `OFFSET,LENGTH,OFFSET,LENGTH…`.
fn map(value: &[u8]) -> Result<Vec<Run>, Problem> {
    let mut runs = Vec::new();
    let mut numbers = value.split(|byte| *byte == b',');
    while let Some(offset) = numbers.next() {
        let offset = required(offset, "GNU.sparse.map")?;
        let length = numbers
            .next()
            .ok_or(Problem::Sparse("an offset without a length"))?;
        let length = required(length, "GNU.sparse.map")?;
        runs.push(Run { offset, length });
    }
    Ok(runs)
}

/// Key, value, and what follows the record.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Splits off `LENGTH KEY=VALUE\n`; the length counts the whole record.
fn record(data: &[u8]) -> Result<Record<'_>, Problem> {
    let bad = Problem::Extended;
    // Seven digits hold any length that the cap on the header lets pass.
    let space = data.iter().take(20).position(|byte| *byte == b' ');
    let space = space.ok_or(bad("a record without a length"))?;
    let digits = data.get(..space).unwrap_or_default();
    let length = parse_decimal(digits).and_then(|length| usize::try_from(length).ok());
    let length = length.ok_or(bad("a record without a length"))?;
    let record = data.get(space + 1..length);
    let record = record.ok_or(bad("a record that ends outside its header"))?;
    let record = record
        .strip_suffix(b"\n")
        .ok_or(bad("a record without its newline"))?;
    let equals = record.iter().position(|byte| *byte == b'=');
    let equals = equals.ok_or(bad("a record without '='"))?;
    let (key, value) = record.split_at(equals);
    if key.is_empty() || key.contains(&0) {
        return Err(bad("a record without a key"));
    }
    let rest = data.get(length..).unwrap_or_default();
    Ok((key, value.get(1..).unwrap_or_default(), rest))
}

fn name(value: &[u8]) -> Result<Option<Vec<u8>>, Problem> {
    if value.contains(&0) {
        return Err(Problem::Nul);
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn decimal(value: &[u8], field: &'static str) -> Result<Option<u64>, Problem> {
    if value.is_empty() {
        return Ok(None);
    }
    required(value, field).map(Some)
}

fn required(value: &[u8], field: &'static str) -> Result<u64, Problem> {
    parse_decimal(value).ok_or(Problem::Number(field))
}

/// Decimal digits and nothing else.
pub(super) fn parse_decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// `[-]SECONDS[.FRACTION]`; what is finer than a nanosecond is cut off.
fn time(value: &[u8]) -> Result<Option<Time>, Problem> {
    if value.is_empty() {
        return Ok(None);
    }
    parse_time(value).map(Some).ok_or(Problem::Number("mtime"))
}

fn parse_time(value: &[u8]) -> Option<Time> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(value) => (true, value),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(parse_decimal(parts.next()?)?).ok()?;
    let mut nanoseconds = 0u32;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    for place in 0..9 {
        let digit = fraction.get(place).map_or(0, |byte| byte - b'0');
        nanoseconds = nanoseconds * 10 + u32::from(digit);
    }
    Some(match (negative, nanoseconds) {
        (false, _) => Time {
            seconds,
            nanoseconds,
        },
        (true, 0) => Time {
            seconds: -seconds,
            nanoseconds: 0,
        },
        (true, _) => Time {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(data: &[u8]) -> Result<Pax, Problem> {
        Pax::parse(data, &Limits::default())
    }

    #[test]
    fn records_the_last_of_a_key_wins() {
        let pax = parse(b"9 path=a\n9 path=b\n20 linkpath=x=y\0".get(..18).unwrap()).unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"b"[..]));
        let pax = parse(b"9 path=a\n8 path=\n").unwrap();
        assert_eq!(pax.path, None);
        let pax = parse(b"16 linkpath=x=y\n").unwrap();
        assert_eq!(pax.link_path.as_deref(), Some(&b"x=y"[..]));
    }

    #[test]
    fn malformed_records() {
        let bad: [&[u8]; 9] = [
            b"path=a\n",
            b"99 path=a\n",
            b"9 path=ab",
            b"0 path=a\n",
            b"2 \n",
            b"8 path a\n",
            b"5 =a\n",
            b"99999999999999999999999 path=a\n",
            b"-9 path=a\n",
        ];
        for data in bad {
            let result = parse(data);
            assert!(matches!(result, Err(Problem::Extended(_))), "{data:?}");
        }
        assert_eq!(
            parse(b"10 path=a\0\n").err(),
            Some(Problem::Extended("a record without its newline"))
        );
        assert_eq!(parse(b"11 path=a\0\n").err(), Some(Problem::Nul));
        assert_eq!(parse(b"11 size=-1\n").err(), Some(Problem::Number("size")));
    }

    #[test]
    fn times() {
        let time = |seconds, nanoseconds| {
            Some(Time {
                seconds,
                nanoseconds,
            })
        };
        assert_eq!(parse_time(b"12"), time(12, 0));
        assert_eq!(parse_time(b"12.5"), time(12, 500_000_000));
        assert_eq!(parse_time(b"12.0000000019"), time(12, 1));
        assert_eq!(parse_time(b"-1.25"), time(-2, 750_000_000));
        assert_eq!(parse_time(b"-3"), time(-3, 0));
        for bad in [
            &b"x"[..],
            b"",
            b"1.x",
            b".5",
            b"--1",
            b"9223372036854775808",
        ] {
            assert_eq!(parse_time(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn attributes_within_limits() {
        let limits = Limits {
            xattrs: 1,
            xattr_bytes: 3,
            ..Limits::default()
        };
        let one = b"27 SCHILY.xattr.user.a=abc\n";
        let pax = Pax::parse(one, &limits).unwrap();
        assert_eq!(
            pax.xattrs.get(&b"user.a"[..]).map(|v| &**v),
            Some(&b"abc"[..])
        );
        let two = [&one[..], b"27 SCHILY.xattr.user.b=abc\n"].concat();
        assert!(matches!(
            Pax::parse(&two, &limits),
            Err(Problem::Limit { limit: 1, .. })
        ));
        let long = b"28 SCHILY.xattr.user.a=abcd\n";
        assert!(matches!(
            Pax::parse(long, &limits),
            Err(Problem::Limit { limit: 3, .. })
        ));
    }

    #[test]
    fn sparse_keys_in_pairs() {
        let pax = parse(b"23 GNU.sparse.offset=1\n25 GNU.sparse.numbytes=2\n").unwrap();
        assert_eq!(
            pax.sparse.runs,
            [Run {
                offset: 1,
                length: 2
            }]
        );
        let pax = parse(b"26 GNU.sparse.map=1,2,3,4\n").unwrap();
        assert_eq!(pax.sparse.runs.len(), 2);
        assert!(parse(b"24 GNU.sparse.map=1,2,3\n").is_err());
        assert!(parse(b"23 GNU.sparse.offset=1\n").is_err());
        assert!(parse(b"25 GNU.sparse.numbytes=2\n").is_err());
    }
}
