//! Whom a client believes to be the node.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerIncompatible, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::tls::provider;
use crate::{Fingerprint, TrustError};

/// What makes a server the right one. In every case it also has to prove, with a signature over the handshake, that it holds the
/// certificate's key.
#[derive(Clone, Debug)]
pub enum ServerTrust {
    /// Its leaf certificate has this fingerprint. Names and dates are not looked at.
    Pinned(Fingerprint),
    /// Its certificate is for the host name asked for, is in date, and leads to one of some roots.
    Roots(TrustedRoots),
}

/// Roots that certificates are checked against.
#[derive(Clone, Debug)]
pub struct TrustedRoots(Arc<WebPkiServerVerifier>);

impl ServerTrust {
    /// Trust in the roots of a PEM file.
    ///
    /// # Errors
    /// [`TrustError`] when the file cannot be read or has no usable certificate.
    pub fn from_root_file(path: &Path) -> Result<Self, TrustError> {
        let pem = std::fs::read(path).map_err(|source| TrustError::File { path: path.to_owned(), source })?;
        let none = || TrustError::NoCertificate { path: path.to_owned() };
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| none())?;
        let mut roots = RootCertStore::empty();
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(none());
        }
        Self::from_roots(roots)
    }

    /// Trust in the roots of the operating system.
    ///
    /// # Errors
    /// [`TrustError::NoSystemRoots`] when there are none.
    pub fn from_system_roots() -> Result<Self, TrustError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        if roots.add_parsable_certificates(found.certs).0 == 0 {
            return Err(TrustError::NoSystemRoots);
        }
        Self::from_roots(roots)
    }

    fn from_roots(roots: RootCertStore) -> Result<Self, TrustError> {
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map(|verifier| Self::Roots(TrustedRoots(verifier)))
            .map_err(TrustError::Verifier)
    }
}

/// What a handshake found wrong with the server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Distrust {
    Fingerprint(Fingerprint),
    Untrusted(String),
}

/// The verifier of one handshake: it remembers what it refused, because QUIC keeps only an alert number of it.
#[derive(Debug)]
pub(crate) struct NodeVerifier {
    trust: ServerTrust,
    algorithms: rustls::crypto::WebPkiSupportedAlgorithms,
    refused: Mutex<Option<Distrust>>,
}

impl NodeVerifier {
    pub(crate) fn new(trust: ServerTrust) -> Self {
        Self { trust, algorithms: provider().signature_verification_algorithms, refused: Mutex::new(None) }
    }

    /// What was refused, if anything was.
    pub(crate) fn refused(&self) -> Option<Distrust> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn refuse(&self, distrust: Distrust) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(distrust);
    }
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            ServerTrust::Pinned(pinned) => {
                let actual = Fingerprint::of(end_entity);
                if actual == *pinned {
                    return Ok(ServerCertVerified::assertion());
                }
                self.refuse(Distrust::Fingerprint(actual));
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            ServerTrust::Roots(TrustedRoots(roots)) => roots
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .inspect_err(|error| self.refuse(Distrust::Untrusted(error.to_string()))),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
