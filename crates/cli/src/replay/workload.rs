//! A workload spread over channels: what each channel pays, line by line, from the first.
//!
//! A request pays for its context with one line and for each generated token with one line. What a channel pays is a fixed sequence: a
//! replay that stops at any line goes on from there, and a longer replay of the same workload begins with the shorter one.

use millstream_billing::Line;
use millstream_types::{Amount, AmountError, Hash256, Reference};
use sha2::{Digest, Sha256};

use super::generate::Generator;
use super::price::Prices;
use super::trace::{Request, Trace};

/// Channels of one workload, at most.
pub const CHANNELS_MAX: u32 = 65_536;

/// Where requests come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A trace's requests, each once.
    Trace(Trace),
    /// Requests of a seed, as many as are paid for.
    Generated,
}

/// Everything that a workload is made from.
#[derive(Clone, Debug)]
pub struct WorkloadOptions {
    /// Where requests come from.
    pub source: Source,
    /// Sets workloads of the same source apart; the seed of a generated one.
    pub seed: u64,
    /// Channels that the requests are dealt to in turn.
    pub channels: u32,
    /// What tokens cost.
    pub prices: Prices,
    /// Payments after which the workload ends, in the order of requests; a trace can end earlier. Must be given for a generated one.
    pub payments_max: Option<u64>,
}

/// Why there is no workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// None, or too many.
    #[error("a replay has 1 to {CHANNELS_MAX} channels, not {channels}")]
    Channels {
        /// Channels asked for.
        channels: u32,
    },
    /// A generated workload has no end of its own.
    #[error("a generated workload needs a number of payments above 0")]
    Endless,
    /// A channel that would pay more than a channel can.
    #[error("the payments of one channel do not fit: {0}")]
    TooLarge(#[from] AmountError),
    /// Nothing to pay for.
    #[error("the workload has no payments")]
    Empty,
}

/// What a whole workload pays.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Names the workload: the same for the same source, seed, channels and prices, however long it is.
    pub id: Hash256,
    /// The channels, in order; one without payments has no requests.
    pub channels: Vec<ChannelPlan>,
    /// Payments for context.
    pub context_payments: u64,
    /// Payments for generated tokens.
    pub generated_payments: u64,
    /// What all of them cost.
    pub total: Amount,
}

/// What one channel pays.
#[derive(Clone, Debug)]
pub struct ChannelPlan {
    /// Position of the channel in the workload.
    pub index: u32,
    /// Its payments.
    pub lines: u64,
    /// What they cost, in nanos.
    pub total_nanos: u64,
    requests: Vec<PricedRequest>,
    generated_nanos: u64,
    reference_prefix: [u8; 8],
    carried: u64,
}

#[derive(Clone, Copy, Debug)]
struct PricedRequest {
    at_nanos: u64,
    /// 0 for a request whose context costs less than a nano, which pays no line.
    context_nanos: u64,
    generated: u32,
}

impl PricedRequest {
    fn lines(&self) -> u64 {
        u64::from(self.context_nanos > 0) + u64::from(self.generated)
    }
}

impl Workload {
    /// Deals and prices a workload.
    ///
    /// # Errors
    /// [`WorkloadError`].
    pub fn new(options: &WorkloadOptions) -> Result<Self, WorkloadError> {
        if options.channels == 0 || options.channels > CHANNELS_MAX {
            return Err(WorkloadError::Channels { channels: options.channels });
        }
        let id = workload_id(options);
        let generated_nanos = options.prices.generated_nanos();
        let channels = (0..options.channels).map(|index| ChannelPlan::new(&id, index, generated_nanos)).collect();
        let mut workload = Self { id, channels, context_payments: 0, generated_payments: 0, total: Amount::ZERO };
        match (&options.source, options.payments_max) {
            (Source::Trace(trace), max) => workload.deal(trace.requests.iter().copied(), &options.prices, max.unwrap_or(u64::MAX))?,
            (Source::Generated, Some(max)) if max > 0 => workload.deal(Generator::new(options.seed), &options.prices, max)?,
            (Source::Generated, Some(_) | None) => return Err(WorkloadError::Endless),
        }
        if workload.payments() == 0 {
            return Err(WorkloadError::Empty);
        }
        Ok(workload)
    }

    /// All payments.
    #[must_use]
    pub const fn payments(&self) -> u64 {
        self.context_payments + self.generated_payments
    }

    /// The channels that pay anything.
    pub fn paying(&self) -> impl Iterator<Item = &ChannelPlan> {
        self.channels.iter().filter(|channel| channel.lines > 0)
    }

    /// The index that the channel's voucher key is derived from the payer's account under: so the same workload finds its channels again.
    #[must_use]
    pub fn key_index(&self, index: u32) -> u64 {
        u64::from_be_bytes(first_eight(&self.id, "key", index))
    }

    fn deal(&mut self, requests: impl Iterator<Item = Request>, prices: &Prices, payments_max: u64) -> Result<(), WorkloadError> {
        let count = self.channels.len();
        let mut left = payments_max;
        for (turn, request) in requests.enumerate() {
            if left == 0 {
                break;
            }
            let (context, generated, cost) = self.channels[turn % count].add(&request, prices, left)?;
            left -= context + generated;
            self.context_payments += context;
            self.generated_payments += generated;
            self.total = self.total.checked_add(Amount::from_nanos(cost))?;
        }
        Ok(())
    }
}

