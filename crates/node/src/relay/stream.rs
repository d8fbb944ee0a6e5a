//! The stream of a relay: one request, and what becomes of it until that is final.

use std::net::IpAddr;
use std::sync::Arc;

use millstream_transport::{MessageWriter, StreamError};
use millstream_types::LedgerId;
use millstream_wire::{ErrorCode, NodeMessage, Refused, Relay, RelayStage, Relayed};
use tokio::sync::watch;

use super::{Relays, Told};
use crate::core::stopped;

impl Relays {
    /// Serves the payer until there is nothing more to tell, it is gone, or the node stops. The deposit goes on in any case.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        relay: Relay,
        from: IpAddr,
        writer: &mut MessageWriter,
        mut stopping: watch::Receiver<bool>,
    ) -> Result<(), StreamError> {
        let mut heard = match self.answer_at_once(relay, from).await {
            Ok(heard) => heard,
            Err(refused) => return say(writer, NodeMessage::Refused(Box::new(refused))).await,
        };
        loop {
            let told = heard.borrow_and_update().clone();
            match told {
                Told::Nothing => {}
                Told::Relayed(relayed) => {
                    say(writer, NodeMessage::Relayed(relayed)).await?;
                    if matches!(relayed, Relayed { stage: RelayStage::Confirmed { .. }, .. }) {
                        return Ok(());
                    }
                }
                Told::Refused(refused) => return say(writer, NodeMessage::Refused(Box::new(refused))).await,
            }
            tokio::select! {
                biased;
                () = stopped(&mut stopping) => return Ok(()),
                changed = heard.changed() => if changed.is_err() {
                    return Ok(());
                },
            }
        }
    }

    async fn answer_at_once(self: &Arc<Self>, relay: Relay, from: IpAddr) -> Result<watch::Receiver<Told>, Refused> {
        let LedgerId { chain, contract } = self.ledger.id();
        if relay.ledger.chain != chain {
            return Err(Refused::new(ErrorCode::WrongChain));
        }
        if relay.ledger.contract != contract {
            return Err(Refused::new(ErrorCode::WrongLedger));
        }
        self.request(relay, from).await
    }
}

async fn say(writer: &mut MessageWriter, message: NodeMessage) -> Result<(), StreamError> {
    writer.queue_node(&message)?;
    writer.flush().await
}
