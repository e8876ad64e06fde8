//! Requests of a job, as a test's network sees them, and what the job gets.

use std::io::{self, Read};
use std::time::{Duration, UNIX_EPOCH};

use midge_job::http::{self, HeaderMap, HeaderValue, Kind, Method, StatusCode};
use midge_job::testing::http::{Answer, Request};
use midge_job::testing::{Given, pass_time};
use midge_job::{Disposition, Error};
use serde_json::{Value, json};

const URL: &str = "https://api.example.com/v1/things";

fn given(answer: Answer) -> Given {
    Given::new().http(move |_| answer.clone())
}

/// Returns the one request that was made.
fn asked(request: http::Request<'_>) -> Request {
    let seen = given(Answer::status(204)).observe(|| request.send());
    assert_eq!(seen.returned.as_ref().unwrap().status(), StatusCode::NO_CONTENT);
    let [asked] = seen.requests() else { panic!("{:?}", seen.requests()) };
    asked.clone()
}

/// Returns why a request has no answer, where there would be one.
fn refused(request: http::Request<'_>) -> http::Error {
    given(Answer::status(200)).run(|| request.send()).unwrap_err()
}

#[test]
fn a_request_is_made_as_it_was_put_together() {
    let more: HeaderMap =
        [(http::header::ACCEPT, HeaderValue::from_static("text/plain"))].into_iter().collect();
    let request = http::post(URL)
        .header("x-one", "1")
        .header("x-one", 2)
        .header("accept", "nothing")
        .headers(more)
        .bearer_secret("STRIPE")
        .secret_header("x-key", "OTHER")
        .idempotency_key("a-job/charge")
        .query(&[("a b", "ä&")])
        .json(&json!({"cents": 100}))
        .timeout(Duration::from_micros(1_500))
        .redirects(3);
    assert_eq!(format!("{request:?}"), "POST https://api.example.com/v1/things?a+b=%C3%A4%26");
    let asked = asked(request);
    assert_eq!(asked.method(), Method::POST);
    assert_eq!(asked.url(), "https://api.example.com/v1/things?a+b=%C3%A4%26");
    assert_eq!(asked.json::<Value>(), json!({"cents": 100}));
    assert_eq!((asked.redirects(), asked.timeout()), (3, Some(Duration::from_millis(2))));
    let ones: Vec<_> = asked.headers().get_all("x-one").iter().collect();
    assert_eq!(ones, ["1", "2"]);
    for (name, value) in [
        ("accept", "text/plain"),
        ("authorization", "Bearer {{STRIPE}}"),
        ("content-length", "13"),
        ("content-type", "application/json"),
        ("idempotency-key", "a-job/charge"),
        ("x-key", "{{OTHER}}"),
    ] {
        assert_eq!(asked.header(name), Some(value), "{name}");
    }
}

