//! The client for Fly's Machines API, and for flylet, which speaks it too.
//!
//! Invariant: every call has a timeout, every answer a bound in bytes, and no call is repeated here: an outage is the
//! dispatcher's to wait out. A call waits for its turn, as the API's limits are known. The token goes into one header and nowhere else.

use std::time::Duration;

use async_trait::async_trait;
use midge_protocol::{MachineId, Secret, shown};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::classify::{ApiAnswer, Call, Classified, classify};
use crate::config::{config_of, lost};
use crate::error::BoxError;
use crate::turns::Turns;
use crate::wire::{CALL_SPEED_HEADER, CreateRequest, Machine, NEXT_CURSOR_HEADER, Regions, STOP_TIMEOUT};
use crate::{Label, Launch, MachineError, MachineSpec, Machines, Seen, SeenState};

/// A create reserves room on a server host, fetches the image and unpacks it before it answers: seconds to tens of seconds.
const CREATE_TIMEOUT: Duration = Duration::from_secs(60);
/// All other calls answer within a second, but server hosts at a distance have been seen to take 20.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait that the API knows. Longer ones are several calls.
const WAIT_SECONDS_MAX: u64 = 60;
/// Between two waits, so that an API that answers at once is not asked all the time.
const WAIT_PAUSE: Duration = Duration::from_millis(100);
/// A Machine with its events is 4 to 10 KiB, so that a page is well within [`ANSWER_BYTES_MAX`].
const PAGE_MACHINES: usize = 200;
/// 100,000 Machines: a list that is longer does not end.
const PAGES_MAX: usize = 500;
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where the API answers, and as whom to call it.
#[derive(Debug, Clone)]
pub struct FlySettings {
    /// The URL of the API: [`FlySettings::BASE_URL_DEFAULT`], `http://_api.internal:4280`, or that of a flylet. Plain
    /// HTTP is refused but on this computer and in a private network: it would show the token.
    pub base_url: String,
    /// The name of the app whose Machines these are: letters, digits, `-` and `_`.
    pub app: String,
    /// A token that is good for that app, such as `fly tokens create deploy` makes.
    pub token: Secret,
}

impl FlySettings {
    /// The URL of Fly's public API.
    pub const BASE_URL_DEFAULT: &str = "https://api.machines.dev";
}

/// The Machines of one Fly app, or of one flylet.
#[derive(Debug)]
pub struct FlyMachines {
    pub(crate) http: reqwest::Client,
    /// `BASE/v1/apps/APP/machines`
    pub(crate) machines: Url,
    turns: Turns,
    /// No call waits longer for its answer.
    patience: Duration,
}

/// An answer that is a success.
struct Success {
    cursor: Option<String>,
    body: Vec<u8>,
}

