//! The requests of one guest: what it says, what is open, and how much of its bounds is used. `docs/abi.md` tells people of it.
//!
//! Invariant: what may be reached, which secrets go with it and what a URL means is not decided here, but at the other end of the line.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use midge_protocol::limits::{
    HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, OPEN_REQUESTS_MAX, RECEIVED_BYTES_MAX, REDIRECTS_MAX,
    REQUESTS_MAX, SENT_BYTES_MAX,
};
use midge_protocol::line::{BODY_FRAME_BYTES_MAX, Failed, Head, Kind, Request, Why};
use midge_protocol::{ModuleName, shown};

use crate::guest::DeniedGrowth;
use crate::lacks;
use crate::lines::{Line, Lines, encode, put_frame};
use crate::over::Over;
use crate::request_log::RequestLog;
use crate::shared::Shared;
use crate::stop::Stop;
use crate::world::OwnWorld;

/// The requests of one guest.
pub(crate) struct Requests {
    lines: Option<Arc<Lines>>,
    module: ModuleName,
    shared: Arc<Shared>,
    /// When its attempt ends, whatever it waits for. Nothing where that is beyond the clock.
    deadline: Option<Instant>,
    open: Vec<Option<Open>>,
    made: u32,
    sent_bytes: u64,
    received_bytes: u64,
    /// Why the last call failed, for people.
    error: String,
    log: RequestLog,
}

/// A request that the guest has not closed.
enum Open {
    /// Nothing of it is sent.
    Written { request: Request, body: Vec<u8> },
    /// Its body is being sent.
    Sending { line: Line },
    /// Its answer is being read.
    Answered { line: Line, head: Bytes, unread: usize },
    /// Its answer was read to its end.
    Ended { head: Bytes },
    /// There is no answer, or not all of it.
    Failed,
}

/// Why a call of a guest has no good answer.
pub(crate) enum Wrong {
    /// The request has failed. What the Machine lacks for it is what its end is judged by, too.
    Failed(Failed),
    /// It is one more of what it may have only so many of: it is told so, and if it then fails, that is why.
    Denied(DeniedGrowth, String),
    /// The guest is to stop.
    Stopped(Over),
}

/// How much longer than its attempt a request may go on, so that the deadline is seen first.
const AFTER_DEADLINE: Duration = Duration::from_secs(1);
/// The number for what is over a bound of the attempt.
pub(crate) const OVER_LIMIT: i32 = -11;

impl Requests {
    pub(crate) fn new(
        lines: Option<Arc<Lines>>,
        module: ModuleName,
        shared: Arc<Shared>,
        deadline: Option<Instant>,
    ) -> Requests {
        let (open, error) = (Vec::new(), String::new());
        Requests {
            lines,
            module,
            shared,
            deadline,
            open,
            made: 0,
            sent_bytes: 0,
            received_bytes: 0,
            error,
            log: RequestLog::default(),
        }
    }

    /// Has them written down, where its world is recorded.
    pub(crate) fn recorded_in(mut self, world: Option<Arc<OwnWorld>>) -> Requests {
        self.log = RequestLog::new(world);
        self
    }

    /// Takes a request's head, as text, and returns the request's number.
    pub(crate) fn open(&mut self, head: &[u8], redirects: u32, timeout_ms: u64) -> Result<i32, Wrong> {
        let request = self.read_head(head, redirects, timeout_ms)?;
        let number = match self.open.iter().position(Option::is_none) {
            Some(free) => free,
            None if self.open.len() < OPEN_REQUESTS_MAX => {
                self.open.push(None);
                self.open.len() - 1
            }
            None => {
                let message = format!("{OPEN_REQUESTS_MAX} requests are open, which is the most: close one");
                return Err(Wrong::Denied(DeniedGrowth::OpenRequests, message));
            }
        };
        if self.made >= REQUESTS_MAX {
            let message = format!("{REQUESTS_MAX} requests were made in this attempt, which is the most");
            return Err(Wrong::Denied(DeniedGrowth::Requests, message));
        }
        self.made += 1;
        self.open[number] = Some(Open::Written { request, body: Vec::new() });
        Ok(i32::try_from(number).expect("there are few"))
    }

