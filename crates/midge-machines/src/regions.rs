//! Names of regions: which of those that somebody wants there are.

/// The region of a flylet that was given none. It answers to every name.
pub const LOCAL: &str = "local";
/// Fly's names for several regions: all, and those of parts of the world.
const PARTS: [&str; 8] = ["any", "us", "na", "sa", "eu", "apac", "asia", "africa"];

/// Returns the first of the names that is neither a region that there is nor a part of the world. `known` are the regions
/// that there are, as [`FlyMachines::regions`](crate::FlyMachines::regions) returns them; where it has none, nothing is unknown.
pub fn unknown<'a>(wanted: impl IntoIterator<Item = &'a str>, known: &[String]) -> Option<&'a str> {
    if known.is_empty() || known == [LOCAL] {
        return None;
    }
    wanted.into_iter().find(|name| !PARTS.contains(name) && !known.iter().any(|region| region == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_if_it_is_a_region_or_a_part_of_the_world() {
        let known = ["ams", "fra"].map(str::to_owned);
        assert_eq!(unknown(["ams", "eu", "any"], &known), None);
        assert_eq!(unknown(["ams", "amx", "frx"], &known), Some("amx"));
        assert_eq!(unknown(["amx"], &[]), None, "nobody knows");
        assert_eq!(unknown(["amx"], &[LOCAL.to_owned()]), None, "it answers to every name");
    }
}
