//! One question to the API whose answer is not judged: for whoever looks for what is wrong between here and there.

use std::time::Duration;

use crate::error::BoxError;
use crate::{FlyMachines, MachineError};

/// Longer than an answer from anywhere takes, and short enough for somebody who waits.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// How much is kept of what the API said.
const SAID_CHARS_MAX: usize = 300;

/// What the API answers to a list of one Machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The status: 200; 401 where it does not know the token; 403 where the token is not good for the app; 404 where there is
    /// no such app.
    pub status: u16,
    /// The beginning of the body.
    pub said: String,
    /// The header `Date`: what time it is there.
    pub date: Option<String>,
}

impl FlyMachines {
    /// Asks for one Machine, and returns the answer as it is.
    ///
    /// # Errors
    /// [`MachineError::Unavailable`] where there is none.
    pub async fn probe(&self) -> Result<Probe, MachineError> {
        let unavailable = |error: reqwest::Error| MachineError::Unavailable(BoxError::from(error));
        let mut url = self.machines.clone();
        url.set_query(Some("limit=1"));
        let answer = self.http.get(url).timeout(PROBE_TIMEOUT).send().await.map_err(unavailable)?;
        let (status, headers) = (answer.status().as_u16(), answer.headers());
        let date = headers.get("date").and_then(|date| Some(date.to_str().ok()?.to_owned()));
        let body = crate::fly::bounded_body(answer).await.map_err(MachineError::Unavailable)?;
        let said = String::from_utf8_lossy(&body).chars().take(SAID_CHARS_MAX).collect();
        Ok(Probe { status, said, date })
    }
}
