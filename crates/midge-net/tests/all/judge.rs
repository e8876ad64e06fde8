//! Requests that are judged and not made.

use midge_net::Judge;
use midge_protocol::line::{Request, Why};
use serde_json::json;

fn get(module: &str, url: &str, authorization: &str) -> Request {
    Request {
        module: module.parse().unwrap(),
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: vec![("authorization".to_owned(), authorization.to_owned().into())],
        body_bytes: Some(0),
        redirects: 0,
        timeout_ms: 1_000,
    }
}

#[test]
fn a_request_is_judged_by_its_module_s_manifest_without_a_lookup_and_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = json!({
        "modules": {"report": {
            "http": ["https://a.example", "https://b.example"], "secrets": {"KEY": ["https://a.example"]},
        }},
        "secrets": {"KEY": {"env": "NOT_SET_ANYWHERE"}},
    });
    std::fs::write(folder.path().join("manifest.json"), manifest.to_string()).unwrap();
    let judge = Judge::of(folder.path()).unwrap();
    for (module, url, authorization) in
        [("report", "https://a.example/x", "Bearer {{KEY}}"), ("report", "https://b.example/x", "none")]
    {
        assert_eq!(judge.refuses(&get(module, url, authorization)), None, "{url}");
    }
    for (module, url, authorization, why, words) in [
        ("report", "https://c.example", "", Why::NotAllowed, "`report` may not reach https://c.example"),
        ("report", "https://b.example", "{{KEY}}", Why::NotAllowed, "`KEY` may not go to"),
        ("report", "https://a.example", "{{YEK}}", Why::NotAllowed, "`report` has no secret `YEK`"),
        ("other", "https://a.example", "", Why::NotAllowed, "there is no module `other`"),
        ("report", "ftp://a.example", "", Why::Invalid, "ftp"),
    ] {
        let refused = judge.refuses(&get(module, url, authorization)).expect(url);
        assert!(refused.why == why && refused.message.contains(words), "{refused:?}");
    }
    assert!(Judge::of(&folder.path().join("nowhere")).is_err());
}
