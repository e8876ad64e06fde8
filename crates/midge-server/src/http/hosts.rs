//! The exchange over HTTP: who may, what it speaks, and how long an answer that says nothing waits.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use midge_protocol::exchange::{Answer, CONTENT_TYPE, PROTOCOL, PROTOCOL_HEADER, Request, decode, encode};
use midge_protocol::{MachineName, limits};
use tokio::sync::Notify;

use super::answer::Failed;
use crate::exchange::{Denied, Exchanged};
use crate::midge::{Inner, Midge};
use crate::secret;
use crate::service::ServiceError;

/// `POST /v1/machines/{name}/exchange`
pub(crate) async fn exchange(
    State(midge): State<Midge>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failed> {
    check_protocol(&headers)?;
    let name = MachineName::new(name).map_err(|error| Failed::invalid(error.to_string()))?;
    let secret = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let secret = secret.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(|| {
        Failed::new(
            StatusCode::UNAUTHORIZED,
            "no_secret",
            "a host sends its Machine's secret as a bearer token",
        )
    })?;
    let secret_hash = secret::hash_text(secret);
    let request: Request = decode(&body).map_err(|error| Failed::invalid(error.to_string()))?;
    let answer = midge.inner.exchange_or_wait(name, secret_hash, request).await?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE)),
        (header::HeaderName::from_static(PROTOCOL_HEADER), HeaderValue::from(PROTOCOL)),
    ];
    Ok((headers, encode(&answer)).into_response())
}

fn check_protocol(headers: &HeaderMap) -> Result<(), Failed> {
    let spoken = headers.get(PROTOCOL_HEADER).and_then(|value| value.to_str().ok());
    if spoken.and_then(|text| text.parse().ok()) == Some(PROTOCOL) {
        return Ok(());
    }
    let spoken = spoken.unwrap_or("none");
    let error = format!(
        "this server speaks exchange protocol {PROTOCOL} and the host speaks {spoken}: \
         build the image with the host and the server of one release"
    );
    Err(Failed::new(StatusCode::UPGRADE_REQUIRED, "protocol", error))
}

impl Inner {
    /// Exchanges, and where there is nothing to say, waits for something and exchanges again.
    async fn exchange_or_wait(
        &self,
        name: MachineName,
        secret_hash: String,
        request: Request,
    ) -> Result<Answer, Failed> {
        let wait = Duration::from_millis(request.wait_ms.into()).min(limits::EXCHANGE_WAIT_MAX);
        let deadline = tokio::time::Instant::now() + wait;
        // A report is acknowledged at once: the host repeats it until it is.
        let reports =
            !(request.finished.is_empty() && request.handed_back.is_empty() && request.log.is_empty());
        let machine_place = self.hints.machines.place(&name);
        let mut done = self.exchange_once(&name, &secret_hash, request.clone()).await?;
        // The Machine's older request, still parked, sees that this one is newer, and is answered empty.
        machine_place.notify_waiters();
        let queue_place = match &done.queue {
            Some(queue) if request.room > 0 => self.hints.queues.place(queue),
            _ => Arc::new(Notify::new()),
        };
        let mut stopping = self.stopping.subscribe();
        loop {
            let over = *stopping.borrow() || tokio::time::Instant::now() >= deadline;
            if reports || over || done.stale || done.answer.is_news_to(&request) {
                return Ok(done.answer);
            }
            // Both ears are open before the look, so that nothing that comes after it is missed.
            let (mut told, mut work) = (pin!(machine_place.notified()), pin!(queue_place.notified()));
            told.as_mut().enable();
            work.as_mut().enable();
            done = self.exchange_once(&name, &secret_hash, request.clone()).await?;
            if done.stale || done.answer.is_news_to(&request) {
                continue;
            }
            tokio::select! {
                () = told => {}
                () = work => {}
                () = tokio::time::sleep_until(deadline) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        }
    }

    async fn exchange_once(
        &self,
        name: &MachineName,
        secret_hash: &str,
        request: Request,
    ) -> Result<Exchanged, Failed> {
        let context = self.exchange_context();
        let (name, secret_hash) = (name.clone(), secret_hash.to_owned());
        let now = self.clock.now();
        let done = crate::exchange::exchange(&*self.store, context, name, secret_hash, request, now)
            .await
            .map_err(|error| Failed::from(ServiceError::Store(error)))?
            .map_err(denied)?;
        done.ended.iter().for_each(|job| self.hints.jobs.wake(job));
        if done.changed {
            self.hints.dispatcher.notify_one();
        }
        Ok(done)
    }
}

fn denied(denied: Denied) -> Failed {
    let (status, code) = match &denied {
        Denied::Unknown(_) => (StatusCode::NOT_FOUND, "unknown_machine"),
        Denied::WrongSecret(_) => (StatusCode::FORBIDDEN, "wrong_secret"),
        Denied::Revoked(..) => (StatusCode::GONE, "revoked"),
    };
    Failed::new(status, code, denied.to_string())
}