#[test]
fn each_method_has_its_function() {
    type Make = fn(&'static str) -> http::Request<'static>;
    let makes: [(&str, Make); 6] = [
        ("GET", http::get),
        ("HEAD", http::head),
        ("POST", http::post),
        ("PUT", http::put),
        ("PATCH", http::patch),
        ("DELETE", http::delete),
    ];
    for (method, make) in makes {
        let asked = asked(make(URL));
        assert_eq!((asked.method().as_str(), asked.timeout()), (method, None));
        assert!(asked.body().is_empty() && asked.headers().is_empty(), "{asked:?}");
    }
    let own = Method::from_bytes(b"PURGE").unwrap();
    assert_eq!(asked(http::request(own, URL)).method().as_str(), "PURGE");
}

#[test]
fn fields_of_a_query_are_added_to_those_that_are_there_and_before_the_fragment() {
    for (url, expected) in [
        ("https://a.example", "https://a.example?k=v"),
        ("https://a.example/?", "https://a.example/?k=v"),
        ("https://a.example/?x=y", "https://a.example/?x=y&k=v"),
        ("https://a.example/?x=y&", "https://a.example/?x=y&k=v"),
        ("https://a.example/#a?b", "https://a.example/?k=v#a?b"),
    ] {
        assert_eq!(asked(http::get(url).query(&[("k", "v")])).url(), expected);
    }
    assert_eq!(asked(http::get(URL).query(&[] as &[(&str, &str)])).url(), URL);
}

#[test]
fn a_body_says_what_it_is_unless_the_job_does() {
    let form = asked(http::post(URL).form(&[("to", "a@b"), ("text", "1 + 1")]));
    assert_eq!(form.text(), "to=a%40b&text=1+%2B+1");
    assert_eq!(form.header("content-type"), Some("application/x-www-form-urlencoded"));
    let own = asked(http::post(URL).header("content-type", "application/vnd.own+json").json(&1));
    assert_eq!(own.header("content-type"), Some("application/vnd.own+json"));
    let bytes = asked(http::post(URL).body(*b"\xff\x00"));
    assert_eq!((bytes.body(), bytes.header("content-type")), (&b"\xff\x00"[..], None));
}

#[test]
fn a_body_is_sent_in_pieces_from_a_reader_that_may_be_borrowed() {
    let text = b"0123456789".repeat(50_000);
    let mut reader = &text[..];
    let sent = asked(http::put(URL).body_from(&mut reader, None));
    assert!(sent.body() == text && reader.is_empty());
    assert_eq!(sent.header("content-length"), None);
    let sent = asked(http::put(URL).body_from(&text[..], Some(500_000)));
    assert_eq!(sent.header("content-length"), Some("500000"));
    let error = refused(http::put(URL).body_from(&text[..], Some(500_001)));
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
}

#[test]
fn a_reader_that_fails_gives_the_request_up() {
    struct Torn;
    impl Read for Torn {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the tape is torn"))
        }
    }
    let seen = given(Answer::status(200)).observe(|| http::put(URL).body_from(Torn, None).send());
    let error = seen.returned.as_ref().unwrap_err();
    assert_eq!(error.kind(), Kind::Body);
    assert!(seen.requests().is_empty());
    let error = Error::from(seen.returned.unwrap_err());
    let expected = "PUT api.example.com: cannot read the body that is to be sent: the tape is torn";
    assert_eq!(
        (error.to_string().as_str(), error.disposition()),
        (expected, Disposition::Retry { after: None })
    );
}

#[test]
fn what_is_wrong_with_a_request_is_told_when_it_is_sent_and_is_not_tried_again() {
    let wrong = [
        (http::get(URL).header("x-a", "a\nb"), "the value of the header `x-a` cannot be sent"),
        (http::get(URL).header("x a", "a"), "the name of a header is none"),
        (
            http::get(URL).idempotency_key("a\u{7}"),
            "the value of the header `idempotency-key` cannot be sent",
        ),
        (http::get(format!("{URL}?a b")), "a space or a control character in the URL"),
        (http::get(format!("{URL}\nx-a: b")), "a space or a control character in the URL"),
        (http::get("api.example.com"), "does not begin with `https://`"),
        (http::post(URL).json(&std::collections::BTreeMap::from([((1, 2), 3)])), "the body cannot be JSON"),
        (http::post(URL).form(&1), "these are no fields of a form"),
        (http::post(URL).query(&1), "these are no fields of a query"),
        (http::post(URL).header("content-length", 1).body("12"), "the body has 2 bytes"),
        (http::get(URL).header("host", "b.example"), "`host` is about the connection"),
        (http::get(URL).header("proxy-authorization", "x"), "`proxy-authorization` is about the connection"),
        (http::get(URL).redirects(21), "at most 20 redirects"),
    ];
    for (request, message) in wrong {
        let error = Error::from(refused(request));
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.disposition(), Disposition::Refuse, "{error}");
    }
}

#[test]
fn a_head_has_its_bounds() {
    let many = (0..101).fold(http::get(URL), |request, n| request.header("x-many", n));
    assert_eq!(refused(many).kind(), Kind::TooLarge);
    let long = http::get(URL).header("x-long", "x".repeat(65 * 1024));
    assert_eq!(refused(long).kind(), Kind::TooLarge);
}