    /// Takes a piece of a request's body.
    pub(crate) fn write(&mut self, number: i32, bytes: &[u8]) -> Result<i32, Wrong> {
        let sent_bytes = self.sent_bytes.saturating_add(bytes.len() as u64);
        if sent_bytes > SENT_BYTES_MAX {
            let message =
                format!("{} MiB were sent in this attempt, which is the most", SENT_BYTES_MAX >> 20);
            return Err(Wrong::Denied(DeniedGrowth::Sent, message));
        }
        self.sent_bytes = sent_bytes;
        let (slot, open) = self.take(number)?;
        match open {
            Open::Written { request, mut body } if body.len() + bytes.len() <= BODY_FRAME_BYTES_MAX => {
                body.extend_from_slice(bytes);
                self.open[slot] = Some(Open::Written { request, body });
            }
            Open::Written { request, body } => {
                let line = self.begin(slot, request, &[&body, bytes], false)?;
                self.open[slot] = Some(Open::Sending { line });
            }
            Open::Sending { line } => {
                self.log.sent(slot, bytes);
                let mut frames = Vec::with_capacity(bytes.len() + 64);
                put_pieces(&mut frames, bytes);
                match line.write(&frames) {
                    Ok(()) => self.open[slot] = Some(Open::Sending { line }),
                    Err(error) => return Err(self.broken(slot, &line, &error)),
                }
            }
            other => {
                self.open[slot] = Some(other);
                return Err(invalid("its body has been sent"));
            }
        }
        Ok(0)
    }

    /// Ends a request's body, and waits for the head of its answer, whose length is returned.
    pub(crate) fn send(&mut self, number: i32) -> Result<i32, Wrong> {
        let (slot, open) = self.take(number)?;
        let mut line = match open {
            Open::Written { mut request, body } => {
                request.body_bytes = request.body_bytes.or(Some(body.len() as u64));
                self.begin(slot, request, &[&body], true)?
            }
            Open::Sending { line } => match line.write(&Kind::End.prefix(0)) {
                Ok(()) => line,
                Err(error) => return Err(self.broken(slot, &line, &error)),
            },
            other => {
                self.open[slot] = Some(other);
                return Err(invalid("it has been sent"));
            }
        };
        let head = match read_head(&mut line) {
            Ok(Ok(head)) => head,
            Ok(Err(failed)) => {
                self.log.failed(slot, &failed);
                self.gone(&line);
                return Err(Wrong::Failed(failed));
            }
            Err(error) => return Err(self.broken(slot, &line, &error)),
        };
        self.log.answered(slot, &head);
        let head = head_text(&head);
        let length = i32::try_from(head.len()).expect("a head has its bound");
        self.open[slot] = Some(Open::Answered { line, head, unread: 0 });
        Ok(length)
    }

    /// Returns the head of an answer.
    pub(crate) fn head(&self, number: i32) -> Result<&[u8], Wrong> {
        match slot(number).and_then(|slot| self.open.get(slot)) {
            Some(Some(Open::Answered { head, .. } | Open::Ended { head })) => Ok(head),
            Some(Some(_)) => Err(invalid("it has no answer yet")),
            _ => Err(not_open(number)),
        }
    }

