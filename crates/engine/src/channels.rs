//! All channels in memory, and what they add up to.
//!
//! Channels lie one after the other in the order in which they came; a hash map finds them. Nothing is ever decided by the map's order,
//! which is random: its key is, so that payers, who choose a part of their channels' ids, cannot make many of them meet in one place.
//! Whatever can change a channel goes through [`Edit`], so the sums are right after every change and cost nothing to ask for.

use core::ops::{Deref, DerefMut};
use std::collections::HashMap;

use millstream_types::{Amount, ChannelId};

use crate::{Channel, ChannelStatus, Summary};

#[derive(Clone, Debug, Default)]
pub(crate) struct Channels {
    all: Vec<Channel>,
    /// Positions in `all`. 32 bits: as many channels would need a terabyte.
    places: HashMap<ChannelId, u32>,
    sums: Sums,
}

/// Wide enough that no number of channels in memory overflows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    open: u64,
    frozen: u64,
    lines: u128,
    deposited: u128,
    accepted: u128,
    settled: u128,
    refunded: u128,
}

impl Sums {
    fn of(channel: &Channel) -> Self {
        Self {
            open: u64::from(channel.status == ChannelStatus::Open),
            frozen: u64::from(channel.status == ChannelStatus::Frozen),
            lines: channel.lines_total().into(),
            deposited: channel.deposit.into(),
            accepted: channel.accepted_nanos().into(),
            settled: channel.settled.into(),
            refunded: channel.refunded.into(),
        }
    }

    /// Both sides with `change` applied member by member.
    fn with(self, other: Self, count: fn(u64, u64) -> u64, sum: fn(u128, u128) -> u128) -> Self {
        Self {
            open: count(self.open, other.open),
            frozen: count(self.frozen, other.frozen),
            lines: sum(self.lines, other.lines),
            deposited: sum(self.deposited, other.deposited),
            accepted: sum(self.accepted, other.accepted),
            settled: sum(self.settled, other.settled),
            refunded: sum(self.refunded, other.refunded),
        }
    }

    fn plus(self, other: Self) -> Self {
        self.with(other, u64::wrapping_add, u128::wrapping_add)
    }

    fn minus(self, other: Self) -> Self {
        self.with(other, u64::wrapping_sub, u128::wrapping_sub)
    }
}

/// A channel that may be changed; the sums follow when it is let go.
pub(crate) struct Edit<'a> {
    channel: &'a mut Channel,
    sums: &'a mut Sums,
}

impl<'a> Edit<'a> {
    fn new(channel: &'a mut Channel, sums: &'a mut Sums) -> Self {
        *sums = sums.minus(Sums::of(channel));
        Self { channel, sums }
    }
}

impl Drop for Edit<'_> {
    fn drop(&mut self) {
        *self.sums = self.sums.plus(Sums::of(self.channel));
    }
}

impl Deref for Edit<'_> {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        self.channel
    }
}

impl DerefMut for Edit<'_> {
    fn deref_mut(&mut self) -> &mut Channel {
        self.channel
    }
}

impl Channels {
    pub(crate) fn get(&self, id: &ChannelId) -> Option<&Channel> {
        self.all.get(self.place(id)?)
    }

    pub(crate) fn edit(&mut self, id: &ChannelId) -> Option<Edit<'_>> {
        let place = self.place(id)?;
        Some(Edit::new(self.all.get_mut(place)?, &mut self.sums))
    }

    /// Adds a channel that is not there yet.
    pub(crate) fn insert(&mut self, channel: Channel) {
        let place = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        debug_assert!(!self.places.contains_key(&channel.id), "a channel is added once");
        self.sums = self.sums.plus(Sums::of(&channel));
        self.places.insert(channel.id, place);
        self.all.push(channel);
    }

    /// Every channel, in the order in which they came.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.all.iter()
    }

    /// Every channel, to be changed, in the order in which they came.
    pub(crate) fn edit_each(&mut self, mut change: impl FnMut(&mut Channel)) {
        for channel in &mut self.all {
            change(&mut Edit::new(channel, &mut self.sums));
        }
    }

    /// What they add up to.
    pub(crate) fn summary(&self) -> Summary {
        debug_assert!(self.all.len() > WALKED_MAX || self.sums == self.walked(), "the sums are those of the channels");
        let Sums { open, frozen, lines, deposited, accepted, settled, refunded } = self.sums;
        Summary {
            channels: u64::try_from(self.all.len()).unwrap_or(u64::MAX),
            open,
            frozen,
            lines: u64::try_from(lines).unwrap_or(u64::MAX),
            deposited: Amount::from_units(deposited),
            accepted: Amount::from_units(accepted),
            settled: Amount::from_units(settled),
            refunded: Amount::from_units(refunded),
        }
    }

    fn walked(&self) -> Sums {
        self.all.iter().fold(Sums::default(), |sums, channel| sums.plus(Sums::of(channel)))
    }

    fn place(&self, id: &ChannelId) -> Option<usize> {
        self.places.get(id).and_then(|place| usize::try_from(*place).ok())
    }
}

/// Channels up to which a debug build compares the sums with a walk whenever it is asked for them.
const WALKED_MAX: usize = 1_000;
