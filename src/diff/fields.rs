//! Two JSON documents, field by field.

use serde::Serialize;
use serde_json::Value;

use crate::escape;

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Field {
    /// Names from the top, with dots between, and `[N]` for items of lists.
    pub field: String,
    /// In the first; none if it is not there.
    pub before: Option<Value>,
    /// In the second.
    pub after: Option<Value>,
}

/// All fields that differ, sorted by place. Lists of equal length are compared
/// item by item, others as a whole.
pub(super) fn compare(before: &Value, after: &Value) -> Vec<Field> {
    let mut fields = Vec::new();
    descend("", Some(before), Some(after), &mut fields);
    fields
}

fn descend(at: &str, before: Option<&Value>, after: Option<&Value>, fields: &mut Vec<Field>) {
    // Null is what some programs write for nothing.
    let before = before.filter(|value| !value.is_null());
    let after = after.filter(|value| !value.is_null());
    match (before, after) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let shown = escape::bytes(name.as_bytes());
                let place = match at {
                    "" => shown,
                    at => format!("{at}.{shown}"),
                };
                descend(&place, a.get(name), b.get(name), fields);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                descend(&format!("{at}[{index}]"), Some(a), Some(b), fields);
            }
        }
        (a, b) if a == b => {}
        (a, b) => fields.push(Field {
            field: at.to_owned(),
            before: a.cloned(),
            after: b.cloned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn places() {
        let a = json!({"a": {"b": [1, 2], "c": 1, "same": [{}]}, "gone": 1, "n": null, "l": [1]});
        let b = json!({"a": {"b": [1, 3], "c": "1", "same": [{}]}, "new": {}, "l": []});
        let fields = super::compare(&a, &b);
        let lines: Vec<String> = fields
            .iter()
            .map(|f| {
                format!(
                    "{} {:?} {:?}",
                    f.field,
                    f.before.is_some(),
                    f.after.is_some()
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                "a.b[1] true true",
                "a.c true true",
                "gone true false",
                "l true true",
                "new false true"
            ]
        );
        assert!(super::compare(&a, &a).is_empty());
    }
}