impl FlyMachines {
    /// Makes a client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`MachineError::Invalid`] where the settings cannot be used.
    pub fn new(settings: FlySettings) -> Result<FlyMachines, MachineError> {
        let machines = machines_url(&settings)?;
        let mut authorization = HeaderValue::from_str(&authorization(&settings.token)).map_err(|_| {
            MachineError::Invalid("the Fly token holds characters that no token has".to_owned())
        })?;
        authorization.set_sensitive(true);
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls())
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, authorization)]))
            .user_agent(concat!("midge/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirect would carry the token to another server, and a proxy would come from the environment.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|e| MachineError::Invalid(format!("cannot make an HTTP client: {e}")))?;
        Ok(FlyMachines { http, machines, turns: Turns::new(), patience: Duration::MAX })
    }

    /// Lets no call wait longer than this for its answer, not even a create: for an API in scaled time.
    pub fn with_patience(self, patience: Duration) -> FlyMachines {
        FlyMachines { patience, ..self }
    }

    /// Returns the names of the regions that there are.
    ///
    /// # Errors
    /// [`MachineError::Denied`] where the token may not ask, [`MachineError::Unavailable`] where there is no answer.
    pub async fn regions(&self) -> Result<Vec<String>, MachineError> {
        let mut url = self.machines.clone();
        let mut path = url.path_segments_mut().expect("machines_url refuses what has no path");
        // From `v1/apps/APP/machines` to what is of no app.
        path.pop().pop().pop().extend(["platform", "regions"]);
        drop(path);
        let answer = self.send(Call::Regions, self.http.get(url), CALL_TIMEOUT).await.map_err(failed)?;
        let regions: Regions = decode(&answer.body)?;
        Ok(regions.regions.into_iter().map(|region| region.code).collect())
    }

    fn url(&self, id: &MachineId, action: Option<&str>) -> Url {
        let mut url = self.machines.clone();
        let mut path = url.path_segments_mut().expect("machines_url refuses what has no path");
        path.push(id.as_str()).extend(action);
        drop(path);
        url
    }

    /// Sends a request; what is no success becomes what it means.
    async fn send(
        &self,
        call: Call<'_>,
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<Success, Classified> {
        let turn = self.turns.turn(call.action(), call.id()).await;
        turn.map_err(|wait| Classified::Failed(MachineError::RateLimited { retry_after: Some(wait) }))?;
        let began = Instant::now();
        let limit = limit.min(self.patience);
        let response = request.timeout(limit).send().await.map_err(|e| unanswered(call, e))?;
        let status = response.status();
        let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        if let Some(speed) = header(CALL_SPEED_HEADER).and_then(|speed| speed.parse().ok()) {
            self.turns.goes_at(speed);
        }
        let cursor = header(NEXT_CURSOR_HEADER).filter(|cursor| !cursor.is_empty());
        let retry_after = header(RETRY_AFTER.as_str());
        let request_id = header("fly-request-id");
        let body = bounded_body(response).await.map_err(|e| unanswered(call, e))?;
        let waited_ms = began.elapsed().as_millis() as u64;
        tracing::debug!(%call, status = status.as_u16(), request_id, waited_ms, "the Machines API answered");
        if status.is_success() {
            return Ok(Success { cursor, body });
        }
        let body = String::from_utf8_lossy(&body);
        let answer = ApiAnswer { status: status.as_u16(), body: &body, retry_after: retry_after.as_deref() };
        let classified = classify(call, answer);
        if let Classified::Failed(MachineError::RateLimited { retry_after }) = &classified {
            self.turns.refused(call.action(), call.id(), *retry_after);
        }
        Err(classified)
    }

    /// Sends a request whose answer says nothing but that it was done.
    async fn order(&self, call: Call<'_>, request: RequestBuilder) -> Result<(), MachineError> {
        match self.send(call, request, CALL_TIMEOUT).await {
            Ok(_) | Err(Classified::Done | Classified::Adopt(_)) => Ok(()),
            Err(Classified::Failed(error)) => Err(error),
        }
    }

    /// Returns all that the API tells of one Machine, with its config.
    ///
    /// # Errors
    /// As [`Machines::get`]; [`MachineError::Denied`] where the token is not good for the app.
    pub async fn machine(&self, id: &MachineId) -> Result<Machine, MachineError> {
        let call = Call::Get(id);
        let success = self.send(call, self.http.get(self.url(id, None)), CALL_TIMEOUT).await;
        decode(&success.map_err(failed)?.body)
    }

    /// Looks for the Machine that has the name. It may be missing although it is there: lists lag behind.
    async fn find(&self, spec: &MachineSpec) -> Result<Option<MachineId>, MachineError> {
        let label = spec.metadata.iter().next().map(|(key, value)| Label::new(key, value));
        let seen = self.pages(label.as_ref()).await?;
        let named = seen.into_iter().find(|seen| seen.name == spec.name.as_str() && !seen.state.is_gone());
        Ok(named.map(|seen| seen.id))
    }

    fn page_url(&self, label: Option<&Label>, cursor: Option<&str>) -> Url {
        let mut url = self.machines.clone();
        let mut query = url.query_pairs_mut();
        query.append_pair("limit", &PAGE_MACHINES.to_string());
        if let Some(label) = label {
            query.append_pair(&format!("metadata.{}", label.key), &label.value);
        }
        if let Some(cursor) = cursor {
            query.append_pair("cursor", cursor);
        }
        drop(query);
        url
    }

    async fn pages(&self, label: Option<&Label>) -> Result<Vec<Seen>, MachineError> {
        let mut found = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let url = self.page_url(label, cursor.as_deref());
            let page = self.send(Call::List, self.http.get(url), CALL_TIMEOUT).await.map_err(failed)?;
            for machine in decode::<Option<Vec<Machine>>>(&page.body)?.unwrap_or_default() {
                // One that cannot be judged would look as if it were gone, and be made again.
                let seen = machine.seen().map_err(|e| MachineError::Unavailable(e.into()))?;
                if seen.state != SeenState::Destroyed {
                    found.push(seen);
                }
            }
            if page.cursor.is_none() || page.cursor == cursor {
                return Ok(found);
            }
            cursor = page.cursor;
        }
        Err(MachineError::Unavailable(format!("the list of Machines has over {PAGES_MAX} pages").into()))
    }

    /// Judges the answer to a create. The API ignores keys that it does not know, and says so nowhere.
    async fn created(&self, spec: &MachineSpec, body: &[u8]) -> Result<MachineId, MachineError> {
        let ambiguous = |source: BoxError| MachineError::Ambiguous { name: spec.name.clone(), source };
        let machine: Machine = decode(body).map_err(|e| ambiguous(e.into()))?;
        if machine.id.is_empty() {
            return Err(ambiguous("the Machines API's answer has no `id`".into()));
        }
        let id = MachineId::new(machine.id).map_err(|e| ambiguous(e.into()))?;
        let sent = config_of(spec);
        let lost = match machine.config.or(machine.incomplete_config) {
            Some(echo) => {
                if echo.image != sent.image || echo.guest != sent.guest {
                    tracing::warn!(machine.id = %id, image = echo.image, guest = ?echo.guest, "the Machine differs from what was asked for");
                }
                lost(&sent, &echo)
            }
            // With none it has no program either, as far as anybody can tell.
            None => vec!["its config"],
        };
        if lost.is_empty() {
            return Ok(id);
        }
        if let Err(error) = self.destroy(&id).await {
            tracing::warn!(machine.id = %id, error = &error as &dyn std::error::Error, "cannot destroy a Machine that came out wrong");
        }
        Err(MachineError::Invalid(format!("the Machine came out without {}", lost.join(", "))))
    }
}

