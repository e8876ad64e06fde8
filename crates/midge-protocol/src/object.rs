//! Reads what crosses a process in its one form: a struct from an object (a map with named fields), one of several things
//! from its word, or from an object of its word to what comes with it.
//!
//! serde also reads a struct from a list of its fields' values, and a bare word from an object of it to nothing. What
//! passes so by chance would mean something else as soon as a field is added.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, IntoDeserializer, MapAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

/// Lets types be read in their one form only. With `remote`, serde's code is in functions of the type, to be called here.
macro_rules! objects {
    ($($object:ident),+) => {$(
        impl serde::Serialize for $object {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $object::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $object {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$object, D::Error> {
                $object::deserialize($crate::object::FromObject(deserializer))
            }
        }
    )+};
}

pub(crate) use objects;

/// Reads a field that may be left out: `null` is as if it were, of whatever type it is.
pub(crate) fn or_default<'de, T, D>(field: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(field)?.unwrap_or_default())
}

/// A deserializer that takes an object for a struct, and no list; and a word, or an object of one word, for an enum.
pub(crate) struct FromObject<D>(pub(crate) D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for FromObject<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(OnlyMap(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(OneWord { words, visitor })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// A visitor that is shown a map and nothing else: a format that describes itself may bring a list where a map is asked
/// for.
struct OnlyMap<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for OnlyMap<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(map)
    }
}

/// A visitor of an enum that takes its word, or an object of its word to what comes with it.
struct OneWord<V> {
    words: &'static [&'static str],
    visitor: V,
}

impl<V> OneWord<V> {
    fn expected(&self) -> String {
        let words: Vec<String> = self.words.iter().map(|word| format!("\"{word}\"")).collect();
        format!("one of {}", words.join(", "))
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for OneWord<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.expected())
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<V::Value, E> {
        self.visitor.visit_enum(Bare { word, error: std::marker::PhantomData })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<V::Value, A::Error> {
        let Some(word) = map.next_key::<String>()? else {
            return Err(A::Error::invalid_value(Unexpected::Other("an empty object"), &&*self.expected()));
        };
        let value = self.visitor.visit_enum(With { word, map: &mut map })?;
        match map.next_key::<IgnoredAny>()? {
            None => Ok(value),
            Some(_) => {
                Err(A::Error::invalid_value(Unexpected::Other("an object of several"), &"an object of one"))
            }
        }
    }
}

/// A word and nothing else.
struct Bare<'a, E> {
    word: &'a str,
    error: std::marker::PhantomData<E>,
}

impl<E: Error> Bare<'_, E> {
    fn needs_more<T>(self) -> Result<T, E> {
        let expected = format!("{{\"{}\": ...}}", self.word);
        Err(E::invalid_value(Unexpected::Str(self.word), &&*expected))
    }
}

impl<'de, 'a, E: Error> EnumAccess<'de> for Bare<'a, E> {
    type Error = E;
    type Variant = Bare<'a, E>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Bare<'a, E>), E> {
        let variant: Result<S::Value, E> = seed.deserialize(self.word.into_deserializer());
        Ok((variant?, self))
    }
}

impl<'de, E: Error> VariantAccess<'de> for Bare<'_, E> {
    type Error = E;

    fn unit_variant(self) -> Result<(), E> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, E> {
        self.needs_more()
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, E> {
        self.needs_more()
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, E> {
        self.needs_more()
    }
}

/// A word, and an object that is read up to what comes with it.
struct With<'a, A> {
    word: String,
    map: &'a mut A,
}

impl<'de, A: MapAccess<'de>> EnumAccess<'de> for With<'_, A> {
    type Error = A::Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), A::Error> {
        let variant: Result<S::Value, A::Error> = seed.deserialize(self.word.as_str().into_deserializer());
        Ok((variant?, self))
    }
}

impl<'de, A: MapAccess<'de>> VariantAccess<'de> for With<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        let expected = format!("\"{}\" alone", self.word);
        Err(A::Error::invalid_type(Unexpected::Map, &&*expected))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.map.next_value_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(Object(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(Object(visitor))
    }
}

