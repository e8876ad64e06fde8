//! A look at each request before its route has it.
//!
//! `axum::middleware` does the same for what has to wait, and makes several boxes for each request; this makes none.

use std::future::{Ready, ready};
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::Response;
use futures_util::future::Either;
use tower::{Layer, Service};

/// A layer that asks whether to answer a request in place of its route.
#[derive(Debug, Clone)]
pub(crate) struct Before<F>(pub(crate) F);

/// A route behind [`Before`].
#[derive(Debug, Clone)]
pub(crate) struct Behind<F, S> {
    look: F,
    route: S,
}

impl<F: Clone, S> Layer<S> for Before<F> {
    type Service = Behind<F, S>;

    fn layer(&self, route: S) -> Behind<F, S> {
        Behind { look: self.0.clone(), route }
    }
}

impl<F, S> Service<Request> for Behind<F, S>
where
    F: Fn(&Request) -> Option<Response>,
    S: Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<Ready<Result<Response, S::Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.route.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match (self.look)(&request) {
            Some(answer) => Either::Left(ready(Ok(answer))),
            None => Either::Right(self.route.call(request)),
        }
    }
}