impl ChannelPlan {
    fn new(id: &Hash256, index: u32, generated_nanos: u64) -> Self {
        let reference_prefix = first_eight(id, "reference", index);
        Self { index, lines: 0, total_nanos: 0, requests: Vec::new(), generated_nanos, reference_prefix, carried: 0 }
    }

    /// Adds the first `lines_max` lines of a request, at least one; returns its lines for context and for generated tokens, and what they cost.
    fn add(&mut self, request: &Request, prices: &Prices, lines_max: u64) -> Result<(u64, u64, u64), WorkloadError> {
        let (context_nanos, carried) = prices.context_down(request.context_tokens, self.carried)?;
        self.carried = carried;
        let context = u64::from(context_nanos > 0);
        let generated = u64::from(request.generated_tokens).min(lines_max.saturating_sub(context));
        let cost = Amount::from_nanos(self.generated_nanos).checked_mul(generated)?.checked_add(Amount::from_nanos(context_nanos))?;
        let cost = cost.to_u64()?;
        self.total_nanos = Amount::from_nanos(self.total_nanos).checked_add(Amount::from_nanos(cost))?.to_u64()?;
        self.lines += context + generated;
        let priced = PricedRequest { at_nanos: request.at_nanos, context_nanos, generated: u32::try_from(generated).unwrap_or(u32::MAX) };
        self.requests.push(priced);
        Ok((context, generated, cost))
    }

    /// What the first `lines` lines cost, in nanos.
    #[must_use]
    pub fn cost_of(&self, lines: u64) -> u64 {
        let (mut cost, mut left) = (0, lines);
        for request in &self.requests {
            if left == 0 {
                break;
            }
            let context = u64::from(request.context_nanos > 0);
            let generated = u64::from(request.generated).min(left.saturating_sub(context));
            // Part of the channel's total, which fits.
            cost += request.context_nanos + generated * self.generated_nanos;
            left -= context + generated;
        }
        cost
    }

    /// The lines from line `skip` on.
    #[must_use]
    pub fn lines_from(&self, skip: u64) -> Lines<'_> {
        let mut lines = Lines { plan: self, request: 0, within: 0, sequence: skip.min(self.lines) };
        let mut left = skip;
        while let Some(request) = self.requests.get(lines.request) {
            if left < request.lines() {
                lines.within = left;
                break;
            }
            left -= request.lines();
            lines.request += 1;
        }
        lines
    }
}

/// The lines of a channel, in order.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    plan: &'a ChannelPlan,
    request: usize,
    /// Lines of the request already taken.
    within: u64,
    sequence: u64,
}

impl Lines<'_> {
    /// When the next line is due, in nanoseconds since the workload's start; nothing at the end.
    #[must_use]
    pub fn due_nanos(&self) -> Option<u64> {
        let mut requests = self.plan.requests.get(self.request..).unwrap_or_default().iter();
        let current = requests.next().filter(|request| request.lines() > self.within);
        current.or_else(|| requests.find(|request| request.lines() > 0)).map(|request| request.at_nanos)
    }

    /// Position of the next line on the channel.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.sequence
    }

    /// Appends up to `max` lines that are due by `until_nanos`; returns what they cost, in nanos.
    pub fn take_due(&mut self, until_nanos: u64, max: usize, out: &mut Vec<Line>) -> u64 {
        let (mut cost, mut left) = (0, max);
        while left > 0 {
            let Some(request) = self.plan.requests.get(self.request) else { break };
            if request.lines() > 0 && request.at_nanos > until_nanos {
                break;
            }
            if self.within == request.lines() {
                (self.request, self.within) = (self.request + 1, 0);
                continue;
            }
            let is_context = self.within == 0 && request.context_nanos > 0;
            let nanos = if is_context { request.context_nanos } else { self.plan.generated_nanos };
            out.push(self.line(nanos));
            // Part of the channel's total, which fits.
            cost += nanos;
            self.within += 1;
            self.sequence += 1;
            left -= 1;
        }
        cost
    }

    /// A line's reference: eight bytes that are the channel's own, then its position.
    fn line(&self, nanos: u64) -> Line {
        let mut reference = [0; 16];
        reference[..8].copy_from_slice(&self.plan.reference_prefix);
        reference[8..].copy_from_slice(&self.sequence.to_be_bytes());
        Line { amount: Amount::from_nanos(nanos), reference: Reference::from_bytes(reference), digest: None }
    }
}

fn workload_id(options: &WorkloadOptions) -> Hash256 {
    let (context, generated) = options.prices.quotes();
    let hasher = Sha256::new().chain_update("millstream replay/1");
    let hasher = match &options.source {
        Source::Trace(trace) => hasher.chain_update("trace").chain_update(trace.digest.as_bytes()),
        Source::Generated => hasher.chain_update("generated"),
    };
    let hasher = hasher.chain_update(options.seed.to_be_bytes()).chain_update(options.channels.to_be_bytes());
    let hasher = hasher.chain_update(context.units().to_be_bytes()).chain_update(generated.units().to_be_bytes());
    Hash256::from_bytes(hasher.finalize().into())
}

/// Eight bytes that belong to one channel of one workload and one purpose.
fn first_eight(id: &Hash256, purpose: &str, index: u32) -> [u8; 8] {
    let digest: [u8; 32] =
        Sha256::new().chain_update(id.as_bytes()).chain_update(purpose).chain_update(index.to_be_bytes()).finalize().into();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    bytes
}
