//! Keeps the versions of a payment's transaction in the engine, before the chain can see them.

use std::fmt;
use std::sync::{Arc, Mutex};

use millstream_chain::{ChainError, Journal, Kept, TxVersion};
use millstream_engine::escrow::{AuthorizationId, EscrowAnswer, EscrowInput, Meter, Outcome, RequestId};
use millstream_node::Payments;
use millstream_types::Hash256;

use super::record::Sent;
use crate::lock::lock;

/// Whose versions a keeper keeps.
pub(super) struct Keeper {
    payments: Payments,
    authorization: AuthorizationId,
    state: Mutex<State>,
    /// One write at a time, so that none undoes another.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct State {
    sent: Sent,
    /// With the first version the payment is charged.
    first: Option<(RequestId, Meter)>,
    charged: Option<Outcome>,
    /// The engine took a first version.
    is_kept: bool,
}

impl Keeper {
    /// Of a payment that is held, and charged with its first version.
    pub(super) fn collecting(payments: Payments, authorization: AuthorizationId, request: RequestId, meter: Meter) -> Arc<Self> {
        let state = State { sent: Sent::default(), first: Some((request, meter)), charged: None, is_kept: false };
        Arc::new(Self { payments, authorization, state: Mutex::new(state), writing: tokio::sync::Mutex::default() })
    }

    /// Of a payment that was charged before.
    pub(super) fn of(payments: Payments, authorization: AuthorizationId, sent: Sent) -> Arc<Self> {
        let state = State { sent, first: None, charged: None, is_kept: true };
        Arc::new(Self { payments, authorization, state: Mutex::new(state), writing: tokio::sync::Mutex::default() })
    }

    /// Whether the engine has it as submitted.
    pub(super) fn is_kept(&self) -> bool {
        lock(&self.state).is_kept
    }

    /// The charge that the first version made.
    pub(super) fn charged(&self) -> Option<Outcome> {
        lock(&self.state).charged
    }

    /// The transaction as far as it is known.
    pub(super) fn transaction(&self) -> Option<Hash256> {
        lock(&self.state).sent.transaction()
    }

    /// What it pays may leave from now on.
    pub(super) async fn answer(&self, made: Option<Hash256>) -> Result<(), ChainError> {
        self.write(|sent| {
            sent.is_answered = true;
            sent.made = made.or(sent.made);
        })
        .await
    }

    /// Somebody's transaction made the payment.
    pub(super) async fn made(&self, transaction: Hash256) -> Result<(), ChainError> {
        self.write(|sent| sent.made = Some(transaction)).await
    }

    async fn write(&self, change: impl FnOnce(&mut Sent) + Send) -> Result<(), ChainError> {
        let _writing = self.writing.lock().await;
        let State { mut sent, first, .. } = lock(&self.state).clone();
        change(&mut sent);
        let (authorization, transaction) = (self.authorization, sent.encode());
        let input = match first {
            Some((request, meter)) => EscrowInput::CollectOnce { request, meter, transaction },
            None => EscrowInput::PaymentSubmitted { authorization, transaction },
        };
        let answer = self.payments.apply(input).await.map_err(|_| ChainError::Stopped { operation: "keep" })?;
        let charged = match answer {
            EscrowAnswer::Charged { outcome, .. } => Some(outcome),
            EscrowAnswer::Done => None,
            // It was held for too long: nothing leaves.
            EscrowAnswer::Rejected { rejection, .. } => {
                return Err(ChainError::InvalidInput { what: "version", detail: rejection.to_string() });
            }
            answer => return Err(ChainError::Internal { detail: format!("the engine answered {answer:?}") }),
        };
        let mut state = lock(&self.state);
        state.charged = charged.or(state.charged);
        state.sent = sent;
        (state.first, state.is_kept) = (None, true);
        Ok(())
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("authorization", &self.authorization).finish_non_exhaustive()
    }
}

impl Journal for Keeper {
    fn keep(&self, version: TxVersion) -> Kept<'_> {
        Box::pin(self.write(move |sent| sent.add(version)))
    }
}
