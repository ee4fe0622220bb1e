//! Typed reading of TOML tables that gathers every problem instead of the first.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys;
use super::problem::{At, Lines, Position, Problem};

/// The text and what was found wrong in it so far.
pub(super) struct Context<'t> {
    lines: Lines<'t>,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> Context<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        Context {
            lines: Lines::new(text),
            problems: RefCell::default(),
        }
    }

    pub(super) fn position(&self, offset: usize) -> Position {
        self.lines.position(offset)
    }

    pub(super) fn report(&self, at: Position, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem {
            at,
            message: message.into(),
        });
    }

    /// What was reported, in the order of the text, each once.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort();
        problems.dedup();
        problems
    }
}

/// A table, its full name (`""` for the top) and its place.
pub(super) struct Table<'a> {
    name: String,
    entries: &'a DeTable<'a>,
    at: Position,
    context: &'a Context<'a>,
}

/// A value with its key's full name.
pub(super) struct Value<'a> {
    name: String,
    value: &'a DeValue<'a>,
    at: Position,
    context: &'a Context<'a>,
}

impl<'a> Table<'a> {
    /// The whole document.
    pub(super) fn top(table: &'a DeTable<'a>, context: &'a Context<'a>) -> Self {
        Table::new(
            String::new(),
            table,
            Position { line: 1, column: 1 },
            context,
        )
    }

    /// A table whose keys are fixed: those that are not known are reported.
    fn new(name: String, entries: &'a DeTable<'a>, at: Position, context: &'a Context<'a>) -> Self {
        for key in entries.keys() {
            let word = key.get_ref();
            if keys::below(&name).any(|known| known == word.as_ref()) {
                continue;
            }
            let place = match name.as_str() {
                "" => String::new(),
                table => format!(" in [{table}]"),
            };
            let advice = match keys::nearest(word, keys::below(&name)) {
                Some(known) => format!("did you mean '{known}'?"),
                None => format!(
                    "known: {}",
                    keys::below(&name).collect::<Vec<_>>().join(", ")
                ),
            };
            let message = format!("unknown key '{}'{place}; {advice}", word.escape_debug());
            context.report(context.position(key.span().start), message);
        }
        Table {
            name,
            entries,
            at,
            context,
        }
    }

    /// Reports that the table as a whole is wrong.
    pub(super) fn refuse(&self, message: &str) {
        self.context.report(self.at, message);
    }

    fn full_name(&self, key: &str) -> String {
        match self.name.as_str() {
            "" => key.to_owned(),
            table => format!("{table}.{key}"),
        }
    }

    /// The value of a key that may be left out.
    pub(super) fn get(&self, key: &'static str) -> Option<Value<'a>> {
        let value = self.entries.get(key)?;
        Some(self.value(self.full_name(key), value))
    }

    /// The value of a key that may not be left out.
    pub(super) fn need(&self, key: &'static str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            let name = self.full_name(key);
            let message = match self.name.as_str() {
                "" => format!("the table [{name}] is missing"),
                table => format!("[{table}] has no '{key}'"),
            };
            self.context.report(self.at, message);
        }
        value
    }

    fn value(&self, name: String, value: &'a Spanned<DeValue<'a>>) -> Value<'a> {
        Value::new(name, value, self.context)
    }
}

impl<'a> Value<'a> {
    fn new(name: String, value: &'a Spanned<DeValue<'a>>, context: &'a Context<'a>) -> Self {
        Value {
            name,
            value: value.get_ref(),
            at: context.position(value.span().start),
            context,
        }
    }

    /// Reports that this value is wrong.
    pub(super) fn refuse(&self, message: impl std::fmt::Display) {
        self.context
            .report(self.at, format!("{}: {message}", self.name));
    }

    fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.refuse(format_args!("expected {expected}, found {found}"));
        None
    }

    fn checked<T>(&self, result: Result<T, String>) -> Option<At<T>> {
        match result {
            Ok(value) => Some(At { value, at: self.at }),
            Err(message) => {
                self.refuse(message);
                None
            }
        }
    }

    /// A string, checked by `parse`, whose error says what is expected.
    pub(super) fn string<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<At<T>> {
        match self.value {
            DeValue::String(text) => self.checked(parse(text)),
            _ => self.wrong_type("a string"),
        }
    }

    /// An integer within a range.
    pub(super) fn integer(&self, range: Range<u64>) -> Option<u64> {
        let DeValue::Integer(number) = self.value else {
            return self.wrong_type("an integer");
        };
        let parsed = u64::from_str_radix(number.as_str(), number.radix());
        match parsed {
            Ok(value) if range.contains(&value) => Some(value),
            _ => {
                let most = range.end.saturating_sub(1);
                self.refuse(format_args!(
                    "{number} is out of range, expected {} to {most}",
                    range.start
                ));
                None
            }
        }
    }

    /// An integer or a fraction, as it was written.
    pub(super) fn number<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<At<T>> {
        match self.value {
            DeValue::Integer(number) => self.checked(parse(&number.to_string())),
            DeValue::Float(number) => self.checked(parse(number.as_str())),
            _ => self.wrong_type("a number"),
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.wrong_type("true or false"),
        }
    }

    /// A date and time, quoted or not, as text.
    pub(super) fn time<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<At<T>> {
        match self.value {
            DeValue::Datetime(time) => self.checked(parse(&time.to_string())),
            DeValue::String(text) => self.checked(parse(text)),
            _ => self.wrong_type("a date and time such as 2026-01-31T12:00:00Z"),
        }
    }

    pub(super) fn is_array(&self) -> bool {
        matches!(self.value, DeValue::Array(_))
    }

    /// An array of strings, each checked by `parse`; the good ones.
    pub(super) fn strings<T>(
        &self,
        mut parse: impl FnMut(&str) -> Result<T, String>,
    ) -> Option<Vec<At<T>>> {
        let DeValue::Array(array) = self.value else {
            return self.wrong_type("an array of strings");
        };
        let items = array.iter().enumerate().filter_map(|(index, item)| {
            let item = Value::new(format!("{}[{index}]", self.name), item, self.context);
            item.string(&mut parse)
        });
        Some(items.collect())
    }

    /// A table whose keys the user names: key and value, each with its place.
    pub(super) fn map(&self) -> Option<Vec<(At<String>, Value<'a>)>> {
        let DeValue::Table(entries) = self.value else {
            return self.wrong_type("a table");
        };
        let pairs = entries.iter().map(|(key, value)| {
            let name = format!("{}.\"{}\"", self.name, key.get_ref().escape_debug());
            let key = At {
                value: key.get_ref().to_string(),
                at: self.context.position(key.span().start),
            };
            (key, Value::new(name, value, self.context))
        });
        Some(pairs.collect())
    }

    /// A table of names and strings, both checked.
    pub(super) fn string_map(
        &self,
        mut key: impl FnMut(&str) -> Result<String, String>,
        mut value: impl FnMut(&str) -> Result<String, String>,
    ) -> Option<BTreeMap<String, String>> {
        let mut map = BTreeMap::new();
        for (name, entry) in self.map()? {
            let name = match key(&name.value) {
                Ok(name) => Some(name),
                Err(message) => {
                    self.context
                        .report(name.at, format!("{}: {message}", self.name));
                    None
                }
            };
            if let (Some(name), Some(value)) = (name, entry.string(&mut value)) {
                map.insert(name, value.value);
            }
        }
        Some(map)
    }

    /// A table with fixed keys.
    pub(super) fn table(&self) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(entries) => Some(Table::new(
                self.name.clone(),
                entries,
                self.at,
                self.context,
            )),
            _ => self.wrong_type(&format!("a table, [{}]", self.name)),
        }
    }

    /// An array of tables with fixed keys.
    pub(super) fn tables(&self) -> Option<Vec<Table<'a>>> {
        let DeValue::Array(array) = self.value else {
            return self.wrong_type(&format!("an array of tables, [[{}]]", self.name));
        };
        let tables = array
            .iter()
            .filter_map(|item| Value::new(self.name.clone(), item, self.context).table());
        Some(tables.collect())
    }
}
