//! JSON without room for two readings.
//!
//! Readers differ where a document repeats a key, or has keys that differ only
//! in case (some parsers fold it). Such documents are refused before they are
//! parsed, so that what we understood is what any other tool understands.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, Serialize};
use serde_json::Value;

use crate::escape;

/// Values that a document may have: an object in a `Value` takes a hundred times
/// the bytes it is written in. An index of ten thousand descriptors has fewer.
const MOST_VALUES: u32 = 1 << 17;

/// Why bytes are not acceptable JSON.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// More bytes than such a document may have.
    #[error("it has {found} bytes; at most {most} are accepted")]
    TooLarge {
        /// Bytes there are.
        found: u64,
        /// Bytes there may be.
        most: u64,
    },
    /// Not JSON, or keys that are twins, or fields of the wrong kind.
    #[error("it is not valid")]
    Syntax(#[source] SyntaxError),
}

/// What is wrong and where, in a short line: the parser repeats what it found.
#[derive(Debug)]
pub struct SyntaxError {
    said: String,
    /// From 1; 0 if there is none.
    pub line: usize,
    /// From 1; 0 if there is none.
    pub column: usize,
}

impl std::error::Error for SyntaxError {}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)?;
        match self.line {
            0 => Ok(()),
            line => write!(f, " at line {line} column {}", self.column),
        }
    }
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let place = format!(" at line {line} column {column}");
        JsonError::Syntax(SyntaxError {
            said: escape::short(text.strip_suffix(&place).unwrap_or(&text)),
            line,
            column,
        })
    }
}

/// Parses strictly: no duplicate keys, no case-folded twins, nothing after the
/// document, at most `most` bytes, and not too many values.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], most: u64) -> Result<T, JsonError> {
    parse_long(bytes, most, MOST_VALUES)
}

/// The same, of a document with so many values. `T` is to keep few of them.
pub fn parse_long<T: DeserializeOwned>(
    bytes: &[u8],
    most: u64,
    values: u32,
) -> Result<T, JsonError> {
    walk(bytes, most, values)?;
    Ok(serde_json::from_slice(bytes)?)
}

/// The strictness of [`parse`] alone.
pub fn check(bytes: &[u8], most: u64) -> Result<(), JsonError> {
    walk(bytes, most, MOST_VALUES)
}

fn walk(bytes: &[u8], most: u64, values: u32) -> Result<(), JsonError> {
    let found = bytes.len() as u64;
    if found > most {
        return Err(JsonError::TooLarge { found, most });
    }
    let left = Cell::new(values);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    Strict(&left).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(())
}

/// One form for one value: keys sorted bytewise, no white space.
pub fn canonical(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::new();
    write_canonical(&serde_json::to_value(value)?, &mut out)?;
    Ok(out)
}

fn write_canonical(value: &Value, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            out.push(b'{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                serde_json::to_writer(&mut *out, key)?;
                out.push(b':');
                write_canonical(&map[key], out)?;
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_canonical(item, out)?;
            }
            out.push(b']');
        }
        scalar => serde_json::to_writer(out, scalar)?,
    }
    Ok(())
}

/// Walks a document without keeping it; how many values it may still have.
#[derive(Clone, Copy)]
struct Strict<'a>(&'a Cell<u32>);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let left = self.0.get().checked_sub(1);
        self.0
            .set(left.ok_or_else(|| D::Error::custom("it has too many values"))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !seen.insert(key.to_lowercase()) {
                return Err(A::Error::custom(format!(
                    "the key '{key}' occurs twice, or in two spellings of upper and lower case"
                )));
            }
            map.next_value_seed(self)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_are_refused() {
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"manifests":[],"Manifests":[]}"#,
            r#"[{"x":{"k":1,"\u006b":2}}]"#,
            r#"{"a":1} x"#,
            r#"{"a":"#,
            "\u{feff}{}",
        ] {
            assert!(check(bad.as_bytes(), 100).is_err(), "{bad}");
        }
        assert!(check(br#"{"a":[{"a":null},1.5,-2,"x",true]}"#, 100).is_ok());
        assert!(matches!(
            check(b"[1,2]", 4),
            Err(JsonError::TooLarge { found: 5, most: 4 })
        ));
    }

    #[test]
    fn values_are_counted() {
        let items = |count: usize| format!("[{}]", vec![r#"{"":0}"#; count].join(","));
        let most = (MOST_VALUES as usize - 1) / 2;
        assert!(check(items(most).as_bytes(), 4 << 20).is_ok());
        let error = check(items(most + 1).as_bytes(), 4 << 20).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.starts_with("it has too many values"), "{source}");
        assert!(parse::<Value>(items(most + 1).as_bytes(), 4 << 20).is_err());
        assert!(parse_long::<Value>(b"[0,0]", 10, 3).is_ok());
        assert!(parse_long::<Value>(b"[0,0]", 10, 2).is_err());
    }

    #[test]
    fn an_index_of_ten_thousand_is_read() {
        let one = r#"{"mediaType":"m","artifactType":"t","digest":"sha256:0","size":1,
            "platform":{"os":"linux","architecture":"amd64"},"annotations":{"a":"","b":"","c":""}}"#;
        let index = format!("{{\"manifests\":[{}]}}", vec![one; 10_000].join(","));
        assert!(check(index.as_bytes(), 8 << 20).is_ok());
    }

    #[test]
    fn deep_nesting_ends_in_an_error_not_in_the_stack() {
        let deep = "[".repeat(1_000_000);
        assert!(check(deep.as_bytes(), 2_000_000).is_err());
    }

    #[test]
    fn canonical_sorts_keys_at_every_level() {
        let value: Value = serde_json::from_str(r#"{"b":[{"z":1,"y":"é\n"}],"a":null}"#).unwrap();
        let text = String::from_utf8(canonical(&value).unwrap()).unwrap();
        assert_eq!(text, "{\"a\":null,\"b\":[{\"y\":\"é\\n\",\"z\":1}]}");
    }
}
