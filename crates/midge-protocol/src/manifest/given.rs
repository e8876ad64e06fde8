//! What a Machine and its guests may be given beside args and input: env and folders.

use std::collections::BTreeMap;

use crate::{limits, shown};

/// The one setting of a host that an image may choose: how many seconds its attempts may go on after SIGTERM.
const GRACE: &str = "MIDGE_GRACE";

/// Checks the name of an env variable.
///
/// # Errors
/// Says what is wrong with it, and what it may be.
pub fn check_env_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("`{}` is not a name for env: use letters, digits and `_`", shown::cut(name)));
    }
    // Among them is the Machine's secret, which a guest must never see.
    if name.starts_with("MIDGE_") {
        return Err(format!("`{}`: names that begin with MIDGE_ are midge's own", shown::cut(name)));
    }
    Ok(())
}

/// Checks all env that Machines are given: names, values, and how much it is together.
///
/// # Errors
/// The first variable that cannot be given, and what is wrong with it.
pub fn check_env(env: &BTreeMap<String, String>) -> Result<(), (&str, String)> {
    let mut bytes = 0;
    for (name, value) in env {
        if name != GRACE {
            check_env_name(name).map_err(|message| (name.as_str(), message))?;
        } else if value.parse::<u32>().is_err() {
            return Err((name, format!("`{GRACE}` is a number of seconds, such as \"30\"")));
        }
        if value.contains('\0') {
            return Err((name, format!("the value of `{name}` holds a zero byte")));
        }
        bytes += name.len() + value.len() + "=\0".len();
        if bytes > limits::ENV_BYTES_MAX {
            let most = limits::ENV_BYTES_MAX / 1024;
            return Err((
                name,
                format!(
                    "with `{name}` the env is larger than {most} KiB, with which no host could be started: put what \
                     is large into a file of the image, and give its folder with `dirs`"
                ),
            ));
        }
    }
    Ok(())
}

/// Checks the path of a folder, a guest's or a Machine's. A folder has one path: `/a/b` is not also `/a//b` or `/a/b/`.
///
/// # Errors
/// Says what is wrong with it, and what it may be.
pub fn check_folder(path: &str) -> Result<(), String> {
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    let is_plain = path == "/" || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_part));
    if path.len() > limits::PATH_BYTES_MAX {
        return Err(format!("a path of {} bytes: {} is the most", path.len(), limits::PATH_BYTES_MAX));
    }
    if shown::line(path) != path {
        return Err(format!("`{}` holds a character that cannot be seen: leave it out", shown::cut(path)));
    }
    if !is_plain {
        return Err(format!(
            "`{}` is not a path such as `/srv/data`: it begins with `/`, does not end with one, and has no `.`, `..` or `//`",
            shown::cut(path)
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_path() {
        for good in ["/", "/data", "/a/b.c", "/..a", "/naïve dir/日本"] {
            assert_eq!(check_folder(good), Ok(()), "{good:?}");
        }
        for bad in ["", "data", "./data", "/data/", "//", "//a", "/a//b", "/a/./b", "/.", "/..", "/a/../b"] {
            assert!(check_folder(bad).unwrap_err().contains("not a path such as"), "{bad:?}");
        }
        for bad in ["/a\0", "/a\u{1b}[2J", "/a\nb", "/\u{202e}a", "/a\u{200b}"] {
            let error = check_folder(bad).unwrap_err();
            assert!(error.contains("cannot be seen") && shown::line(&error) == error, "{error:?}");
        }
        assert!(check_folder(&"/a".repeat(2_048)).is_ok());
        assert_eq!(check_folder(&"/a".repeat(2_049)).unwrap_err(), "a path of 4098 bytes: 4096 is the most");
    }

    #[test]
    fn env_is_what_a_host_can_be_started_with() {
        let env = |pairs: &[(&str, usize)]| {
            pairs.iter().map(|(name, length)| ((*name).to_owned(), "x".repeat(*length))).collect()
        };
        assert_eq!(check_env(&env(&[("A", 128 * 1024 - 3)])), Ok(()));
        let too_much = env(&[("A", 64 * 1024), ("B", 64 * 1024)]);
        let (name, message) = check_env(&too_much).unwrap_err();
        assert!(name == "B" && message.starts_with("with `B` the env is larger than 128 KiB"), "{message}");
        assert!(
            check_env(&[("A".to_owned(), "a\0b".to_owned())].into()).unwrap_err().1.contains("zero byte")
        );
        let grace = |value: &str| check_env(&[(GRACE.to_owned(), value.to_owned())].into()).is_ok();
        assert!(grace("30") && !grace("30s") && !grace(""));
        assert!(check_env_name(GRACE).is_err(), "no guest sees it");
        for name in ["", "A B", "1A", "A=B", "MIDGE_SECRET", "Ä"] {
            assert!(check_env(&env(&[(name, 1)])).is_err(), "{name:?}");
        }
    }
}
