//! Any bytes as a plugin's file, and modules of any shape as programs.
#![no_main]

use std::sync::{LazyLock, Mutex};

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use weft::fuzz::Trial;

static TRIAL: LazyLock<(tempfile::TempDir, Mutex<Trial>, tokio::runtime::Runtime)> = LazyLock::new(|| {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures");
    let good = wat::parse_file(format!("{fixtures}/deliver.wat")).expect("a good fixture");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let trial = Mutex::new(Trial::new(dir.path(), &good));
    (dir, trial, tokio::runtime::Runtime::new().expect("a runtime"))
});

fuzz_target!(|bytes: &[u8]| {
    let (_, trial, runtime) = &*TRIAL;
    let mut trial = trial.lock().expect("a panic ends the run");
    let shaped = bytes.strip_prefix(b"smith").and_then(|dna| {
        let config = wasm_smith::Config { max_imports: 0, export_everything: true, ..wasm_smith::Config::default() };
        wasm_smith::Module::new(config, &mut Unstructured::new(dna)).ok()
    });
    let bytes = shaped.map_or_else(|| bytes.to_vec(), |module| module.to_bytes());
    assert!(!runtime.block_on(trial.plugin(&bytes)).is_empty());
});