    /// Reads the next bytes of an answer's body, and returns how many there were; 0 at the end.
    pub(crate) fn read(&mut self, number: i32, room: &mut [u8]) -> Result<i32, Wrong> {
        let (slot, open) = self.take(number)?;
        let (mut line, head, mut unread) = match open {
            Open::Answered { line, head, unread } => (line, head, unread),
            Open::Ended { head } => {
                self.open[slot] = Some(Open::Ended { head });
                return Ok(0);
            }
            other => {
                self.open[slot] = Some(other);
                return Err(invalid("it has no answer yet"));
            }
        };
        while unread == 0 {
            unread = match line.next() {
                Ok((Kind::Body, length)) => length,
                Ok((Kind::End, _)) => {
                    self.log.ended(slot);
                    self.gone(&line);
                    if let Some(lines) = &self.lines {
                        lines.keep(line);
                    }
                    self.open[slot] = Some(Open::Ended { head });
                    return Ok(0);
                }
                Ok((Kind::Failed, length)) => {
                    self.gone(&line);
                    return Err(match line.message(length) {
                        Ok(failed) => {
                            self.log.failed(slot, &failed);
                            Wrong::Failed(failed)
                        }
                        Err(error) => self.broken(slot, &line, &error),
                    });
                }
                Ok(_) => return Err(self.broken(slot, &line, &io::ErrorKind::InvalidData.into())),
                Err(error) => return Err(self.broken(slot, &line, &error)),
            };
        }
        let most = unread.min(room.len()).min(i32::MAX as usize);
        let read = match line.read(&mut room[..most]) {
            // Only no room is no end.
            Ok(0) if most > 0 => return Err(self.broken(slot, &line, &io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => read,
            Err(error) => return Err(self.broken(slot, &line, &error)),
        };
        self.log.received(slot, &room[..read]);
        self.received_bytes = self.received_bytes.saturating_add(read as u64);
        if self.received_bytes > RECEIVED_BYTES_MAX {
            self.gone(&line);
            let message =
                format!("{} MiB were received in this attempt, which is the most", RECEIVED_BYTES_MAX >> 20);
            return Err(Wrong::Denied(DeniedGrowth::Received, message));
        }
        self.open[slot] = Some(Open::Answered { line, head, unread: unread - read });
        Ok(i32::try_from(read).expect("it is not more than there was room for"))
    }

    /// Gives a request up, or what is left of its answer.
    pub(crate) fn close(&mut self, number: i32) {
        let Some(slot) = slot(number) else { return };
        let Some(open) = self.open.get_mut(slot).and_then(Option::take) else { return };
        self.log.closed(slot);
        match open {
            Open::Answered { mut line, unread, .. } => {
                self.gone(&line);
                // Who looks at a status only, and not at the few words behind it, keeps its line, and so its connection.
                if line.skip_rest(unread)
                    && let Some(lines) = &self.lines
                {
                    lines.keep(line);
                }
            }
            Open::Sending { line } => self.gone(&line),
            Open::Written { .. } | Open::Ended { .. } | Open::Failed => {}
        }
    }

    /// Returns why the last call failed, for people.
    pub(crate) fn error(&self) -> &str {
        &self.error
    }

    /// Keeps why a call failed.
    pub(crate) fn set_error(&mut self, message: String) {
        self.error = message;
    }

    /// Takes a request out of its slot. Where it is not put back, it has failed, and stays open until it is closed.
    fn take(&mut self, number: i32) -> Result<(usize, Open), Wrong> {
        let slot = slot(number).filter(|slot| matches!(self.open.get(*slot), Some(Some(_))));
        let slot = slot.ok_or_else(|| not_open(number))?;
        match self.open[slot].replace(Open::Failed) {
            Some(Open::Failed) | None => Err(invalid("it has failed")),
            Some(open) => Ok((slot, open)),
        }
    }

    /// Takes a line, and writes a request on it and what there is of its body.
    fn begin(
        &mut self,
        slot: usize,
        mut request: Request,
        body: &[&[u8]],
        is_whole: bool,
    ) -> Result<Line, Wrong> {
        self.log.begun(slot, &request);
        body.iter().for_each(|piece| self.log.sent(slot, piece));
        let Some(lines) = &self.lines else {
            return Err(failed(Why::Lacks, "the network: it was started without"));
        };
        let left = self.left();
        // The deadline of the attempt comes first: it is told as what it is, and not as a request that took too long.
        let left_ms = u64::try_from(left.saturating_add(AFTER_DEADLINE).as_millis()).unwrap_or(u64::MAX);
        request.timeout_ms = request.timeout_ms.min(left_ms);
        let mut frames = Vec::new();
        let head = encode(&request).ok_or_else(|| too_large("its head"))?;
        put_frame(&mut frames, Kind::Request, &head);
        body.iter().for_each(|piece| put_pieces(&mut frames, piece));
        if is_whole {
            put_frame(&mut frames, Kind::End, &[]);
        }
        let line = lines.take(left).map_err(|error| {
            let lacks = match lacks::of(&error) {
                Some(what) => format!("{what}, needed for the network"),
                None => format!("the network ({error})"),
            };
            failed(Why::Lacks, lacks)
        })?;
        // First, so that whoever stops the guest finds it.
        self.shared.add_line(line.hangup());
        let begun = self.shared.go_on().map_err(Wrong::Stopped);
        let begun =
            begun.and_then(|()| line.write(&frames).map_err(|error| self.broken(slot, &line, &error)));
        begun.inspect_err(|_| self.gone(&line)).map(|()| line)
    }

    /// Says what it means that a line has failed: its guest was stopped, or whoever was at its other end is gone.
    fn broken(&mut self, slot: usize, line: &Line, error: &io::Error) -> Wrong {
        self.gone(line);
        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
            self.shared.set_stop(Stop::OverTime);
        }
        match self.shared.go_on() {
            Err(over) => Wrong::Stopped(over),
            Ok(()) => {
                let message = format!(
                    "the program that has the network is gone ({error}): the request may have been made"
                );
                let failed = Failed { why: Why::Reset, message };
                self.log.failed(slot, &failed);
                Wrong::Failed(failed)
            }
        }
    }

    /// Takes note that nothing is under way any more on a line.
    fn gone(&self, line: &Line) {
        self.shared.remove_line(line);
    }

    /// Returns how long the attempt has.
    fn left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
    }

