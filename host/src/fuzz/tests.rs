use std::collections::BTreeMap;
use std::path::Path;

use fastrand::Rng;
use wasm_smith::{Config, Module};

use super::*;

/// What is spliced into texts: where readers tend to go wrong.
const TOKENS: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    ",",
    ":",
    "null",
    "1e999",
    "-0",
    "1.0",
    "123456789012345678901234567890",
    "\"callbackUrl\":",
    "\"subscriptionId\":\"s\",",
    "\"verdict\":\"drop\",",
    "\"headers\":{\"host\":\"x\"},",
    "\"body\":",
    "\"bodyBase64\":\"/w==\",",
    "\u{feff}",
    "é",
    "\n",
];

/// A text with a few changes.
fn changed(text: &str, random: &mut Rng) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..=bytes.len());
        match random.u8(0..5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.u8(..)),
            2 => drop(bytes.splice(at..at, TOKENS[random.usize(0..TOKENS.len())].bytes())),
            3 => drop(bytes.drain(at..(at + random.usize(0..8)).min(bytes.len()))),
            _ => {
                let (from, to) = (random.usize(0..=at), bytes.len().min(at));
                let piece = bytes[from..to].to_vec();
                drop(bytes.splice(at..at, piece));
            }
        }
    }
    bytes
}

fn each_seed(texts: &[&str], seeds: u64, body: fn(&[u8])) {
    for text in texts {
        body(text.as_bytes());
        for seed in 0..seeds {
            let bytes = changed(text, &mut Rng::with_seed(seed));
            let outcome = std::panic::catch_unwind(|| body(&bytes));
            assert!(outcome.is_ok(), "seed {seed}: {:?}", String::from_utf8_lossy(&bytes));
        }
    }
}

const EVENT: &str = r#"{"subscriptionId":"sub-67890","notificationEventType":"o2ims.Resource.Created","objectRef":"/r/1","timestamp":"2026-01-08T10:30:00Z","notificationId":"notif-12345","extensions":{"n":[1.10,1e400,{"a":null}]},"callbackUrl":"https://smo.example.com/notify"}"#;

