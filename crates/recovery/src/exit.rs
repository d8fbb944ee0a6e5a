//! A payer leaves alone: with the chain, an account, and nothing from the provider.
//!
//! What to do next is read from the chain each time: ask for the close, wait for the response window to end, serve the queue up to the own close,
//! withdraw. So a run that was cut off is continued by running again.
//!
//! A channel that never got into a book is taken back, without a proof, once its opening is overdue (L-24). Out of a halted ledger a channel is taken
//! with Merkle paths, without a proof either (L-26).
//!
//! **A provider that tries to outrun it.** While a close is overdue nothing is settled (L-6), so the only transactions that change a book, and
//! make a proof stale, are registrations, and each of them serves at least one request before the close. There are so many of those and no
//! more: what comes later is behind. So whoever serves requests one at a time, as the payer proves, ends by serving the close.

use std::path::PathBuf;
use std::time::Duration;

use millstream_chain::{ChainError, Ledger, LedgerAt, Payer, SlotPath, Submitter, token_balance};
use millstream_circuit::{Book, field_to_word};
use millstream_types::{Address, Amount, ChannelId, Hash256, Timestamp};

use crate::error::{ExitError, ServeError};
use crate::rebuild::{Rebuild, RebuildOptions};
use crate::serve::{Server, plan_requests};
use crate::state::{Asked, ChannelPlace, RebuiltChannel, RebuiltRequest};

/// Refusals in a row with nothing changed on the chain, until the last one is believed: an endpoint of several nodes may lag.
const UNEXPLAINED_MAX: u32 = 3;

/// What to do while the response window is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyExit {
    /// Come back: say when it ends.
    Return,
    /// Look again, so often, until it is over.
    Wait(Duration),
}

/// How to leave.
#[derive(Clone, Debug)]
pub struct ExitOptions {
    /// How to read the chain; always to its newest block.
    pub rebuild: RebuildOptions,
    /// Where proving keys are, or are made.
    pub keys_dir: PathBuf,
    /// What to do while the provider still has time.
    pub early: EarlyExit,
    /// The pause after an answer that may be retried.
    pub pause: Duration,
}

/// What is happening, as it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStep {
    /// The close was asked for.
    CloseRequested {
        /// The transaction.
        transaction: Hash256,
    },
    /// The provider has until then.
    Waiting {
        /// The last moment in time.
        deadline: Timestamp,
    },
    /// A proof for so many requests, the own close being the last or behind them.
    Proving {
        /// Requests to be served.
        requests: usize,
        /// Requests left behind for another transaction.
        left: usize,
    },
    /// Somebody else served requests meanwhile: what was proved is stale.
    Overtaken {
        /// How many.
        served: u64,
    },
    /// Requests were served.
    Registered {
        /// The transaction.
        transaction: Hash256,
        /// How many.
        requests: usize,
        /// Its gas.
        gas_used: u64,
    },
    /// The opening was taken back (L-24).
    Cancelled {
        /// The transaction.
        transaction: Hash256,
    },
    /// The ledger was halted, for good (L-25).
    Halted {
        /// The transaction.
        transaction: Hash256,
    },
    /// The channel left the halted ledger (L-26).
    Left {
        /// The transaction.
        transaction: Hash256,
    },
    /// The credit was paid out.
    Withdrawn {
        /// The transaction.
        transaction: Hash256,
        /// How much, in base units.
        base_units: u128,
    },
}

/// Whether a ledger that may be halted is to be halted, for good and for everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HaltChoice {
    /// It is not.
    Never,
    /// It is.
    WhenPossible,
}

/// Where an exit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitOutcome {
    /// The provider still has time: run again after it.
    Waiting {
        /// The last moment of the provider's time.
        deadline: Timestamp,
        /// The time of the newest block.
        now: Timestamp,
        /// What comes back when nothing is settled before then, in nanos.
        expected: Amount,
    },
    /// The channel is closed and the money is out.
    Left(ExitReport),
}

/// Who served the close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitWay {
    /// This payer, by its own proof.
    OwnProof,
    /// Nobody: the opening was taken back.
    Cancelled,
    /// Nobody: the channel left the halted ledger.
    Halt,
    /// Somebody else.
    Others,
}

