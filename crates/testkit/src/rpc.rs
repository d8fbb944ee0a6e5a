//! The smallest JSON-RPC client that a development chain needs: one call a connection, over plain HTTP on the loopback interface.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::AnvilError;

/// How long one call may take.
const CALL_DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn call(address: SocketAddr, method: &str, params: &Value) -> Result<Value, AnvilError> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let answer = exchange(address, &body).map_err(|source| AnvilError::Connection { method: method.to_owned(), source })?;
    parse(method, &answer)
}

fn exchange(address: SocketAddr, body: &str) -> Result<String, Error> {
    let mut stream = TcpStream::connect_timeout(&address, CALL_DEADLINE)?;
    stream.set_read_timeout(Some(CALL_DEADLINE))?;
    stream.set_write_timeout(Some(CALL_DEADLINE))?;
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((_, body)) => Ok(body.to_owned()),
        None => Err(Error::new(ErrorKind::UnexpectedEof, "the answer has no body")),
    }
}

fn parse(method: &str, answer: &str) -> Result<Value, AnvilError> {
    let malformed = |detail: String| AnvilError::Malformed { method: method.to_owned(), detail };
    let mut answer: Value = serde_json::from_str(answer).map_err(|error| malformed(error.to_string()))?;
    if let Some(error) = answer.get("error") {
        let message = error.get("message").and_then(Value::as_str).unwrap_or("no message").to_owned();
        return Err(AnvilError::Refused { method: method.to_owned(), message });
    }
    answer.get_mut("result").map(Value::take).ok_or_else(|| malformed("neither result nor error".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(parse("m", r#"{"result":"0x1"}"#).expect("a result"), json!("0x1"));
        assert_eq!(parse("m", r#"{"result":null}"#).expect("a result"), Value::Null);
        assert!(matches!(parse("m", r#"{"error":{"message":"no"}}"#), Err(AnvilError::Refused { message, .. }) if message == "no"));
        assert!(matches!(parse("m", "{}"), Err(AnvilError::Malformed { .. })));
        assert!(matches!(parse("m", "<html>"), Err(AnvilError::Malformed { .. })));
    }
}
