//! Regions: which there are, what room they have, and which of them a create means.

use std::str::FromStr;

/// A region and its room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Its name, such as `iad`: a Machine's `FLY_REGION`.
    pub name: String,
    /// The most Machines in it that are not stopped: more find no capacity.
    pub machines_max: Option<usize>,
    /// The most memory in MiB that Machines in it may use that are not stopped: the organization's quota.
    pub memory_mib_max: Option<u64>,
}

impl Region {
    /// Returns a region with room for all.
    pub fn new(name: impl Into<String>) -> Region {
        Region { name: name.into(), machines_max: None, memory_mib_max: None }
    }
}

impl FromStr for Region {
    type Err = String;

    /// Reads `NAME`, `NAME=MACHINES` or `NAME=MACHINES/MEMORY_MIB`; either number may be left out.
    fn from_str(text: &str) -> Result<Region, String> {
        let (name, room) = text.split_once('=').unwrap_or((text, ""));
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return Err(format!("`{name}` is not the name of a region, such as iad"));
        }
        if ALIASES.iter().any(|(alias, _)| *alias == name) || name == ANY {
            return Err(format!("`{name}` stands for several regions: name each"));
        }
        let (machines, memory) = room.split_once('/').unwrap_or((room, ""));
        let wrong = |number: &str| format!("`{number}` is not a number, in `{text}`");
        let read = |number: &str| match number {
            "" => Ok(None),
            number => number.parse::<u64>().map(Some).map_err(|_| wrong(number)),
        };
        let machines_max = read(machines)?.map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        Ok(Region { name: name.to_owned(), machines_max, memory_mib_max: read(memory)? })
    }
}

pub(crate) use midge_machines::regions::LOCAL;

const ANY: &str = "any";
/// Names of parts of the world, and Fly's regions there.
const ALIASES: [(&str, &[&str]); 7] = [
    ("us", &["iad", "ord", "dfw", "lax", "sjc", "ewr"]),
    ("na", &["iad", "ord", "dfw", "lax", "sjc", "ewr", "yyz"]),
    ("sa", &["gru"]),
    ("eu", &["ams", "arn", "cdg", "fra", "lhr"]),
    ("apac", &["nrt", "sin", "syd", "bom"]),
    ("asia", &["nrt", "sin", "bom"]),
    ("africa", &["jnb"]),
];

/// Returns the regions that a create means, in its order of preference, as places in `regions`; the first one where it
/// names none.
///
/// # Errors
/// The word that names no region.
pub(crate) fn wanted(regions: &[Region], asked: Option<&str>) -> Result<Vec<usize>, String> {
    let asked = asked.map(str::trim).filter(|asked| !asked.is_empty());
    let (Some(asked), false) = (asked, regions.len() == 1 && regions[0].name == LOCAL) else {
        return Ok(vec![0]);
    };
    let mut places: Vec<usize> = Vec::new();
    for word in asked.split(',').map(str::trim) {
        let of_part = ALIASES.iter().find(|(alias, _)| *alias == word).map(|(_, names)| *names);
        let fits = |region: &Region| match of_part {
            _ if word == ANY => true,
            Some(names) => names.contains(&region.name.as_str()),
            None => region.name == word,
        };
        let found: Vec<usize> = (0..regions.len()).filter(|place| fits(&regions[*place])).collect();
        if of_part.is_none() && word != ANY && found.is_empty() {
            return Err(word.to_owned());
        }
        places.extend(found.into_iter().filter(|place| !places.contains(place)).collect::<Vec<_>>());
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(asked: &str) -> Result<Vec<String>, String> {
        let regions: Vec<Region> = ["iad", "lhr", "ord", "fra"].map(Region::new).to_vec();
        let places = wanted(&regions, Some(asked))?;
        Ok(places.into_iter().map(|place| regions[place].name.clone()).collect())
    }

    #[test]
    fn a_list_is_in_its_own_order_and_names_each_region_once() {
        assert_eq!(names("lhr").unwrap(), ["lhr"]);
        assert_eq!(names("ord, us,any").unwrap(), ["ord", "iad", "lhr", "fra"]);
        assert_eq!(names("eu").unwrap(), ["lhr", "fra"]);
        assert_eq!(names("any").unwrap(), ["iad", "lhr", "ord", "fra"]);
        assert_eq!(names("sa").unwrap(), [""; 0], "a part of the world without a region here");
        assert_eq!(names("iad,xyz"), Err("xyz".to_owned()));
        assert_eq!(names("").unwrap(), ["iad"]);
    }

    #[test]
    fn a_region_is_read_with_its_room() {
        let read = |text: &str| text.parse::<Region>();
        let region =
            |machines_max, memory_mib_max| Region { name: "iad".to_owned(), machines_max, memory_mib_max };
        assert_eq!(read("iad"), Ok(region(None, None)));
        assert_eq!(read("iad=5"), Ok(region(Some(5), None)));
        assert_eq!(read("iad=5/4096"), Ok(region(Some(5), Some(4096))));
        assert_eq!(read("iad=/4096"), Ok(region(None, Some(4096))));
        for bad in ["", "=5", "IAD", "iad=x", "iad=-1", "iad=5/x", "any", "eu", "a b"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
