//! One JSON-RPC endpoint: every call has a deadline, and every failure has its kind.

use std::fmt;
use std::future::IntoFuture;
use std::time::Duration;

use alloy::network::TransactionBuilder;
use alloy::primitives::{Address as EvmAddress, Bytes, TxKind};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::{BlockId, BlockNumberOrTag, Header, TransactionRequest};
use alloy::sol_types::SolCall;
use alloy::transports::http::reqwest;
use alloy::transports::{RpcError, TransportError, TransportErrorKind};
use millstream_types::{Address, ChainId, Hash256, Timestamp};

use crate::endpoint::Endpoint;
use crate::{ChainError, Revert, convert};

/// How to talk to an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct RpcOptions {
    /// How long one call may take, connection included.
    pub call_deadline: Duration,
}

impl Default for RpcOptions {
    fn default() -> Self {
        Self { call_deadline: Duration::from_secs(20) }
    }
}

/// A connection to an Ethereum JSON-RPC endpoint over HTTP. Cheap to clone; prints without secrets.
#[derive(Clone)]
pub struct Rpc {
    provider: RootProvider,
    endpoint: Endpoint,
    chain: ChainId,
    options: RpcOptions,
}

/// What went wrong with one call, before it is known what the caller makes of it.
#[derive(Debug)]
pub(crate) enum RpcFailure {
    /// The node answered with an error.
    Response {
        code: i64,
        message: String,
        revert: Option<Bytes>,
    },
    /// There was no useful answer.
    Transport(String),
    TimedOut(Duration),
}

