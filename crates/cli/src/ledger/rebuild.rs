//! `millstream ledger rebuild`.

use millstream_chain::LedgerAt;
use millstream_circuit::{Book, field_to_word};
use millstream_recovery::{ChannelPlace, Rebuild, RebuiltChannel, RebuiltLedger, RebuiltRequest};
use millstream_types::{Address, Amount, BookId, ChannelId, Hash256};
use serde::Serialize;

use super::{RebuildArgs, for_people, watch};
use crate::channel::shown;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::output::{Format, View, columns, pairs, render};
use crate::progress;

/// Rows that a table shows at most; the JSON document has all.
const ROWS_MAX: usize = 50;

/// A rebuilt ledger. Every root was compared with the contract. Amounts in nanos.
#[derive(Serialize)]
struct RebuiltView {
    #[serde(flatten)]
    summary: Summary,
    books: Vec<BookView>,
    channels: Vec<ChannelView>,
    /// Requests that wait, oldest first.
    queue: Vec<RequestView>,
    credits: Vec<CreditView>,
    epochs: Vec<EpochView>,
}

#[derive(Clone, Serialize)]
struct Summary {
    chain_id: u64,
    ledger: Address,
    block: u64,
    block_hash: Hash256,
    block_time_secs: u64,
    operator: Option<Address>,
    events: u64,
    books_rebuilt: usize,
    channels_rebuilt: usize,
    requests: u64,
    requests_waiting: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

#[derive(Serialize)]
struct BookView {
    book: String,
    slots: u16,
    occupied: usize,
    root: Hash256,
    deposited: Amount,
    settled: Amount,
}

#[derive(Serialize)]
struct ChannelView {
    channel: ChannelId,
    payer: Address,
    key_x: Hash256,
    salt: Hash256,
    /// `queued`, `open`, `closing`, `closed` or `cancelled`.
    status: &'static str,
    book: Option<String>,
    slot: Option<u16>,
    deposited: Amount,
    settled: Amount,
    refunded: Amount,
    held: Amount,
}

#[derive(Serialize)]
struct RequestView {
    index: u64,
    channel: ChannelId,
    asked: &'static str,
    amount: Amount,
    requested_at_secs: u64,
    deadline_secs: u64,
    is_overdue: bool,
}

#[derive(Serialize)]
struct CreditView {
    account: Address,
    credit: Amount,
}

#[derive(Serialize)]
struct EpochView {
    epoch: u64,
    root: Hash256,
    block: u64,
}

pub(super) async fn run(context: &Context, args: &RebuildArgs) -> CliResult<()> {
    let ledger = args.source.ledger(context).await?;
    let spinner = progress::spinner(&context.output, "reading the chain");
    let rebuilt = async {
        let mut rebuild = Rebuild::start(ledger, args.source.options()).await?;
        let at = rebuild.catch_up(&mut watch(&spinner)).await?;
        CliResult::Ok(RebuiltView::of(rebuild.rebuilt(), &at))
    };
    let rebuilt = rebuilt.await;
    spinner.finish_and_clear();
    let rebuilt = rebuilt?;
    match &args.out {
        None => context.output.show(&rebuilt),
        Some(path) => {
            let failed = |error: std::io::Error| CliError::failed("file", format!("cannot write {}: {error}", path.display()));
            std::fs::write(path, render(&rebuilt, Format::Json)? + "\n").map_err(failed)?;
            context.output.show(&Summary { file: Some(path.display().to_string()), ..rebuilt.summary })
        }
    }
}

impl RebuiltView {
    fn of(rebuilt: &RebuiltLedger, at: &LedgerAt) -> Self {
        let summary = Summary {
            chain_id: rebuilt.id().chain.get(),
            ledger: rebuilt.id().contract,
            block: at.number().height(),
            block_hash: at.hash(),
            block_time_secs: at.time().as_secs_down(),
            operator: rebuilt.operator(),
            events: rebuilt.events(),
            books_rebuilt: rebuilt.books().len(),
            channels_rebuilt: rebuilt.channels().count(),
            requests: rebuilt.queue_tail(),
            requests_waiting: rebuilt.queue().len(),
            file: None,
        };
        let queue = rebuilt.queue().iter().map(|request| RequestView::of(rebuilt, request, at)).collect();
        Self {
            summary,
            books: rebuilt.books().iter().map(|(id, book)| BookView::of(*id, book)).collect(),
            channels: rebuilt.channels().map(ChannelView::of).collect(),
            queue,
            credits: rebuilt.credits().iter().map(|(account, credit)| CreditView { account: *account, credit: *credit }).collect(),
            epochs: rebuilt
                .epochs()
                .iter()
                .map(|epoch| EpochView { epoch: epoch.epoch.number(), root: epoch.root, block: epoch.block.height() })
                .collect(),
        }
    }
}

impl BookView {
    fn of(id: BookId, book: &Book) -> Self {
        let sum = |amounts: &mut dyn Iterator<Item = u64>| Amount::from_units(amounts.map(u128::from).sum());
        Self {
            book: id.to_string(),
            slots: book.size().slots(),
            occupied: book.channels().count(),
            root: Hash256::from_bytes(field_to_word(book.root())),
            deposited: sum(&mut book.channels().map(|(_, slot)| slot.deposit_nanos())),
            settled: sum(&mut book.channels().map(|(_, slot)| slot.settled_nanos())),
        }
    }
}

impl ChannelView {
    fn of(channel: &RebuiltChannel) -> Self {
        let (book, slot) = match channel.place {
            ChannelPlace::Booked { book, slot } => (Some(book.to_string()), Some(slot)),
            ChannelPlace::Queued | ChannelPlace::Closed | ChannelPlace::Cancelled => (None, None),
        };
        let status = match (channel.place, channel.close_request) {
            (ChannelPlace::Closed, _) => "closed",
            (ChannelPlace::Cancelled, _) => "cancelled",
            (_, Some(_)) => "closing",
            (ChannelPlace::Queued, None) => "queued",
            (ChannelPlace::Booked { .. }, None) => "open",
        };
        Self {
            channel: channel.id,
            payer: channel.payer,
            key_x: Hash256::from_bytes(channel.key_x),
            salt: Hash256::from_bytes(channel.salt),
            status,
            book,
            slot,
            deposited: channel.deposited,
            settled: channel.settled.as_amount(),
            refunded: channel.refunded,
            held: channel.held(),
        }
    }
}

impl RequestView {
    fn of(rebuilt: &RebuiltLedger, request: &RebuiltRequest, at: &LedgerAt) -> Self {
        Self {
            index: request.index,
            channel: request.channel,
            asked: request.asked.name(),
            amount: request.asked.amount(),
            requested_at_secs: request.requested_at.as_secs_down(),
            deadline_secs: rebuilt.deadline(request).as_secs_down(),
            is_overdue: rebuilt.is_overdue(request, at.time()),
        }
    }
}

impl View for Summary {
    fn table(&self) -> String {
        let mut rows = vec![
            ("ledger", format!("{} on chain {}", self.ledger, self.chain_id)),
            ("block", format!("{} {}", self.block, self.block_hash)),
            ("books", format!("{} rebuilt, every root is the contract's", self.books_rebuilt)),
            ("channels", self.channels_rebuilt.to_string()),
            ("requests", format!("{}, of which {} wait", self.requests, self.requests_waiting)),
        ];
        rows.extend(self.file.iter().map(|file| ("written to", file.clone())));
        pairs(rows)
    }
}

impl View for RebuiltView {
    fn table(&self) -> String {
        let mut parts = vec![self.summary.table()];
        let books = self.books.iter().map(|book| {
            let (occupied, deposited, settled) = (format!("{}/{}", book.occupied, book.slots), book.deposited, book.settled);
            vec![book.book.clone(), occupied, deposited.to_tokens(), settled.to_tokens(), book.root.to_string()]
        });
        parts.push(columns(&["book", "slots", "deposited", "settled", "root"], &[1, 2, 3], books));
        let channels = self.channels.iter().take(ROWS_MAX).map(|channel| {
            let place = match (&channel.book, channel.slot) {
                (Some(book), Some(slot)) => format!("{book}/{slot}"),
                _ => "-".to_owned(),
            };
            let amounts = [channel.deposited, channel.settled, channel.refunded, channel.held].map(Amount::to_tokens);
            [vec![shown(channel.channel), channel.status.to_owned(), place], amounts.to_vec()].concat()
        });
        parts.push(columns(&["channel", "status", "slot", "deposited", "settled", "refunded", "held"], &[3, 4, 5, 6], channels));
        if self.channels.len() > ROWS_MAX {
            parts.push(format!("… and {} more; `--out FILE` writes all", self.channels.len() - ROWS_MAX));
        }
        if !self.queue.is_empty() {
            let now = self.summary.block_time_secs;
            let queue = self.queue.iter().take(ROWS_MAX).map(|request| {
                let left = if request.is_overdue {
                    format!("overdue for {}", for_people(now.saturating_sub(request.deadline_secs)))
                } else {
                    format!("{} left", for_people(request.deadline_secs.saturating_sub(now)))
                };
                vec![request.index.to_string(), request.asked.to_owned(), shown(request.channel), request.amount.to_tokens(), left]
            });
            parts.push(columns(&["request", "asks", "channel", "amount", "deadline"], &[0, 3], queue));
        }
        parts.join("\n\n")
    }
}
