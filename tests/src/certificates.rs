//! Certificates for servers and clients on this machine, made by `openssl` for one test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// An authority, and what it signed for `127.0.0.1`.
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// Makes them.
    #[must_use]
    pub fn new() -> Certificates {
        let certificates = Certificates { directory: tempfile::tempdir().expect("a temporary directory") };
        let path = certificates.directory.path();
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        openssl(
            path,
            &[
                &["req", "-x509", "-days", "1", "-subj", "/CN=authority"],
                &key[..],
                &["-keyout", "ca.key", "-out", "ca.pem"],
            ]
            .concat(),
        );
        openssl(
            path,
            &[&["req", "-subj", "/CN=redis"], &key[..], &["-keyout", "key.pem", "-out", "request.pem"]].concat(),
        );
        std::fs::write(path.join("names"), "subjectAltName=IP:127.0.0.1\n").expect("a file");
        let sign = ["x509", "-req", "-days", "1", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key"];
        openssl(path, &[&sign[..], &["-set_serial", "1", "-extfile", "names", "-out", "cert.pem"]].concat());
        certificates
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The authority's certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// What it signed.
    #[must_use]
    pub fn cert(&self) -> PathBuf {
        self.path("cert.pem")
    }

    /// The key of that.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.path("key.pem")
    }

    /// What a server in this process uses them with.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let certificates = CertificateDer::pem_file_iter(self.cert()).expect("a file of certificates");
        let certificates = certificates.collect::<Result<Vec<_>, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(self.key()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("ring has them").with_no_client_auth();
        TlsAcceptor::from(Arc::new(config.with_single_cert(certificates, key).expect("they go together")))
    }

    /// What makes `redis-server` use them on a port, beside its plain one; `clients` as in `tls-auth-clients`.
    #[must_use]
    pub fn options(&self, port: u16, clients: &str) -> Vec<String> {
        let path = |path: PathBuf| path.display().to_string();
        [
            ["--tls-port", &port.to_string()],
            ["--tls-cert-file", &path(self.cert())],
            ["--tls-key-file", &path(self.key())],
            ["--tls-ca-cert-file", &path(self.ca())],
            ["--tls-auth-clients", clients],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Certificates::new()
    }
}

fn openssl(directory: &Path, words: &[&str]) {
    let made = Command::new("openssl").args(words).current_dir(directory).output();
    let made = made.unwrap_or_else(|error| {
        panic!("openssl cannot be run ({error}): `make test` installs it, or apt-get install openssl")
    });
    assert!(made.status.success(), "openssl {words:?}: {}", String::from_utf8_lossy(&made.stderr));
}
