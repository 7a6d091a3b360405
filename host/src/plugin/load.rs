//! From a file's content to a plugin that can be called. A content that is none is refused with the reason.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::about::{About, Profile};
use super::breaker::Breaker;
use super::call::Slots;
use super::engine::{self, Engines};
use super::guest::{Compiled, Guest, Linkers};
use super::haste::Haste;
use super::shadow::Shadow;
use super::shim;
use super::stats::Stats;
use super::status::{Refusal, is_name};
use super::terms::{Kind, Terms};
use super::text::clean;
use super::{Config, Grant};

/// Digits of the digest in a plugin's tag.
const TAG_DIGITS: usize = 12;
const ERROR_BYTES_MAX: usize = 1024;

/// What a plugin may import: a package's interfaces (all, if the list is empty), and the version they are served in.
const OFFERED: [(&str, &[&str], &str); 8] = [
    ("weft:plugin", &["types", "log", "registry"], "0.1."),
    ("wasi:cli", &[], "0.2."),
    ("wasi:clocks", &[], "0.2."),
    ("wasi:filesystem", &[], "0.2."),
    ("wasi:io", &[], "0.2."),
    ("wasi:random", &[], "0.2."),
    ("wasi:sockets", &[], "0.2."),
    ("wasi_snapshot_preview1", &[], ""),
];
/// What it may import beside that if the operator grants it.
const GRANTED: [(Grant, &str); 3] = [
    (Grant::State, "weft:plugin/state@0.1."),
    (Grant::Http, "wasi:http/types@0.2."),
    (Grant::Http, "wasi:http/outgoing-handler@0.2."),
];

/// A version of a plugin, ready to be called.
pub(super) struct Loaded {
    pub name: Arc<str>,
    /// `name@digest`, as deliveries record it.
    pub tag: String,
    /// SHA-256 of its content in hex.
    pub digest: String,
    pub terms: Arc<Terms>,
    pub guest: Guest,
    pub haste: Haste,
    pub profile: Profile,
    /// Deliveries that one instance may serve, if it may serve more than one.
    pub reuse: Option<NonZeroU32>,
    pub stats: Stats,
    pub breaker: Breaker,
    pub shadow: Shadow,
}

/// A file's content, read whole: what is written to the file from now on does not matter.
pub(super) struct Content {
    bytes: Vec<u8>,
    /// SHA-256 in hex.
    pub digest: String,
}

impl Content {
    /// Reads no more than it may, and only plain files: opening a pipe would wait for somebody to write into it.
    pub(super) fn read(file: &Path, bytes_max: u64) -> Result<Content, Refusal> {
        let unreadable = |error: std::io::Error| Refusal::Unreadable(error.to_string());
        let metadata = std::fs::metadata(file).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(Refusal::Unreadable("not a file".to_owned()));
        }
        if metadata.len() > bytes_max {
            return Err(Refusal::TooLarge { max: bytes_max });
        }
        let mut bytes = Vec::new();
        let file = File::open(file).map_err(unreadable)?;
        file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > bytes_max {
            return Err(Refusal::TooLarge { max: bytes_max });
        }
        let digest = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Content { bytes, digest })
    }

    pub(super) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// What came of compiling, whether it is a plugin or not.
#[derive(Default)]
pub(super) struct Findings {
    pub kind: Option<Kind>,
    pub exports: Vec<String>,
    pub imports: Vec<String>,
    pub asks: Vec<Grant>,
    pub about: About,
    pub compile: Duration,
}

/// Makes plugins of contents. It blocks, and takes seconds where plugins are large.
pub(super) struct Loader {
    small: Linkers,
    large: Linkers,
    config: Arc<Config>,
    slots: Arc<Slots>,
    compilers: rayon::ThreadPool,
    /// For the first instance: the host's own runtime has deliveries to look after.
    runtime: tokio::runtime::Runtime,
}

