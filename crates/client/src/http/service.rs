//! The payer as a `tower` service.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use reqwest::{Request, Response};
use tower::Service;

use super::error::HttpPayError;
use super::payer::HttpPayer;

impl Service<Request> for HttpPayer {
    type Response = Response;
    type Error = HttpPayError;
    type Future = Pin<Box<dyn Future<Output = Result<Response, HttpPayError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HttpPayError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let payer = self.clone();
        Box::pin(async move { payer.execute(request).await })
    }
}
