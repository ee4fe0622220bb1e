//! From a file's bytes to packets: armor, size limits, allowed packet types.

use std::io::Read;
use std::ops::Range;

use sequoia_openpgp::Packet;
use sequoia_openpgp::armor::{Reader, ReaderMode};
use sequoia_openpgp::parse::{Dearmor, PacketParserBuilder, PacketParserResult, Parse};

pub use crate::framing::FrameError;
use crate::framing::{self, Frame};

/// Bytes of a certificate, revocation or key file; 4 MiB.
pub const MAX_KEY_BYTES: usize = 4 << 20;
/// Certificates in one file.
pub const MAX_CERTIFICATES: usize = 256;
/// Packets in one file.
const MAX_PACKETS: usize = 20_000;

/// Packet types (RFC 9580, section 5) that matter here.
pub(crate) mod tag {
    pub const SIGNATURE: u8 = 2;
    pub const SECRET_KEY: u8 = 5;
    pub const PUBLIC_KEY: u8 = 6;
    pub const SECRET_SUBKEY: u8 = 7;
    pub const MARKER: u8 = 10;
    pub const TRUST: u8 = 12;
    pub const USER_ID: u8 = 13;
    pub const PUBLIC_SUBKEY: u8 = 14;
    pub const USER_ATTRIBUTE: u8 = 17;
    pub const PADDING: u8 = 21;
}

/// Why bytes could not be read as OpenPGP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// Over the cap.
    #[error("it is {bytes} bytes long, the limit is {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The cap.
        limit: usize,
    },
    /// Neither binary nor armored.
    #[error("it is not OpenPGP: neither binary packets nor an armored block")]
    NotOpenPgp,
    /// gpg's stored revocations have a colon before the armor.
    #[error("its armor is disabled by a colon before '-----BEGIN'; remove the colon to use it")]
    Disabled,
    /// The armor does not hold.
    #[error("the armor starting at byte {offset} is broken: {detail}")]
    Armor {
        /// Where its first line begins.
        offset: usize,
        /// What is wrong.
        detail: String,
    },
    /// Something that is no text beside armor.
    #[error("at byte {offset}, beside an armored block, there is something else than text")]
    Mixed {
        /// Where its line begins.
        offset: usize,
    },
    /// The bytes are not whole packets.
    #[error("{0}")]
    Framing(FrameError),
    /// A packet of a type that has no business here.
    #[error("the packet at byte {offset} is of type {tag}, which does not belong here")]
    Packet {
        /// Where it begins, in the decoded bytes.
        offset: usize,
        /// Its type ID.
        tag: u8,
    },
    /// A packet whose content makes no sense.
    #[error("the packet at byte {offset} is damaged: {detail}")]
    Damaged {
        /// Where it begins, in the decoded bytes.
        offset: usize,
        /// What is wrong.
        detail: String,
    },
}

/// The binary form: as it is, or all armored blocks one after the other. Text
/// around the blocks is a comment.
pub(crate) fn decode(bytes: &[u8], limit: usize) -> Result<Vec<u8>, InputError> {
    let first = *bytes.first().ok_or(InputError::Empty)?;
    if bytes.len() > limit {
        let bytes = bytes.len();
        return Err(InputError::TooLarge { bytes, limit });
    }
    if first & 0x80 != 0 {
        return Ok(bytes.to_vec());
    }
    let mut out = Vec::new();
    for block in blocks(bytes)? {
        out.extend(dearmor(bytes, block)?);
    }
    Ok(out)
}

/// The binary form of one to `most` armored blocks, with nothing but white space
/// around them, or of binary bytes.
pub(crate) fn decode_alone(bytes: &[u8], limit: usize, most: usize) -> Result<Vec<u8>, InputError> {
    let out = decode(bytes, limit)?;
    if bytes.first().is_some_and(|first| first & 0x80 == 0) {
        let blocks = blocks(bytes)?;
        let offset = blocks.first().map_or(0, |block| block.start);
        let starts = blocks.iter().map(|block| block.start);
        let ends = blocks.iter().map(|block| block.end);
        let mut between = std::iter::once(0)
            .chain(ends)
            .zip(starts.chain(std::iter::once(bytes.len())));
        let alone =
            blocks.len() <= most && between.all(|(end, start)| blank(bytes.get(end..start)));
        if !alone {
            let detail = match most {
                1 => "there is something besides one armored block".to_owned(),
                _ => format!("there is something besides at most {most} armored blocks"),
            };
            return Err(InputError::Armor { offset, detail });
        }
    }
    Ok(out)
}

fn blank(bytes: Option<&[u8]>) -> bool {
    bytes.is_some_and(|bytes| bytes.iter().all(u8::is_ascii_whitespace))
}