/// An exit that is complete. Amounts in nanos unless named otherwise: `deposited = settled + refunded`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitReport {
    /// The channel.
    pub channel: ChannelId,
    /// Everything that was deposited.
    pub deposited: Amount,
    /// What the provider took.
    pub settled: Amount,
    /// What was credited to the payer.
    pub refunded: Amount,
    /// Who served the close.
    pub way: ExitWay,
    /// What was paid to the payer now, in base units: all of its credit, of other channels too. Nothing when it was paid before.
    pub paid_base_units: u128,
    /// What is left as credit: below one base unit (L-2).
    pub credit_left: Amount,
    /// The transactions of this run.
    pub transactions: Vec<Hash256>,
}

/// A payer on its way out of one ledger.
pub struct Exit {
    rebuild: Rebuild,
    payer: Payer,
    server: Server,
    options: ExitOptions,
    transactions: Vec<Hash256>,
    way: ExitWay,
}

impl Exit {
    /// An exit by the account of `submitter`, which pays the gas. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ExitError::Rebuild`].
    pub async fn new(ledger: Ledger, submitter: Submitter, options: ExitOptions) -> Result<Self, ExitError> {
        // Every step follows from the newest block: what this account sent must be seen at once.
        let newest = RebuildOptions { until: None, confirmations: 1, ..options.rebuild };
        let rebuild = Rebuild::start(ledger.clone(), newest).await?;
        let server = Server::new(ledger.clone(), submitter.clone(), options.keys_dir.clone());
        let payer = Payer::new(ledger, submitter);
        Ok(Self { rebuild, payer, server, options, transactions: Vec::new(), way: ExitWay::Others })
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> Address {
        self.payer.account()
    }

    /// The account's channels that are not closed, as the chain has them.
    ///
    /// # Errors
    /// [`ExitError::Rebuild`].
    pub async fn channels(&mut self) -> Result<Vec<ChannelId>, ExitError> {
        self.rebuild.catch_up(&mut |_| {}).await?;
        let own = self.rebuild.rebuilt().channels().filter(|channel| channel.payer == self.account());
        Ok(own.filter(|channel| !channel.place.is_over()).map(|channel| channel.id).collect())
    }

    /// Goes as far as it goes now. Run again, it continues.
    ///
    /// # Errors
    /// [`ExitError`]. What was sent stays sent; a later run continues from what the chain has.
    pub async fn run(&mut self, channel: ChannelId, tell: &mut (dyn FnMut(ExitStep) + Send)) -> Result<ExitOutcome, ExitError> {
        let mut unexplained = 0;
        loop {
            let at = self.rebuild.catch_up(&mut |_| {}).await?;
            let found = *self.rebuild.rebuilt().channel(&channel).ok_or(ExitError::UnknownChannel { channel })?;
            if found.payer != self.account() {
                return Err(ExitError::NotPayer { channel, payer: found.payer, account: self.account() });
            }
            if found.place.is_over() {
                return self.finish(&found, tell).await.map(ExitOutcome::Left);
            }
            let sent = if self.rebuild.rebuilt().halted().is_some() {
                Some(self.leave_halted(&found, tell).await)
            } else if self.may_cancel(&found, at.time()) {
                Some(self.cancel(&found, tell).await)
            } else {
                None
            };
            match sent {
                None => {}
                Some(Ok(())) => continue,
                // The provider may have put the channel into a book at the last moment, or somebody did this for the payer.
                Some(Err(ExitError::Chain(error))) if error.revert().is_some() && unexplained < UNEXPLAINED_MAX => {
                    tracing::debug!(%error, "looking again");
                    unexplained += 1;
                    continue;
                }
                Some(Err(error)) => return Err(error),
            }
            let Some(close) = self.close_request(&found) else {
                let receipt = self.payer.request_close(channel).await?;
                self.transactions.push(receipt.transaction);
                tell(ExitStep::CloseRequested { transaction: receipt.transaction });
                continue;
            };
            if !self.rebuild.rebuilt().is_overdue(&close, at.time()) {
                match self.wait(&found, &close, &at, tell).await {
                    Some(outcome) => return Ok(outcome),
                    None => continue,
                }
            }
            match self.serve_until(&close, tell).await {
                Ok(()) => unexplained = 0,
                // A refusal by the contract may be explained by what others did meanwhile; what the endpoint itself refuses is not.
                Err(ExitError::Serve(ServeError::Chain(error))) if error.revert().is_some() || error.is_retryable() => {
                    unexplained = if self.was_overtaken(&error, tell).await? { 0 } else { unexplained + 1 };
                    if unexplained > UNEXPLAINED_MAX {
                        return Err(ExitError::Refused(ServeError::Chain(error)));
                    }
                    if unexplained > 0 {
                        tokio::time::sleep(self.options.pause).await;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes a channel out of a halted ledger; the ledger is halted first when that is wanted and may be. Run again, it continues.
    ///
    /// # Errors
    /// [`ExitError::NotHalted`], [`ExitError::NothingWaits`], [`ExitError::HaltNotWanted`]; else as [`Exit::run`].
    pub async fn leave(
        &mut self,
        channel: ChannelId,
        halt: HaltChoice,
        tell: &mut (dyn FnMut(ExitStep) + Send),
    ) -> Result<ExitOutcome, ExitError> {
        let at = self.rebuild.catch_up(&mut |_| {}).await?;
        let rebuilt = self.rebuild.rebuilt();
        if rebuilt.halted().is_none() {
            let oldest = rebuilt.queue().first().ok_or(ExitError::NothingWaits)?;
            let (index, deadline) = (oldest.index, rebuilt.halt_deadline(oldest));
            if at.time() <= deadline {
                return Err(ExitError::NotHalted { index, deadline });
            }
            if halt == HaltChoice::Never {
                return Err(ExitError::HaltNotWanted { index });
            }
            let transaction = self.payer.halt().await?.transaction;
            self.transactions.push(transaction);
            tell(ExitStep::Halted { transaction });
        }
        self.run(channel, tell).await
    }

    /// Whether a channel's opening may be taken back in the block after one of this time.
    fn may_cancel(&self, channel: &RebuiltChannel, now: Timestamp) -> bool {
        let rebuilt = self.rebuild.rebuilt();
        channel.place == ChannelPlace::Queued && self.opening(channel).is_some_and(|open| rebuilt.is_overdue(&open, now))
    }

    /// The request that opened a channel.
    fn opening(&self, channel: &RebuiltChannel) -> Option<RebuiltRequest> {
        let is_opening = |request: &&RebuiltRequest| request.channel == channel.id && matches!(request.asked, Asked::Open { .. });
        self.rebuild.rebuilt().requests().iter().find(is_opening).copied()
    }

    async fn cancel(&mut self, channel: &RebuiltChannel, tell: &mut (dyn FnMut(ExitStep) + Send)) -> Result<(), ExitError> {
        let open = self.opening(channel).ok_or(ExitError::UnknownChannel { channel: channel.id })?;
        let refund = self.payer.cancel_open(channel.id, open.index, channel.key_x, open.asked.amount()).await?;
        self.way = ExitWay::Cancelled;
        self.transactions.push(refund.receipt.transaction);
        tell(ExitStep::Cancelled { transaction: refund.receipt.transaction });
        Ok(())
    }

    async fn leave_halted(&mut self, channel: &RebuiltChannel, tell: &mut (dyn FnMut(ExitStep) + Send)) -> Result<(), ExitError> {
        let ChannelPlace::Booked { book: id, slot } = channel.place else { return self.cancel(channel, tell).await };
        let path = |book: Book| book.path(slot).map_err(|source| ExitError::Path { channel: channel.id, source });
        let path = self.rebuild.rebuilt().book(id).map(path).ok_or(ExitError::UnknownChannel { channel: channel.id })??;
        let refund = self.payer.leave(id, &path_words(&path)).await?;
        self.way = ExitWay::Halt;
        self.transactions.push(refund.receipt.transaction);
        tell(ExitStep::Left { transaction: refund.receipt.transaction });
        Ok(())
    }

    fn close_request(&self, channel: &RebuiltChannel) -> Option<RebuiltRequest> {
        let index = usize::try_from(channel.close_request?).ok()?;
        self.rebuild.rebuilt().requests().get(index).copied()
    }

    async fn wait(
        &self,
        channel: &RebuiltChannel,
        close: &RebuiltRequest,
        at: &LedgerAt,
        tell: &mut (dyn FnMut(ExitStep) + Send),
    ) -> Option<ExitOutcome> {
        // A channel that is in no book can be taken back when its opening is overdue, which is before its close is.
        let opening = self.opening(channel).filter(|_| channel.place == ChannelPlace::Queued);
        let deadline = self.rebuild.rebuilt().deadline(&opening.unwrap_or(*close));
        match self.options.early {
            EarlyExit::Return => Some(ExitOutcome::Waiting { deadline, now: at.time(), expected: channel.held() }),
            EarlyExit::Wait(interval) => {
                tell(ExitStep::Waiting { deadline });
                tokio::time::sleep(interval).await;
                None
            }
        }
    }

    /// Serves as much of the queue up to the close as one transaction takes.
    async fn serve_until(&mut self, close: &RebuiltRequest, tell: &mut (dyn FnMut(ExitStep) + Send)) -> Result<(), ExitError> {
        let rebuilt = self.rebuild.rebuilt();
        let end = close.index.saturating_add(1);
        let served = plan_requests(rebuilt, end);
        let Some(last) = served.last() else { return Err(ExitError::Unplaceable { index: rebuilt.queue_head() }) };
        let serves_the_close = last.request.index == close.index;
        let left = rebuilt.queue().iter().take_while(|request| request.index < end).count().saturating_sub(served.len());
        tell(ExitStep::Proving { requests: served.len(), left });
        let receipt = self.server.serve(rebuilt, &served).await?;
        if serves_the_close {
            self.way = ExitWay::OwnProof;
        }
        self.transactions.push(receipt.transaction);
        tell(ExitStep::Registered { transaction: receipt.transaction, requests: served.len(), gas_used: receipt.gas_used });
        Ok(())
    }

    /// Whether the queue moved on since the books were last read, which explains why a proof was refused.
    async fn was_overtaken(&mut self, error: &ChainError, tell: &mut (dyn FnMut(ExitStep) + Send)) -> Result<bool, ExitError> {
        tracing::debug!(%error, "the registration was not taken");
        let before = self.rebuild.rebuilt().queue_head();
        self.rebuild.catch_up(&mut |_| {}).await?;
        let served = self.rebuild.rebuilt().queue_head().saturating_sub(before);
        if served > 0 {
            tell(ExitStep::Overtaken { served });
        }
        Ok(served > 0)
    }

    /// Checks what was refunded, and withdraws the credit.
    async fn finish(&mut self, channel: &RebuiltChannel, tell: &mut (dyn FnMut(ExitStep) + Send)) -> Result<ExitReport, ExitError> {
        let settled = channel.settled.as_amount();
        let expected = channel.deposited.checked_sub(settled).unwrap_or(Amount::ZERO);
        if channel.refunded != expected {
            return Err(ExitError::Amount { channel: channel.id, expected, actual: channel.refunded });
        }
        let paid_base_units = self.withdraw(tell).await?;
        Ok(ExitReport {
            channel: channel.id,
            deposited: channel.deposited,
            settled,
            refunded: channel.refunded,
            way: self.way,
            paid_base_units,
            credit_left: self.payer.ledger().credit(self.account()).await?,
            transactions: core::mem::take(&mut self.transactions),
        })
    }

    /// Pays the account's whole credit out, when it has a base unit or more, and checks that it came.
    async fn withdraw(&mut self, tell: &mut (dyn FnMut(ExitStep) + Send)) -> Result<u128, ExitError> {
        let (account, ledger) = (self.account(), self.payer.ledger());
        let credit = ledger.credit(account).await?;
        let due = whole_base_units(ledger, credit)?;
        if due == 0 {
            return Ok(0);
        }
        let balance = async || token_balance(ledger.rpc(), ledger.config().token, account).await;
        let before = balance().await?;
        let withdrawal = self.payer.withdraw(account).await?;
        let received = balance().await?.saturating_sub(before);
        // More may have come from elsewhere meanwhile; less means that the token kept something.
        if withdrawal.base_units < due || received < withdrawal.base_units {
            return Err(ExitError::Payout { paid: withdrawal.base_units, received });
        }
        let transaction = withdrawal.receipt.transaction;
        self.transactions.push(transaction);
        tell(ExitStep::Withdrawn { transaction, base_units: withdrawal.base_units });
        Ok(withdrawal.base_units)
    }
}

/// A path in the words of the ledger.
pub(crate) fn path_words(path: &millstream_circuit::SlotPath) -> SlotPath {
    let groups = |groups: &[[millstream_circuit::Fr; 16]]| groups.iter().map(|group| group.map(field_to_word)).collect();
    SlotPath {
        slot: path.slot,
        channel: path.channel.uid(),
        key_x: field_to_word(path.channel.key_x()),
        deposit: path.channel.deposit_nanos(),
        settled: path.channel.settled_nanos(),
        static_path: groups(&path.static_path),
        dynamic_path: groups(&path.dynamic_path),
    }
}

fn whole_base_units(ledger: &Ledger, credit: Amount) -> Result<u128, ExitError> {
    let whole = ledger.config().unit.base_units_down(credit);
    whole
        .map(|(whole, _)| whole)
        .map_err(|error| ExitError::Chain(ChainError::InvalidInput { what: "credit", detail: error.to_string() }))
}