impl Loader {
    /// With everything linked that plugins may import.
    pub(super) fn new(engines: Engines, config: Arc<Config>, slots: Arc<Slots>) -> wasmtime::Result<Loader> {
        let (small, large) = (Linkers::new(engines.small)?, Linkers::new(engines.large)?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        Ok(Loader { small, large, config, slots, compilers: compilers()?, runtime })
    }

    /// Compiles, links, and has a first instance made: what cannot start would fail each of its deliveries.
    pub(super) fn load(&self, name: &str, content: &Content, findings: &mut Findings) -> Result<Arc<Loaded>, Refusal> {
        if !is_name(name) {
            return Err(Refusal::BadName);
        }
        let pin = self.config.named.get(name).and_then(|named| named.sha256.as_ref());
        if let Some(demanded) = pin.filter(|pin| !pin.eq_ignore_ascii_case(&content.digest)) {
            return Err(Refusal::OtherContent { demanded: demanded.clone(), found: content.digest.clone() });
        }
        let began = Instant::now();
        let linkers = if engine::is_small(&content.bytes) { &self.small } else { &self.large };
        let engine = linkers.engine();
        let compiled = self.compilers.install(|| {
            let without_shim = shim::leave_out(&content.bytes);
            Compiled::new(engine, without_shim.as_ref().unwrap_or(&content.bytes))
        });
        findings.compile = began.elapsed();
        let compiled = compiled?;
        findings.exports = compiled.exports(engine);
        findings.imports = compiled.imports(engine);
        let asks: BTreeSet<Grant> = findings.imports.iter().filter_map(|import| grant_of(import)).collect();
        findings.asks = asks.into_iter().collect();
        self.check_imports(name, &findings.imports)?;
        let guest = linkers.link(&compiled)?;
        findings.kind = Some(guest.kind());
        let terms = Arc::new(Terms::new(name, &self.config, guest.kind()));
        let about = self.runtime.block_on(self.slots.register(&guest, &terms))?;
        findings.about = about.clone();
        let profile = Profile::new(about).map_err(Refusal::Misdescribed)?;
        Ok(Arc::new(Loaded {
            name: name.into(),
            tag: format!("{name}@{}", &content.digest[..TAG_DIGITS]),
            digest: content.digest.clone(),
            terms,
            guest,
            haste: Haste::new(&findings.imports, self.config.stack_bytes_max),
            reuse: self.config.reuse_of(name).filter(|_| profile.about.is_reusable),
            profile,
            stats: Stats::new(),
            breaker: Breaker::new(self.config.breaking.clone()),
            shadow: Shadow::new(self.config.breaking.clone()),
        }))
    }

    fn check_imports(&self, name: &str, imports: &[String]) -> Result<(), Refusal> {
        let is_granted = |import: &String| grant_of(import).is_some_and(|grant| self.config.grants(name, grant));
        let missing: Vec<_> =
            imports.iter().filter(|import| !is_offered(import) && !is_granted(import)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let could_be = missing.iter().all(|import| grant_of(import).is_some());
        Err(if could_be { Refusal::NotGranted(missing) } else { Refusal::NotOffered(missing) })
    }
}

/// Half of the machine, and behind all else that wants to run there: deliveries go on while plugins are compiled.
fn compilers() -> wasmtime::Result<rayon::ThreadPool> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads((cores / 2).max(1))
        .thread_name(|number| format!("weft-compile-{number}"))
        // On Linux it is the thread's own; elsewhere it would be the whole process's.
        .start_handler(|_| {
            if cfg!(target_os = "linux") {
                // Compiling at full priority is no reason not to compile.
                let _ = rustix::process::nice(10);
            }
        });
    pool.build().map_err(wasmtime::Error::new)
}

/// What the operator has to grant for this import.
fn grant_of(import: &str) -> Option<Grant> {
    GRANTED.iter().find(|(_, track)| import.starts_with(track)).map(|(grant, _)| *grant)
}

fn is_offered(import: &str) -> bool {
    let (path, version) = import.split_once('@').unwrap_or((import, ""));
    let (package, interface) = path.split_once('/').unwrap_or((path, ""));
    OFFERED.iter().any(|(offered, interfaces, track)| {
        package == *offered && version.starts_with(track) && (interfaces.is_empty() || interfaces.contains(&interface))
    })
}

pub(super) fn in_words(error: &wasmtime::Error) -> String {
    clean(&format!("{error:#}"), ERROR_BYTES_MAX)
}
