//! Reads JSON strictly: duplicate keys, unknown fields, over-long strings and wrong types are faults, each with the
//! JSON pointer (RFC 6901) of the place.

use std::cell::RefCell;

use jiff::Timestamp;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// What is wrong with a body, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {reason}")]
pub struct Flaw {
    /// JSON pointer; empty for the whole body.
    pub pointer: String,
    /// In plain English; never quotes a value.
    pub reason: String,
}

impl Flaw {
    /// A flaw at `pointer`, which is cut to 200 characters since a producer chooses field names.
    pub fn new(pointer: impl AsRef<str>, reason: impl Into<String>) -> Self {
        Self { pointer: pointer.as_ref().chars().take(200).collect(), reason: reason.into() }
    }
}

/// Parses bytes, refusing duplicate keys at any depth.
pub fn parse(bytes: &[u8]) -> Result<Value, Flaw> {
    let duplicate = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let seed = Strict { pointer: String::new(), duplicate: &duplicate };
    let parsed = seed.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    parsed.map_err(|error| match duplicate.take() {
        Some(pointer) => Flaw::new(pointer, "the key appears twice"),
        None => Flaw::new("", format!("not valid JSON at line {}, column {}", error.line(), error.column())),
    })
}

struct Strict<'a> {
    pointer: String,
    duplicate: &'a RefCell<Option<String>>,
}

impl Strict<'_> {
    fn below(&self, token: &str) -> Self
    where
        Self: Sized,
    {
        Self { pointer: child(&self.pointer, token), duplicate: self.duplicate }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.below(&list.len().to_string()))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let below = self.below(&key);
            if object.contains_key(&key) {
                self.duplicate.replace(Some(below.pointer));
                return Err(de::Error::custom("duplicate key"));
            }
            let value = entries.next_value_seed(below)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// Reads the fields of one object; [`Fields::close`] refuses what was not asked for. `null` counts as absent.
pub struct Fields<'a> {
    pointer: String,
    object: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Opens the object at `pointer`.
    pub fn open(value: &'a Value, pointer: String) -> Result<Self, Flaw> {
        let object = value.as_object().ok_or_else(|| Flaw::new(&pointer, "an object is expected"))?;
        Ok(Self { pointer, object, known: Vec::new() })
    }

    /// The pointer of a field of this object.
    pub fn pointer(&self, name: &str) -> String {
        child(&self.pointer, name)
    }

    fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A string of 1 to `most` characters without control characters.
    pub fn text(&mut self, name: &'static str, most: usize) -> Result<Option<String>, Flaw> {
        self.text_with(name, most, &[])
    }

    /// The same, but line breaks and tabs are accepted.
    pub fn prose(&mut self, name: &'static str, most: usize) -> Result<Option<String>, Flaw> {
        self.text_with(name, most, &['\n', '\r', '\t'])
    }

    fn text_with(&mut self, name: &'static str, most: usize, accepted: &[char]) -> Result<Option<String>, Flaw> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let flaw = |reason: String| Err(Flaw::new(self.pointer(name), reason));
        let Some(text) = value.as_str() else { return flaw("a string is expected".into()) };
        if text.trim().is_empty() || text.chars().count() > most {
            return flaw(format!("1 to {most} characters are expected"));
        }
        if text.chars().any(|letter| letter.is_control() && !accepted.contains(&letter)) {
            return flaw("control characters are not accepted".into());
        }
        Ok(Some(text.to_owned()))
    }

    /// A string that must be there.
    pub fn required_text(&mut self, name: &'static str, most: usize) -> Result<String, Flaw> {
        self.text(name, most)?.ok_or_else(|| Flaw::new(self.pointer(name), "the field is required"))
    }

    /// A point in time, RFC 3339 with an offset.
    pub fn time(&mut self, name: &'static str) -> Result<Option<Timestamp>, Flaw> {
        let text = self.text(name, 64)?;
        let parsed = text.map(|text| text.parse()).transpose();
        parsed.map_err(|_| Flaw::new(self.pointer(name), "a time such as 2026-11-21T09:15:07Z is expected"))
    }

    /// Refuses `null` where it would mean that a variable was empty which should have said how careful to be.
    pub fn refuse_null(&self, name: &'static str) -> Result<(), Flaw> {
        match self.object.get(name) {
            Some(Value::Null) => Err(Flaw::new(self.pointer(name), "null is not accepted: leave the field out")),
            _ => Ok(()),
        }
    }

    /// Whether the field is there.
    pub fn has(&self, name: &str) -> bool {
        self.object.get(name).is_some_and(|value| !value.is_null())
    }

    /// `true` or `false`; absent is `false`.
    pub fn flag(&mut self, name: &'static str) -> Result<bool, Flaw> {
        let Some(value) = self.value(name) else { return Ok(false) };
        value.as_bool().ok_or_else(|| Flaw::new(self.pointer(name), "true or false is expected"))
    }

    /// An object.
    pub fn object(&mut self, name: &'static str) -> Result<Option<Fields<'a>>, Flaw> {
        let pointer = self.pointer(name);
        self.value(name).map(|value| Fields::open(value, pointer)).transpose()
    }

    /// A list of at most `most` items, each with its pointer; absent is empty.
    pub fn list(&mut self, name: &'static str, most: usize) -> Result<Vec<(&'a Value, String)>, Flaw> {
        let pointer = self.pointer(name);
        let Some(value) = self.value(name) else { return Ok(Vec::new()) };
        let items = value.as_array().filter(|items| items.len() <= most);
        let items = items.ok_or_else(|| Flaw::new(&pointer, format!("a list of at most {most} items is expected")))?;
        Ok(items.iter().enumerate().map(|(index, item)| (item, child(&pointer, &index.to_string()))).collect())
    }

    /// Accepts a field that somebody else reads.
    pub fn expect(&mut self, name: &'static str) {
        self.known.push(name);
    }

    /// Refuses the first field that nobody asked for.
    pub fn close(self) -> Result<(), Flaw> {
        match self.object.keys().find(|key| !self.known.contains(&key.as_str())) {
            Some(key) => Err(Flaw::new(child(&self.pointer, key), "unknown field")),
            None => Ok(()),
        }
    }
}

fn child(pointer: &str, token: &str) -> String {
    // A producer chooses the names of fields, and may have put a number or address there by mistake.
    let private = token.contains('@') || token.chars().filter(char::is_ascii_digit).count() > 4;
    let token = if private { "?" } else { token };
    format!("{pointer}/{}", token.replace('~', "~0").replace('/', "~1"))
}
