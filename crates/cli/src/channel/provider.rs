//! The channels as the provider's node has them.

use serde::Serialize;

use super::pick::shown;
use crate::admin::AdminChannel;
use crate::context::{self, Context};
use crate::error::CliResult;
use crate::output::{View, columns, pairs};

#[derive(Serialize)]
#[serde(transparent)]
struct ChannelsView(Vec<AdminChannel>);

#[derive(Serialize)]
#[serde(transparent)]
struct ChannelView(AdminChannel);

/// Lists them.
pub(super) async fn list(context: &Context) -> CliResult<()> {
    let channels = context::admin(&context.profile()?)?.channels().await?;
    context.output.show(&ChannelsView(channels))
}

/// Shows one.
pub(super) async fn show(context: &Context, pick: &super::ChannelPick) -> CliResult<()> {
    let channels = context::admin(&context.profile()?)?.channels().await?;
    let channel = pick.among(channels.iter().map(|channel| channel.channel))?;
    match channels.into_iter().find(|row| row.channel == channel) {
        Some(row) => context.output.show(&ChannelView(row)),
        None => Ok(()),
    }
}

impl View for ChannelsView {
    fn table(&self) -> String {
        if self.0.is_empty() {
            return "no channels".to_owned();
        }
        let rows = self.0.iter().map(|row| {
            vec![
                shown(row.channel),
                row.status.clone(),
                place(row),
                row.lines.to_string(),
                row.deposit.to_tokens(),
                row.accepted.to_tokens(),
                row.settled.to_tokens(),
                row.unsettled.to_tokens(),
                row.payer.to_string(),
            ]
        });
        let header = ["channel", "status", "book/slot", "payments", "deposit", "accepted", "settled", "unsettled", "payer"];
        columns(&header, &[3, 4, 5, 6, 7], rows)
    }
}

impl View for ChannelView {
    fn table(&self) -> String {
        let Self(row) = self;
        pairs([
            ("channel", row.channel.to_string()),
            ("payer", row.payer.to_string()),
            ("status", row.status.clone()),
            ("book/slot", place(row)),
            ("payments", row.lines.to_string()),
            ("deposit", row.deposit.to_tokens()),
            ("registered", row.registered.to_tokens()),
            ("accepted", row.accepted.to_tokens()),
            ("charged", row.charged.to_tokens()),
            ("settled", row.settled.to_tokens()),
            ("unsettled", row.unsettled.to_tokens()),
            ("refunded", row.refunded.to_tokens()),
        ])
    }
}

fn place(row: &AdminChannel) -> String {
    match (&row.book, row.slot) {
        (Some(book), Some(slot)) => format!("{book}/{slot}"),
        (Some(book), None) => book.to_string(),
        (None, _) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Format, render};

    #[test]
    fn the_list_is_as_it_was() {
        let answer = include_str!("../../tests/snapshots/channels.json");
        let channels: Vec<AdminChannel> = serde_json::from_str(answer).expect("the documented answer");
        let view = ChannelsView(channels);
        assert_eq!(render(&view, Format::Json).expect("text"), answer.trim_end());
        assert_eq!(view.table(), include_str!("../../tests/snapshots/channels.txt").trim_end());
        assert_eq!(ChannelsView(Vec::new()).table(), "no channels");
    }
}
