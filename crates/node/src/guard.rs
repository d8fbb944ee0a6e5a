//! The provider's policy beside the engine: it decides what is reserved, sees what was captured or void, and its records go into the batch that
//! the engine's go into. So no restart, and no number of requests at once, leaves a budget with less in it than was promised (G-2 to G-9).

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use millstream_engine::escrow::{EscrowKey, EscrowRecord, RequestId};
use millstream_engine::{Effect, Key, Record};
use millstream_policy::{Ask, Change, Decision, Ended, HoldState, Ledger, OrderError, Policy, PolicyOrder, PolicyReply};
use millstream_store::{KeyRange, Read, Table};
use millstream_types::{Amount, Hash256, Timestamp};

use crate::core::OwnRecord;

/// The first byte of the policy's keys in [`Table::Submissions`]: others begin with 1 and 2.
pub(crate) const WHOSE: u8 = 3;

/// The rules, and what was held and spent under them.
pub(crate) struct Guard {
    policy: Policy,
    ledger: Ledger,
}

/// The policy's id of a request of the engine's.
fn id_of(request: &RequestId) -> Hash256 {
    Hash256::from_bytes(*request.as_bytes())
}

fn records(changes: Vec<Change>) -> impl Iterator<Item = OwnRecord> {
    changes.into_iter().map(|Change { key, value }| {
        let key = [&[WHOSE], key.as_slice()].concat();
        OwnRecord { table: Table::Submissions, key, value }
    })
}

impl Guard {
    /// From the records that are kept.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn restore(policy: Policy, store: &impl Read) -> anyhow::Result<Self> {
        let mut kept = Vec::new();
        store.scan(Table::Submissions, &KeyRange::with_prefix(&[WHOSE]), &mut |key, value| {
            kept.push((key.get(1..).unwrap_or_default().to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })?;
        Ok(Self { policy, ledger: Ledger::from_records(kept)? })
    }

    /// Decides what the engine has just reserved.
    pub(crate) fn ask(&mut self, now: Timestamp, ask: &Ask, own: &mut Vec<OwnRecord>) -> Decision {
        let outcome = self.ledger.ask(&self.policy, now, ask);
        own.extend(records(outcome.changes));
        outcome.decision
    }

    /// Decides whether a request under way may cost more. Nothing: it is not under way here, or costs no more.
    pub(crate) fn ask_more(&mut self, now: Timestamp, request: &RequestId, ceiling: Amount, own: &mut Vec<OwnRecord>) -> Option<Decision> {
        let hold = self.ledger.hold(id_of(request)).filter(|hold| hold.state == HoldState::Held)?;
        let adds = ceiling.checked_sub(hold.price).ok().filter(|adds| !adds.is_zero())?;
        let ask = Ask {
            id: hold.id,
            subject: hold.subject.clone(),
            asset: hold.asset,
            adds,
            price: ceiling,
            fingerprint: hold.fingerprint,
            listed: None,
        };
        Some(self.ask(now, &ask, own))
    }

    /// Sees what the engine ended, whoever ended it: a capture, a void, a time that ran out, a restart.
    pub(crate) fn observe(&mut self, now: Timestamp, effects: &[Effect], own: &mut Vec<OwnRecord>) {
        let mut charged: BTreeMap<Hash256, Amount> = BTreeMap::new();
        let mut ended = Vec::new();
        for effect in effects {
            match effect {
                Effect::Put(Record::Escrow(EscrowRecord::Outcome(_, request, outcome))) => {
                    charged.insert(id_of(request), outcome.amount);
                }
                Effect::Delete(Key::Escrow(EscrowKey::Reservation(request))) => ended.push(id_of(request)),
                _ => {}
            }
        }
        for id in ended {
            let Some(held) = self.ledger.hold(id).filter(|hold| hold.state == HoldState::Held).map(|hold| hold.held) else { continue };
            let how = match charged.get(&id) {
                Some(amount) => {
                    // The engine charges at most what it holds, and that is at most what is held here.
                    own.extend(records(self.ledger.settle(id, held.min(*amount)).unwrap_or_default()));
                    Ended::Delivered
                }
                None => Ended::Unknown,
            };
            own.extend(records(self.ledger.end(&self.policy, now, id, how)));
        }
    }

    /// Carries out an order of the operator's.
    pub(crate) fn order(&mut self, now: Timestamp, order: PolicyOrder, own: &mut Vec<OwnRecord>) -> Result<PolicyReply, OrderError> {
        let (reply, changes) = self.ledger.carry_out(&self.policy, now, order, |of| of.parse().ok())?;
        own.extend(records(changes));
        Ok(reply)
    }

    /// How much is paused, and how many requests wait for an approval.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let waits = |state: HoldState| matches!(state, HoldState::Waiting { .. });
        (self.ledger.pauses().count(), self.ledger.approvals().filter(|waiting| waits(waiting.hold.state)).count())
    }

    /// Forgets what is over, at a start.
    pub(crate) fn sweep(&mut self, now: Timestamp, own: &mut Vec<OwnRecord>) {
        own.extend(records(self.ledger.sweep(&self.policy, now)));
    }
}
