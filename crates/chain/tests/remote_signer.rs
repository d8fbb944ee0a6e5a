//! Sending with a key that a remote signer has, on a real anvil. The signer speaks web3signer's `eth1` API.

mod common;

use std::sync::Arc;

use alloy::primitives::{Signature, hex, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use millstream_chain::{ChainError, ChainKey, ErrorKind, Submitter, SubmitterOptions, mint};
use millstream_testkit::DEV_ACCOUNTS;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use common::{PAYER, world};

/// What the signer does with what it is sent.
#[derive(Clone, Copy)]
enum Mood {
    Honest,
    /// Signs with another key.
    Impostor,
    /// Signs something else.
    Twisted,
    Refuses,
    Overloaded,
}

fn signer(account: usize) -> PrivateKeySigner {
    PrivateKeySigner::from_slice(&DEV_ACCOUNTS[account].secret).expect("a key")
}

fn public_key(signer: &PrivateKeySigner) -> String {
    hex::encode_prefixed(&signer.credential().verifying_key().to_encoded_point(false).as_bytes()[1..])
}

/// Starts a signer with the keys of two accounts; it ends with the runtime of the test.
async fn start(mood: Mood) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let keys = Arc::new([signer(PAYER + 1), signer(PAYER)]);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let keys = Arc::clone(&keys);
            tokio::spawn(async move { serve(stream, &keys, mood).await });
        }
    });
    url
}

async fn serve(mut stream: TcpStream, keys: &[PrivateKeySigner; 2], mood: Mood) -> Option<()> {
    let (path, body) = read(&mut stream).await?;
    let answer = match path.strip_prefix("/api/v1/eth1/")? {
        "publicKeys" => Ok(json!(keys.iter().map(public_key).collect::<Vec<_>>()).to_string()),
        path => sign(keys, path.strip_prefix("sign/")?, &body, mood),
    };
    let (status, body) = answer.map_or_else(|status| (status, "no".to_owned()), |body| (200, body));
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.ok()
}

fn sign(keys: &[PrivateKeySigner; 2], identifier: &str, body: &str, mood: Mood) -> Result<String, u16> {
    let body: Value = serde_json::from_str(body).map_err(|_| 400u16)?;
    let mut data = hex::decode(body["data"].as_str().ok_or(400u16)?).map_err(|_| 400u16)?;
    let key = keys.iter().find(|key| public_key(key) == identifier).ok_or(404u16)?;
    let key = match mood {
        Mood::Refuses => return Err(403),
        Mood::Overloaded => return Err(503),
        Mood::Impostor => &keys[0],
        Mood::Honest | Mood::Twisted => key,
    };
    if matches!(mood, Mood::Twisted) {
        data.push(0);
    }
    let signature: Signature = key.sign_hash_sync(&keccak256(&data)).map_err(|_| 500u16)?;
    Ok(hex::encode_prefixed(signature.as_bytes()))
}

/// The path and the body of a request.
async fn read(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            let length: usize = length.map_or(Some(0), |length| length.trim().parse().ok())?;
            if body.len() >= length {
                return Some((head.split(' ').nth(1)?.to_owned(), body.to_owned()));
            }
        }
        let mut part = [0; 4_096];
        let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&part[..count]);
    }
}

#[tokio::test]
async fn a_remote_signer_signs_what_is_sent() {
    let world = world().await;
    let key = ChainKey::remote(&start(Mood::Honest).await, DEV_ACCOUNTS[PAYER].address).await.expect("it has the key");
    assert_eq!(key.address(), DEV_ACCOUNTS[PAYER].address);
    assert_eq!(format!("{key:?}"), format!("ChainKey({})", DEV_ACCOUNTS[PAYER].address));
    let sender = Submitter::new(world.rpc.clone(), key, SubmitterOptions::for_development());
    let receipt = mint(&sender, world.deployment.token, DEV_ACCOUNTS[PAYER].address, 7).await.expect("mined");
    assert_eq!(receipt.tx_nonce, 0);
    assert_eq!(world.account_nonce(PAYER), 1);
}

#[tokio::test]
async fn what_a_signer_says_is_not_believed_and_nothing_is_sent() {
    let world = world().await;
    for (mood, kind, word) in [
        (Mood::Impostor, ErrorKind::Fault, "another key"),
        (Mood::Twisted, ErrorKind::Fault, "another key"),
        (Mood::Refuses, ErrorKind::Rejection, "403"),
        (Mood::Overloaded, ErrorKind::Unavailable, "503"),
    ] {
        let key = ChainKey::remote(&start(mood).await, DEV_ACCOUNTS[PAYER].address).await.expect("it has the key");
        let sender = Submitter::new(world.rpc.clone(), key, SubmitterOptions::for_development());
        let error = mint(&sender, world.deployment.token, DEV_ACCOUNTS[PAYER].address, 7).await.expect_err(word);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(world.account_nonce(PAYER), 0);
    }
}

#[tokio::test]
async fn a_signer_without_the_key_and_none_at_all_are_told_apart() {
    let url = start(Mood::Honest).await;
    let error = ChainKey::remote(&url, DEV_ACCOUNTS[5].address).await.expect_err("not its key");
    assert!(matches!(error, ChainError::InvalidInput { .. }), "{error}");
    assert_eq!(ChainKey::remote("ftp://x", DEV_ACCOUNTS[5].address).await.expect_err("no URL"), ChainError::InvalidEndpoint);
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let error = ChainKey::remote(&format!("http://{gone}"), DEV_ACCOUNTS[PAYER].address).await.expect_err("nobody there");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}
