//! Payments of HTTP 402, for whoever speaks its dialects: a handle to the core that answers what is durable.

use std::fmt;
use std::sync::Arc;

use anyhow::Context;
use millstream_engine::escrow::{EscrowAnswer, EscrowFact, EscrowId, EscrowInput, Meter, RequestId, Reserve, ReserveOnce};
use millstream_engine::{Engine, Input};
use millstream_policy::{Ask, OrderError, PolicyOrder, PolicyReply};
use millstream_store::{KeyRange, Read, Table};
use millstream_tariff::Cost;
use millstream_types::{Amount, EscrowChannelId};
use millstream_voucher::evm::{EscrowDomain, VerifiedEscrowVoucher};

use crate::books::Domains;
use crate::core::{Core, Guarded, OwnRecord, Stopped};

/// A handle to the node's core. Cheap to clone. Every answer but that an amount is held leaves after the batch that it rests on
/// is synced; callers wait while the core's queue is full.
///
/// Who reserves owes an end: capture or void. A reservation that is dropped ends by the rule for crashes when it expires: what was marked
/// is captured, the rest released.
#[derive(Clone)]
pub struct Payments {
    core: Core,
    reader: Arc<dyn Read>,
    domains: Domains,
}

/// A record of a transaction that is sent for an escrow without the engine's knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Its key. The first byte says whose it is: 1 the facilitator's, 2 the desk's; 3 is the policy's.
    pub key: Vec<u8>,
    /// What is kept; `None` deletes it.
    pub value: Option<Vec<u8>>,
}

impl Payments {
    pub(crate) fn new(core: Core, reader: Arc<dyn Read>) -> Self {
        Self { core, reader, domains: Domains::default() }
    }

    /// The same, for a node whose statements show vouchers.
    pub(crate) fn naming_in(self, domains: &Domains) -> Self {
        Self { domains: domains.clone(), ..self }
    }

    /// Says which contract an escrow is, whose vouchers statements are to show. Whoever serves it does so at each start.
    pub fn name(&self, escrow: EscrowId, domain: EscrowDomain) {
        self.domains.insert(escrow, domain);
    }

    /// Keeps records of what is sent, all or none, and answers when they are durable: before a transaction leaves, and when its end is known.
    ///
    /// # Errors
    /// [`Stopped`]: whether they are kept is not known.
    pub async fn keep(&self, submissions: Vec<Submission>) -> Result<(), Stopped> {
        let record = |Submission { key, value }| OwnRecord { table: Table::Submissions, key, value };
        self.core.own(submissions.into_iter().map(record).collect()).await
    }

