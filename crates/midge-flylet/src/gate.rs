//! What every request passes: the token, the app, the limits, a server host that does not answer, and faults.
//!
//! Invariant: no lease here. Who has it is asked where a change is recorded.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as HttpBody, Frame};
use midge_listen::{Connection, Peer};
use midge_machines::wire::{CALL_SPEED_HEADER, LEASE_NONCE_HEADER};
use midge_protocol::MachineId;
use subtle::ConstantTimeEq;

use crate::call::{Action, Call};
use crate::faults::{Effect, FAULT_HEADER, Fault};
use crate::fleet::Fleet;
use crate::halt::halt_of;
use crate::machine::Machine;
use crate::refusal::Refusal;

/// The fault that a call meets while it is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Met(pub(crate) Option<Fault>);

/// Lets those in who have the token and mean this app, and lets go wrong what is to.
pub(crate) async fn pass(State(fleet): State<Arc<Fleet>>, request: Request, next: Next) -> Response {
    let mut response = match admit(&fleet, &request) {
        Ok(fault) => meet(&fleet, fault, request, next).await,
        Err(refusal) => refusal.into_response(),
    };
    let speed = HeaderValue::from_str(&fleet.limits.speed.to_string());
    response.headers_mut().insert(CALL_SPEED_HEADER, speed.expect("a number is a header"));
    response
}

/// Returns the fault that a call meets.
fn admit(fleet: &Fleet, request: &Request) -> Result<Option<Fault>, Refusal> {
    let given = request.headers().get(AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
    let token = [&b"Bearer "[..], b"FlyV1 "].iter().find_map(|scheme| given.strip_prefix(*scheme));
    // In constant time: the port is open to every user of the machine.
    let known = token.is_some_and(|token| token.ct_eq(fleet.token.expose().as_bytes()).into());
    if !known {
        return Err(Refusal::wrong_token());
    }
    let connection = request.extensions().get::<Connection>();
    if let Some(Err(too_many)) = connection.map(|connection| connection.belongs_to(&Peer::Caller)) {
        return Err(Refusal::busy(too_many));
    }
    let path = request.uri().path();
    let app = path.strip_prefix("/v1/apps/").and_then(|rest| rest.split('/').next());
    if app.is_some_and(|app| app != fleet.app() || fleet.app_machines().is_none()) {
        return Err(Refusal::no_app());
    }
    let call = Call::of(request.method(), path);
    // As it was written: an id is plain, and one in another writing would be another here and the same to the call.
    let id = call.id.map(MachineId::new).transpose().map_err(Refusal::bad_id)?;
    if !fleet.limits.admit(call.action, call.id) {
        return Err(Refusal::rate_limited());
    }
    let machine = id.and_then(|id| fleet.get(&id));
    if let Some(machine) = &machine {
        let is_dark = machine.is_dark();
        // A look is answered from what was heard last, and an end is kept for later. Whatever changes the Machine asks
        // again, where it is recorded.
        if is_dark && !matches!(call.action, Action::Get | Action::Destroy | Action::Events) {
            return Err(Refusal::dark());
        }
    }
    fault_of(fleet, &call, request, machine.as_deref())
}

/// What a caller shows to say that it has the lease.
#[derive(Debug)]
pub(crate) struct Nonce(pub(crate) Option<String>);

impl<S: Sync> FromRequestParts<S> for Nonce {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Nonce, Infallible> {
        let shown = parts.headers.get(LEASE_NONCE_HEADER).and_then(|value| value.to_str().ok());
        Ok(Nonce(shown.filter(|nonce| !nonce.is_empty()).map(str::to_owned)))
    }
}

/// Returns the fault that the request asks for, else that which chance has for it.
fn fault_of(
    fleet: &Fleet,
    call: &Call<'_>,
    request: &Request,
    machine: Option<&Machine>,
) -> Result<Option<Fault>, Refusal> {
    let Some(named) = request.headers().get(FAULT_HEADER) else {
        if fleet.faults().rates.is_empty() {
            return Ok(None);
        }
        // Names repeat from run to run, as ids do not.
        let about = machine.map_or_else(|| fleet.app(), |machine| machine.name.as_str());
        let draw = fleet.draws.next(&format!("{:?} of {about}", call.action));
        return Ok(fleet.faults().met(call.action, &draw));
    };
    let fault: Fault = named.to_str().unwrap_or_default().parse().map_err(Refusal::invalid)?;
    if !fault.fits(call.action) {
        return Err(Refusal::invalid(format_args!("this call cannot meet the fault `{fault}`")));
    }
    Ok(Some(fault))
}

async fn meet(fleet: &Fleet, fault: Option<Fault>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let id = Call::of(request.method(), &path).id.unwrap_or_default().to_owned();
    let Some(fault) = fault else {
        request.extensions_mut().insert(Met(None));
        return next.run(request).await;
    };
    tracing::debug!(%fault, method = %request.method(), path, "a call meets a fault");
    match fault.effect() {
        Effect::Instead => {
            if fault == Fault::DarkHost
                && let Some(machine) = MachineId::new(id.as_str()).ok().and_then(|id| fleet.get(&id))
            {
                machine.goes_dark(fleet.scaled(fleet.faults().dark_for));
            }
            Refusal::of_fault(fault, fleet, &id).into_response()
        }
        Effect::Within => {
            request.extensions_mut().insert(Met(Some(fault)));
            next.run(request).await
        }
        Effect::After => {
            request.extensions_mut().insert(Met(None));
            let response = next.run(request).await;
            match fault {
                Fault::LostAnswer => Body::new(Lost).into_response(),
                Fault::StillStarting if response.status().is_success() => {
                    Refusal::still_starting().into_response()
                }
                Fault::LateAnswer => {
                    tokio::select! {
                        () = tokio::time::sleep(fleet.scaled(fleet.faults().late_answer)) => response,
                        () = halt_of(fleet.halted.clone()) => Refusal::closing().into_response(),
                    }
                }
                _ => response,
            }
        }
    }
}

/// A body that breaks off before its first byte, and the connection with it.
struct Lost;

impl HttpBody for Lost {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(Some(Err("the answer is lost")))
    }
}
