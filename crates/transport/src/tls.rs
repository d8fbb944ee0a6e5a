//! The TLS part of a handshake: 1.3 only, our protocol named, no tickets.

use std::sync::Arc;

use millstream_wire::ALPN;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;

use crate::trust::NodeVerifier;
use crate::{EndpointError, ServerIdentity};

/// ring, with the cheapest strong cipher first: clients offer in this order and servers follow it.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| *suite != TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

pub(crate) fn server_crypto(identity: ServerIdentity) -> Result<Arc<QuicServerConfig>, EndpointError> {
    let (chain, key) = identity.into_parts();
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(EndpointError::Tls)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(EndpointError::Tls)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Resuming saves a few percent of a handshake and would have us keep tickets.
    config.send_tls13_tickets = 0;
    QuicServerConfig::try_from(config).map(Arc::new).map_err(|_| EndpointError::NoInitialCipher)
}

pub(crate) fn client_crypto(verifier: Arc<NodeVerifier>) -> Result<Arc<QuicClientConfig>, EndpointError> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(EndpointError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    QuicClientConfig::try_from(config).map(Arc::new).map_err(|_| EndpointError::NoInitialCipher)
}