#[async_trait]
impl Machines for FlyMachines {
    async fn create(&self, spec: &MachineSpec, launch: Launch) -> Result<MachineId, MachineError> {
        crate::config::check(spec)?;
        let body = CreateRequest {
            name: Some(spec.name.to_string()),
            region: spec.region.clone(),
            config: config_of(spec),
            skip_launch: launch == Launch::Later,
            skip_secrets: !spec.has_secrets,
            lease_ttl: None,
        };
        let request = self.http.post(self.machines.clone()).json(&body);
        let answer = match self.send(Call::Create(&spec.name), request, CREATE_TIMEOUT).await {
            Ok(success) => self.created(spec, &success.body).await,
            Err(Classified::Adopt(Some(id))) if self.is_there(&id).await => {
                tracing::info!(machine.id = %id, machine.name = %spec.name, "adopted the Machine of that name");
                return Ok(id);
            }
            Err(Classified::Adopt(Some(id))) => Err(MachineError::Conflict(format!(
                "the name {} is still that of Machine {id}, which is gone or going",
                spec.name
            ))),
            Err(Classified::Adopt(None) | Classified::Done) => {
                Err(MachineError::Conflict(format!("the name {} is taken", spec.name)))
            }
            Err(Classified::Failed(error)) => Err(error),
        };
        match answer {
            // Whichever failed, the Machine may be there: look before saying so.
            Err(error @ (MachineError::Ambiguous { .. } | MachineError::Conflict(_))) => {
                match self.find(spec).await {
                    Ok(Some(id)) => Ok(id),
                    Ok(None) | Err(_) => Err(error),
                }
            }
            answer => answer,
        }
    }

    async fn start(&self, id: &MachineId) -> Result<(), MachineError> {
        self.order(Call::Start(id), self.http.post(self.url(id, Some("start")))).await
    }

    async fn stop(&self, id: &MachineId) -> Result<(), MachineError> {
        let body = serde_json::json!({
            "signal": "SIGTERM",
            "timeout": format!("{}s", STOP_TIMEOUT.as_secs()),
        });
        self.order(Call::Stop(id), self.http.post(self.url(id, Some("stop"))).json(&body)).await
    }

    async fn suspend(&self, id: &MachineId) -> Result<(), MachineError> {
        self.order(Call::Suspend(id), self.http.post(self.url(id, Some("suspend")))).await
    }

    async fn destroy(&self, id: &MachineId) -> Result<(), MachineError> {
        let mut url = self.url(id, None);
        url.set_query(Some("force=true"));
        self.order(Call::Destroy(id), self.http.delete(url)).await
    }

