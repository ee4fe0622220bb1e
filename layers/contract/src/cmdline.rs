//! The kernel options that carry trust from the signed boot files to the guest.

use std::fmt;

/// The root's dm-verity hash, 64 lower-case hex digits (name as in
/// systemd-veritysetup-generator(8)).
pub const ROOT_HASH: &str = "roothash";
/// The bundle's digest, `sha256:` and 64 hex digits: that of its statement.
pub const BUNDLE: &str = "standby.bundle";

/// When the whole root is read: one of the words of [`Check`].
pub const CHECK: &str = "standby.check";
/// What follows when the guest cannot serve: one of the words of [`OnFailure`].
pub const ON_FAILURE: &str = "standby.failure";

/// When every block of the root is read and so compared with the root hash.
/// Either way dm-verity compares each block that is used, when it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// `background`: after the service is healthy, so that the check costs the
    /// boot nothing; damage found then stops the service.
    #[default]
    Background,
    /// `full`: before anything is started.
    Full,
}

/// What the guest does once it has refused to serve, or can no longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// `stay`: the power stays on and the console goes on saying why.
    #[default]
    Stay,
    /// `poweroff`: power off after a minute of that.
    PowerOff,
}

/// The options that are a choice and have a default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// [`CHECK`].
    pub check: Check,
    /// [`ON_FAILURE`].
    pub on_failure: OnFailure,
}

impl Policy {
    /// Reads `/proc/cmdline`'s text.
    pub fn parse(cmdline: &str) -> Result<Self, CmdlineError> {
        let check = match one(cmdline, CHECK)? {
            None | Some("background") => Check::Background,
            Some("full") => Check::Full,
            Some(_) => return Err(CmdlineError::Word(CHECK, "'background' or 'full'")),
        };
        let on_failure = match one(cmdline, ON_FAILURE)? {
            None | Some("stay") => OnFailure::Stay,
            Some("poweroff") => OnFailure::PowerOff,
            Some(_) => return Err(CmdlineError::Word(ON_FAILURE, "'stay' or 'poweroff'")),
        };
        Ok(Policy { check, on_failure })
    }
}

/// What the guest needs of `/proc/cmdline`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Root hash of the root file system.
    pub root_hash: [u8; 32],
    /// `sha256:…` of the statement; empty if the option is missing.
    pub bundle: String,
}

/// Why a kernel command line is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CmdlineError {
    /// Option absent.
    #[error("the kernel option {0}= is missing")]
    Missing(&'static str),
    /// Option given twice: which one counts would be a guess.
    #[error("the kernel option {0}= is given twice")]
    Twice(&'static str),
    /// Not 64 hex digits.
    #[error("the kernel option {0}= is not 64 lower-case hex digits")]
    Hash(&'static str),
    /// A word that is not one of the option's.
    #[error("the kernel option {0}= is not {1}")]
    Word(&'static str, &'static str),
}

impl Options {
    /// Reads `/proc/cmdline`'s text; options that are not ours are the kernel's.
    pub fn parse(cmdline: &str) -> Result<Self, CmdlineError> {
        let root_hash = one(cmdline, ROOT_HASH)?.ok_or(CmdlineError::Missing(ROOT_HASH))?;
        Ok(Options {
            root_hash: parse_hash(root_hash).ok_or(CmdlineError::Hash(ROOT_HASH))?,
            bundle: one(cmdline, BUNDLE)?.unwrap_or_default().to_owned(),
        })
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ROOT_HASH}=")?;
        for byte in self.root_hash {
            write!(f, "{byte:02x}")?;
        }
        write!(f, " {BUNDLE}={}", self.bundle)
    }
}

fn one<'a>(cmdline: &'a str, name: &'static str) -> Result<Option<&'a str>, CmdlineError> {
    let mut found = None;
    for word in cmdline.split_ascii_whitespace() {
        if let Some(value) = word
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('='))
            && found.replace(value).is_some()
        {
            return Err(CmdlineError::Twice(name));
        }
    }
    Ok(found)
}

/// 64 lower-case hex digits as 32 bytes.
pub fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(hash)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let options = Options {
            root_hash: [0xa5; 32],
            bundle: "sha256:00".into(),
        };
        let text = format!("console=ttyS0 {options} quiet");
        assert_eq!(Options::parse(&text), Ok(options));
    }

    #[test]
    fn a_second_root_hash_is_refused() {
        let text = format!("roothash={0} roothash={0}", "0".repeat(64));
        assert_eq!(Options::parse(&text), Err(CmdlineError::Twice(ROOT_HASH)));
        assert_eq!(
            Options::parse("quiet"),
            Err(CmdlineError::Missing(ROOT_HASH))
        );
        assert_eq!(
            Options::parse("roothash=ABC"),
            Err(CmdlineError::Hash(ROOT_HASH))
        );
    }

    #[test]
    fn policy() {
        assert_eq!(Policy::parse("quiet"), Ok(Policy::default()));
        assert_eq!(
            Policy::parse("standby.check=full standby.failure=poweroff"),
            Ok(Policy {
                check: Check::Full,
                on_failure: OnFailure::PowerOff
            })
        );
        assert!(Policy::parse("standby.check=never").is_err());
        assert!(Policy::parse("standby.check=full standby.check=full").is_err());
    }
}
