//! What of a recording an attempt may have left: a file may have been edited, and a host may be any.

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use super::{Data, RecordedAnswer, RecordedRequest, Recording};
use crate::{AttemptNumber, limits, shown};

/// A SHA-256 in hex.
const SHA256_DIGITS: usize = 64;
/// The statuses of answers, as HTTP has them.
const STATUSES: RangeInclusive<u16> = 100..=999;

/// The error of a recording that no attempt can have left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRecording(String);

impl Recording {
    /// Checks that each part of it is what an attempt may have left: a file may have been edited, and a host may be any.
    ///
    /// # Errors
    /// [`InvalidRecording`] names the first part that is not.
    pub fn check(&self) -> Result<(), InvalidRecording> {
        self.check_attempt().map_err(InvalidRecording)?;
        for (at, request) in self.requests.iter().enumerate() {
            let said = request.check(self.cut);
            said.map_err(|what| InvalidRecording(format!("`requests[{at}]`: {what}")))?;
        }
        Ok(())
    }

    fn check_attempt(&self) -> Result<(), String> {
        if self.attempt == AttemptNumber(0) {
            return Err("`attempt` is 0, and the first is 1".to_owned());
        }
        for (name, digest) in [("sha256", &self.sha256), ("source_sha256", &self.source_sha256)] {
            if digest.len() != SHA256_DIGITS || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(format!("`{name}` is no SHA-256 in {SHA256_DIGITS} hex digits"));
            }
        }
        at_most(
            "saved",
            "bytes",
            self.saved.as_ref().map_or(0, |saved| saved.0.len()),
            limits::SAVED_BYTES_MAX,
        )?;
        at_most("clock_ns", "readings", self.clock_ns.len(), limits::RECORDED_READINGS_MAX)?;
        if !self.clock_ns.is_sorted() {
            return Err("`clock_ns` goes back: no clock showed an attempt less than before".to_owned());
        }
        Ok(())
    }
}

impl RecordedRequest {
    /// `cut` says whether something of the recording is left out.
    fn check(&self, cut: bool) -> Result<(), String> {
        if self.redirects > limits::REDIRECTS_MAX {
            let max = limits::REDIRECTS_MAX;
            return Err(format!("`redirects` is {}, and at most {max} are followed", self.redirects));
        }
        if self.ended_us.is_some_and(|ended| ended < self.began_us) {
            return Err("`ended_us` is before `began_us`".to_owned());
        }
        // What a guest wrote may be no request, and have no answer for that; but no line has a line's end in it.
        if self.method.contains([' ', '\n']) || (self.answer.is_some() && !is_token(&self.method)) {
            return Err(format!("`method` is `{}`, which is none", shown::cut(&self.method)));
        }
        // What of it is no URL, such as a tab within, a reader of URLs leaves out.
        if self.url.contains('\n') || (self.answer.is_some() && self.url.is_empty()) {
            return Err(format!("`url` is `{}`, which no request has", shown::cut(&self.url)));
        }
        check_headers(&self.headers, self.answer.is_some())?;
        check_body(&self.body, self.body_bytes, cut)?;
        let Some(answer) = &self.answer else { return Ok(()) };
        answer.check(cut).map_err(|what| format!("`answer`: {what}"))
    }
}

impl RecordedAnswer {
    fn check(&self, cut: bool) -> Result<(), String> {
        if !STATUSES.contains(&self.status) {
            let (first, last) = (STATUSES.start(), STATUSES.end());
            return Err(format!("`status` is {}, and an answer has {first} to {last}", self.status));
        }
        if !is_url(&self.url) {
            return Err(format!("`url` is `{}`, which none has that answers", shown::cut(&self.url)));
        }
        check_headers(&self.headers, true)?;
        check_body(&self.body, self.body_bytes, cut)
    }
}

fn check_body(Data(kept): &Data, bytes: u64, cut: bool) -> Result<(), String> {
    at_most("body", "bytes", kept.len(), limits::RECORDED_BODY_BYTES_MAX)?;
    match (kept.len() as u64).cmp(&bytes) {
        Ordering::Equal => Ok(()),
        Ordering::Less if cut => Ok(()),
        Ordering::Less => Err(format!(
            "`body_bytes` says {bytes} and `body` has {}: edit both, or set the recording's `cut` where the rest is left out",
            kept.len()
        )),
        Ordering::Greater => {
            Err(format!("`body_bytes` says {bytes} and `body` has {}: edit both", kept.len()))
        }
    }
}

/// Checks headers: those that were sent, and others as far as they were lines of their own.
fn check_headers(headers: &[(String, Data)], sent: bool) -> Result<(), String> {
    at_most("headers", "headers", headers.len(), limits::HTTP_HEADERS_MAX)?;
    let bytes = headers.iter().map(|(name, value)| name.len() + value.0.len()).sum();
    at_most("headers", "bytes", bytes, limits::HTTP_HEAD_BYTES_MAX)?;
    for (at, (name, Data(value))) in headers.iter().enumerate() {
        let is_name = if sent { is_token(name) } else { !name.contains([':', '\n']) };
        if !is_name {
            return Err(format!("`headers[{at}]` has the name `{}`, which is none", shown::cut(name)));
        }
        let is_value =
            |byte: &u8| if sent { *byte == b'\t' || !byte.is_ascii_control() } else { *byte != b'\n' };
        if !value.iter().all(is_value) {
            let name = shown::cut(name);
            return Err(format!(
                "`headers[{at}]`, `{name}`, has a line's end or another control character in its value"
            ));
        }
    }
    Ok(())
}

