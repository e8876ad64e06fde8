//! What a caller says of a job so that people find it again: tags, and texts under names of its own.

use std::collections::BTreeMap;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::{Tag, limits, shown};

/// The tags and the meta of a job. A job is found by its tags; its meta is only shown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Labels {
    /// Words by which the job is found, in the order in which they were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// Texts under names, such as who asked for the job.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
}

/// The error of tags or meta that are out of their bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLabels {
    /// There are more tags than a job may have.
    #[error("`tags` has more than {max}, which are allowed: leave some out", max = limits::TAGS_MAX)]
    TooManyTags,
    /// A tag is there twice.
    #[error("`tags[{index}]` is `{tag}` once more: leave it out")]
    TagTwice {
        /// The tag.
        tag: Tag,
        /// Where it is for the second time, from 0.
        index: usize,
    },
    /// Names and texts are too large together.
    #[error(
        "`meta` is more than {max} bytes, names and texts together: shorten it, or put what is larger into the args",
        max = limits::META_BYTES_MAX
    )]
    MetaTooLarge,
    /// A name of meta is none.
    #[error(
        "`meta` has the name `{}`, of {} bytes: use 1 to {} bytes of text that can be seen, with no space at its ends",
        shown::cut(.0),
        .0.len(),
        limits::TAG_BYTES_MAX
    )]
    MetaName(String),
}

impl Labels {
    /// Returns whether there are neither tags nor meta.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.meta.is_empty()
    }

    /// Checks that tags and meta are within their bounds.
    ///
    /// # Errors
    /// [`InvalidLabels`] names the first thing that is wrong.
    pub fn check(&self) -> Result<(), InvalidLabels> {
        if self.tags.len() > limits::TAGS_MAX {
            return Err(InvalidLabels::TooManyTags);
        }
        for (index, tag) in self.tags.iter().enumerate() {
            if self.tags[..index].contains(tag) {
                return Err(InvalidLabels::TagTwice { tag: tag.clone(), index });
            }
        }
        if meta_bytes(&self.meta) > limits::META_BYTES_MAX {
            return Err(InvalidLabels::MetaTooLarge);
        }
        match self.meta.keys().find(|name| Tag::new(name.as_str()).is_err()) {
            Some(name) => Err(InvalidLabels::MetaName(name.clone())),
            None => Ok(()),
        }
    }
}

fn meta_bytes(meta: &BTreeMap<String, String>) -> usize {
    meta.iter().map(|(name, text)| name.len() + text.len()).sum()
}

/// Reads tags. Of too many, one too many is read and the rest is not: each takes many times the memory of its text.
pub(crate) fn read_tags<'de, D: Deserializer<'de>>(tags: D) -> Result<Vec<Tag>, D::Error> {
    struct Tags;
    impl<'de> Visitor<'de> for Tags {
        type Value = Vec<Tag>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of tags")
        }

        fn visit_none<E: serde::de::Error>(self) -> Result<Vec<Tag>, E> {
            Ok(Vec::new())
        }

        fn visit_some<D: Deserializer<'de>>(self, tags: D) -> Result<Vec<Tag>, D::Error> {
            tags.deserialize_seq(self)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Tag>, A::Error> {
            let mut tags = Vec::new();
            while tags.len() <= limits::TAGS_MAX {
                let Some(tag) = list.next_element()? else { return Ok(tags) };
                tags.push(tag);
            }
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(tags)
        }
    }
    tags.deserialize_option(Tags)
}

