//! Who may sign the certificates of endpoints.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

/// Those that the system knows, and the operator's own.
#[derive(Debug, Clone)]
pub struct Authorities(RootCertStore);

/// A file with authorities is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read, or has something else in it.
    #[error("{}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: pem::Error,
    },
    /// It has no certificate.
    #[error("{}: there is no certificate in it; one begins with -----BEGIN CERTIFICATE-----", .0.display())]
    Empty(PathBuf),
    /// A certificate in it cannot be used.
    #[error("{}: {source}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

impl Authorities {
    /// The system's, which `SSL_CERT_FILE` and `SSL_CERT_DIR` can be too; the built-in ones where there are none.
    #[must_use]
    pub fn of_system() -> Authorities {
        let mut store = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        if !found.errors.is_empty() {
            tracing::warn!(errors = ?found.errors, "not all of the system's certificate authorities can be read");
        }
        store.add_parsable_certificates(found.certs);
        if store.is_empty() {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Authorities(store)
    }

    /// Nobody.
    #[must_use]
    pub fn none() -> Authorities {
        Authorities(RootCertStore::empty())
    }

    /// And those in a PEM file.
    pub fn and(mut self, file: &Path) -> Result<Authorities, Error> {
        for certificate in read(file)? {
            self.0.add(certificate).map_err(|source| Error::Unusable { file: file.to_owned(), source })?;
        }
        Ok(self)
    }

    pub(super) fn into_store(self) -> RootCertStore {
        self.0
    }
}

fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let unreadable = |source| Error::Unreadable { file: file.to_owned(), source };
    let certificates = CertificateDer::pem_file_iter(file).map_err(unreadable)?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(Error::Empty(file.to_owned()));
    }
    Ok(certificates)
}
