//! JSON with limits: no key twice, no depth without end, and one canonical form to sign.

use core::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Number, Value};

use crate::DialectError;
use crate::limits::JSON_DEPTH_MAX;

/// A JSON object whose fields are kept as they came. A key that comes twice is refused: programs disagree on which one counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Object(Map<String, Value>);

impl Object {
    /// Whether there are no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Sets a field.
    pub fn insert(&mut self, key: impl Into<String>, value: Value) {
        self.0.insert(key.into(), value);
    }

    /// The fields.
    #[must_use]
    pub const fn fields(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The object that a value serialises to.
    ///
    /// # Errors
    /// [`DialectError::Shape`] when it is no object.
    pub fn of<T: Serialize>(part: &'static str, value: &T) -> Result<Self, DialectError> {
        let value = serde_json::to_value(value).map_err(|error| DialectError::shape(part, &error))?;
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(DialectError::Shape { part, reason: "expected an object".to_owned() })
            }
        }
    }

    /// The object read as a type.
    ///
    /// # Errors
    /// [`DialectError::Shape`].
    pub fn read<T: DeserializeOwned>(&self, part: &'static str) -> Result<T, DialectError> {
        T::deserialize(&Value::Object(self.0.clone())).map_err(|error| DialectError::shape(part, &error))
    }

    /// Whether all that is in this object is in the other one too; objects within may have more fields there (H-5).
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        fields_within(&self.0, &other.0)
    }
}

fn fields_within(ours: &Map<String, Value>, theirs: &Map<String, Value>) -> bool {
    ours.iter().all(|(key, value)| theirs.get(key).is_some_and(|other| value_within(value, other)))
}

fn value_within(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => fields_within(ours, theirs),
        (ours, theirs) => ours == theirs,
    }
}

