//! Requests that manage a channel, and ask for nothing else.

use http::{Response, StatusCode};

use super::{Asked, Dialects, Speech};
use crate::body::{Body, empty};
use crate::port::{ChargePort, Release, ReleaseKind};
use crate::tender::Tender;

/// What is to be done with a channel.
pub(crate) struct Act {
    pub(super) tender: Tender,
    pub(super) kind: ActKind,
    pub(super) speech: Speech,
}

pub(super) enum ActKind {
    /// Take the voucher, and the deposit that comes with it.
    Accept,
    /// Give the deposit back, or a part of it.
    Release(ReleaseKind),
}

impl Dialects {
    /// Does it.
    pub(crate) async fn manage(&self, act: Act, port: &dyn ChargePort, asked: &Asked) -> Response<Body> {
        let mut response = Response::new(empty());
        let done = match act.kind {
            ActKind::Accept => port.accept(act.tender).await.map(|accepted| act.speech.accepted(response.headers_mut(), &accepted)),
            ActKind::Release(kind) => {
                let release = Release { tender: act.tender, kind };
                port.release(release).await.map(|released| act.speech.released(response.headers_mut(), &released))
            }
        };
        match done {
            Ok(()) => {
                *response.status_mut() = StatusCode::OK;
                response
            }
            Err(error) => act.speech.refused(&error, &asked.request),
        }
    }
}
