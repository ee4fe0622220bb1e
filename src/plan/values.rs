//! Checks of single values. Each error says what is expected.

use standby_contract::cmdline;

use super::model::Platform;
use crate::oci::reference::{Reference, ReferenceError};

/// Bytes of `64M` and the like where a list of paths names no size.
pub(super) const DEFAULT_TMPFS: u64 = 64 << 20;

fn quote(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    format!("'{}'", short.escape_debug())
}

/// No control characters, not empty.
pub(super) fn plain(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!(
            "{} is empty or has control characters",
            quote(text)
        ));
    }
    Ok(text.to_owned())
}

/// May be empty and have line breaks, but no NUL: an argument of a program.
pub(super) fn argument(text: &str) -> Result<String, String> {
    if text.contains('\0') {
        return Err(format!("{} has a NUL character", quote(text)));
    }
    Ok(text.to_owned())
}

pub(super) fn service_name(text: &str) -> Result<String, String> {
    let good = text
        .bytes()
        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if !good || text.is_empty() || text.len() > 63 || text.starts_with('-') || text.ends_with('-') {
        return Err(format!(
            "{} is not a name: expected up to 63 lower-case letters, digits and inner hyphens",
            quote(text)
        ));
    }
    Ok(text.to_owned())
}

pub(super) fn version(text: &str) -> Result<String, String> {
    let good = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if !good || text.len() > 64 || !text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Err(format!(
            "{} is not a version: expected up to 64 letters, digits, '.', '_', '-', a letter or digit first",
            quote(text)
        ));
    }
    Ok(text.to_owned())
}

/// `30d`, `12h`: seconds.
pub(super) fn duration(text: &str) -> Result<u64, String> {
    let units = [
        ('s', 1),
        ('m', 60),
        ('h', 3600),
        ('d', 86_400),
        ('w', 604_800),
    ];
    scaled(text, &units)
        .filter(|seconds| (60..=315_360_000).contains(seconds))
        .ok_or_else(|| {
            format!(
                "{} is not a length of time: expected a number and one of s, m, h, d, w, such as \"30d\", from a minute to ten years",
                quote(text)
            )
        })
}

/// `64M`: bytes, powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let units = [
        ('K', 1 << 10),
        ('M', 1 << 20),
        ('G', 1 << 30),
        ('T', 1 << 40),
    ];
    scaled(text, &units)
        .filter(|bytes| (1 << 14..=1 << 44).contains(bytes))
        .ok_or_else(|| {
            format!(
                "{} is not a size: expected a number and one of K, M, G, T, such as \"64M\", from 16K to 16T",
                quote(text)
            )
        })
}

fn scaled(text: &str, units: &[(char, u64)]) -> Option<u64> {
    let unit = text.chars().last()?;
    let (_, scale) = units.iter().find(|(letter, _)| *letter == unit)?;
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(*scale)
}

/// `1.5`: thousandths.
pub(super) fn milli_cpus(text: &str) -> Result<u64, String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = (digits(whole) && digits(part) && part.len() <= 3)
        .then(|| format!("{whole}{part:0<3}").parse::<u64>().ok())
        .flatten();
    parsed
        .filter(|milli| (10..=1_024_000).contains(milli))
        .ok_or_else(|| {
            format!("{text} is not a number of CPUs: expected 0.01 to 1024, at most three decimals")
        })
}

pub(super) fn platform(text: &str) -> Result<Platform, String> {
    if text != "linux/amd64" {
        return Err(format!(
            "{} is not supported: this version makes disks for linux/amd64",
            quote(text)
        ));
    }
    Ok(Platform {
        os: "linux".into(),
        architecture: "amd64".into(),
    })
}

pub(super) fn image(text: &str) -> Result<Reference, String> {
    plain(text)?
        .parse()
        .map_err(|error: ReferenceError| error.to_string())
}

/// A host name by RFC 1123, in lower case.
pub(super) fn host(text: &str) -> Result<String, String> {
    let bad = |why: &str| Err(format!("{} is not a host name: {why}", quote(text)));
    if !text.is_ascii() {
        return bad("write it in its ASCII form (punycode), xn--…");
    }
    if text.starts_with("*.") {
        return bad("wildcards are not served; list each name");
    }
    if text.contains("://") || text.contains('/') || text.contains(':') {
        return bad("give the name only, without scheme, port or path");
    }
    if text.parse::<std::net::IpAddr>().is_ok() {
        return bad("an address needs no entry, it is served anyway");
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if text.len() > 253 || !text.split('.').all(label) {
        return bad(
            "expected labels of letters, digits and inner hyphens, joined by dots (RFC 1123)",
        );
    }
    let last = text.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return bad("its last label is a number");
    }
    Ok(text.to_ascii_lowercase())
}