impl FromIterator<(String, Value)> for Object {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object, A::Error> {
                fields_of(map).map(Object)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

fn fields_of<'de, A: MapAccess<'de>>(mut map: A) -> Result<Map<String, Value>, A::Error> {
    let mut fields = Map::new();
    while let Some(key) = map.next_key::<String>()? {
        let value = map.next_value_seed(Once)?;
        if fields.contains_key(&key) {
            return Err(A::Error::custom(format_args!("the key {key:?} comes twice")));
        }
        fields.insert(key, value);
    }
    Ok(fields)
}

/// Reads a value whose objects have no key twice.
struct Once;

impl<'de> DeserializeSeed<'de> for Once {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number of JSON"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(Once)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        fields_of(map).map(Value::Object)
    }
}

/// Reads JSON within its limits (H-3).
pub(crate) fn parse<T: DeserializeOwned>(part: &'static str, json: &[u8], bytes_max: usize) -> Result<T, DialectError> {
    if json.len() > bytes_max {
        return Err(DialectError::TooLong { part, bytes: json.len(), max: bytes_max });
    }
    if depth(json) > JSON_DEPTH_MAX {
        return Err(DialectError::TooDeep { part, max: JSON_DEPTH_MAX });
    }
    // First all of it: what a type passes over is held to the same rules, and is UTF-8 without lone surrogates.
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = Once.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.and_then(T::deserialize).map_err(|error| DialectError::shape(part, &error))
}

/// Levels of arrays and objects, of text that need not be JSON.
fn depth(json: &[u8]) -> usize {
    let (mut open, mut deepest) = (0usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => {
                open = open.saturating_add(1);
                deepest = deepest.max(open);
            }
            (false, b']' | b'}') => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The canonical form of RFC 8785: sorted by the UTF-16 units of their keys, no spaces. Numbers must be integers that a double holds, as all
/// are that MPP writes (H-21).
///
/// # Errors
/// [`DialectError::Shape`] for any other number.
pub fn canonical_json(part: &'static str, value: &Value) -> Result<String, DialectError> {
    let mut text = String::new();
    write_canonical(part, value, &mut text)?;
    Ok(text)
}

fn write_canonical(part: &'static str, value: &Value, text: &mut String) -> Result<(), DialectError> {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => text.push_str(&scalar(part, value)?),
        Value::Number(number) => {
            let safe = number.as_u64().is_some_and(|n| n < 1 << 53) || number.as_i64().is_some_and(|n| n < 0 && n > -(1 << 53));
            if !safe {
                return Err(DialectError::Shape { part, reason: format!("the number {number} has no canonical form here") });
            }
            text.push_str(&number.to_string());
        }
        Value::Array(values) => {
            text.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write_canonical(part, value, text)?;
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            text.push('{');
            for (at, (key, value)) in fields.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                text.push_str(&scalar(part, key)?);
                text.push(':');
                write_canonical(part, value, text)?;
            }
            text.push('}');
        }
    }
    Ok(())
}

/// serde_json escapes strings as RFC 8785 wants them.
fn scalar<T: Serialize + ?Sized>(part: &'static str, value: &T) -> Result<String, DialectError> {
    serde_json::to_string(value).map_err(|error| DialectError::shape(part, &error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(text: &str) -> Result<Object, DialectError> {
        parse("test", text.as_bytes(), 1_000)
    }

    #[test]
    fn a_key_that_comes_twice_is_refused_at_every_level() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"x":{"a":1,"a":2}}"#, r#"{"x":[[{"a":1,"a":2}]]}"#, r#"{"a":1,"\u0061":2}"#] {
            assert!(matches!(parsed(text), Err(DialectError::Shape { .. })), "{text}");
        }
        assert!(parsed(r#"{"x":{"a":1},"y":{"a":1}}"#).is_ok());
    }

    #[test]
    fn what_is_passed_over_is_json_too() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Known {
            a: u8,
        }
        let read = |json: &[u8]| parse::<Known>("test", json, 1_000);
        assert_eq!(read(br#"{"a":1,"b":{"c":[]}}"#), Ok(Known { a: 1 }));
        for json in [
            &b"{\"a\":1,\"b\":\"\xff\"}"[..],
            br#"{"a":1,"b":"\ud800"}"#,
            br#"{"a":1,"b":{"c":1,"c":1}}"#,
            br#"{"a":1,"b":1e999}"#,
            br#"{"a":1}x"#,
        ] {
            assert!(matches!(read(json), Err(DialectError::Shape { .. })), "{}", String::from_utf8_lossy(json));
        }
    }

    #[test]
    fn depth_is_counted_outside_of_strings() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(parsed(&nested(JSON_DEPTH_MAX - 1)).is_ok());
        assert_eq!(parsed(&nested(JSON_DEPTH_MAX)), Err(DialectError::TooDeep { part: "test", max: JSON_DEPTH_MAX }));
        assert!(parsed(&format!("{{\"a\":\"{}\"}}", "[".repeat(100))).is_ok());
        assert!(parsed(&format!("{{\"a\":\"\\\"{}\"}}", "[".repeat(100))).is_ok());
    }

    #[test]
    fn an_object_is_within_another_that_says_more() {
        let object = |value: Value| Object::of("test", &value).expect("an object");
        let check = |ours: Value, theirs: Value, expected: bool| {
            assert_eq!(object(ours.clone()).is_within(&object(theirs.clone())), expected, "{ours} {theirs}");
        };
        check(json!({}), json!({"a": 1}), true);
        check(json!({"a": {"b": 1}}), json!({"a": {"b": 1, "c": 2}, "d": 3}), true);
        check(json!({"a": 1}), json!({}), false);
        check(json!({"a": "1"}), json!({"a": 1}), false);
        check(json!({"a": [1]}), json!({"a": [1, 2]}), false);
        check(json!({"a": null}), json!({}), false);
    }

    #[test]
    fn canonical_json_is_that_of_rfc_8785() {
        let check = |value: Value, expected: &str| assert_eq!(canonical_json("test", &value).as_deref(), Ok(expected));
        check(
            json!({"b": [1, {"z": null, "a": true}], "a": "é\n\"\\\u{1f}"}),
            "{\"a\":\"é\\n\\\"\\\\\\u001f\",\"b\":[1,{\"a\":true,\"z\":null}]}",
        );
        // By UTF-16 units, U+10000 comes before U+FFFF.
        check(json!({"\u{ffff}": 1, "\u{10000}": 2}), "{\"\u{10000}\":2,\"\u{ffff}\":1}");
        check(json!(-9_007_199_254_740_991i64), "-9007199254740991");
        for value in [json!(0.5), json!(9_007_199_254_740_992u64), json!(-9_007_199_254_740_992i64)] {
            assert!(canonical_json("test", &value).is_err(), "{value}");
        }
    }
}