    async fn get(&self, id: &MachineId) -> Result<Seen, MachineError> {
        self.machine(id).await?.seen().map_err(|e| MachineError::Unavailable(e.into()))
    }

    async fn list(&self, label: &Label) -> Result<Vec<Seen>, MachineError> {
        self.pages(Some(label)).await
    }

    async fn wait(&self, id: &MachineId, state: SeenState, timeout: Duration) -> Result<(), MachineError> {
        use SeenState::{Destroyed, Failed, Started, Stopped, Suspended};
        if !matches!(state, Started | Stopped | Suspended | Destroyed | Failed) {
            return Err(MachineError::Invalid(format!("the Machines API cannot wait for {state}")));
        }
        let answer = match tokio::time::timeout(timeout, self.wait_on(id, &state, timeout)).await {
            Ok(answer) => answer,
            Err(_) => Err(MachineError::NotReady(format!("Machine {id} was not {state} after {timeout:?}"))),
        };
        match answer {
            Err(MachineError::Gone(_)) if state == Destroyed => Ok(()),
            answer => answer,
        }
    }
}

impl FlyMachines {
    /// Returns whether a Machine is there to stay. One that cannot be looked at is taken to be.
    async fn is_there(&self, id: &MachineId) -> bool {
        match self.machine(id).await {
            Ok(machine) => !SeenState::from_word(&machine.state).is_gone(),
            Err(error) => !matches!(error, MachineError::Gone(_)),
        }
    }

    /// Waits without an end: the caller cuts it off.
    async fn wait_on(
        &self,
        id: &MachineId,
        state: &SeenState,
        timeout: Duration,
    ) -> Result<(), MachineError> {
        let deadline = Instant::now() + timeout;
        loop {
            let mut url = self.url(id, Some("wait"));
            // The API wants the version for this state, and has none of its own accord.
            if *state == SeenState::Stopped {
                let machine = self.machine(id).await?;
                match SeenState::from_word(&machine.state) {
                    seen if seen == *state => return Ok(()),
                    seen if seen.is_gone() => return Err(MachineError::Gone(id.clone())),
                    _ if machine.instance_id.is_empty() => {
                        let lacks = format!("the Machines API shows Machine {id} without `instance_id`");
                        return Err(MachineError::Unavailable(lacks.into()));
                    }
                    _ => url.query_pairs_mut().append_pair("version", &machine.instance_id),
                };
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let seconds = (left.as_secs() + 1).min(WAIT_SECONDS_MAX);
            url.query_pairs_mut()
                .append_pair("state", state.as_str())
                .append_pair("timeout", &seconds.to_string());
            let limit = Duration::from_secs(seconds) + CALL_TIMEOUT;
            match self.send(Call::Wait(id), self.http.get(url), limit).await.map_err(failed) {
                Err(MachineError::NotReady(_)) => tokio::time::sleep(WAIT_PAUSE).await,
                answer => return answer.map(drop),
            }
        }
    }
}

/// Returns the URL of the app's Machines.
fn machines_url(settings: &FlySettings) -> Result<Url, MachineError> {
    let invalid = |why: String| {
        // What follows a `?` may be a token.
        let told = settings.base_url.split(['?', '#']).next().unwrap_or_default();
        MachineError::Invalid(format!("`{}` {why}", shown::url(told)))
    };
    let mut url = Url::parse(&settings.base_url).map_err(|e| invalid(format!("is no URL: {e}")))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid(
            "is followed by a `?` or a `#`, which no call would have: leave that out".to_owned(),
        ));
    }
    match url.scheme() {
        "https" => {}
        "http" if is_near(url.host_str().unwrap_or_default()) => {}
        "http" => return Err(invalid("would carry the token unencrypted: use https".to_owned())),
        _ => return Err(invalid("is no http URL".to_owned())),
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if settings.app.is_empty() || !settings.app.chars().all(plain) {
        return Err(MachineError::Invalid(format!("`{}` is not the name of a Fly app", settings.app)));
    }
    let mut path = url.path_segments_mut().map_err(|()| invalid("can have no path".to_owned()))?;
    path.pop_if_empty().extend(["v1", "apps", &settings.app, "machines"]);
    drop(path);
    Ok(url)
}

