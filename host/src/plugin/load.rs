//! From a file to a plugin that can be called. A file that is none is refused with the reason, and stops no other.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Module};
use wasmtime_wasi::p2::bindings::CommandPre;

use super::contract::{self, PluginPre};
use super::program::Program;
use super::sandbox::Sandbox;
use super::text::clean;
use super::{Config, Limits};

const EXTENSION: &str = "wasm";
const FILTER: &str = "weft:plugin/filter@0.1.0";
/// What makes a component a program.
const RUN: &str = "wasi:cli/run@0.2.0";
/// What makes a core module a program.
pub(super) const START: &str = "_start";
/// Where a core module's imports come from.
const PREVIEW_1: &str = "wasi_snapshot_preview1";
const NAME_BYTES_MAX: usize = 64;
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

/// A plugin that can be called.
pub(super) struct Loaded {
    pub name: Arc<str>,
    /// `name@digest`, as deliveries record it.
    pub tag: String,
    pub limits: Limits,
    pub guest: Guest,
}

/// The two ways to be a plugin.
pub(super) enum Guest {
    /// Exports the filter.
    Component(PluginPre<Sandbox>),
    /// Reads and prints JSON.
    Program(Program),
}

/// What is known about one plugin's file.
#[derive(Debug, Clone)]
pub struct Status {
    /// The file's name without `.wasm`.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// SHA-256 of its content in hex; empty if it was not read.
    pub digest: String,
    /// Bytes of it.
    pub size: u64,
    /// Whether it can be called.
    pub state: State,
    /// The interfaces it imports, which say what it may use.
    pub imports: Vec<String>,
    /// How long compiling took; next to nothing if the result was in the cache.
    pub compile: Duration,
}

/// Whether a plugin can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It can.
    Ready,
    /// It cannot.
    Refused(Refusal),
}

/// Why a file is not a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The configuration names it, and there is no such file.
    #[error("the configuration names it, but there is no such file")]
    Missing,
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// Not a name that goes into settings, logs and metrics.
    #[error("the name must be lower-case letters, digits, `-`, `_` and `.`, at most {NAME_BYTES_MAX} of them")]
    BadName,
    /// Larger than `file_bytes_max`.
    #[error("larger than {max} bytes")]
    TooLarge {
        /// That.
        max: u64,
    },
    /// Not the content that the configuration demands.
    #[error("its SHA-256 is {found}, the configuration demands {demanded}")]
    OtherContent {
        /// By the configuration.
        demanded: String,
        /// Of the file.
        found: String,
    },
    /// Not WebAssembly.
    #[error("not a WebAssembly file")]
    NotWasm,
    /// WebAssembly, but not valid, or it uses what is switched off here.
    #[error("does not compile: {0}")]
    Invalid(String),
    /// A component that exports neither the filter nor a program.
    #[error("exports neither {FILTER} nor {RUN}; it exports {}", list(.0))]
    NoFilter(Vec<String>),
    /// A core module that is no program.
    #[error("a core module without {START}: neither a component nor a WASI program; it exports {}", list(.0))]
    NoStart(Vec<String>),
    /// It imports what is not offered.
    #[error("imports what is not offered: {}", list(.0))]
    NotOffered(Vec<String>),
    /// It imports or exports the right names with the wrong types.
    #[error("does not fit the contract: {0}")]
    Unfit(String),
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// Reads and compiles files. It blocks, and takes seconds where plugins are large.
pub(super) struct Loader {
    engine: Engine,
    linker: Linker<Sandbox>,
    module_linker: wasmtime::Linker<Sandbox>,
    config: Config,
}

impl Loader {
    /// With everything linked that plugins may import.
    pub(super) fn new(engine: Engine, config: Config) -> wasmtime::Result<Loader> {
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        contract::types::add_to_linker::<_, HasSelf<Sandbox>>(&mut linker, |sandbox| sandbox)?;
        contract::log::add_to_linker::<_, HasSelf<Sandbox>>(&mut linker, |sandbox| sandbox)?;
        contract::registry::add_to_linker::<_, HasSelf<Sandbox>>(&mut linker, |sandbox| sandbox)?;
        let mut module_linker = wasmtime::Linker::new(&engine);
        wasmtime_wasi::p1::add_to_linker_async(&mut module_linker, Sandbox::wasi)?;
        Ok(Loader { engine, linker, module_linker, config })
    }

    /// Reads the directory: a status for each plugin, by name, and the plugin if it is ready.
    pub(super) fn load_all(&self) -> std::io::Result<Vec<(Status, Option<Loaded>)>> {
        let mut files = self.files()?;
        for name in self.config.named.keys() {
            files.entry(name.clone()).or_insert(None);
        }
        Ok(files.into_iter().map(|(name, file)| self.load(name, file.as_deref())).collect())
    }

