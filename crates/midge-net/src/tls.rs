//! TLS: whom it trusts, and what it offers.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use midge_protocol::line::{Failed, Why};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::failure::failed;

/// Servers whose sessions are taken up again, of one module.
const SESSIONS_MAX: usize = 64;

/// Whom all modules trust, or why nobody is trusted: read when it is first asked for.
pub(crate) struct Roots {
    read: OnceLock<Result<Arc<RootCertStore>, String>>,
    more: Option<std::path::PathBuf>,
}

/// A module's TLS. Its sessions are its own: by those of another it would learn where that was.
pub(crate) struct Tls {
    roots: Arc<Roots>,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Tls {
    /// Returns those who are trusted: who is trusted on the web, and those in a file.
    pub(crate) fn roots(more: Option<&Path>) -> Arc<Roots> {
        Arc::new(Roots { read: OnceLock::new(), more: more.map(Path::to_owned) })
    }

    pub(crate) fn new(roots: Arc<Roots>) -> Tls {
        Tls { roots, config: OnceLock::new() }
    }

    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, Failed> {
        if let Some(config) = self.config.get() {
            return Ok(Arc::clone(config));
        }
        let roots = self.roots.read.get_or_init(|| read(self.roots.more.as_deref()));
        let roots = roots.as_ref().map_err(|why| failed(Why::Tls, why))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has all that the versions ask for")
            .with_root_certificates(Arc::clone(roots));
        let mut config = config.with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(SESSIONS_MAX)));
        Ok(Arc::clone(self.config.get_or_init(|| Arc::new(config))))
    }
}

fn read(more: Option<&Path>) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(file) = more {
        let wrong = |why: &str| {
            format!("SSL_CERT_FILE is `{}`, {why}: it is a file of certificates in PEM", file.display())
        };
        let certificates = CertificateDer::pem_file_iter(file)
            .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
            .map_err(|error| wrong(&format!("which cannot be read ({error})")))?;
        // Collections of certificates have old ones among them that nobody can use.
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(wrong("in which there is no certificate that can be trusted"));
        }
    }
    Ok(Arc::new(roots))
}