/// The object that comes with a word.
struct Object<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Object<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        deserializer.deserialize_map(OnlyMap(self.0))
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Serialize};
    use serde_json::Value;

    use crate::api::{
        BatchFilter, BatchRequest, BulkRequest, EnqueueRequest, FailuresFilter, JobFilter, MoveRequest,
        PauseRequest, PriorityRequest, RunRequest, SweepRequest, Unique,
    };
    use crate::job::Backoff;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
    enum Shape {
        Point,
        Circle { radius: u8 },
        Named(String),
    }

    objects!(Shape);

    /// Returns the names of a request's fields, as the error of one that there is not has them.
    fn fields<T: DeserializeOwned>(json: &Value) -> Vec<String> {
        let mut json = json.clone();
        json["?"] = true.into();
        let error = serde_json::from_value::<T>(json).err().expect("there is no such field").to_string();
        let (_, names) = error.split_once(", expected ").expect("it names those that there are");
        names.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    fn null_is_as_if_left_out<T: Serialize + DeserializeOwned>(json: &str) {
        let least: Value = serde_json::from_str(json).unwrap();
        let shown = |json: Value| {
            let mut shown = serde_json::to_value(serde_json::from_value::<T>(json)?).unwrap();
            // A new one each time.
            if least.get("id").is_none() {
                shown.as_object_mut().unwrap().remove("id");
            }
            Ok::<Value, serde_json::Error>(shown)
        };
        let expected = shown(least.clone()).unwrap();
        for field in fields::<T>(&least) {
            let mut with_null = least.clone();
            with_null[&field] = Value::Null;
            let read = shown(with_null);
            match least.get(&field) {
                Some(_) => assert!(read.is_err(), "{field} in {json}"),
                None => assert_eq!(read.unwrap(), expected, "{field} in {json}"),
            }
        }
    }

    #[test]
    fn null_is_as_if_a_field_were_left_out_in_every_request() {
        null_is_as_if_left_out::<EnqueueRequest>(r#"{"module": "hello"}"#);
        null_is_as_if_left_out::<BulkRequest>(r#"{"jobs": []}"#);
        null_is_as_if_left_out::<BatchRequest>("{}");
        null_is_as_if_left_out::<SweepRequest>(r#"{"action": "retry"}"#);
        null_is_as_if_left_out::<JobFilter>("{}");
        null_is_as_if_left_out::<FailuresFilter>("{}");
        null_is_as_if_left_out::<BatchFilter>("{}");
        null_is_as_if_left_out::<PriorityRequest>(r#"{"priority": 1}"#);
        null_is_as_if_left_out::<MoveRequest>(r#"{"queue": "mail"}"#);
        null_is_as_if_left_out::<PauseRequest>("{}");
        null_is_as_if_left_out::<RunRequest>("{}");
        null_is_as_if_left_out::<Unique>("{}");
        let backoff = |json: &str| serde_json::from_str::<Backoff>(json).unwrap();
        assert_eq!(
            backoff(r#"{"exponential": {"base_ms": 1, "cap_ms": null}}"#),
            backoff(r#"{"exponential": {"base_ms": 1}}"#)
        );
    }

    #[test]
    fn an_enum_is_a_word_or_an_object_of_its_word_to_what_comes_with_it() {
        for (json, shape) in [
            (r#""point""#, Shape::Point),
            (r#"{"circle":{"radius":3}}"#, Shape::Circle { radius: 3 }),
            (r#"{"named":"x"}"#, Shape::Named("x".to_owned())),
        ] {
            assert_eq!(serde_json::to_string(&shape).unwrap(), json);
            assert_eq!(serde_json::from_str::<Shape>(json).unwrap(), shape);
        }
        for (json, says) in [
            ("5", "integer `5`, expected one of \"point\", \"circle\", \"named\""),
            ("[\"point\"]", "sequence, expected one of \"point\""),
            ("null", "null, expected one of"),
            ("{}", "an empty object, expected one of \"point\""),
            (r#"{"point":null}"#, "map, expected \"point\" alone"),
            (r#""circle""#, r#"string "circle", expected {"circle": ...}"#),
            (r#""named""#, r#"string "named", expected {"named": ...}"#),
            (r#"{"circle":[3]}"#, "sequence, expected struct variant"),
            (r#"{"circle":{"radius":3},"point":null}"#, "an object of several, expected an object of one"),
            (r#"{"circle":{"radius":3,"x":1}}"#, "unknown field `x`"),
            (r#""square""#, "unknown variant `square`, expected one of `point`"),
            (r#"{"square":1}"#, "unknown variant `square`, expected one of `point`"),
        ] {
            let error = serde_json::from_str::<Shape>(json).unwrap_err();
            assert!(error.to_string().contains(says) && error.is_data(), "{json}: {error}");
        }
    }
}
