//! Who may use whom: imports point down only, edges do not know each other, and the domain is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// From the bottom up. Modules of one layer may use one another only in the domain; elsewhere what they use is listed.
const LAYERS: [(&str, &[(&str, &str)]); 4] = [
    (
        "domain",
        &[
            ("attempt", ""),
            ("breaker", ""),
            ("delivery", "attempt entry event outcome request stored subscription"),
            ("entry", "outcome"),
            ("event", "json"),
            ("json", ""),
            ("outcome", ""),
            ("rate", ""),
            ("request", "delivery event json secret subscription"),
            ("retry", "attempt outcome"),
            ("secret", ""),
            ("state", ""),
            ("stored", "delivery entry event request"),
            ("subscription", "breaker rate retry secret"),
        ],
    ),
    (
        "edges",
        &[
            ("directory", ""),
            ("link", ""),
            ("plugin", ""),
            ("queue", "link"),
            ("sender", ""),
            ("store", "link"),
            ("telemetry", "plugin queue"),
        ],
    ),
    (
        "loops",
        &[
            ("alarm", ""),
            ("backoff", ""),
            ("endpoints", ""),
            ("gate", ""),
            ("health", ""),
            ("host", "alarm endpoints gate health scheduler settler worker"),
            ("scheduler", "backoff health slots worker"),
            ("settler", "backoff gate health slots"),
            ("slots", ""),
            ("worker", "alarm backoff endpoints gate health settler slots"),
        ],
    ),
    (
        "wiring",
        &[("admin", ""), ("cli", "admin config daemon"), ("config", "admin"), ("daemon", "admin config"), ("fuzz", "")],
    ),
];

/// What would give a domain module I/O, a clock, chance or waiting.
const IMPURE: [&str; 9] =
    ["tokio::", "std::fs", "std::net", "std::env", "SystemTime::now", "Instant::now", "fastrand", "async fn", ".await"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The code of a module, files below it included, without comments and without its tests.
fn code(module: &str) -> String {
    let mut files = vec![source().join(module).with_extension("rs")];
    let mut directories = vec![source().join(module)];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() { &mut directories } else { &mut files }.push(path);
        }
    }
    files.retain(|file| !file.ends_with("tests.rs"));
    let text = files.iter().map(|file| std::fs::read_to_string(file).expect("a source file"));
    let shipped = text.map(|text| text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned());
    let lines: Vec<String> = shipped.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.into_iter().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn used(code: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.chars().take_while(|char| char.is_ascii_lowercase() || *char == '_').collect();
    code.split("crate::").skip(1).map(name).collect()
}

#[test]
fn imports_point_down_and_edges_do_not_know_each_other() {
    let mut below = BTreeSet::new();
    for (layer, modules) in LAYERS {
        for (module, beside) in modules {
            let beside: BTreeSet<&str> = beside.split_whitespace().collect();
            let used = used(&code(module));
            for other in &used {
                let allowed = below.contains(other.as_str()) || beside.contains(other.as_str()) || other == module;
                assert!(allowed, "{module} ({layer}) may not use {other}");
            }
            for other in beside {
                assert!(used.contains(other), "{module} may use {other} and does not: take it off the list");
            }
        }
        below.extend(modules.iter().map(|(module, _)| *module));
    }
}

#[test]
fn every_module_has_its_layer() {
    let listed: BTreeMap<&str, &str> =
        LAYERS.iter().flat_map(|(layer, modules)| modules.iter().map(|(module, _)| (*module, *layer))).collect();
    for entry in std::fs::read_dir(source()).expect("src") {
        let path = entry.expect("an entry").path();
        let module = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let known = ["lib", "main"].contains(&module.as_str()) || listed.contains_key(module.as_str());
        assert!(known, "{module} has no layer");
    }
}

#[test]
fn the_domain_does_no_io_and_has_no_clock_no_chance_and_no_async() {
    for (module, _) in LAYERS[0].1 {
        let code = code(module);
        for impure in IMPURE {
            assert!(!code.contains(impure), "{module} uses {impure}");
        }
    }
}
