//! Which failures are alike: those of one module and cause whose messages say the same of different things.
//!
//! Of a message's first line, what differs from job to job is left out: numbers, ids, addresses, paths, and what is quoted. Of
//! a Rust program's panic the file in which it was is kept: what it says may be the same of two, such as of an `unwrap`.

use midge_protocol::job::Failure;
use midge_protocol::{Fingerprint, ModuleName};

use crate::job::NOT_TRIED_AGAIN;

/// How much of a message is looked at: what is said at its beginning.
const MESSAGE_BYTES_MAX: usize = 512;
/// How much of the path of a file is kept: a package, its `src`, and the file.
const FILE_PARTS_KEPT: usize = 3;
/// Stands for what differs from job to job.
const ANY: &str = "#";
/// Stands for what is quoted.
const QUOTED: &str = "'#'";

/// Returns what a failure has in common with those that are alike.
pub fn fingerprint(module: &ModuleName, failure: &Failure) -> Fingerprint {
    let mut hash = Fnv::default();
    // Whether it was the last is the job's, and no other failure.
    let message = failure.message.rsplit_once(NOT_TRIED_AGAIN).map_or(&*failure.message, |(said, _)| said);
    for part in [module.as_str(), failure.cause.as_str(), &without_values(message)] {
        hash.add(part.as_bytes());
        // No part holds it, so that no two lists of parts are the same bytes.
        hash.add(&[0]);
    }
    Fingerprint(hash.0)
}

/// Returns the first line of a message without what differs from job to job.
fn without_values(message: &str) -> String {
    let line = message.trim_start().lines().next().unwrap_or_default();
    let line = &line[..line.floor_char_boundary(MESSAGE_BYTES_MAX)];
    let mut kept = String::with_capacity(line.len());
    match panic(line) {
        Some(Panic { before, file, after }) => {
            keep(before, &mut kept);
            keep_file(file, &mut kept);
            // Its line and column are others with the next deploy.
            kept.push(':');
            kept.push_str(ANY);
            keep(after, &mut kept);
        }
        None => keep(line, &mut kept),
    }
    kept.trim_end().to_owned()
}

/// A panic of a Rust program, as that or its job's SDK tells of it.
struct Panic<'a> {
    before: &'a str,
    file: &'a str,
    /// What follows the place.
    after: &'a str,
}

/// Takes apart the first line of a panic: `panicked at src/main.rs:3:5: no such width`, with the thread before it or not.
fn panic(line: &str) -> Option<Panic<'_>> {
    const AT: &str = "panicked at ";
    let at = line.find(AT).filter(|at| *at == 0 || line.starts_with("thread '"))? + AT.len();
    let (before, rest) = line.split_at(at);
    let end = rest.find(": ").or_else(|| rest.strip_suffix(':').map(str::len))?;
    let (place, after) = rest.split_at(end);
    let mut parts = place.rsplitn(3, ':');
    let is_number = |part: Option<&str>| part.is_some_and(|part| part.parse::<u32>().is_ok());
    let is_place = is_number(parts.next()) && is_number(parts.next());
    Some(Panic { before, file: parts.next().filter(|_| is_place)?, after })
}

/// Keeps the end of a path, which is the same on each computer that builds the program, without numbers and ids.
fn keep_file(path: &str, kept: &mut String) {
    let parts: Vec<&str> = path.split(['/', '\\']).filter(|part| !part.is_empty()).collect();
    for (index, part) in parts[parts.len().saturating_sub(FILE_PARTS_KEPT)..].iter().enumerate() {
        kept.push_str(if index > 0 { "/" } else { "" });
        plain(part, kept);
    }
}

/// Keeps a text without what differs from job to job.
fn keep(mut rest: &str, kept: &mut String) {
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' | '\'' | '`' => quoted(rest, first, kept.chars().next_back()),
            _ => None,
        };
        if let Some(end) = in_brackets(rest) {
            kept.push_str(ANY);
            rest = &rest[end..];
        } else if let Some(end) = end {
            kept.push_str(QUOTED);
            rest = &rest[end..];
        } else if first.is_whitespace() || first.is_control() {
            if !kept.ends_with(' ') {
                kept.push(' ');
            }
            rest = &rest[first.len_utf8()..];
        } else if is_part(first) {
            let end = word_end(rest);
            word(&rest[..end], kept);
            rest = &rest[end..];
        } else {
            kept.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
}