#[test]
fn an_answer_has_status_headers_and_the_url_that_answered() {
    let answer = Answer::status(201)
        .header("x-a", "1")
        .header("x-a", "2")
        .url("https://b.example/moved")
        .json(&[1, 2]);
    given(answer).run(|| {
        let answer = http::get(URL).send().unwrap();
        assert_eq!((answer.status(), answer.url()), (StatusCode::CREATED, "https://b.example/moved"));
        assert_eq!(
            (answer.header("X-A"), answer.header("x-b"), answer.header("no name")),
            (Some("1"), None, None)
        );
        assert_eq!(answer.headers().get_all("x-a").iter().count(), 2);
        assert_eq!(format!("{answer:?}"), "201 Created https://b.example/moved");
        assert_eq!(answer.json::<(u8, u8)>().unwrap(), (1, 2));
    });
}

#[test]
fn a_body_that_is_not_what_it_should_be_is_told_with_its_place() {
    let get = |body: &[u8]| given(Answer::status(200).body(body)).run(|| http::get(URL).send()).unwrap();
    let wrong = [
        (
            get(b"[1, [2, \"x\"]]").json::<(u8, Vec<u8>)>().map(drop),
            Kind::NotJson,
            "was asked for at `[1][1]`: invalid",
        ),
        (get(b"1 2").json::<u8>().map(drop), Kind::NotJson, "trailing characters"),
        (get(b"<html>").json::<Value>().map(drop), Kind::NotJson, "expected value at line 1 column 1"),
        (get(b"\xff").text().map(drop), Kind::NotText, "the answer is not UTF-8"),
    ];
    for (read, kind, message) in wrong {
        let error = read.unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains(message), "{error:?}");
        assert_eq!(Error::from(error).disposition(), Disposition::Retry { after: None });
    }
    assert_eq!(get("schön".as_bytes()).text().unwrap(), "schön");
}

#[test]
fn a_body_is_read_whole_up_to_a_bound_and_in_pieces_beyond() {
    let body = b"0123456789".repeat(20_000);
    let get = || given(Answer::status(200).body(body.clone())).run(|| http::get(URL).send()).unwrap();
    assert!(get().bytes().unwrap() == body);
    assert!(get().bytes_at_most(200_000).unwrap() == body);
    let error = get().bytes_at_most(199_999).unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge);
    assert!(error.to_string().contains("more than 199999 bytes: read it in pieces"), "{error}");
    assert_eq!(
        given(Answer::status(200)).run(|| http::get(URL).send()).unwrap().bytes_at_most(0).unwrap(),
        b""
    );

    let mut copied = Vec::new();
    assert_eq!(get().copy_to(&mut copied).unwrap(), 200_000);
    assert!(copied == body);
    let mut answer = get();
    let mut read = [0; 4];
    assert_eq!(answer.read(&mut []).unwrap(), 0);
    answer.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"0123");
    let mut rest = Vec::new();
    assert_eq!(answer.read_to_end(&mut rest).unwrap(), 199_996);
    assert_eq!(answer.read(&mut read).unwrap(), 0, "an end stays one");
}

#[test]
fn an_answer_that_ends_early_is_no_whole_one() {
    let get =
        || given(Answer::status(200).body("half").then_fails(Kind::Reset)).run(|| http::get(URL).send());
    assert_eq!(get().unwrap().bytes().unwrap_err().kind(), Kind::Reset);
    let mut copied = Vec::new();
    let error = get().unwrap().copy_to(&mut copied).unwrap_err();
    assert_eq!((error.kind(), copied.as_slice()), (io::ErrorKind::ConnectionReset, &b"half"[..]));
    let inner = error.get_ref().unwrap().downcast_ref::<http::Error>().unwrap();
    assert_eq!(inner.to_string(), "GET api.example.com: the connection ended before the answer did");
}

