//! TLS in front of a server without TLS, with an authority of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

/// An authority that signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate and its key.
pub(crate) struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            certificate: parameters.self_signed(&key).unwrap(),
            issuer: Issuer::new(parameters, key),
        }
    }

    pub(crate) fn sign(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new([name.to_owned()]).unwrap();
        Identity {
            certificate: parameters.signed_by(&key, &self.issuer).unwrap(),
            key,
        }
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.certificate.pem().into_bytes()
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        Arc::new(roots)
    }
}

impl Identity {
    pub(crate) fn certificate_pem(&self) -> Vec<u8> {
        self.certificate.pem().into_bytes()
    }

    pub(crate) fn key_pem(&self) -> Vec<u8> {
        self.key.serialize_pem().into_bytes()
    }
}

/// A file that is gone when this is.
pub(crate) struct TempFile(PathBuf);

impl TempFile {
    pub(crate) fn with(content: &[u8]) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("trc-{}-{number}.pem", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

/// Terminates TLS, and forwards the content to a port of this machine.
pub(crate) struct TlsFront {
    port: u16,
    handshakes: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

/// What happens to clients without TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plain {
    Refused,
    /// They get in, as servers and Sentinels without TLS need it.
    Welcome,
}

impl TlsFront {
    /// Starts a front. With `clients`, only clients with a certificate of that authority get in.
    pub(crate) async fn to(upstream: u16, own: &Identity, clients: Option<&Authority>) -> Self {
        Self::open(upstream, own, clients, Plain::Refused).await
    }

    /// Starts a front that lets clients without TLS in as well, such as a Sentinel and a replica.
    pub(crate) async fn beside_plain(upstream: u16, own: &Identity) -> Self {
        Self::open(upstream, own, None, Plain::Welcome).await
    }

    async fn open(
        upstream: u16,
        own: &Identity,
        clients: Option<&Authority>,
        plain: Plain,
    ) -> Self {
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(authority) => config.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(authority.roots(), provider)
                    .build()
                    .unwrap(),
            ),
        };
        let key = PrivatePkcs8KeyDer::from(own.key.serialize_der()).into();
        let chain = vec![own.certificate.der().clone()];
        let config = config.with_single_cert(chain, key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let handshakes = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(
            listener,
            upstream,
            acceptor,
            plain,
            Arc::clone(&handshakes),
        ));
        Self {
            port,
            handshakes,
            _tasks: tasks,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The number of clients that got in.
    pub(crate) fn handshakes(&self) -> u64 {
        self.handshakes.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    upstream: u16,
    acceptor: TlsAcceptor,
    plain: Plain,
    handshakes: Arc<AtomicU64>,
) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let (acceptor, handshakes) = (acceptor.clone(), Arc::clone(&handshakes));
        connections.spawn(async move {
            let mut first = [0];
            if plain == Plain::Welcome
                && client.peek(&mut first).await.is_ok_and(|_| first != HELLO)
            {
                relay(&mut client, upstream).await;
            } else if let Ok(mut client) = acceptor.accept(client).await {
                handshakes.fetch_add(1, Ordering::SeqCst);
                relay(&mut client, upstream).await;
            }
        });
    }
}

async fn relay(client: &mut (impl AsyncRead + AsyncWrite + Unpin), upstream: u16) {
    if let Ok(mut server) = TcpStream::connect(("127.0.0.1", upstream)).await {
        let _ended = copy_bidirectional(client, &mut server).await;
    }
}

/// The byte that a TLS handshake begins with.
const HELLO: [u8; 1] = [0x16];