    fn read_head(&self, head: &[u8], redirects: u32, timeout_ms: u64) -> Result<Request, Wrong> {
        if head.len() > HTTP_HEAD_BYTES_MAX {
            return Err(too_large("its head"));
        }
        if redirects > REDIRECTS_MAX {
            return Err(invalid(&format!(
                "it would follow {redirects} redirects, and {REDIRECTS_MAX} are the most"
            )));
        }
        let mut lines =
            head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let first = std::str::from_utf8(lines.next().unwrap_or_default()).ok();
        let (method, url) = first
            .and_then(|first| first.split_once(' '))
            .ok_or_else(|| invalid("its first line is not a method, a space and a URL"))?;
        let mut request = Request {
            module: self.module.clone(),
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body_bytes: None,
            redirects,
            timeout_ms: if timeout_ms == 0 { u64::MAX } else { timeout_ms },
        };
        for line in lines.filter(|line| !line.is_empty()) {
            let colon = line.iter().position(|byte| *byte == b':');
            let name = colon.and_then(|colon| std::str::from_utf8(&line[..colon]).ok());
            let (Some(colon), Some(name)) = (colon, name) else {
                let line = shown::cut(&String::from_utf8_lossy(line));
                return Err(invalid(&format!("`{line}` is not a header: write `name: value`")));
            };
            let value = line[colon + 1..].trim_ascii();
            if name.eq_ignore_ascii_case("content-length") {
                let digits =
                    std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|c| c.is_ascii_digit()));
                let length = digits.and_then(|digits| digits.parse().ok());
                let length = length.ok_or_else(|| invalid("its `content-length` is not a number"))?;
                if request.body_bytes.replace(length).is_some() {
                    return Err(invalid("it has more than one `content-length`"));
                }
            } else {
                request.headers.push((name.to_owned(), Bytes::copy_from_slice(value)));
            }
        }
        if request.headers.len() > HTTP_HEADERS_MAX {
            return Err(too_large("the number of its headers"));
        }
        Ok(request)
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // What is open ends with its line; that there is such a line is nobody's business any more.
        (0..OPEN_REQUESTS_MAX as i32).for_each(|number| self.close(number));
    }
}

/// Reads the head of an answer.
fn read_head(line: &mut Line) -> io::Result<Result<Head, Failed>> {
    match line.next()? {
        (Kind::Head, length) => Ok(Ok(line.message(length)?)),
        (Kind::Failed, length) => Ok(Err(line.message(length)?)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Returns the head of an answer as the text that guests are given.
fn head_text(head: &Head) -> Bytes {
    let mut text = format!("{} {}", head.status, head.url).into_bytes();
    for (name, value) in &head.headers {
        text.push(b'\n');
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value);
    }
    text.into()
}

fn put_pieces(frames: &mut Vec<u8>, body: &[u8]) {
    body.chunks(BODY_FRAME_BYTES_MAX).for_each(|piece| put_frame(frames, Kind::Body, piece));
}

fn slot(number: i32) -> Option<usize> {
    usize::try_from(number).ok()
}

fn failed(why: Why, message: impl Into<String>) -> Wrong {
    Wrong::Failed(Failed { why, message: message.into() })
}

fn invalid(message: &str) -> Wrong {
    failed(Why::Invalid, format!("this is no request: {message}"))
}

fn too_large(what: &str) -> Wrong {
    let message = format!(
        "{what} is over its bound: a head has {} KiB and {HTTP_HEADERS_MAX} headers at most",
        HTTP_HEAD_BYTES_MAX >> 10
    );
    failed(Why::TooLarge, message)
}

fn not_open(number: i32) -> Wrong {
    invalid(&format!("none with the number {number} is open"))
}

/// Returns the number by which guests know why a request failed.
pub(crate) fn number(why: Why) -> i32 {
    match why {
        Why::NotAllowed => -1,
        Why::Invalid => -2,
        Why::NoSuchHost => -3,
        Why::Refused => -4,
        // What the Machine lacks is to the guest a connection that did not hold.
        Why::Reset | Why::Lacks => -5,
        Why::Tls => -6,
        Why::TimedOut => -7,
        Why::TooLarge => -8,
        Why::NotHttp => -9,
        Why::TooManyRedirects => -10,
    }
}
