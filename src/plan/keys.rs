//! The one table of every key: the parser, the reference and the schema agree on it.

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A table of its own, `[name]`.
    Table,
    /// An array of tables, `[[name]]`.
    Tables,
    /// A table whose keys the user names.
    Map,
    /// A string.
    String,
    /// An integer.
    Integer,
    /// An integer or a fraction.
    Number,
    /// `true` or `false`.
    Boolean,
    /// An array of strings.
    Strings,
    /// An RFC 3339 date and time, quoted or not.
    Time,
    /// A table of sizes, or an array of paths.
    Sizes,
}

/// A key of `standby.toml`.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Full name, such as `service.name`.
    pub name: &'static str,
    /// What it holds.
    pub kind: Type,
    /// Whether leaving it out is an error.
    pub required: bool,
}

const fn must(name: &'static str, kind: Type) -> Key {
    Key {
        name,
        kind,
        required: true,
    }
}

const fn may(name: &'static str, kind: Type) -> Key {
    Key {
        name,
        kind,
        required: false,
    }
}

/// Every key, in the order of the reference.
pub const KEYS: [Key; 47] = [
    must("service", Type::Table),
    must("service.name", Type::String),
    must("service.version", Type::String),
    must("service.sequence", Type::Integer),
    may("service.max_age", Type::String),
    may("service.created", Type::Time),
    must("runtime", Type::Table),
    must("runtime.image", Type::String),
    may("runtime.platform", Type::String),
    must("runtime.port", Type::Integer),
    may("runtime.health", Type::String),
    may("runtime.env", Type::Map),
    may("runtime.args", Type::Strings),
    may("runtime.user", Type::String),
    may("runtime.writable", Type::Sizes),
    may("runtime.network", Type::String),
    may("runtime.memory", Type::String),
    may("runtime.cpus", Type::Number),
    must("snapshot", Type::Table),
    must("snapshot.path", Type::String),
    must("snapshot.mount", Type::String),
    may("snapshot.owner", Type::String),
    may("snapshot.taken", Type::Time),
    must("front", Type::Table),
    may("front.caddy", Type::String),
    may("front.image", Type::String),
    must("front.hosts", Type::Strings),
    may("front.caddyfile", Type::String),
    may("front.maintenance", Type::String),
    may("front.ca_certificates", Type::String),
    must("boot", Type::Table),
    must("boot.kit", Type::String),
    may("boot.options", Type::Strings),
    may("boot.mbr_active", Type::Boolean),
    may("network", Type::Table),
    may("network.mode", Type::String),
    may("network.addresses", Type::Strings),
    may("network.gateways", Type::Strings),
    may("network.dns", Type::Strings),
    may("network.mac", Type::String),
    may("probe", Type::Tables),
    must("probe.name", Type::String),
    must("probe.path", Type::String),
    may("probe.method", Type::String),
    may("probe.expect", Type::Integer),
    may("probe.header", Type::Map),
    may("probe.body_contains", Type::String),
];

/// The last names of the keys directly below `table` (`""` for the top).
pub(super) fn below(table: &str) -> impl Iterator<Item = &'static str> + '_ {
    KEYS.iter()
        .filter_map(move |key| match key.name.rsplit_once('.') {
            Some((parent, last)) => (parent == table).then_some(last),
            None => table.is_empty().then_some(key.name),
        })
}

/// The known key that `wrong` most likely stands for, if one is close.
pub(super) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_ascii_lowercase().replace('-', "_");
    known
        .map(|name| (distance(&wrong, name), name))
        .filter(|(distance, name)| *distance <= name.len().max(wrong.len()) / 3 + 1)
        .min()
        .map(|(_, name)| name)
}

/// Edits (insert, delete, replace, swap neighbours) from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().collect();
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let change = rows[i][j] + usize::from(from != to);
            let mut best = change.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *to && *from == b[j - 1] {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_and_far() {
        let near = |wrong, table| nearest(wrong, below(table));
        assert_eq!(near("sequnce", "service"), Some("sequence"));
        assert_eq!(near("max-age", "service"), Some("max_age"));
        assert_eq!(near("Hosts", "front"), Some("hosts"));
        assert_eq!(near("nmae", "service"), Some("name"));
        assert_eq!(near("probes", ""), Some("probe"));
        assert_eq!(near("replicas", "service"), None);
    }

    #[test]
    fn every_key_has_its_table_before_it() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..index].iter().all(|other| other.name != key.name));
            if let Some((table, _)) = key.name.rsplit_once('.') {
                assert!(KEYS[..index].iter().any(|other| other.name == table));
            }
        }
    }
}
