//! Finds Debian's mirror and its keyring in the machine's own apt sources, in both of their formats.
//!
//! Formats: sources.list(5), one-line style (`.list`) and deb822 style (`.sources`).

use std::fs;
use std::path::{Path, PathBuf};

/// Where Debian's keyring lies if the sources do not say so.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"];

/// A mirror of Debian, and the keys that its packages are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub(crate) uri: String,
    pub(crate) keyring: Option<PathBuf>,
}

impl Mirror {
    /// Returns the first mirror of Debian that apt's folder (`/etc/apt`) names.
    pub(crate) fn find(apt: &Path) -> Option<Mirror> {
        files(apt).iter().find_map(|file| {
            let text = fs::read_to_string(file).ok()?;
            match file.extension()?.to_str()? {
                "sources" => stanzas(&text).find_map(|stanza| stanza.mirror()),
                _ => text.lines().find_map(mirror_of_line),
            }
        })
    }

    /// Returns the keyring file: the one that the sources name, else Debian's own.
    pub(crate) fn keyring(&self) -> Option<PathBuf> {
        let named = self.keyring.iter().cloned();
        named.chain(KEYRINGS.map(PathBuf::from)).find(|path| path.is_file())
    }
}

/// The files that apt would read, in its order. Others (`.disabled`, `.save`) are not read by apt either.
fn files(apt: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<PathBuf> = fs::read_dir(apt.join("sources.list.d"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "list" || e == "sources"))
        .collect();
    parts.sort();
    parts.insert(0, apt.join("sources.list"));
    parts
}

/// `deb [signed-by=FILE arch=amd64] URI SUITE COMPONENT...`
fn mirror_of_line(line: &str) -> Option<Mirror> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?.strip_prefix(char::is_whitespace)?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let uri = words.next()?;
    let mut components = words.skip(1);
    if !is_debian(uri) || !components.any(|component| component == "main") {
        return None;
    }
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    Some(Mirror { uri: uri.to_owned(), keyring: signed_by.and_then(file_name) })
}

/// One paragraph of a deb822 file.
#[derive(Default)]
struct Stanza(Vec<(String, String)>);

impl Stanza {
    fn get(&self, field: &str) -> &str {
        let found = self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(field));
        found.map_or("", |(_, value)| value.as_str())
    }

    fn has_word(&self, field: &str, word: &str) -> bool {
        self.get(field).split_whitespace().any(|w| w == word)
    }

    fn mirror(&self) -> Option<Mirror> {
        let off = matches!(self.get("Enabled").trim(), "no" | "false" | "0");
        if off || !self.has_word("Types", "deb") || !self.has_word("Components", "main") {
            return None;
        }
        let uri = self.get("URIs").split_whitespace().find(|uri| is_debian(uri))?;
        Some(Mirror { uri: uri.to_owned(), keyring: file_name(self.get("Signed-By").trim()) })
    }
}

fn stanzas(text: &str) -> impl Iterator<Item = Stanza> {
    let mut stanzas = vec![Stanza::default()];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields = &mut stanzas.last_mut().expect("it begins with one and only grows").0;
        if line.trim().is_empty() {
            stanzas.push(Stanza::default());
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    stanzas.into_iter()
}

/// `signed-by` may also hold fingerprints or a whole key; then Debian's own keyring is used.
fn file_name(signed_by: &str) -> Option<PathBuf> {
    let one = !signed_by.contains(['\n', ',', ' ']);
    (one && signed_by.starts_with('/')).then(|| PathBuf::from(signed_by))
}

/// Debian proper has a path that ends in `/debian` (`debian.list` for apt's mirror method, a date for snapshots);
/// `/debian-security` and the like hold only parts of it.
fn is_debian(uri: &str) -> bool {
    let fetchable = ["http:", "https:", "file:", "mirror", "tor+"].iter().any(|s| uri.starts_with(s));
    let path = uri.split_once(":/").map_or("", |(_, path)| path);
    fetchable && path.split('/').any(|part| part == "debian" || part == "debian.list")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(files: &[(&str, &str)]) -> Option<Mirror> {
        let apt = tempfile::tempdir().unwrap();
        fs::create_dir(apt.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(apt.path().join(name), text).unwrap();
        }
        Mirror::find(apt.path())
    }

    #[test]
    fn a_one_line_source_gives_mirror_and_keyring() {
        let line = "deb-src http://mirror.test/debian trixie main\n\
            deb http://mirror.test/debian-security bookworm-security main\n\
            deb [arch=amd64 signed-by=/keys/debian.gpg] http://mirror.test/debian/ bookworm main contrib # here\n";
        let mirror = find(&[("sources.list", line)]).unwrap();
        assert_eq!(mirror.uri, "http://mirror.test/debian/");
        assert_eq!(mirror.keyring, Some("/keys/debian.gpg".into()));
    }

    #[test]
    fn a_deb822_source_gives_mirror_and_keyring() {
        let text = "Types: deb\nEnabled: no\nURIs: http://off.test/debian\nSuites: bookworm\nComponents: main\n\n\
            # a comment\nTypes: deb deb-src\nURIs: http://mirror.test/debian-security\n\
            Suites: s\nComponents: main\n\n\
            Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm\n bookworm-updates\n\
            Components: main\nSigned-By: /keys/debian.gpg\n";
        let mirror = find(&[("sources.list.d/debian.sources", text)]).unwrap();
        assert_eq!(mirror.uri, "http://mirror.test/debian");
        assert_eq!(mirror.keyring, Some("/keys/debian.gpg".into()));
    }

    #[test]
    fn a_key_in_the_sources_itself_is_not_a_file() {
        let text = "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: x\nComponents: main\n\
            Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n";
        let mirror = find(&[("sources.list.d/debian.sources", text)]).unwrap();
        assert_eq!(mirror.keyring, None);
    }

    #[test]
    fn sources_that_apt_does_not_read_or_that_are_not_debian_give_none() {
        let debian = "deb http://mirror.test/debian bookworm main";
        let ubuntu = "deb http://mirror.test/ubuntu noble main";
        assert_eq!(find(&[("sources.list.d/x.list.disabled", debian), ("sources.list", ubuntu)]), None);
        assert_eq!(find(&[("sources.list", "deb cdrom:[Debian 12]/debian bookworm main")]), None);
    }
}