/// Reads meta, each name once. What is beyond its bound is not kept.
pub(crate) fn read_meta<'de, D: Deserializer<'de>>(meta: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Meta;
    impl<'de> Visitor<'de> for Meta {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object of texts")
        }

        fn visit_none<E: serde::de::Error>(self) -> Result<BTreeMap<String, String>, E> {
            Ok(BTreeMap::new())
        }

        fn visit_some<D: Deserializer<'de>>(self, meta: D) -> Result<BTreeMap<String, String>, D::Error> {
            meta.deserialize_map(self)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BTreeMap<String, String>, A::Error> {
            let (mut meta, mut bytes) = (BTreeMap::new(), 0);
            while bytes <= limits::META_BYTES_MAX {
                let Some((name, text)) = map.next_entry::<String, String>()? else { return Ok(meta) };
                // An empty name and text count, too: there is no end of them.
                bytes += (name.len() + text.len()).max(1);
                if meta.contains_key(&name) {
                    return Err(A::Error::custom(format!("`{}` is there twice", shown::cut(&name))));
                }
                meta.insert(name, text);
            }
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(meta)
        }
    }
    meta.deserialize_option(Meta)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Tag {
        Tag::new(text).unwrap()
    }

    fn meta(name: &str, text: &str) -> BTreeMap<String, String> {
        [(name.to_owned(), text.to_owned())].into()
    }

    #[test]
    fn a_tag_is_a_short_text_that_is_seen_to_its_ends() {
        for good in ["a", "customer:42", "日本語", "two words", &"x".repeat(64)] {
            assert!(Tag::new(good).is_ok(), "{good:?}");
        }
        let bad = ["", " ", " a", "a ", "a\nb", "a\tb", "a\u{202e}b", "a\u{200b}", "\u{1b}[31m", "a\u{a0}"];
        for bad in bad.into_iter().chain([&*"x".repeat(65), &"é".repeat(33), &"x".repeat(1_000_000)]) {
            let error = Tag::new(bad).unwrap_err().to_string();
            assert!(error.contains("1 to 64 bytes") && error.len() < 400, "{error}");
        }
    }

    #[test]
    fn labels_are_within_their_bounds_and_what_is_not_is_named() {
        let tags = |count: usize| (0..count).map(|number| tag(&format!("t{number}"))).collect();
        let of = |tags, meta| Labels { tags, meta };
        assert_eq!(of(tags(16), BTreeMap::new()).check(), Ok(()));
        assert_eq!(of(tags(17), BTreeMap::new()).check(), Err(InvalidLabels::TooManyTags));
        let twice = of(vec![tag("a"), tag("b"), tag("a")], BTreeMap::new());
        assert_eq!(twice.check(), Err(InvalidLabels::TagTwice { tag: tag("a"), index: 2 }));
        assert_eq!(of(vec![], meta("by", &"x".repeat(4_094))).check(), Ok(()));
        assert_eq!(of(vec![], meta("by", &"x".repeat(4_095))).check(), Err(InvalidLabels::MetaTooLarge));
        for name in ["", "a\u{202e}b", &"n".repeat(65)] {
            assert_eq!(of(vec![], meta(name, "x")).check(), Err(InvalidLabels::MetaName(name.to_owned())));
        }
        // A text may be any: who shows it, shows what is seen of it.
        assert_eq!(of(vec![], meta("by", "\u{202e}\n")).check(), Ok(()));
    }

    #[test]
    fn of_too_much_only_a_little_too_much_is_read() {
        #[derive(Deserialize)]
        struct Both {
            #[serde(default, deserialize_with = "read_tags")]
            tags: Vec<Tag>,
            #[serde(default, deserialize_with = "read_meta")]
            meta: BTreeMap<String, String>,
        }
        let tags = vec!["\"a\""; 100_000].join(",");
        let read: Both = serde_json::from_str(&format!("{{\"tags\":[{tags}]}}")).unwrap();
        assert_eq!(read.tags.len(), limits::TAGS_MAX + 1);
        let meta: Vec<String> = (0..100_000).map(|number| format!("\"{number}\":\"\"")).collect();
        let read: Both = serde_json::from_str(&format!("{{\"meta\":{{{}}}}}", meta.join(","))).unwrap();
        assert!(meta_bytes(&read.meta) > limits::META_BYTES_MAX && read.meta.len() < 2_000);
        for wrong in
            [r#"{"meta":{"a":"1","a":"2"}}"#, r#"{"meta":{"a":1}}"#, r#"{"tags":"a"}"#, r#"{"tags":[""]}"#]
        {
            assert!(serde_json::from_str::<Both>(wrong).is_err(), "{wrong}");
        }
    }
}