impl Rpc {
    /// Connects and asks for the chain id.
    ///
    /// # Errors
    /// [`ChainError::InvalidEndpoint`], or the endpoint is unavailable.
    pub async fn connect(url: &str, options: RpcOptions) -> Result<Self, ChainError> {
        let endpoint = Endpoint::parse(url).ok_or(ChainError::InvalidEndpoint)?;
        let client = reqwest::Client::builder()
            .timeout(options.call_deadline)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| ChainError::Internal { detail: error.without_url().to_string() })?;
        let provider = RootProvider::new(RpcClient::new_http_with_client(client, endpoint.url()));
        let mut rpc = Self { provider, endpoint, chain: ChainId::new(0), options };
        let chain = rpc.ask("eth_chainId", rpc.provider.get_chain_id()).await?;
        rpc.chain = ChainId::new(chain);
        Ok(rpc)
    }

    /// As [`Rpc::connect`], for a chain that is known.
    ///
    /// # Errors
    /// [`ChainError::WrongChain`] besides those of [`Rpc::connect`].
    pub async fn connect_to(url: &str, expected: ChainId, options: RpcOptions) -> Result<Self, ChainError> {
        let rpc = Self::connect(url, options).await?;
        if rpc.chain == expected { Ok(rpc) } else { Err(ChainError::WrongChain { expected, actual: rpc.chain }) }
    }

    /// The chain that the endpoint served when it was connected.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    pub(crate) const fn provider(&self) -> &RootProvider {
        &self.provider
    }

    /// Runs one call under the deadline.
    pub(crate) async fn attempt<T>(&self, call: impl IntoFuture<Output = Result<T, TransportError>>) -> Result<T, RpcFailure> {
        match tokio::time::timeout(self.options.call_deadline, call.into_future()).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.failure(error)),
            Err(_) => Err(RpcFailure::TimedOut(self.options.call_deadline)),
        }
    }

    /// Runs one call and types its failure.
    pub(crate) async fn ask<T>(
        &self,
        operation: &'static str,
        call: impl IntoFuture<Output = Result<T, TransportError>>,
    ) -> Result<T, ChainError> {
        self.attempt(call).await.map_err(|failure| self.explain(operation, failure))
    }

    /// Calls a view of a contract on the newest block.
    pub(crate) async fn view<C: SolCall>(&self, operation: &'static str, to: Address, call: &C) -> Result<C::Return, ChainError> {
        self.view_at(operation, to, call, BlockId::latest()).await
    }

    /// Calls a view of a contract on a given block.
    pub(crate) async fn view_at<C: SolCall>(
        &self,
        operation: &'static str,
        to: Address,
        call: &C,
        block: BlockId,
    ) -> Result<C::Return, ChainError> {
        let request = TransactionRequest::default().with_to(convert::evm_address(to)).with_input(call.abi_encode());
        let answer = self.ask(operation, self.provider.call(request).block(block)).await?;
        C::abi_decode_returns(&answer).map_err(|error| ChainError::unrepresentable(operation, error))
    }

    /// What a gas costs now, in wei, the tip included.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn gas_price(&self) -> Result<u128, ChainError> {
        self.ask("eth_gasPrice", self.provider.get_gas_price()).await
    }

    /// The newest block's number.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn head_height(&self) -> Result<u64, ChainError> {
        self.newest().await.map(|header| header.number)
    }

    /// The time of the newest block.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn head_time(&self) -> Result<Timestamp, ChainError> {
        Ok(convert::timestamp(self.newest().await?.timestamp))
    }

    /// Whether the node has a transaction, in its pool or in a block. What it dropped, or what another one replaced, it does not have.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn has_transaction(&self, transaction: Hash256) -> Result<bool, ChainError> {
        let asked = self.provider.get_transaction_by_hash(convert::evm_hash(transaction));
        Ok(self.ask("eth_getTransactionByHash", asked).await?.is_some())
    }

    /// Whether there is a contract at the address now, or an account that has delegated to one.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn is_contract(&self, address: Address) -> Result<bool, ChainError> {
        self.has_code(address).await
    }

    /// Whether there is a contract at the address.
    pub(crate) async fn has_code(&self, at: Address) -> Result<bool, ChainError> {
        self.has_code_at(at, BlockId::latest()).await
    }

    /// Whether there was a contract at the address at the end of a block.
    pub(crate) async fn has_code_at(&self, at: Address, block: BlockId) -> Result<bool, ChainError> {
        Ok(!self.code(at, block).await?.is_empty())
    }

    /// The code of the contract at the address at the end of a block.
    pub(crate) async fn code(&self, at: Address, block: BlockId) -> Result<Bytes, ChainError> {
        let at: EvmAddress = convert::evm_address(at);
        self.ask("eth_getCode", self.provider.get_code_at(at).block_id(block)).await
    }

    /// The code that creating a contract now would leave; `None` when the creation reverts.
    pub(crate) async fn created_code(&self, creation: Vec<u8>) -> Result<Option<Bytes>, ChainError> {
        let request = TransactionRequest::default().with_kind(TxKind::Create).with_input(creation);
        match self.ask("eth_call", self.provider.call(request).block(BlockId::latest())).await {
            Ok(code) => Ok(Some(code)),
            Err(ChainError::Reverted { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The header of a block, `None` when the node has no such block.
    pub(crate) async fn header(&self, block: BlockNumberOrTag) -> Result<Option<Header>, ChainError> {
        let found = self.ask("eth_getBlockByNumber", self.provider.get_block_by_number(block)).await?;
        Ok(found.map(|block| block.header))
    }

    /// The header of the newest block.
    pub(crate) async fn newest(&self) -> Result<Header, ChainError> {
        let header = self.header(BlockNumberOrTag::Latest).await?;
        header.ok_or_else(|| self.unavailable("eth_getBlockByNumber", "no newest block"))
    }

    pub(crate) fn unavailable(&self, operation: &'static str, detail: &str) -> ChainError {
        ChainError::Unavailable { operation, endpoint: self.endpoint.to_string(), detail: self.endpoint.scrub(detail) }
    }

    /// What a failed read or simulation means. Sending has its own rules.
    pub(crate) fn explain(&self, operation: &'static str, failure: RpcFailure) -> ChainError {
        match failure {
            RpcFailure::Response { revert: Some(data), .. } => {
                ChainError::Reverted { operation, revert: Revert::decode(&data), transaction: None }
            }
            RpcFailure::Response { code, message, revert: None } => match code {
                // Geth and its kin use 3 for a revert; some nodes leave out the data.
                3 => ChainError::Reverted { operation, revert: Revert::Message(message), transaction: None },
                // Method not found, invalid request, invalid parameters: another attempt meets the same node software.
                -32602..=-32600 => ChainError::Refused { operation, code, message },
                _ => match halted(&message) {
                    Some(revert) => ChainError::Reverted { operation, revert, transaction: None },
                    None => self.unavailable(operation, &format!("{message} (code {code})")),
                },
            },
            RpcFailure::Transport(detail) => self.unavailable(operation, &detail),
            RpcFailure::TimedOut(after) => ChainError::TimedOut { operation, after },
        }
    }

    fn failure(&self, error: TransportError) -> RpcFailure {
        match error {
            RpcError::ErrorResp(payload) => {
                // A node that says no more than that reverted without a reason.
                let bare = payload.data.is_none() && payload.message.trim() == "execution reverted";
                let revert = payload.as_revert_data().or_else(|| bare.then(Bytes::new));
                RpcFailure::Response { code: payload.code, message: self.endpoint.scrub(&payload.message), revert }
            }
            RpcError::Transport(TransportErrorKind::Custom(error)) => RpcFailure::Transport(match error.downcast::<reqwest::Error>() {
                Ok(error) => self.endpoint.scrub(&chain_of(&error.without_url())),
                Err(error) => self.endpoint.scrub(&error.to_string()),
            }),
            RpcError::DeserError { err, .. } => RpcFailure::Transport(format!("not the expected JSON: {err}")),
            other => RpcFailure::Transport(self.endpoint.scrub(&other.to_string())),
        }
    }
}

/// What nodes say when code fails without reverting, each in its own words: another attempt meets the same code.
fn halted(message: &str) -> Option<Revert> {
    const HALTS: [&str; 4] = ["EVM error", "invalid opcode", "invalid jump destination", "stack underflow"];
    if message.contains("out of gas") {
        return Some(Revert::OutOfGas);
    }
    HALTS.iter().any(|halt| message.contains(halt)).then(|| Revert::Message(message.to_owned()))
}

fn chain_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rpc({} of chain {})", self.endpoint, self.chain)
    }
}