/// Returns where a quotation that begins here ends. An apostrophe within a word begins none.
fn quoted(text: &str, quote: char, before: Option<char>) -> Option<usize> {
    if before.is_some_and(char::is_alphanumeric) {
        return None;
    }
    text[1..].find(quote).map(|end| end + 2)
}

/// Returns whether a character is part of a word, an id, an address or a path: those are kept or left out as a whole.
fn is_part(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/' | '@' | '+' | '%' | '\\')
}

/// Returns where a word ends. A comma between digits is part of a number.
fn word_end(text: &str) -> usize {
    let mut last = None;
    let is_in = |c: char, next: Option<char>| {
        let before: Option<char> = last.replace(c);
        is_part(c) || c == ',' && [before, next].iter().all(|c| c.is_some_and(char::is_numeric))
    };
    let ends = text.chars().zip(text.chars().map(Some).skip(1).chain([None]));
    ends.scan(is_in, |is_in, (c, next)| is_in(c, next).then_some(c.len_utf8())).sum()
}

/// Returns where an address of IPv6 that stands in brackets ends, with its port.
fn in_brackets(text: &str) -> Option<usize> {
    let (address, rest) = text.strip_prefix('[')?.split_once(']')?;
    let address = address.split('%').next().unwrap_or_default();
    if address.matches(':').count() < 2 || !address.split(':').all(is_group) {
        return None;
    }
    let port = rest.strip_prefix(':').unwrap_or_default();
    let digits = port.bytes().take_while(u8::is_ascii_digit).count();
    Some(text.len() - rest.len() + if digits > 0 { digits + 1 } else { 0 })
}

/// Keeps a word, or what is left of it without its values.
fn word(text: &str, kept: &mut String) {
    // What ends a sentence or a clause is not the word's.
    let word = text.trim_end_matches(['.', ':', '-', '/']);
    let end = &text[word.len()..];
    if is_path(word) || word.contains('@') || is_address(word) {
        kept.push_str(ANY);
    } else if word.contains(':') {
        for (index, part) in word.split(':').enumerate() {
            kept.push_str(if index > 0 { ":" } else { "" });
            plain(part, kept);
        }
        // An address with a port, or hours and minutes, are one value.
        while kept.ends_with("#:#") {
            kept.truncate(kept.len() - 2);
        }
    } else {
        plain(word, kept);
    }
    kept.push_str(end);
}

/// A name of the file system or of the web: its parts differ more often than they say something.
fn is_path(word: &str) -> bool {
    let separators = word.matches(['/', '\\']).count();
    word.contains("://") || word.starts_with(['/', '\\']) && word.len() > 1 || separators > 1
}

/// An address of IPv6, or hours, minutes and seconds.
fn is_address(word: &str) -> bool {
    word.matches(':').count() > 1 && word.bytes().any(|c| c.is_ascii_digit()) && word.split(':').all(is_group)
}

/// A part of an address of IPv6, which may end with one of IPv4.
fn is_group(text: &str) -> bool {
    text.is_empty() || is_hex(text) || text.bytes().all(|c| c.is_ascii_digit() || c == b'.')
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_hexdigit())
}