#[test]
fn events_of_any_bytes_are_read_or_refused() {
    each_seed(&[EVENT, r#"{"callbackUrl":"a","callbackUrl":"b" , "x":{"callbackUrl":1}}"#, "[]", "{}"], 500, event);
}

#[test]
fn entries_of_any_bytes_are_read_or_refused() {
    let stored = format!(
        r#"{{"v":1,"event":{},"attempt":2,"run":1,"first_seen_ms":1767868200000,"replays":1,"died_before":"gone@2026-01-08T10:30:07Z/","plugins":["a@b"],"draft":{{"headers":[["x-a","é"]],"body_base64":"/w=="}}}}"#,
        serde_json::Value::from(EVENT)
    );
    let far = stored.replace("1767868200000", "9999999999999999");
    each_seed(&[&stored, &far, EVENT, "exhausted,gone@2026-01-08T10:30:07Z/2026-01-08T10:30:09Z"], 500, entry);
}

#[test]
fn answers_of_any_bytes_are_verdicts_or_failures() {
    let texts = [
        r#"{"verdict":"deliver","headers":{"x-a":"1","content-type":null},"body":{"a":1.0}}"#,
        r#"{"verdict":"deliver","headers":{"content-type":"text/plain"},"bodyBase64":"aGVsbG8="}"#,
        r#"{"verdict":"postpone","delayMs":1000,"reason":"later"}"#,
        r#"{"verdict":"dead-letter","reason":"bad"}"#,
    ];
    each_seed(&texts, 500, answer);
}

/// They are compiled by cargo-fuzz alone, which nobody runs with each change.
#[test]
fn the_targets_under_fuzz_call_what_is_here() {
    let source = |name: &str| {
        let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
        std::fs::read_to_string(targets.join(name).with_extension("rs")).unwrap()
    };
    // Each is above, as what `each_seed` takes.
    for name in ["event", "entry", "answer"] {
        assert!(source(name).contains(&format!("fuzz_target!(|bytes: &[u8]| weft::fuzz::{name}(bytes));")), "{name}");
    }
    // As `try_all` has it, with the same types.
    let plugin = source("plugin");
    for call in ["Trial::new(dir.path(), &good)", "runtime.block_on(trial.plugin(&bytes)).is_empty()"] {
        assert!(plugin.contains(call), "{call}");
    }
}

fn fixture(name: &str) -> Vec<u8> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    wat::parse_file(fixtures.join(format!("{name}.wat"))).unwrap()
}

/// Tries plugins, one for each seed that makes one, and counts what comes of them by its first words.
fn try_all(seeds: std::ops::Range<u64>, make: impl Fn(&mut Rng) -> Option<Vec<u8>>) -> BTreeMap<String, usize> {
    let dir = tempfile::tempdir().unwrap();
    let mut trial = Trial::new(dir.path(), &fixture("deliver"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut fates = BTreeMap::new();
    for seed in seeds {
        let Some(bytes) = make(&mut Rng::with_seed(seed)) else { continue };
        let fate = runtime.block_on(trial.plugin(&bytes));
        assert!(!fate.is_empty(), "seed {seed}");
        let words: Vec<&str> = fate.split([':', ';']).take(2).collect();
        *fates.entry(words.join(":")).or_insert(0) += 1;
    }
    fates
}

/// A core module of any shape that imports nothing.
fn module(random: &mut Rng) -> Option<Module> {
    let config = Config {
        max_imports: 0,
        min_funcs: 1,
        min_types: 1,
        max_type_size: 50,
        max_instructions: 60,
        export_everything: true,
        max_memories: 2,
        max_memory32_bytes: 4 << 20,
        // What is switched off here, now and then nevertheless.
        relaxed_simd_enabled: random.u8(..) < 10,
        reference_types_enabled: random.u8(..) < 10,
        gc_enabled: random.u8(..) < 10,
        exceptions_enabled: random.u8(..) < 10,
        threads_enabled: random.u8(..) < 10,
        memory64_enabled: random.u8(..) < 10,
        ..Config::default()
    };
    let mut dna = vec![0; random.usize(100..4000)];
    random.fill(&mut dna);
    Module::new(config, &mut arbitrary::Unstructured::new(&dna)).ok()
}

/// A number as WebAssembly writes it.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], leb(content.len()), content.to_vec()].concat()
}

/// A good filter that makes an instance of this module beside its own, so that its start runs for each delivery.
fn beside_a_filter(module: &[u8]) -> Vec<u8> {
    // One core instance: module 1, the first one after the filter's own, with no arguments.
    [fixture("deliver"), section(1, module), section(2, &[1, 0, 1, 0])].concat()
}

#[test]
fn components_with_any_module_have_a_named_fate_and_harm_nobody() {
    let fates = try_all(0..100, |random| module(random).map(|module| beside_a_filter(&module.to_bytes())));
    let delivered = fates.get("deliver").copied().unwrap_or_default();
    assert!(delivered > 5 && fates.len() > 2, "{fates:?}");
}

#[test]
fn programs_of_any_module_have_a_named_fate_and_harm_nobody() {
    // A function that takes and gives nothing is called when it is named so; others are refused.
    let fates = try_all(200..300, |random| module(random).map(|module| with_start(&module.to_bytes())));
    let called = fates.iter().filter(|(fate, _)| !fate.starts_with("refused")).map(|(_, count)| count).sum::<usize>();
    assert!(called > 0, "{fates:?}");
}

/// Renames the first function that takes and gives nothing to `_start`, if there is one.
fn with_start(module: &[u8]) -> Vec<u8> {
    let engine = wasmtime::Engine::default();
    let Ok(compiled) = wasmtime::Module::new(&engine, module) else { return module.to_vec() };
    let fits = |kind: wasmtime::ExternType| {
        kind.func().is_some_and(|function| function.params().len() == 0 && function.results().len() == 0)
    };
    let Some(name) = compiled.exports().find(|export| fits(export.ty())).map(|export| export.name().to_owned()) else {
        return module.to_vec();
    };
    let mut rest = &module[8..];
    let mut renamed = module[..8].to_vec();
    while let Some((id, after)) = rest.split_first() {
        let (size, after) = number(after);
        let (content, after) = after.split_at(size);
        let content = if *id == 7 { rename(content, &name) } else { content.to_vec() };
        renamed.extend(section(*id, &content));
        rest = after;
    }
    renamed
}

fn rename(exports: &[u8], name: &str) -> Vec<u8> {
    let (count, mut rest) = number(exports);
    let mut renamed = leb(count);
    for _ in 0..count {
        let (length, after) = number(rest);
        let (found, after) = after.split_at(length);
        let found = if found == name.as_bytes() { b"_start" } else { found };
        // Its kind, and its index.
        let (_, end) = number(&after[1..]);
        let what = &after[..after.len() - end.len()];
        renamed.extend([leb(found.len()), found.to_vec(), what.to_vec()].concat());
        rest = end;
    }
    renamed
}

fn number(bytes: &[u8]) -> (usize, &[u8]) {
    let (mut value, mut shift) = (0, 0);
    for (at, byte) in bytes.iter().enumerate() {
        value |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return (value, &bytes[at + 1..]);
        }
    }
    panic!("a number has an end")
}

#[test]
fn plugins_with_any_bytes_changed_have_a_named_fate_and_harm_nobody() {
    let names = [
        "deliver",
        "drop",
        "header",
        "transform",
        "copy-field",
        "counter",
        "described",
        "program",
        "program-echo",
        "command",
        "postpone",
        "print",
        "huge-body",
        "kept-handle",
    ];
    let guests: Vec<Vec<u8>> = names.iter().map(|name| fixture(name)).collect();
    let fates = try_all(400..600, |random| {
        let mut bytes = guests[random.usize(0..guests.len())].clone();
        for _ in 0..random.usize(1..5) {
            let at = random.usize(8..bytes.len());
            match random.u8(0..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes[at] ^= 1 << random.u8(0..8),
                2 => bytes[at] = bytes[at].wrapping_add(1),
                _ => bytes.truncate(if random.u8(0..20) == 0 { at } else { bytes.len() }),
            }
        }
        Some(bytes)
    });
    let refused = fates.iter().filter(|(fate, _)| fate.starts_with("refused")).map(|(_, count)| count).sum::<usize>();
    assert!(refused > 30 && refused < 195, "{fates:?}");
}
