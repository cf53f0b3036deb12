//! The typed key-value pairs at the head of a GGUF file.

use anyhow::{Result, anyhow, bail};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// One metadata value, in the types that the format has. Arrays hold values of one type and never arrays.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Vec<Value>),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Value::F32(_) | Value::F64(_) => "a float",
            Value::Bool(_) => "a boolean",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            _ => "an integer",
        }
    }

    fn as_i64(&self) -> Option<i64> {
        match *self {
            Value::U8(x) => Some(x.into()),
            Value::I8(x) => Some(x.into()),
            Value::U16(x) => Some(x.into()),
            Value::I16(x) => Some(x.into()),
            Value::U32(x) => Some(x.into()),
            Value::I32(x) => Some(x.into()),
            Value::U64(x) => x.try_into().ok(),
            Value::I64(x) => Some(x),
            _ => None,
        }
    }

    fn as_u64(&self) -> Option<u64> {
        self.as_i64()?.try_into().ok()
    }

    fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::F32(x) => Some(x.into()),
            Value::F64(x) => Some(x),
            _ => None,
        }
    }

    fn as_bool(&self) -> Option<bool> {
        match *self {
            Value::Bool(x) => Some(x),
            _ => None,
        }
    }

    fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(x) => Some(x),
            _ => None,
        }
    }
}

/// All metadata of one file by key. Errors of the getters name the key; the caller adds the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata(BTreeMap<String, Value>);

impl Metadata {
    /// Adds a pair; a key that is already there is an error.
    pub fn insert(&mut self, key: String, value: Value) -> Result<()> {
        match self.0.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(value);
                Ok(())
            }
            Entry::Occupied(entry) => bail!("metadata key '{}' occurs twice", entry.key()),
        }
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// All keys in alphabetical order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A string; missing or of another type is an error.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.required(key, self.optional_str(key)?)
    }

    /// A string, or `None` where the key is missing; another type is an error.
    pub fn optional_str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", Value::as_str)
    }

    /// An integer that is not negative, of any width.
    pub fn u64(&self, key: &str) -> Result<u64> {
        self.required(key, self.optional_u64(key)?)
    }

    pub fn optional_u64(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "an integer that is not negative", Value::as_u64)
    }

    /// A float of either width.
    pub fn f64(&self, key: &str) -> Result<f64> {
        self.required(key, self.optional_f64(key)?)
    }

    pub fn optional_f64(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a float", Value::as_f64)
    }

    pub fn bool(&self, key: &str) -> Result<bool> {
        self.required(key, self.optional_bool(key)?)
    }

    pub fn optional_bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a boolean", Value::as_bool)
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Result<Vec<&str>> {
        self.required(key, self.optional_strings(key)?)
    }

    pub fn optional_strings(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.array(key, "strings", Value::as_str)
    }

    /// An array of integers of any width.
    pub fn i64s(&self, key: &str) -> Result<Vec<i64>> {
        self.required(key, self.optional_i64s(key)?)
    }

    pub fn optional_i64s(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.array(key, "integers", Value::as_i64)
    }

    /// An array of floats of either width.
    pub fn f64s(&self, key: &str) -> Result<Vec<f64>> {
        self.required(key, self.optional_f64s(key)?)
    }

    pub fn optional_f64s(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.array(key, "floats", Value::as_f64)
    }

    fn required<T>(&self, key: &str, found: Option<T>) -> Result<T> {
        found.ok_or_else(|| anyhow!("metadata key '{key}' is missing"))
    }

    fn typed<'a, T>(&'a self, key: &str, wanted: &str, convert: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => bail!("metadata key '{key}' is {}, not {wanted}", value.kind()),
        }
    }

    fn array<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let items = match self.0.get(key) {
            None => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(other) => bail!("metadata key '{key}' is {}, not an array of {wanted}", other.kind()),
        };
        match items.iter().map(convert).collect() {
            Some(converted) => Ok(Some(converted)),
            None => bail!("metadata key '{key}' is an array, but not of {wanted}"),
        }
    }
}

impl FromIterator<(String, Value)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(pairs: I) -> Self {
        Metadata(pairs.into_iter().collect())
    }
}
