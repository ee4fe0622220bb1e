//! Extended attributes inside an inode: `erofs_xattr_ibody_header` and entries.

use standby_tree::Xattrs;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use super::format::{XattrEntry, XattrHeader};

/// `EROFS_XATTR_INDEX_*`. The two access lists are whole names, not prefixes.
const PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// The most that `i_xattr_icount` can say, in bytes.
const MAX_BODY: usize = size_of::<XattrHeader>() + 4 * (0xffff - 1);

/// The index of a full name's prefix, and the rest.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.into_iter().find_map(|(index, prefix)| {
        let rest = name.strip_prefix(prefix)?;
        (rest.is_empty() != prefix.ends_with(b".")).then_some((index, rest))
    })
}

fn entry_len(rest: usize, value: usize) -> usize {
    (size_of::<XattrEntry>() + rest + value).next_multiple_of(4)
}

/// Bytes of the body, 0 without attributes; else the name at fault and why.
pub(super) fn body_len(xattrs: &Xattrs) -> Result<usize, (&[u8], &'static str)> {
    if xattrs.is_empty() {
        return Ok(0);
    }
    let mut len = size_of::<XattrHeader>();
    for (name, value) in xattrs {
        let (_, rest) = split(name).ok_or((
            &name[..],
            "its prefix is none of user., trusted., security. or a POSIX access list",
        ))?;
        if rest.len() > usize::from(u8::MAX) || rest.contains(&0) {
            return Err((name, "its name is longer than 255 bytes or has a NUL"));
        }
        if value.len() > usize::from(u16::MAX) {
            return Err((name, "its value is longer than 65535 bytes"));
        }
        len += entry_len(rest.len(), value.len());
        if len > MAX_BODY {
            return Err((name, "the attributes of this file exceed 262148 bytes"));
        }
    }
    Ok(len)
}

/// `i_xattr_icount` for a body of so many bytes.
pub(super) fn icount(body: usize) -> Option<u16> {
    match body.checked_sub(size_of::<XattrHeader>()) {
        None => Some(0),
        Some(entries) => u16::try_from(entries / 4 + 1).ok(),
    }
}

/// Bytes of the body for an `i_xattr_icount`.
pub(super) fn body_len_of(icount: u16) -> usize {
    match usize::from(icount).checked_sub(1) {
        None => 0,
        Some(words) => size_of::<XattrHeader>() + 4 * words,
    }
}

/// Appends the body of attributes that [`body_len`] accepted.
pub(super) fn encode(xattrs: &Xattrs, out: &mut Vec<u8>) {
    if xattrs.is_empty() {
        return;
    }
    let header = XattrHeader {
        h_reserved: U32::ZERO,
        h_shared_count: 0,
        h_reserved2: [0; 7],
    };
    out.extend_from_slice(header.as_bytes());
    for (name, value) in xattrs {
        let Some((index, rest)) = split(name) else {
            continue;
        };
        let (Ok(name_len), Ok(value_len)) = (u8::try_from(rest.len()), u16::try_from(value.len()))
        else {
            continue;
        };
        let entry = XattrEntry {
            e_name_len: name_len,
            e_name_index: index,
            e_value_size: U16::new(value_len),
        };
        let end = out.len() + entry_len(rest.len(), value.len());
        out.extend_from_slice(entry.as_bytes());
        out.extend_from_slice(rest);
        out.extend_from_slice(value);
        out.resize(end, 0);
    }
}

/// The attributes of a body; else the rule it breaks.
pub(super) fn decode(body: &[u8]) -> Result<Xattrs, &'static str> {
    let mut xattrs = Xattrs::new();
    if body.is_empty() {
        return Ok(xattrs);
    }
    let (header, mut rest) =
        XattrHeader::read_from_prefix(body).map_err(|_| "attributes shorter than their header")?;
    if header.h_shared_count != 0 {
        return Err("shared attributes, which are not supported");
    }
    while !rest.is_empty() {
        let (entry, tail) = XattrEntry::read_from_prefix(rest)
            .map_err(|_| "an attribute passes the end of the attributes")?;
        let name_len = usize::from(entry.e_name_len);
        let value_len = usize::from(entry.e_value_size.get());
        let (name, value) = tail
            .get(..name_len + value_len)
            .and_then(|both| both.split_at_checked(name_len))
            .ok_or("an attribute passes the end of the attributes")?;
        let prefix = PREFIXES
            .into_iter()
            .find(|(index, _)| *index == entry.e_name_index)
            .map(|(_, prefix)| prefix)
            .ok_or("an attribute's prefix is unknown")?;
        let full = [prefix, name].concat();
        if split(&full) != Some((entry.e_name_index, name)) || name.contains(&0) {
            return Err("an attribute's name is not valid");
        }
        if xattrs.insert(full.into(), value.into()).is_some() {
            return Err("an attribute occurs twice");
        }
        rest = rest
            .get(entry_len(name_len, value_len)..)
            .ok_or("an attribute passes the end of the attributes")?;
    }
    Ok(xattrs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xattrs(list: &[(&str, &[u8])]) -> Xattrs {
        list.iter()
            .map(|(name, value)| (name.as_bytes().into(), (*value).into()))
            .collect()
    }

    #[test]
    fn what_is_encoded_decodes_and_has_the_promised_length() {
        let all = xattrs(&[
            ("security.capability", &[1, 2, 3, 4, 5]),
            ("system.posix_acl_access", &[2, 0, 0, 0]),
            ("system.posix_acl_default", b""),
            ("trusted.overlay.opaque", b"y"),
            ("user.a", b""),
        ]);
        let mut body = Vec::new();
        encode(&all, &mut body);
        assert_eq!(Ok(body.len()), body_len(&all));
        assert_eq!(icount(body.len()).map(body_len_of), Some(body.len()));
        assert_eq!(decode(&body), Ok(all));
        for cut in 1..body.len() {
            let _ = decode(&body[..cut]);
        }
    }

    #[test]
    fn names_without_a_known_prefix_are_refused() {
        for name in [
            "foo",
            "user.",
            "security",
            "system.nfs4_acl",
            "system.posix_acl_accessx",
        ] {
            let all = xattrs(&[(name, b"v")]);
            assert_eq!(body_len(&all).unwrap_err().0, name.as_bytes());
        }
    }

    #[test]
    fn sizes_end_where_the_format_does() {
        let long = format!("user.{}", "n".repeat(256));
        assert!(body_len(&xattrs(&[(&long, b"")])).is_err());
        assert!(body_len(&xattrs(&[(&long[..260], b"")])).is_ok());
        let value = vec![7; 65536];
        assert!(body_len(&xattrs(&[("user.a", &value)])).is_err());
        let value = &value[..65535];
        let three = [("user.a", value), ("user.b", value), ("user.c", value)];
        assert!(body_len(&xattrs(&three)).is_ok());
        let four: Vec<_> = ["a", "b", "c", "d"].map(|n| format!("user.{n}")).into();
        let four: Vec<_> = four.iter().map(|n| (n.as_str(), value)).collect();
        assert!(body_len(&xattrs(&four)).is_err());
    }
}
