//! Which sizes Fly sells.

use midge_machines::wire::FlyGuest;

/// Says what is wrong with a size.
pub(crate) fn check(guest: &FlyGuest) -> Result<(), String> {
    let FlyGuest { cpu_kind, cpus, memory_mb } = guest;
    // What is not said is the least there is.
    let cpus = (*cpus).max(1);
    let (cpus_known, least, most): (&[u32], u32, u32) = match cpu_kind.as_str() {
        "shared" | "" => (&[1, 2, 4, 6, 8], 256, 2048),
        "performance" => (&[1, 2, 4, 6, 8, 10, 12, 14, 16], 2048, 8192),
        other => return Err(format!("unsupported guest: there are no `{other}` CPUs")),
    };
    if !cpus_known.contains(&cpus) {
        return Err(format!("unsupported guest: {cpus} {cpu_kind} CPUs are not among {cpus_known:?}"));
    }
    let (least, most) = (least * cpus, most * cpus);
    if *memory_mb != 0 && (!(least..=most).contains(memory_mb) || memory_mb % 256 != 0) {
        return Err(format!(
            "unsupported guest: {memory_mb} MB for {cpus} {cpu_kind} CPUs are not {least} to {most} in steps of 256"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fly_does_not_sell_is_refused_with_what_it_does() {
        let check = |kind: &str, cpus, memory_mb| {
            check(&FlyGuest { cpu_kind: kind.to_owned(), cpus, memory_mb }).is_ok()
        };
        assert!(check("shared", 1, 256) && check("shared", 8, 16384) && check("performance", 16, 131_072));
        for (kind, cpus, memory) in [
            ("fast", 1, 256),
            ("shared", 3, 1024),
            ("shared", 1, 255),
            ("shared", 1, 4096),
            ("shared", 2, 256),
            ("performance", 1, 1024),
            ("shared", 1, 300),
        ] {
            assert!(!check(kind, cpus, memory), "{kind} {cpus} {memory}");
        }
    }
}
