//! Calls whose body comes when all has changed since they were let in.

use midge_flylet::Fault;
use midge_machines::{Launch, Machines as _, SeenState};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::bed::{Bed, ENDLESS, spec};

/// A call that was let in, and whose body is awaited.
struct HalfACall(TcpStream, String);

impl HalfACall {
    async fn begin(bed: &Bed, line: &str, body: &str) -> HalfACall {
        let address = bed.flylet.url().replace("http://", "");
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "{line} HTTP/1.1\r\nhost: flylet\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
             expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            bed.flylet.token().expose(),
            body.len(),
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // The server says so once it reads the body.
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
        let mut heard = vec![0; go_on.len()];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, go_on);
        HalfACall(stream, body.to_owned())
    }

    async fn end(mut self) -> (u16, Value) {
        self.0.write_all(self.1.as_bytes()).await.unwrap();
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }
}

fn config() -> String {
    json!({"config": {"image": "i", "init": {"exec": ["/bin/true"]}, "restart": {"policy": "no"}}})
        .to_string()
}

#[tokio::test]
async fn no_machine_is_made_in_an_app_that_was_deleted_meanwhile() {
    let bed = Bed::new().await;
    let create = HalfACall::begin(&bed, "POST /v1/apps/jobs/machines", &config()).await;
    assert_eq!(bed.call("DELETE /v1/apps/jobs", "").await.0, 202);
    let (status, body) = create.end().await;
    assert_eq!((status, &body["error"]), (404, &json!("not_found: app not found")));
    let app = json!({"name": "jobs", "org_slug": "personal"}).to_string();
    assert_eq!(bed.call("POST /v1/apps", &app).await.0, 201);
    assert_eq!(bed.call("GET /v1/apps/jobs/machines?include_deleted=true", "").await.1, json!([]));
}

#[tokio::test]
async fn a_lease_that_was_taken_meanwhile_holds() {
    let bed = Bed::new().await;
    let id = bed.launched("m", ENDLESS).await;
    let path = Bed::path(&id);
    let calls = [
        (format!("POST {path}/stop"), r#"{"signal":"SIGTERM"}"#.to_owned()),
        (format!("POST {path}/signal"), r#"{"signal":"SIGTERM"}"#.to_owned()),
        (format!("POST {path}/lease"), r#"{"ttl":60}"#.to_owned()),
        (format!("POST {path}"), config()),
    ];
    let mut begun = Vec::new();
    for (line, body) in &calls {
        begun.push(HalfACall::begin(&bed, line, body).await);
    }
    assert_eq!(bed.call(&format!("POST {path}/lease"), "").await.0, 201);
    for (call, (line, _)) in begun.into_iter().zip(&calls) {
        let (status, body) = call.end().await;
        assert_eq!(status, 409, "{line}: {body}");
        assert!(body["error"].as_str().unwrap().contains("lease currently held"), "{line}: {body}");
    }
    assert_eq!(bed.machines.get(&id).await.unwrap().state, SeenState::Started);
}

#[tokio::test]
async fn a_server_host_that_went_dark_meanwhile_does_nothing() {
    let bed = Bed::new().await;
    let id = bed.machines.create(&spec("m", ENDLESS), Launch::Later).await.unwrap();
    bed.reaches(&id, SeenState::Stopped).await;
    let path = Bed::path(&id);
    let update = HalfACall::begin(&bed, &format!("POST {path}"), &config()).await;
    let label = HalfACall::begin(&bed, &format!("POST {path}/metadata/k"), r#"{"value":"v"}"#).await;
    assert_eq!(bed.call_with(Fault::DarkHost, &format!("GET {path}"), "").await.0, 408);
    assert_eq!((update.end().await.0, label.end().await.0), (408, 408));
}