/// Keeps a word without a colon: as it is, or without its digits, or not at all where it is an id.
fn plain(word: &str, kept: &mut String) {
    // A sign is part of a number, and so is the point before it.
    let unsigned = word.strip_prefix(['-', '+']).unwrap_or(word);
    let unsigned = unsigned.strip_prefix('.').unwrap_or(unsigned);
    let word = if unsigned.starts_with(char::is_numeric) { unsigned } else { word };
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let hex = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")).unwrap_or(word);
    let parts_are_hex = word.split('-').all(is_hex) && digits > 0;
    // An id is written in hexadecimal digits, or is long and mixed of letters and digits.
    if digits > 0 && is_hex(hex) || parts_are_hex || word.len() >= 16 && digits >= 3 {
        kept.push_str(ANY);
        return;
    }
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        let end = number_end(rest);
        if end > 0 {
            kept.push_str(ANY);
            rest = &rest[end..];
        } else {
            kept.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
}

/// Returns where a number ends that a text begins with: its points, what groups its digits, and its exponent are part of it.
fn number_end(text: &str) -> usize {
    let digits = |text: &str| text.find(|c: char| !c.is_numeric()).unwrap_or(text.len());
    let mut end = digits(text);
    while end > 0 {
        let rest = &text[end..];
        let skipped = match rest.chars().next() {
            Some('.' | '_' | ',') => 1,
            Some('e' | 'E') if rest[1..].starts_with(['-', '+']) => 2,
            Some('e' | 'E') => 1,
            _ => break,
        };
        let more = digits(&rest[skipped..]);
        if more == 0 && !rest.starts_with('.') {
            break;
        }
        end += skipped + more;
    }
    end
}

/// FNV-1a, <http://www.isthe.com/chongo/tech/comp/fnv/>: small, and the same for ever. Nobody gains by making two texts
/// that have the same.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use midge_protocol::job::Cause;

    use super::*;

    fn of(message: &str) -> Fingerprint {
        fingerprint(&ModuleName::new("hello").unwrap(), &Failure::new(Cause::Exit, message))
    }

    #[test]
    fn failures_that_say_the_same_of_different_things_are_alike() {
        for (a, b) in [
            ("timeout after 30 s", "timeout after 1200 s"),
            ("took 1.5 s", "took 20.25 s"),
            ("took 1.5 s", "took 2 s"),
            ("took 1.5e-7 s", "took 2 s"),
            ("at x=-3.5", "at x=.25"),
            ("1e-5 is too little", "6.02E+23 is too little"),
            ("1,000 rows", "1_000 rows"),
            ("1,000 rows", "7 rows"),
            ("wrote 1_000ms", "wrote 12ms"),
            ("rows [1,2,3]", "rows [+17]"),
            ("sum -1,234,567.89.", "sum 0."),
            ("user 42 not found", "user 7 not found"),
            ("user42 not found", "user7 not found"),
            ("no row 0190b3e4-7d5c-7c3a-9f00-0123456789ab", "no row ffffffff-0000-4000-8000-00000000000a"),
            ("commit 9fceb02 is bad", "commit 0a1b2c3d4e5f is bad"),
            ("at 0xdeadbeef1", "at 0x1"),
            ("connect to 10.0.0.1:5432 refused", "connect to 192.168.17.200:80 refused"),
            ("connect to [fdaa:0:1::3]:443 refused", "connect to [2001:db8::a7]:8443 refused"),
            ("connect to [fdaa:0:1::3]:443 refused", "connect to 10.0.0.7:25 refused"),
            ("connect to [::]:443 refused", "connect to [fe80::1%eth0] refused"),
            ("connect to [::ffff:10.0.0.7]:80 refused", "connect to ::1 refused"),
            ("no such file: /data/in/1.png", "no such file: /srv/other/photo.jpeg"),
            ("GET https://example.com/a?b=1 failed", "GET https://example.org/x?b=22 failed"),
            ("mail to ada@example.com bounced", "mail to grace@example.org bounced"),
            ("unknown field \"colour\"", "unknown field \"size of it\""),
            ("module `a` is missing", "module `b-c` is missing"),
            ("key 'x' is taken", "key 'another key' is taken"),
            ("token sk_live_4eC39HqLyjWDarjt is wrong", "token sk_live_51H8abcdEFGHijkl0 is wrong"),
            ("it failed\nat line 1", "it failed\nbecause of another thing"),
            ("  it   failed", "it failed"),
            ("at 2030-01-31T08:00:00.000Z", "at 2031-12-01T23:59:59.123Z"),
            ("(7) no", "(12345) no"),
            ("retry 3/5", "retry 4/10"),
        ] {
            assert_eq!(of(a), of(b), "{a} / {b}: {} / {}", without_values(a), without_values(b));
        }
    }

    #[test]
    fn failures_that_say_something_else_are_not_alike() {
        let messages = [
            "",
            "timeout after 30 s",
            "timeout",
            "user 42 not found",
            "order 42 not found",
            "user 42 is locked",
            "no such file: /data/in/1.png",
            "no space left: /data/in/1.png",
            "connection refused",
            "connection reset",
            "it's over",
            "it's late",
            "unknown field \"colour\"",
            "missing field \"colour\"",
            "invalid type: string",
            "invalid type: map",
            "mail to ada@example.com bounced",
            "naïve",
            "日本語",
            "日本",
        ];
        for (index, a) in messages.iter().enumerate() {
            for b in &messages[..index] {
                assert_ne!(of(a), of(b), "{a} / {b}: {} / {}", without_values(a), without_values(b));
            }
        }
    }

    #[test]
    fn a_panic_is_known_by_its_file_and_by_what_it_says() {
        let none = "called `Option::unwrap()` on a `None` value";
        let at = |place: &str, says: &str| of(&format!("panicked at {place}: {says}"));
        let ours = at("jobs/resize/src/main.rs:3:5", none);
        for same in [
            at("jobs/resize/src/main.rs:104:17", none),
            at("/srv/app/jobs/resize/src/main.rs:3:5", none),
            at("jobs\\resize\\src\\main.rs:3:5", none),
        ] {
            assert_eq!(ours, same);
        }
        for other in [
            at("jobs/resize/src/photo.rs:3:5", none),
            at("jobs/mail/src/main.rs:3:5", none),
            at("jobs/resize/src/main.rs:3:5", "index out of bounds"),
            of(none),
        ] {
            assert_ne!(ours, other);
        }
        for (message, left) in [
            (
                "thread 'main' (1) panicked at a/b/src/main.rs:3:5: no width 7",
                "thread '#' (#) panicked at b/src/main.rs:#: no width #",
            ),
            (
                "thread 'main' (1) panicked at a/b/src/main.rs:3:5:\nno",
                "thread '#' (#) panicked at b/src/main.rs:#:",
            ),
            (
                "panicked at /srv/cargo/registry/src/index.crates.io-1949cf8c6b5b557f/png-0.17.1/src/lib.rs:1:2: no",
                "panicked at png-#/src/lib.rs:#: no",
            ),
            ("it panicked at a/b/c.rs:3:5: no", "it panicked at #: no"),
            ("panicked at the disco: no", "panicked at the disco: no"),
            ("panicked at ", "panicked at"),
        ] {
            assert_eq!(without_values(message), left, "{message}");
        }
    }

    #[test]
    fn module_and_cause_are_part_of_it() {
        let failure = Failure::new(Cause::Exit, "no");
        let module = |name: &str| ModuleName::new(name).unwrap();
        let ours = fingerprint(&module("hello"), &failure);
        assert_ne!(ours, fingerprint(&module("hell"), &failure));
        assert_ne!(ours, fingerprint(&module("hello"), &Failure::new(Cause::Trap, "no")));
        let longer = Failure { exit_code: Some(3), retry_after_ms: Some(1), ..failure };
        assert_eq!(ours, fingerprint(&module("hello"), &longer));
    }

    #[test]
    fn what_is_left_of_a_message_is_what_it_says() {
        for (message, left) in [
            ("user 42: no row in `orders`", "user #: no row in '#'"),
            ("connect to 10.0.0.1:5432 refused.", "connect to # refused."),
            ("it's 8:30 on 2030-01-31", "it's # on #"),
            ("sha256 does not match", "sha# does not match"),
            ("added a face to the cafe", "added a face to the cafe"),
            ("don't say \"no", "don't say \"no"),
            ("and/or", "and/or"),
            ("steps 1, 2 and -3", "steps #, # and #"),
            ("a-b, +c, -d, 3,x 4_y", "a-b, +c, -d, #,x #_y"),
            ("error in [std::io]: no", "error in [std::io]: no"),
        ] {
            assert_eq!(without_values(message), left, "{message}");
        }
    }

    #[test]
    fn it_is_the_same_in_every_release() {
        // Groups of before would be others. Whoever changes what is left out changes this on purpose.
        assert_eq!(of("user 42 not found").to_string(), "236ab98ad2d38688");
    }

    #[test]
    fn any_text_has_one() {
        for text in [
            "\u{0}\u{202e}",
            "[",
            "[::",
            "[:]:",
            "1e",
            "1e-",
            "1,",
            "1,é",
            "-.",
            "٣,٣",
            "'",
            "\"",
            "`é`",
            "é",
            ":::",
            "...",
            "#",
            "1",
            "-",
            "/",
            "\\",
            "a:",
            ":a",
            "@",
            "panicked at :1:1: ",
            "panicked at /:1:1:",
        ] {
            of(text);
            of(&text.repeat(10_000));
        }
        of(&"'a".repeat(5_000));
    }
}