/// An absolute path inside a container, without `.`, `..`, doubled or trailing slashes.
pub(super) fn mount(text: &str) -> Result<String, String> {
    let clean = text.strip_prefix('/').is_some_and(|rest| {
        rest.split('/')
            .all(|name| !matches!(name, "" | "." | "..") && name.len() <= 255)
    });
    if !clean || text.len() > 1024 || text.chars().any(char::is_control) {
        return Err(format!(
            "{} is not a mount path: expected an absolute path below / without '.', '..', '//' or a final '/'",
            quote(text)
        ));
    }
    match RESERVED.iter().find(|reserved| within(text, reserved)) {
        Some(reserved) => Err(format!(
            "{} lies in {reserved}, which the guest provides",
            quote(text)
        )),
        None => Ok(text.to_owned()),
    }
}

const RESERVED: [&str; 5] = ["/proc", "/sys", "/dev", "/run/standby", "/etc/resolv.conf"];

/// Whether `path` is `folder` or lies below it; both clean.
pub(super) fn within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A request's path and query.
pub(super) fn url_path(text: &str) -> Result<String, String> {
    let good = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !text.starts_with('/') || !good || text.len() > 2048 {
        return Err(format!(
            "{} is not a request path: expected '/' and then printable ASCII without spaces and '#'",
            quote(text)
        ));
    }
    Ok(text.to_owned())
}

pub(super) fn variable(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(['=', '\0']) {
        return Err(format!("{} is not a variable's name", quote(text)));
    }
    Ok(text.to_owned())
}

/// `UID:GID`.
pub(super) fn owner(text: &str) -> Result<(u32, u32), String> {
    text.split_once(':')
        .and_then(|(user, group)| Some((id(user)?, id(group)?)))
        .ok_or_else(|| {
            format!(
                "{} is not an owner: expected UID:GID in numbers, such as \"33:33\"",
                quote(text)
            )
        })
}

fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // The last number means 'no user' to the kernel.
    digits
        .then(|| text.parse().ok())
        .flatten()
        .filter(|id| *id != u32::MAX)
}

/// `USER[:GROUP]`, names or numbers.
pub(super) fn user(text: &str) -> Result<String, String> {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    };
    let good = match text.split_once(':') {
        Some((user, group)) => part(user) && part(group),
        None => part(text),
    };
    if !good {
        return Err(format!("{} is not USER or USER:GROUP", quote(text)));
    }
    Ok(text.to_owned())
}

/// One word of the kernel command line that is not ours to give away.
pub(super) fn kernel_option(text: &str) -> Result<String, String> {
    if text.is_empty()
        || !text.bytes().all(|byte| byte.is_ascii_graphic())
        || text.contains([
            '"', '\'', '`', '$', '\\', ';', '{', '}', '#', '&', '|', '<', '>',
        ])
    {
        return Err(format!(
            "{} is not one kernel option: expected printable ASCII without spaces, quotes and shell characters",
            quote(text)
        ));
    }
    if let Some((cmdline::CHECK | cmdline::ON_FAILURE, _)) = text.split_once('=') {
        return match cmdline::Policy::parse(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(error.to_string()),
        };
    }
    let name = text.split('=').next().unwrap_or_default();
    // The kernel takes '-' and '_' in a parameter's name for the same.
    let name = name.replace('-', "_");
    let ours = [
        "roothash",
        "init",
        "rdinit",
        "root",
        "initrd",
        "noinitrd",
        "rootfstype",
        "rootflags",
        "__",
    ];
    if ours.contains(&name.as_str()) || name.starts_with("standby.") || name == "standby" {
        return Err(format!(
            "{} is not yours to set: the boot chain depends on it",
            quote(text)
        ));
    }
    Ok(text.to_owned())
}

/// `aa:bb:cc:dd:ee:ff`, in lower case; a single interface's.
pub(super) fn mac(text: &str) -> Result<String, String> {
    let pairs: Vec<&str> = text.split(':').collect();
    let good = pairs.len() == 6
        && pairs
            .iter()
            .all(|pair| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let multicast = pairs
        .first()
        .and_then(|pair| u8::from_str_radix(pair, 16).ok())
        .is_none_or(|first| first & 1 == 1);
    if !good || multicast {
        return Err(format!(
            "{} is not an interface's MAC address, such as \"52:54:00:12:34:56\"",
            quote(text)
        ));
    }
    Ok(text.to_ascii_lowercase())
}

pub(super) fn header_name(text: &str) -> Result<String, String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || !text.bytes().all(token) {
        return Err(format!("{} is not a header's name", quote(text)));
    }
    Ok(text.to_ascii_lowercase())
}

pub(super) fn header_value(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) || text != text.trim() {
        return Err(format!(
            "{} is not a header's value: it has control characters or outer spaces",
            quote(text)
        ));
    }
    Ok(text.to_owned())
}

pub(super) fn method(text: &str) -> Result<String, String> {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    one_of(text, &known).map(|index| known[index].to_owned())
}

/// The position of `text` among the words that are known.
pub(super) fn one_of(text: &str, known: &[&str]) -> Result<usize, String> {
    known
        .iter()
        .position(|word| *word == text)
        .ok_or_else(|| format!("{} is not one of {}", quote(text), known.join(", ")))
}
