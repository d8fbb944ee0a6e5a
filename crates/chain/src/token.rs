//! The ledger's token: balances, allowances, and the domain that its authorizations are signed in.

use alloy::primitives::U256;
use alloy::sol_types::Eip712Domain;
use millstream_types::Address;
use millstream_voucher::evm::TokenDomain;

use crate::bindings::IToken;
use crate::{Call, ChainError, Rpc, Submitter, TxReceipt, convert};

/// What an account has of a token, in base units.
///
/// # Errors
/// [`ChainError::Unrepresentable`] from 2^128 up; or the endpoint is unavailable.
pub async fn token_balance(rpc: &Rpc, token: Address, account: Address) -> Result<u128, ChainError> {
    let balance = rpc.view("balanceOf", token, &IToken::balanceOfCall { account: convert::evm_address(account) }).await?;
    convert::u128_of("token balance", balance)
}

/// What `spender` may pull of a token from an account, in base units; 2^128 − 1 stands for all that is above it.
///
/// # Errors
/// The endpoint is unavailable, or the address is no token.
pub async fn token_allowance(rpc: &Rpc, token: Address, owner: Address, spender: Address) -> Result<u128, ChainError> {
    let (owner, spender) = (convert::evm_address(owner), convert::evm_address(spender));
    let allowance = rpc.view("allowance", token, &IToken::allowanceCall { owner, spender }).await?;
    Ok(u128::try_from(allowance).unwrap_or(u128::MAX))
}

/// What a token calls itself in its signing domain: name and version. A token need not have either view.
///
/// # Errors
/// The endpoint is unavailable.
pub async fn token_titles(rpc: &Rpc, token: Address) -> Result<(Option<String>, Option<String>), ChainError> {
    let known = |title: Result<String, ChainError>| match title {
        Err(error) if error.is_retryable() => Err(error),
        title => Ok(title.ok()),
    };
    let name = known(rpc.view("name", token, &IToken::nameCall {}).await)?;
    Ok((name, known(rpc.view("version", token, &IToken::versionCall {}).await)?))
}

/// The decimals of a token: a whole one is 10 to the power of this many base units.
///
/// # Errors
/// The token does not say; or the endpoint is unavailable.
pub async fn token_decimals(rpc: &Rpc, token: Address) -> Result<u8, ChainError> {
    rpc.view("decimals", token, &IToken::decimalsCall {}).await
}

/// What an account has of the chain's own coin, in wei.
///
/// # Errors
/// [`ChainError::Unrepresentable`] from 2^128 up; or the endpoint is unavailable.
pub async fn coin_balance(rpc: &Rpc, account: Address) -> Result<u128, ChainError> {
    use alloy::providers::Provider;
    let balance = rpc.ask("eth_getBalance", rpc.provider().get_balance(convert::evm_address(account))).await?;
    convert::u128_of("coin balance", balance)
}

/// Makes base units of a test token for an account. Real tokens refuse.
///
/// # Errors
/// As [`Submitter::send`].
pub async fn mint(submitter: &Submitter, token: Address, to: Address, base_units: u128) -> Result<TxReceipt, ChainError> {
    let call = IToken::mintCall { to: convert::evm_address(to), amount: U256::from(base_units) };
    submitter.send(Call::encode("mint", token, &call)).await
}

/// Lets `spender` pull at least `base_units` from the submitter's account: nothing is sent when it may already.
///
/// The allowance becomes exactly `base_units`, by way of zero for the tokens that demand that (as USDT does).
///
/// # Errors
/// As [`Submitter::send`].
pub async fn approve(submitter: &Submitter, token: Address, spender: Address, base_units: u128) -> Result<Option<TxReceipt>, ChainError> {
    let (owner, spender) = (convert::evm_address(submitter.account()), convert::evm_address(spender));
    let present = submitter.rpc().view("allowance", token, &IToken::allowanceCall { owner, spender }).await?;
    let value = U256::from(base_units);
    if present >= value {
        return Ok(None);
    }
    let set = |value| Call::encode("approve", token, &IToken::approveCall { spender, value });
    match submitter.send(set(value)).await {
        Err(ChainError::Reverted { transaction: None, .. }) if !present.is_zero() => {
            submitter.send(set(U256::ZERO)).await?;
            submitter.send(set(value)).await.map(Some)
        }
        sent => sent.map(Some),
    }
}

/// The domain that transfers of a token are signed for (ERC-3009), checked against the separator that the token itself computes.
///
/// # Errors
/// [`ChainError::Unrepresentable`] when the separator is not that of name, version, chain and token; a token without a name or a separator
/// reverts; or the endpoint is unavailable.
pub async fn token_domain(rpc: &Rpc, token: Address) -> Result<TokenDomain, ChainError> {
    let domain = signing_domain(rpc, token).await?;
    let (name, version) = (domain.name.unwrap_or_default(), domain.version.unwrap_or_default());
    Ok(TokenDomain::new(&name, &version, rpc.chain(), token))
}

/// What a token says of itself, and what its signatures are made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    /// Its symbol.
    pub symbol: String,
    /// Its decimals.
    pub decimals: u8,
    /// Name in its EIP-712 domain.
    pub name: String,
    /// Version in its EIP-712 domain.
    pub version: String,
}

/// Reads a token. Name and version are those that the token's own domain separator is made of.
///
/// # Errors
/// [`ChainError::NoContract`]; [`ChainError::Unrepresentable`] of a token that has no symbol, or no domain of that form; or the endpoint is
/// unavailable.
pub async fn token_facts(rpc: &Rpc, token: Address) -> Result<TokenFacts, ChainError> {
    if !rpc.has_code(token).await? {
        return Err(ChainError::NoContract { address: token, chain: rpc.chain() });
    }
    let not_there = |what: &'static str| {
        move |error: ChainError| match error {
            ChainError::Reverted { .. } => ChainError::unrepresentable(what, "the contract does not tell"),
            other => other,
        }
    };
    let symbol = rpc.view("symbol", token, &IToken::symbolCall {}).await.map_err(not_there("token symbol"))?;
    let decimals = rpc.view("decimals", token, &IToken::decimalsCall {}).await.map_err(not_there("token decimals"))?;
    let domain = signing_domain(rpc, token).await.map_err(not_there("token signing domain"))?;
    let text = |part: Option<std::borrow::Cow<'static, str>>| part.map(String::from).unwrap_or_default();
    Ok(TokenFacts { symbol, decimals, name: text(domain.name), version: text(domain.version) })
}

/// The EIP-712 domain of a token, checked against the separator that the token itself computes: a signature in another domain would be
/// worthless.
pub(crate) async fn signing_domain(rpc: &Rpc, token: Address) -> Result<Eip712Domain, ChainError> {
    let name = rpc.view("name", token, &IToken::nameCall {}).await?;
    // A token that only has permits often does not tell its version, which is 1 then; the separator decides.
    let version = match rpc.view("version", token, &IToken::versionCall {}).await {
        Err(error) if error.is_retryable() => return Err(error),
        version => version.unwrap_or_else(|_| "1".to_owned()),
    };
    let separator = rpc.view("DOMAIN_SEPARATOR", token, &IToken::DOMAIN_SEPARATORCall {}).await?;
    let chain = U256::from(rpc.chain().get());
    let domain = Eip712Domain::new(Some(name.into()), Some(version.into()), Some(chain), Some(convert::evm_address(token)), None);
    if domain.separator() == separator {
        Ok(domain)
    } else {
        Err(ChainError::unrepresentable("token signing domain", "the separator is not that of name, version, chain and token"))
    }
}