    /// The records whose keys begin with this byte, in the order of their keys: for a start, before anything is sent.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn kept(&self, whose: u8) -> anyhow::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let reader = Arc::clone(&self.reader);
        let read = move || reader.collect(Table::Submissions, &KeyRange::with_prefix(&[whose]));
        tokio::task::spawn_blocking(read).await?.context("cannot read what was sent")
    }

    /// Any input about an escrow.
    ///
    /// # Errors
    /// [`Stopped`]: whether it was applied is not known; asked again after the restart, a request has the outcome that it had.
    pub async fn apply(&self, input: EscrowInput) -> Result<EscrowAnswer, Stopped> {
        self.core.escrow(input).await
    }

    /// A channel, as its payer may see it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn channel(&self, channel: EscrowChannelId) -> Result<EscrowAnswer, Stopped> {
        self.apply(EscrowInput::Show { channel }).await
    }

    /// Takes a voucher without a request.
    ///
    /// # Errors
    /// As [`Payments::apply`].
    pub async fn voucher(&self, voucher: VerifiedEscrowVoucher) -> Result<EscrowAnswer, Stopped> {
        self.apply(EscrowInput::Voucher { voucher }).await
    }

    /// Holds a part of what is accepted on a channel for a delivery.
    ///
    /// # Errors
    /// As [`Payments::apply`].
    pub async fn reserve(&self, reserve: Reserve) -> Result<EscrowAnswer, Stopped> {
        self.apply(EscrowInput::Reserve(reserve)).await
    }

    /// Holds a part of what is accepted on a channel for a delivery, if the policy has nothing against it.
    ///
    /// # Errors
    /// As [`Payments::apply`].
    pub async fn reserve_guarded(&self, reserve: Reserve, ask: Ask) -> Result<Guarded, Stopped> {
        self.core.guarded(EscrowInput::Reserve(reserve), Some(ask)).await
    }

    /// Holds a single payment for a delivery, if the policy has nothing against it.
    ///
    /// # Errors
    /// As [`Payments::apply`].
    pub async fn reserve_once_guarded(&self, reserve: ReserveOnce, ask: Ask) -> Result<Guarded, Stopped> {
        self.core.guarded(EscrowInput::ReserveOnce(reserve), Some(ask)).await
    }

    /// Raises what a delivery under way may cost, as [`Payments::extend`], if the policy has nothing against it.
    ///
    /// # Errors
    /// As [`Payments::apply`].
    pub async fn extend_guarded(&self, request: RequestId, ceiling: Amount) -> Result<Guarded, Stopped> {
        self.core.guarded(EscrowInput::Extend { request, ceiling, at_least: Amount::ZERO, voucher: None }, None).await
    }

    /// Whether there is a policy: without one nothing has to be asked.
    #[must_use]
    pub const fn is_guarded(&self) -> bool {
        self.core.is_guarded()
    }

    /// Carries out an order to the policy, and answers when it is durable; nothing where there is no policy.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn policy(&self, order: PolicyOrder) -> Result<Option<Result<PolicyReply, OrderError>>, Stopped> {
        self.core.policy(order).await
    }

    /// Holds a single payment for a delivery.
    ///
    /// # Errors
    /// As [`Payments::apply`].
    pub async fn reserve_once(&self, reserve: ReserveOnce) -> Result<EscrowAnswer, Stopped> {
        self.apply(EscrowInput::ReserveOnce(reserve)).await
    }

    /// Raises what a delivery under way may cost, as far as is available, and at least to `at_least`.
    ///
    /// # Errors
    /// As [`Payments::apply`].
    pub async fn extend(
        &self,
        request: RequestId,
        ceiling: Amount,
        at_least: Amount,
        voucher: Option<VerifiedEscrowVoucher>,
    ) -> Result<EscrowAnswer, Stopped> {
        self.apply(EscrowInput::Extend { request, ceiling, at_least, voucher }).await
    }

    /// Says what a delivery costs so far, before that is delivered.
    ///
    /// # Errors
    /// As [`Payments::apply`].
    pub async fn mark(&self, request: RequestId, delivered: Cost, meter: Meter) -> Result<EscrowAnswer, Stopped> {
        self.apply(EscrowInput::Mark { request, delivered, meter }).await
    }

    /// Ends a delivery.
    ///
    /// # Errors
    /// As [`Payments::apply`].
    pub async fn capture(&self, request: RequestId, cost: Cost, meter: Meter) -> Result<EscrowAnswer, Stopped> {
        self.apply(EscrowInput::Capture { request, cost, meter, stored: None }).await
    }

    /// Ends a delivery that failed.
    ///
    /// # Errors
    /// As [`Payments::apply`].
    pub async fn void(&self, request: RequestId) -> Result<EscrowAnswer, Stopped> {
        self.apply(EscrowInput::Void { request, stored: None }).await
    }

    /// Applies what an escrow's chain says, in order and in one batch, and answers when it is durable.
    ///
    /// # Errors
    /// [`Stopped`]: whether they were applied is not known; the engine's cursor says it after the restart.
    pub async fn facts(&self, facts: Vec<EscrowFact>) -> Result<(), Stopped> {
        self.core.inputs(facts.into_iter().map(Input::EscrowFact).collect()).await
    }

    /// Reads the durable state between two ticks: claims, sweeps, payments to send. Long reads hold payments up, so read a part at a time.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn read<T: Send + 'static>(&self, read: impl FnOnce(&Engine) -> T + Send + 'static) -> Result<T, Stopped> {
        self.core.query(read).await
    }
}

impl fmt::Debug for Payments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payments").finish_non_exhaustive()
    }
}
