//! The calls about batches.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use midge_protocol::BatchId;
use midge_protocol::api::{BatchFilter, BatchMade, BatchPage, BatchRequest, BatchView};

use super::answer::{Body, Failed, Name, Params};
use super::idempotency;
use crate::midge::Midge;

pub(super) async fn make(
    State(midge): State<Midge>,
    headers: HeaderMap,
    body: Body<BatchRequest>,
) -> Result<Json<BatchMade>, Failed> {
    let mut request = body.value;
    let named = idempotency::id_named(&headers, &body.held.bytes)?;
    if let Some(id) = named {
        request.id = BatchId::from_bytes(id);
    }
    let made = midge.make_batch(request).await;
    Ok(Json(made.map_err(|error| idempotency::failed(error, named.is_some()))?))
}

pub(super) async fn list(
    State(midge): State<Midge>,
    Params(filter): Params<BatchFilter>,
) -> Result<Json<BatchPage>, Failed> {
    Ok(Json(midge.batches(filter).await?))
}

pub(super) async fn one(
    State(midge): State<Midge>,
    Name(id): Name<BatchId>,
) -> Result<Json<BatchView>, Failed> {
    Ok(Json(midge.batch(id).await?))
}

pub(super) async fn close(
    State(midge): State<Midge>,
    Name(id): Name<BatchId>,
) -> Result<Json<BatchView>, Failed> {
    Ok(Json(midge.close_batch(id).await?))
}

pub(super) async fn cancel(
    State(midge): State<Midge>,
    Name(id): Name<BatchId>,
) -> Result<Json<BatchView>, Failed> {
    Ok(Json(midge.cancel_batch(id).await?))
}