fn at_most(name: &str, of: &str, number: usize, max: usize) -> Result<(), String> {
    if number <= max {
        Ok(())
    } else {
        Err(format!("`{name}` has {number} {of}, and at most {max} are recorded"))
    }
}

/// Returns whether a text is a token of RFC 9110, section 5.6.2, as methods and names of headers are.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c))
}

/// Returns whether a text may be the URL of an answer. Stars may stand anywhere in it.
fn is_url(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c > b' ' && c != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{data, recording};
    use super::*;

    #[test]
    fn each_part_of_a_recording_is_one_that_an_attempt_may_have_left() {
        assert_eq!(recording().check(), Ok(()));
        let long = |bytes: usize| Data(vec![b'x'; bytes].into());
        let says = |change: &dyn Fn(&mut Recording), says: &str| {
            let mut recording = recording();
            change(&mut recording);
            let error = recording.check().expect_err(says).to_string();
            assert!(error.contains(says), "{says}: {error}");
        };
        says(&|it| it.attempt = AttemptNumber(0), "`attempt` is 0");
        says(&|it| it.sha256 = "\u{1}".repeat(64), "`sha256` is no SHA-256");
        says(&|it| it.source_sha256 = String::new(), "`source_sha256` is no SHA-256");
        says(
            &|it| it.saved = Some(long(limits::SAVED_BYTES_MAX + 1)),
            "`saved` has 65537 bytes, and at most",
        );
        says(&|it| it.clock_ns = vec![0; limits::RECORDED_READINGS_MAX + 1], "`clock_ns` has 4097 readings");
        says(&|it| it.clock_ns = vec![2, 1], "`clock_ns` goes back");
        let of_request = |change: &dyn Fn(&mut RecordedRequest), expected: &str| {
            says(&|it| change(&mut it.requests[0]), &format!("`requests[0]`: {expected}"));
        };
        of_request(&|it| it.redirects = u32::MAX, "`redirects` is 4294967295, and at most 20");
        of_request(&|it| it.ended_us = Some(4), "`ended_us` is before `began_us`");
        of_request(&|it| it.method = "PO ST".to_owned(), "`method` is `PO ST`, which is none");
        of_request(&|it| it.method = String::new(), "`method` is ``");
        of_request(&|it| it.url = String::new(), "`url` is ``");
        of_request(&|it| it.body_bytes = 8, "`body_bytes` says 8 and `body` has 9: edit both");
        of_request(&|it| it.body = long(limits::RECORDED_BODY_BYTES_MAX + 1), "`body` has 65537 bytes");
        of_request(&|it| it.headers[0].0 = "a b".to_owned(), "`headers[0]` has the name `a b`");
        of_request(
            &|it| it.headers[0].1 = data(b"a\r\nx: b"),
            "`headers[0]`, `authorization`, has a line's end",
        );
        let of_answer = |change: &dyn Fn(&mut RecordedAnswer), expected: &str| {
            let expected = format!("`answer`: {expected}");
            of_request(&|it| change(it.answer.as_mut().unwrap()), &expected);
        };
        for status in [0, 99, 1000, u16::MAX] {
            of_answer(
                &|it| it.status = status,
                &format!("`status` is {status}, and an answer has 100 to 999"),
            );
        }
        of_answer(&|it| it.url = "https://a.example/ b".to_owned(), "`url` is `https://a.example/ b`");
        of_answer(&|it| it.headers[0].1 = data(b"a\r\nb"), "`headers[0]`, `odd`, has a line's end");
        of_answer(&|it| it.headers = vec![it.headers[0].clone(); 101], "`headers` has 101 headers");
        of_answer(&|it| it.headers[0].1 = long(65 * 1024), "`headers` has 66563 bytes");
        of_answer(&|it| it.body_bytes = 1, "`body_bytes` says 1 and `body` has 6: edit both");
        // Of one that is whole, nothing is left out.
        let short = |it: &mut Recording| it.cut = false;
        says(
            &short,
            "`answer`: `body_bytes` says 100 and `body` has 6: edit both, or set the recording's `cut`",
        );
    }

    #[test]
    fn what_a_guest_wrote_that_is_no_request_is_recorded_without_an_answer() {
        let mut recording = recording();
        let request = &mut recording.requests[0];
        (request.method, request.url) = ("GE\u{1b}T".to_owned(), "<script>".to_owned());
        request.headers[0] = ("a b".to_owned(), data(b"c\rd"));
        request.answer = None;
        assert_eq!(recording.check(), Ok(()));
    }
}
