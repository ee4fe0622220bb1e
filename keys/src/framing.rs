//! Where one OpenPGP packet ends and the next begins (RFC 9580, section 4.2).
//!
//! Sequoia's parser is made to get through damaged keyrings: it skips junk and
//! resynchronises. Here the bytes are either packets from the first to the
//! last, each with a definite length, or they are refused.

/// A packet's type and where its header and body lie in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Type ID (RFC 9580, section 5).
    pub tag: u8,
    /// Offset of the header.
    pub start: usize,
    /// Offset of the body.
    pub body: usize,
    /// Offset past the body.
    pub end: usize,
}

/// Why the bytes are not whole packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Bit 7 of the first byte is clear.
    #[error("byte {0} starts no OpenPGP packet")]
    NotAPacket(usize),
    /// Header or body goes beyond the end.
    #[error("the packet at byte {0} is cut off")]
    CutOff(usize),
    /// Partial or indeterminate length: only for streamed messages.
    #[error("the packet at byte {0} has no definite length")]
    Streamed(usize),
    /// More packets than allowed.
    #[error("there are more than {0} packets")]
    TooMany(usize),
}

/// Splits all of `bytes` into at most `limit` packets.
pub(crate) fn frames(bytes: &[u8], limit: usize) -> Result<Vec<Frame>, FrameError> {
    let mut frames = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        if frames.len() == limit {
            return Err(FrameError::TooMany(limit));
        }
        let frame = frame(bytes, start)?;
        start = frame.end;
        frames.push(frame);
    }
    Ok(frames)
}

/// The first packet, whatever follows it.
pub(crate) fn first(bytes: &[u8]) -> Result<Frame, FrameError> {
    frame(bytes, 0)
}

fn frame(bytes: &[u8], start: usize) -> Result<Frame, FrameError> {
    let cut = FrameError::CutOff(start);
    let rest = bytes.get(start..).unwrap_or_default();
    let (&first, rest) = rest.split_first().ok_or(cut)?;
    if first & 0x80 == 0 {
        return Err(FrameError::NotAPacket(start));
    }
    let (tag, width, length) = if first & 0x40 != 0 {
        let &octet = rest.first().ok_or(cut)?;
        let (width, length) = match octet {
            0..=191 => (1, usize::from(octet)),
            192..=223 => {
                let &low = rest.get(1).ok_or(cut)?;
                (2, (usize::from(octet) - 192) * 256 + usize::from(low) + 192)
            }
            224..=254 => return Err(FrameError::Streamed(start)),
            255 => (5, big_endian(rest.get(1..5).ok_or(cut)?)),
        };
        (first & 0x3f, width, length)
    } else {
        let width = match first & 3 {
            0 => 1,
            1 => 2,
            2 => 4,
            _ => return Err(FrameError::Streamed(start)),
        };
        let length = big_endian(rest.get(..width).ok_or(cut)?);
        (first >> 2 & 0x0f, width, length)
    };
    let body = start.checked_add(1 + width).ok_or(cut)?;
    let end = body.checked_add(length).ok_or(cut)?;
    if end > bytes.len() {
        return Err(cut);
    }
    Ok(Frame {
        tag,
        start,
        body,
        end,
    })
}

/// At most four bytes, so that it fits on every target.
fn big_endian(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_length() {
        let mut bytes = vec![0xc2, 1, 0, 0xc2, 192, 0];
        bytes.extend([0; 192]);
        bytes.extend([0xcd, 255, 0, 0, 0, 2, 7, 7]);
        bytes.extend([0x88, 1, 9, 0x99, 0, 1, 9, 0x9a, 0, 0, 0, 0]);
        let frames = frames(&bytes, 9).expect("whole packets");
        let tags: Vec<u8> = frames.iter().map(|frame| frame.tag).collect();
        let lengths: Vec<usize> = frames.iter().map(|frame| frame.end - frame.body).collect();
        assert_eq!(tags, [2, 2, 13, 2, 6, 6]);
        assert_eq!(lengths, [1, 192, 2, 1, 1, 0]);
    }

    #[test]
    fn what_is_not_whole_packets() {
        assert_eq!(frames(b"text", 9), Err(FrameError::NotAPacket(0)));
        assert_eq!(frames(&[0xc2, 0, 0x0a], 9), Err(FrameError::NotAPacket(2)));
        assert_eq!(frames(&[0xc2, 2, 0], 9), Err(FrameError::CutOff(0)));
        assert_eq!(
            frames(&[0xc2, 255, 255, 255, 255, 255], 9),
            Err(FrameError::CutOff(0))
        );
        assert_eq!(frames(&[0xc2], 9), Err(FrameError::CutOff(0)));
        assert_eq!(frames(&[0xcb, 0xe0, 0], 9), Err(FrameError::Streamed(0)));
        assert_eq!(frames(&[0xa3, 0], 9), Err(FrameError::Streamed(0)));
        assert_eq!(frames(&[0xc2, 0, 0xc2, 0], 1), Err(FrameError::TooMany(1)));
    }
}
