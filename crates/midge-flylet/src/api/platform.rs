//! What is not a Machine's: the one app, the regions, the token.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Fleets, Replied, Sent, read};
use crate::fleet::Fleet;
use crate::refusal::Refusal;

/// The organization of every app here, as Fly calls that of one person.
const ORGANIZATION: &str = "personal";

#[derive(Debug, Deserialize)]
struct AppRequest {
    /// The document says `name`, and Fly's clients `app_name`.
    #[serde(alias = "app_name")]
    name: String,
}

pub(super) async fn apps(State(fleet): Fleets) -> Replied {
    let apps: Vec<Value> = app(&fleet).into_iter().collect();
    Ok(Json(json!({ "total_apps": apps.len(), "apps": apps })).into_response())
}

pub(super) async fn show_app(State(fleet): Fleets) -> Replied {
    Ok(Json(app(&fleet).ok_or_else(Refusal::no_app)?).into_response())
}

/// Makes the app where it was deleted. There is no other.
pub(super) async fn make_app(State(fleet): Fleets, body: Sent) -> Replied {
    let AppRequest { name } = read(body)?;
    if name != fleet.app() {
        return Err(Refusal::one_app(fleet.app()));
    }
    if !fleet.make_app() {
        return Err(Refusal::app_taken());
    }
    Ok((StatusCode::CREATED, Json(json!({ "id": fleet.app(), "created_at": 0 }))).into_response())
}

pub(super) async fn end_app(State(fleet): Fleets) -> Replied {
    fleet.end_app();
    Ok(StatusCode::ACCEPTED.into_response())
}

pub(super) async fn regions(State(fleet): Fleets) -> Replied {
    let regions: Vec<Value> = fleet
        .regions()
        .iter()
        .map(|region| json!({ "code": region.name, "name": region.name, "deprecated": false }))
        .collect();
    Ok(Json(json!({ "nearest": fleet.regions()[0].name, "regions": regions })).into_response())
}

pub(super) async fn token(State(fleet): Fleets) -> Replied {
    let token = json!({
        "apps": [fleet.app()],
        "org_slug": ORGANIZATION,
        "organization": ORGANIZATION,
        "user": "flylet",
    });
    Ok(Json(json!({ "tokens": [token] })).into_response())
}

fn app(fleet: &Fleet) -> Option<Value> {
    let machines = fleet.app_machines()?;
    Some(json!({
        "id": fleet.app(),
        "name": fleet.app(),
        "status": if machines == 0 { "pending" } else { "deployed" },
        "machine_count": machines,
        "volume_count": 0,
        "network": "default",
        "organization": { "name": ORGANIZATION, "slug": ORGANIZATION },
    }))
}