/// Every armored block, from its first to its last line. Sequoia's reader ends
/// at the first block, and what a file says after it must not be lost.
fn blocks(bytes: &[u8]) -> Result<Vec<Range<usize>>, InputError> {
    const BEGIN: &[u8] = b"-----BEGIN PGP ";
    const END: &[u8] = b"-----END PGP ";
    let broken = |offset, detail: &str| InputError::Armor {
        offset,
        detail: detail.to_owned(),
    };
    let mut found = Vec::new();
    let mut open: Option<(usize, &[u8])> = None;
    let mut offset = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let text = line.trim_ascii_end();
        if text
            .strip_prefix(b":")
            .is_some_and(|rest| rest.starts_with(BEGIN))
        {
            return Err(InputError::Disabled);
        }
        if let Some(label) = text.strip_prefix(BEGIN) {
            if let Some((start, _)) = open {
                return Err(broken(start, "another block begins before it ends"));
            }
            open = Some((offset, label));
        } else if let Some(label) = text.strip_prefix(END) {
            match open.take() {
                Some((start, begun)) if begun == label => found.push(start..offset + text.len()),
                Some((start, _)) => return Err(broken(start, "it ends under another name")),
                None => return Err(broken(offset, "it ends without a beginning")),
            }
        } else if open.is_none() {
            // What is joined to a block and no comment must not be lost as one: binary
            // packets, which all have a version number, and a block that is indented.
            if text
                .iter()
                .any(|byte| byte.is_ascii_control() && *byte != b'\t')
            {
                return Err(InputError::Mixed { offset });
            }
            if text.windows(BEGIN.len()).any(|part| part == BEGIN) {
                return Err(broken(offset, "its first line does not begin with '-----'"));
            }
        }
        offset += line.len();
    }
    match open {
        Some((start, _)) => Err(broken(start, "its last line is missing")),
        None if found.is_empty() => Err(InputError::NotOpenPgp),
        None => Ok(found),
    }
}

fn dearmor(bytes: &[u8], block: Range<usize>) -> Result<Vec<u8>, InputError> {
    let offset = block.start;
    let text = bytes.get(block).unwrap_or_default();
    let broken = |detail| InputError::Armor { offset, detail };
    let mut out = Vec::new();
    Reader::from_bytes(text, ReaderMode::Tolerant(None))
        .read_to_end(&mut out)
        .map_err(|error| broken(error.to_string()))?;
    if out.is_empty() {
        return Err(broken("there is nothing in it".to_owned()));
    }
    Ok(out)
}

/// The packets of certificates and keys, each with its frame. Types other than
/// those of certificates and keys are refused before anything parses them.
pub(crate) fn key_packets(bytes: &[u8]) -> Result<Vec<(Frame, Packet)>, InputError> {
    let mut packets = Vec::new();
    for frame in framing::frames(bytes, MAX_PACKETS).map_err(InputError::Framing)? {
        match frame.tag {
            // Local notes of an implementation, and filler.
            tag::MARKER | tag::TRUST | tag::PADDING => {}
            tag::SIGNATURE
            | tag::PUBLIC_KEY
            | tag::PUBLIC_SUBKEY
            | tag::SECRET_KEY
            | tag::SECRET_SUBKEY
            | tag::USER_ID
            | tag::USER_ATTRIBUTE => packets.push((frame, packet(bytes, frame)?)),
            tag => {
                let offset = frame.start;
                return Err(InputError::Packet { offset, tag });
            }
        }
    }
    Ok(packets)
}

/// Parses the one packet of a frame. What Sequoia does not know comes back as
/// [`Packet::Unknown`].
pub(crate) fn packet(bytes: &[u8], frame: Frame) -> Result<Packet, InputError> {
    let offset = frame.start;
    let damaged = |detail: String| InputError::Damaged { offset, detail };
    let raw = bytes.get(frame.start..frame.end).unwrap_or_default();
    let parsed = PacketParserBuilder::from_bytes(raw)
        .and_then(|builder| {
            builder
                .dearmor(Dearmor::Disabled)
                .max_recursion_depth(0)
                .build()
        })
        .map_err(|error| damaged(error.to_string()))?;
    let PacketParserResult::Some(parser) = parsed else {
        return Err(damaged("there is no packet".to_owned()));
    };
    let (packet, rest) = parser.next().map_err(|error| damaged(error.to_string()))?;
    if !rest.is_eof() {
        return Err(damaged("it does not end where its header says".to_owned()));
    }
    Ok(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn armor_is_whole_or_refused() {
        let message = |text: &str| decode(text.as_bytes(), 1 << 20).map_err(|e| e.to_string());
        assert_eq!(message(""), Err("it is empty".into()));
        assert_eq!(message("hello"), Err(InputError::NotOpenPgp.to_string()));
        assert_eq!(
            message("x\n:-----BEGIN PGP PUBLIC KEY BLOCK-----\n"),
            Err(InputError::Disabled.to_string())
        );
        let open = message("-----BEGIN PGP SIGNATURE-----\n\nwsA=\n");
        assert!(open.is_err_and(|e| e.contains("last line is missing")));
        let other = message("-----BEGIN PGP SIGNATURE-----\n\nwsA=\n-----END PGP MESSAGE-----\n");
        assert!(other.is_err_and(|e| e.contains("another name")));
    }

    #[test]
    fn the_limit_holds() {
        let limit = InputError::TooLarge {
            bytes: 11,
            limit: 10,
        };
        assert_eq!(decode(&[0xc2; 11], 10), Err(limit));
    }
}
