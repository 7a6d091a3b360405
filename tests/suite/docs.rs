//! What the documents say works: their links lead somewhere and their configuration is taken.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tests::root;
use weft::Config;

/// Every Markdown file of the project.
fn documents() -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()) {
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if entry.is_dir() && name != "target" && !name.starts_with('.') && name != "node_modules" {
                walk(&entry, found);
            } else if name.ends_with(".md") {
                found.push(entry);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found
}

/// The code blocks of a document in this language.
pub(crate) fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == format!("```{language}") {
            blocks.push(
                lines
                    .by_ref()
                    .take_while(|line| line.trim() != "```")
                    .fold(String::new(), |all, line| all + line + "\n"),
            );
        } else if line.trim().starts_with("```") {
            let _ = lines.by_ref().find(|line| line.trim() == "```");
        }
    }
    blocks
}

#[test]
fn every_document_that_is_promised_is_there() {
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONVENTIONS.md",
        "CHANGELOG.md",
        "LICENSE",
        "wit/README.md",
        "docs/OPERATING.md",
    ] {
        assert!(root().join(name).exists(), "{name}");
    }
}

/// Plugins that people have compiled rely on it: what is new is another version, see wit/README.md.
#[test]
fn the_published_contract_stays_as_it_is() {
    let wit = std::fs::read_to_string(root().join("wit/plugin.wit")).unwrap();
    let code = wit.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with("///"));
    let digest = Sha256::digest(code.map(|line| format!("{line}\n")).collect::<String>());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, "ad1ac258011bd5623c6f3892436f3f3e74fa7deaf6df6426f30f5298d11f6184", "wit/plugin.wit is 0.1.0");
}

/// What `/readyz` says of Redis: a daemon that is not ready is looked up there.
#[test]
fn causes_stand_in_the_operators_chapter() {
    let chapter = std::fs::read_to_string(root().join("docs/OPERATING.md")).unwrap();
    let code = std::fs::read_to_string(root().join("host/src/queue/redis/words.rs")).unwrap();
    let code = code.split("#[cfg(test)]").next().unwrap();
    let causes: Vec<&str> = code
        .lines()
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .filter(|text| text.starts_with("it ") || text.starts_with("the "))
        .filter_map(|text| text.split([',', ':', '(', '{']).next())
        .collect();
    assert!(causes.len() >= 10, "{causes:?}");
    for cause in causes {
        assert!(chapter.contains(cause.trim()), "docs/OPERATING.md does not say what to do about \"{cause}\"");
    }
}

#[test]
fn links_lead_somewhere() {
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let file = document.parent().expect("a directory").join(target);
            assert!(file.exists(), "{}: {target} is not there", document.display());
        }
    }
}

#[test]
fn configuration_in_documents_is_taken() {
    let mut seen = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for block in blocks(&text, "toml").iter().filter(|block| !block.contains("[package]")) {
            let directory = tempfile::tempdir().unwrap();
            let secret = directory.path().join("secret");
            std::fs::write(&secret, "s").unwrap();
            // The variables that secrets are taken from are the operator's to set.
            let mut config = String::new();
            let mut rest = block.as_str();
            while let Some((before, after)) = rest.split_once("{ env = ") {
                let (_, after) = after.split_once('}').expect("closed");
                config += &format!("{before}{{ file = {:?} }}", secret.display().to_string());
                rest = after;
            }
            let file = directory.path().join("weft.toml");
            std::fs::write(&file, config + rest).unwrap();
            if let Err(mistakes) = Config::load(Some(&file), std::iter::empty()) {
                panic!("{}: {mistakes}\n{block}", document.display());
            }
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen} blocks of configuration");
}

#[test]
fn metrics_in_the_readme_are_those_that_the_host_has() {
    let names = weft::telemetry::Telemetry::new(10);
    names.depth(&weft::queue::Depth::default());
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let source = std::fs::read_to_string(root().join("host/src/telemetry.rs")).unwrap();
    let mentioned = text.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
    for name in mentioned.filter(|word| word.starts_with("o2ims_") || word.starts_with("weft_")) {
        let known = source.contains(&format!("\"{name}\"")) || name == "weft_plugin";
        assert!(known, "the README speaks of {name}");
    }
}

#[test]
fn the_operators_chapter_has_every_metric_every_cause_and_every_reason() {
    let text = std::fs::read_to_string(root().join("docs/OPERATING.md")).unwrap();
    let row = |name: &str| text.lines().any(|line| line.starts_with(&format!("| `{name}` |")));
    let source = std::fs::read_to_string(root().join("host/src/telemetry.rs")).unwrap();
    let names = source.split('"').filter(|text| {
        let is_name =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        (text.starts_with("weft_") || text.starts_with("o2ims_")) && is_name(text)
    });
    let metrics: std::collections::BTreeSet<&str> = names.collect();
    assert!(metrics.len() > 25, "{metrics:?}");
    let undocumented: Vec<&&str> = metrics.iter().filter(|name| !row(name) && **name != "weft_build_info").collect();
    assert!(undocumented.is_empty(), "docs/OPERATING.md lacks {undocumented:?}");
    for part in weft::health::Part::ALL {
        assert!(row(part.name()), "the cause {} in /readyz", part.name());
    }
    for reason in weft::outcome::DeadReason::ALL {
        assert!(row(reason.name()), "the reason {reason}");
    }
    for name in text.split('`').filter(|text| text.starts_with("weft_") || text.starts_with("o2ims_")) {
        let name: String = name.chars().take_while(|char| char.is_ascii_alphanumeric() || *char == '_').collect();
        assert!(metrics.contains(name.as_str()), "docs/OPERATING.md speaks of {name}");
    }
}

#[test]
fn commands_in_the_readme_are_commands() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let commands = blocks(&text, "sh").join("\n");
    assert!(commands.contains("make run") && commands.contains("make test"));
    for line in commands.lines().map(str::trim) {
        if let Some(target) = line.strip_prefix("make ").and_then(|rest| rest.split_whitespace().next()) {
            assert!(makefile.contains(&format!("\n{target}:")), "make {target}");
        }
        for file in line.split_whitespace().filter(|word| word.starts_with("examples/") && !word.contains("/target/")) {
            assert!(root().join(file).exists(), "{file}");
        }
    }
}

#[test]
fn the_readmes_plugin_is_the_example() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let example = std::fs::read_to_string(root().join("examples/hello-rust/src/lib.rs")).unwrap();
    let (_, code) = example.split_once("\n\n").expect("a line of documentation, then the code");
    assert_eq!(blocks(&readme, "rust"), [code]);
}