/// Returns whether a host can only be on this machine or in a private network.
fn is_near(host: &str) -> bool {
    let ip: Option<std::net::IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    match ip {
        Some(std::net::IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private(),
        Some(std::net::IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local(),
        None => !host.contains('.') || host.ends_with(".internal"),
    }
}

/// Returns the header for a token: macaroons have a scheme of their own, as in Fly's own clients.
fn authorization(token: &Secret) -> String {
    let token = token.expose().trim();
    let bare = ["Bearer ", "FlyV1 "].iter().find_map(|scheme| token.strip_prefix(scheme));
    let bare = bare.unwrap_or(token).trim();
    let is_macaroon = ["fm1r_", "fm1a_", "fm2"].iter().any(|prefix| bare.starts_with(prefix));
    if is_macaroon { format!("FlyV1 {bare}") } else { format!("Bearer {bare}") }
}

/// Makes the TLS configuration without touching the process's default, and with roots that need no files.
fn tls() -> rustls::ClientConfig {
    let roots = rustls::RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring's cipher suites are those of TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

pub(crate) async fn bounded_body(mut response: Response) -> Result<Vec<u8>, BoxError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(format!("the answer is over {ANSWER_BYTES_MAX} bytes").into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The call got no answer, or not all of it. Only where no connection was made is it sure that nothing happened.
fn unanswered(call: Call<'_>, error: impl Into<BoxError>) -> Classified {
    let source: BoxError = error.into();
    let unsent = source.downcast_ref::<reqwest::Error>().is_some_and(|e| e.is_connect() || e.is_builder());
    Classified::Failed(match call {
        Call::Create(name) if !unsent => MachineError::Ambiguous { name: name.clone(), source },
        _ => MachineError::Unavailable(source),
    })
}

/// Returns the error in an answer to a question, to which "done" is no answer.
fn failed(classified: Classified) -> MachineError {
    match classified {
        Classified::Failed(error) => error,
        Classified::Done | Classified::Adopt(_) => {
            MachineError::Unavailable("the Machines API answered another question".into())
        }
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, MachineError> {
    let not_understood = |e| format!("the Machines API's answer is not understood: {e}");
    serde_json::from_slice(body).map_err(|e| MachineError::Unavailable(not_understood(e).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(base_url: &str, app: &str) -> FlySettings {
        FlySettings { base_url: base_url.to_owned(), app: app.to_owned(), token: Secret::new("t") }
    }

    #[test]
    fn a_token_is_sent_under_the_scheme_of_its_kind() {
        for (token, header) in [
            ("fm2_abc", "FlyV1 fm2_abc"),
            ("FlyV1 fm2_abc,fm2_def", "FlyV1 fm2_abc,fm2_def"),
            ("Bearer fm1r_x\n", "FlyV1 fm1r_x"),
            ("opaque", "Bearer opaque"),
            ("Bearer opaque", "Bearer opaque"),
        ] {
            assert_eq!(authorization(&Secret::new(token)), header);
        }
    }

    #[test]
    fn a_token_never_travels_unencrypted_over_a_public_network() {
        for near in ["http://127.0.0.1:1", "http://[::1]:1", "http://_api.internal:4280", "http://localhost"]
        {
            assert!(machines_url(&settings(near, "a")).is_ok(), "{near}");
        }
        for bad in
            ["http://api.machines.dev", "http://8.8.8.8", "ftp://127.0.0.1", "api.machines.dev", "data:x"]
        {
            assert!(matches!(machines_url(&settings(bad, "a")), Err(MachineError::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn an_app_s_name_cannot_lead_to_another_path() {
        let url = machines_url(&settings("https://api.machines.dev/", "my-app")).unwrap();
        assert_eq!(url.as_str(), "https://api.machines.dev/v1/apps/my-app/machines");
        for bad in ["", "..", "a/b", "a?b"] {
            assert!(machines_url(&settings("https://api.machines.dev", bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_no_call_would_have_is_refused_and_no_error_has_a_password() {
        for bad in [
            "https://me:pass",
            "https://a.example?word=pass",
            "https://a.example/#pass",
            "http://me:pass@a.example",
        ] {
            let error = machines_url(&settings(bad, "a")).unwrap_err().to_string();
            assert!(!error.contains("pass"), "{error}");
        }
    }

    #[test]
    fn the_token_does_not_show_itself() {
        let client = FlyMachines::new(FlySettings {
            token: Secret::new("hunter2"),
            ..settings("https://api.machines.dev", "a")
        });
        assert!(!format!("{:?}", client.unwrap()).contains("hunter2"));
    }
}
