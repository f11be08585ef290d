//! TLS by rustls. Certificates are always verified, with the server's name.

use std::io;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::store::valkey::settings::ValkeySettings;
use crate::store::valkey::url::Address;

/// Uses the certificates in the settings, or those in the files that the URL names.
pub(crate) fn connector(settings: &ValkeySettings) -> io::Result<TlsConnector> {
    // The TLS library panics without a provider. One is installed as late as here, so that the
    // application's own choice comes first.
    if CryptoProvider::get_default().is_none() {
        // An error means that another thread has installed one meanwhile.
        let _ = ring::default_provider().install_default();
    }
    let files = &settings.url.files;
    let given = settings.tls.clone().unwrap_or_default();
    let authorities = pem(given.ca, files.ca.as_deref())?;
    let chain = pem(given.certificate, files.cert.as_deref())?;
    let key = pem(given.key, files.key.as_deref())?;
    let config = ClientConfig::builder().with_root_certificates(roots(authorities)?);
    let config = match chain.zip(key) {
        None => config.with_no_client_auth(),
        Some((chain, key)) => {
            // The error of the library may show the key.
            let key = PrivateKeyDer::from_pem_slice(&key)
                .map_err(|_error| io::Error::other("the client's key is not one in PEM"))?;
            config
                .with_client_auth_cert(certificates(&chain)?, key)
                .map_err(io::Error::other)?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

pub(crate) async fn connect(
    connector: TlsConnector,
    address: &Address,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
    connector.connect(name, stream).await
}

/// The authorities to trust: only the given ones, or else those that browsers trust.
fn roots(authorities: Option<Vec<u8>>) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match authorities {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            for certificate in certificates(&pem)? {
                roots.add(certificate).map_err(io::Error::other)?;
            }
        }
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(io::Error::other("a certificate is not one in PEM")),
    }
}

/// The given certificate, or the one in the file at `path`. The read may block: the file is small,
/// and read once for a connection.
fn pem(given: Option<Vec<u8>>, path: Option<&str>) -> io::Result<Option<Vec<u8>>> {
    match (given, path) {
        (Some(pem), _) => Ok(Some(pem)),
        (None, None) => Ok(None),
        (None, Some(path)) => std::fs::read(path)
            .map(Some)
            .map_err(|error| io::Error::other(format!("{path}: {error}"))),
    }
}