#[test]
fn a_status_is_an_error_where_the_job_asks_and_says_when_to_try_again() {
    let get = |answer: Answer| {
        given(answer).run(|| -> midge_job::Result<u16> {
            Ok(http::get(URL).send()?.error_for_status()?.status().as_u16())
        })
    };
    assert_eq!(get(Answer::status(302)).unwrap(), 302);
    for (answer, message, after) in [
        (Answer::status(404), "404 Not Found", None),
        (Answer::status(429).header("retry-after", "30"), "429 Too Many Requests", Some(30)),
        (Answer::status(503).header("Retry-After", "0"), "503 Service Unavailable", Some(0)),
    ] {
        let error = get(answer).unwrap_err();
        assert_eq!(error.to_string(), format!("GET api.example.com: {message}"));
        let after = after.map(Duration::from_secs);
        assert_eq!(error.disposition(), Disposition::Retry { after });
    }
    let error = given(Answer::status(410)).run(|| http::get(URL).send()?.error_for_status()).unwrap_err();
    assert_eq!((error.status(), error.kind()), (Some(StatusCode::GONE), Kind::Status(StatusCode::GONE)));
    assert_eq!((error.method(), error.host()), (&Method::GET, "api.example.com"));
}

#[test]
fn a_request_in_a_test_without_a_network_says_how_to_give_one() {
    let seen = Given::new().observe(|| http::get(URL).send());
    let error = seen.returned.as_ref().unwrap_err();
    assert_eq!(error.kind(), Kind::NotAllowed);
    assert!(error.to_string().contains("Given::new().http("), "{error}");
    assert_eq!(seen.requests().len(), 1, "it is seen all the same");
}

#[test]
fn a_test_s_network_remembers_over_attempts_and_each_attempt_has_its_own_requests() {
    let mut asked = 0;
    let given = Given::new().http(move |request| {
        asked += 1;
        match asked {
            1 => Answer::fails(Kind::NoSuchHost),
            2 => Answer::status(503),
            _ => Answer::status(200).json(&json!([asked, request.url()])),
        }
    });
    let job = || -> midge_job::Result<Value> { Ok(http::get(URL).send()?.error_for_status()?.json()?) };
    let first = given.observe(job);
    assert_eq!(
        first.returned.as_ref().unwrap_err().to_string(),
        "GET api.example.com: there is no such host"
    );
    let second = first.next_attempt().observe(|| job().or_else(|_| job()));
    assert_eq!(second.returned.as_ref().unwrap(), &json!([3, URL]));
    assert_eq!((first.requests().len(), second.requests().len()), (1, 2));
}

#[test]
fn a_request_that_takes_longer_than_it_may_has_timed_out() {
    let given = Given::new().now(UNIX_EPOCH).deadline(UNIX_EPOCH + Duration::from_secs(60)).http(|_| {
        pass_time(Duration::from_secs(10));
        Answer::status(200)
    });
    given.run(|| {
        let get = |seconds| http::get(URL).timeout(Duration::from_secs(seconds)).send();
        assert_eq!(get(9).unwrap_err().kind(), Kind::TimedOut);
        assert!(get(11).is_ok());
        assert_eq!(midge_job::time_left(), Some(Duration::from_secs(40)));
    });
}

#[test]
fn an_answer_that_is_dropped_is_open_no_more_and_only_so_many_may_be() {
    given(Answer::status(200).body("x")).run(|| {
        for _ in 0..20 {
            http::get(URL).send().unwrap();
        }
        let open: Vec<_> = (0..16).map(|_| http::get(URL).send().unwrap()).collect();
        assert_eq!(http::get(URL).send().unwrap_err().kind(), Kind::OverLimit);
        drop(open);
        assert!(http::get(URL).send().is_ok());
    });
}

#[test]
fn the_answer_to_a_head_request_has_no_body() {
    let answer = given(Answer::status(200).header("content-length", "5").body("12345"))
        .run(|| http::head(URL).send())
        .unwrap();
    assert_eq!(answer.header("content-length"), Some("5"));
    assert_eq!(answer.bytes().unwrap(), b"");
}

#[test]
fn what_answers_makes_no_requests_itself() {
    let given = Given::new().http(|_| {
        let error = http::get(URL).send().unwrap_err();
        Answer::status(200).body(error.to_string())
    });
    let text = given.run(|| http::get(URL).send()?.text()).unwrap();
    assert!(text.ends_with("what answers in this test makes a request itself"), "{text}");
}