    fn files(&self) -> std::io::Result<BTreeMap<String, Option<PathBuf>>> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(&self.config.dir)? {
            let file = entry?.path();
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if file.extension().is_some_and(|extension| extension == EXTENSION) && !name.starts_with('.') {
                files.insert(name, Some(file));
            }
        }
        Ok(files)
    }

    fn load(&self, name: String, file: Option<&Path>) -> (Status, Option<Loaded>) {
        let mut status = Status {
            file: file.map_or_else(|| self.config.dir.join(format!("{name}.{EXTENSION}")), Path::to_owned),
            digest: String::new(),
            size: 0,
            state: State::Ready,
            imports: Vec::new(),
            compile: Duration::ZERO,
            name,
        };
        match self.try_load(file, &mut status) {
            Ok(loaded) => (status, Some(loaded)),
            Err(refusal) => {
                status.state = State::Refused(refusal);
                (status, None)
            }
        }
    }

    fn try_load(&self, file: Option<&Path>, status: &mut Status) -> Result<Loaded, Refusal> {
        let file = file.ok_or(Refusal::Missing)?;
        if !is_name(&status.name) {
            return Err(Refusal::BadName);
        }
        let content = read(file, self.config.file_bytes_max)?;
        status.size = content.len() as u64;
        status.digest = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        let pin = self.config.named.get(&status.name).and_then(|named| named.sha256.as_ref());
        if let Some(demanded) = pin.filter(|pin| !pin.eq_ignore_ascii_case(&status.digest)) {
            return Err(Refusal::OtherContent { demanded: demanded.clone(), found: status.digest.clone() });
        }
        Ok(Loaded {
            guest: self.guest(&content, status)?,
            name: status.name.as_str().into(),
            tag: format!("{}@{}", status.name, &status.digest[..TAG_DIGITS]),
            limits: self.config.limits_of(&status.name),
        })
    }

    fn guest(&self, content: &[u8], status: &mut Status) -> Result<Guest, Refusal> {
        let began = Instant::now();
        let invalid = |error: wasmtime::Error| Refusal::Invalid(in_words(&error));
        if content.starts_with(CORE_MODULE) {
            let module = Module::from_binary(&self.engine, content);
            status.compile = began.elapsed();
            self.link_module(&module.map_err(invalid)?, status)
        } else if content.starts_with(COMPONENT) {
            let component = Component::from_binary(&self.engine, content);
            status.compile = began.elapsed();
            self.link(&component.map_err(invalid)?, status)
        } else {
            Err(Refusal::NotWasm)
        }
    }

    fn link_module(&self, module: &Module, status: &mut Status) -> Result<Guest, Refusal> {
        status.imports = module.imports().map(|import| import.module().to_owned()).collect();
        status.imports.dedup();
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

    fn link(&self, component: &Component, status: &mut Status) -> Result<Guest, Refusal> {
        let shape = component.component_type();
        status.imports = shape.imports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        let exports = |name| component.get_export_index(None, name).is_some();
        if !exports(FILTER) && !exports(RUN) {
            return Err(Refusal::NoFilter(shape.exports(&self.engine).map(|(name, _)| name.to_owned()).collect()));
        }
        let missing: Vec<_> = status.imports.iter().filter(|name| !is_offered(name)).cloned().collect();
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

fn is_name(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_good)
}

fn is_offered(import: &str) -> bool {
    let Some((path, version)) = import.split_once('@') else { return false };
    let Some((package, interface)) = path.split_once('/') else { return false };
    OFFERED.iter().any(|(offered, interfaces, track)| {
        package == *offered && version.starts_with(track) && (interfaces.is_empty() || interfaces.contains(&interface))
    })
}

/// Reads no more than it may, and only plain files: opening a pipe would wait for somebody to write into it.
fn read(file: &Path, bytes_max: u64) -> Result<Vec<u8>, Refusal> {
    let unreadable = |error: std::io::Error| Refusal::Unreadable(error.to_string());
    if !std::fs::metadata(file).map_err(unreadable)?.is_file() {
        return Err(Refusal::Unreadable("not a file".to_owned()));
    }
    let mut content = Vec::new();
    let file = File::open(file).map_err(unreadable)?;
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > bytes_max {
        return Err(Refusal::TooLarge { max: bytes_max });
    }
    Ok(content)
}

fn in_words(error: &wasmtime::Error) -> String {
    clean(&format!("{error:#}"), ERROR_BYTES_MAX)
}
