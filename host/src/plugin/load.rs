//! From a file's content to a plugin that can be called. A content that is none is refused with the reason.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Module};
use wasmtime_wasi::p2::bindings::CommandPre;

use super::breaker::Breaker;
use super::call::Slots;
use super::contract::{self, PluginPre};
use super::program::Program;
use super::sandbox::Sandbox;
use super::shadow::Shadow;
use super::stats::Stats;
use super::status::{FILTER, RUN, Refusal, START, is_name};
use super::text::clean;
use super::{Config, Limits};

/// Where a core module's imports come from.
const PREVIEW_1: &str = "wasi_snapshot_preview1";
/// Digits of the digest in a plugin's tag.
const TAG_DIGITS: usize = 12;
const ERROR_BYTES_MAX: usize = 1024;
/// The first bytes of a core module and of a component.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// What a plugin may import: a package's interfaces (all, if the list is empty), and the version they are served in.
const OFFERED: [(&str, &[&str], &str); 7] = [
    ("weft:plugin", &["types", "log", "registry"], "0.1."),
    ("wasi:cli", &[], "0.2."),
    ("wasi:clocks", &[], "0.2."),
    ("wasi:filesystem", &[], "0.2."),
    ("wasi:io", &[], "0.2."),
    ("wasi:random", &[], "0.2."),
    ("wasi:sockets", &[], "0.2."),
];

/// A version of a plugin, ready to be called.
pub(super) struct Loaded {
    pub name: Arc<str>,
    /// `name@digest`, as deliveries record it.
    pub tag: String,
    /// SHA-256 of its content in hex.
    pub digest: String,
    pub limits: Limits,
    pub guest: Guest,
    pub stats: Stats,
    pub breaker: Breaker,
    pub shadow: Shadow,
}

/// The two ways to be a plugin.
pub(super) enum Guest {
    /// Exports the filter.
    Component(PluginPre<Sandbox>),
    /// Reads and prints JSON.
    Program(Program),
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
        if !std::fs::metadata(file).map_err(unreadable)?.is_file() {
            return Err(Refusal::Unreadable("not a file".to_owned()));
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
    pub imports: Vec<String>,
    pub compile: Duration,
}

/// Makes plugins of contents. It blocks, and takes seconds where plugins are large.
pub(super) struct Loader {
    engine: Engine,
    linker: Linker<Sandbox>,
    module_linker: wasmtime::Linker<Sandbox>,
    config: Arc<Config>,
    slots: Arc<Slots>,
    compilers: rayon::ThreadPool,
    /// For the first instance: the host's own runtime has deliveries to look after.
    runtime: tokio::runtime::Runtime,
}

impl Loader {
    /// With everything linked that plugins may import.
    pub(super) fn new(engine: Engine, config: Arc<Config>, slots: Arc<Slots>) -> wasmtime::Result<Loader> {
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        contract::types::add_to_linker::<_, HasSelf<Sandbox>>(&mut linker, |sandbox| sandbox)?;
        contract::log::add_to_linker::<_, HasSelf<Sandbox>>(&mut linker, |sandbox| sandbox)?;
        contract::registry::add_to_linker::<_, HasSelf<Sandbox>>(&mut linker, |sandbox| sandbox)?;
        let mut module_linker = wasmtime::Linker::new(&engine);
        wasmtime_wasi::p1::add_to_linker_async(&mut module_linker, Sandbox::wasi)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        Ok(Loader { engine, linker, module_linker, config, slots, compilers: compilers()?, runtime })
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
        let plugin = Arc::new(Loaded {
            name: name.into(),
            tag: format!("{name}@{}", &content.digest[..TAG_DIGITS]),
            digest: content.digest.clone(),
            limits: self.config.limits_of(name),
            guest: self.guest(&content.bytes, findings)?,
            stats: Stats::new(),
            breaker: Breaker::new(self.config.breaking.clone()),
            shadow: Shadow::new(),
        });
        let first = self.runtime.block_on(self.slots.instantiate(&plugin));
        first.map_err(|failure| Refusal::Lifeless(failure.error))?;
        Ok(plugin)
    }

    fn guest(&self, content: &[u8], findings: &mut Findings) -> Result<Guest, Refusal> {
        let began = Instant::now();
        let invalid = |error: wasmtime::Error| Refusal::Invalid(in_words(&error));
        if content.starts_with(CORE_MODULE) {
            let module = self.compilers.install(|| Module::from_binary(&self.engine, content));
            findings.compile = began.elapsed();
            self.link_module(&module.map_err(invalid)?, findings)
        } else if content.starts_with(COMPONENT) {
            let component = self.compilers.install(|| Component::from_binary(&self.engine, content));
            findings.compile = began.elapsed();
            self.link(&component.map_err(invalid)?, findings)
        } else {
            Err(Refusal::NotWasm)
        }
    }

    fn link_module(&self, module: &Module, findings: &mut Findings) -> Result<Guest, Refusal> {
        findings.imports = module.imports().map(|import| import.module().to_owned()).collect();
        findings.imports.dedup();
        if module.get_export(START).is_none() {
            return Err(Refusal::NoStart(module.exports().map(|export| export.name().to_owned()).collect()));
        }
        let others = module.imports().filter(|import| import.module() != PREVIEW_1);
        let missing: Vec<_> = others.map(|import| format!("{}.{}", import.module(), import.name())).collect();
        if !missing.is_empty() {
            return Err(Refusal::NotOffered(missing));
        }
        let linked = self.module_linker.instantiate_pre(module);
        Ok(Guest::Program(Program::Module(linked.map_err(|error| Refusal::Unfit(in_words(&error)))?)))
    }

    fn link(&self, component: &Component, findings: &mut Findings) -> Result<Guest, Refusal> {
        let shape = component.component_type();
        findings.imports = shape.imports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        let exports = |name| component.get_export_index(None, name).is_some();
        if !exports(FILTER) && !exports(RUN) {
            return Err(Refusal::NoFilter(shape.exports(&self.engine).map(|(name, _)| name.to_owned()).collect()));
        }
        let missing: Vec<_> = findings.imports.iter().filter(|name| !is_offered(name)).cloned().collect();
        if !missing.is_empty() {
            return Err(Refusal::NotOffered(missing));
        }
        let linked = self.linker.instantiate_pre(component);
        let guest = if exports(FILTER) {
            linked.and_then(PluginPre::new).map(Guest::Component)
        } else {
            linked.and_then(CommandPre::new).map(|pre| Guest::Program(Program::Command(pre)))
        };
        guest.map_err(|error| Refusal::Unfit(in_words(&error)))
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

fn is_offered(import: &str) -> bool {
    let Some((path, version)) = import.split_once('@') else { return false };
    let Some((package, interface)) = path.split_once('/') else { return false };
    OFFERED.iter().any(|(offered, interfaces, track)| {
        package == *offered && version.starts_with(track) && (interfaces.is_empty() || interfaces.contains(&interface))
    })
}

fn in_words(error: &wasmtime::Error) -> String {
    clean(&format!("{error:#}"), ERROR_BYTES_MAX)
}
