//! `weft plugin new`: writes a project that builds and passes its own tests. What it writes are the repository's own
//! examples, under another name.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::builder::PossibleValuesParser;

use super::shell;
use template::{TEMPLATES, Template};

mod template;

/// Of a plugin's name.
const NAME_BYTES_MAX: usize = 64;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct New {
    /// In which language.
    #[arg(long, value_parser = PossibleValuesParser::new(TEMPLATES.iter().map(|template| template.language)))]
    lang: String,
    /// The plugin's name, and the directory to make; lower-case letters, digits and `-`.
    #[arg(value_name = "NAME", value_parser = directory)]
    directory: PathBuf,
}

impl New {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let template =
            TEMPLATES.iter().find(|template| template.language == self.lang).context("clap knows them all")?;
        let name = name_of(&self.directory).context("clap has checked it")?;
        let is_free = std::fs::read_dir(&self.directory).map_or(true, |mut entries| entries.next().is_none());
        ensure!(is_free, "{} is there and not empty: choose another name", self.directory.display());
        for (file, text) in template.project(name) {
            write(&self.directory.join(&file), &text)?;
        }
        println!("{}", self.directory.display());
        let directory = shell::quoted(&self.directory);
        let readme = self.directory.join("README.md");
        eprintln!(
            "next: weft plugin build {directory} && weft plugin test {directory}; {} has the rest",
            readme.display()
        );
        Ok(())
    }
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let place = || file.display().to_string();
    std::fs::create_dir_all(file.parent().unwrap_or(Path::new("."))).with_context(place)?;
    std::fs::write(file, text).with_context(place)
}

fn directory(text: &str) -> anyhow::Result<PathBuf> {
    let directory = PathBuf::from(text);
    let Some(name) = name_of(&directory) else { bail!("it has no name") };
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let begins = name.bytes().next().is_some_and(|first| first.is_ascii_lowercase());
    ensure!(
        begins && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_good),
        "a name has lower-case letters, digits and `-`, begins with a letter, and has at most {NAME_BYTES_MAX} of them"
    );
    Ok(directory)
}

fn name_of(directory: &Path) -> Option<&str> {
    directory.file_name()?.to_str()
}

impl Template {
    /// All files of a project of this name.
    fn project(&self, name: &str) -> Vec<(String, String)> {
        let example = format!("hello-{}", self.language);
        let renamed = |text: &str| {
            let text = text.replace(&example, name);
            text.replace(&example.replace('-', "_"), &name.replace('-', "_"))
        };
        let mut files = Vec::new();
        files.extend(self.files.iter().map(|(file, text)| ((*file).to_owned(), self.settle(&renamed(text)))));
        files.extend(self.contract.files());
        files.extend(template::FIXTURES.iter().map(|(file, text)| (format!("fixtures/{file}"), (*text).to_owned())));
        files.push(("event.json".to_owned(), template::EVENT.to_owned()));
        files.push((".gitignore".to_owned(), format!("{name}.wasm\n{}", self.ignored)));
        files.push(("README.md".to_owned(), self.readme(name)));
        files
    }

    /// Paths that lead elsewhere in the repository lead into the project.
    fn settle(&self, text: &str) -> String {
        let text = text.replace("../../plugins/sdk-go", "./weft").replace("../../plugins/sdk", "vendor/plugins/sdk");
        // What lies there is a workspace of its own.
        text.replace("[workspace]\n", "[workspace]\nexclude = [\"vendor\"]\n")
    }

    fn readme(&self, name: &str) -> String {
        let source = self.files.first().map_or("", |(file, _)| *file);
        template::README
            .replace("{INSTANCES}", self.contract.instances())
            .replace("{GRANTED}", &format!("{}{}", self.granted, self.contract.grants()))
            .replace("{NAME}", name)
            .replace("{SOURCE}", source)
            .replace("{NEEDS}", self.needs)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::template::Contract;
    use super::*;

    /// What building leaves beside the source.
    const MADE: [&str; 9] =
        ["target", "build", "testdata", "node_modules", "types", "__pycache__", ".venv", "README.md", "wit"];

    fn files_in(directory: &Path) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let (path, name) = entry.map(|entry| (entry.path(), entry.file_name().into_string().unwrap())).unwrap();
            let is_hidden = name.starts_with('.') && name != ".cargo";
            if MADE.contains(&name.as_str()) || is_hidden || name.ends_with(".wasm") {
                continue;
            }
            if path.is_dir() {
                found.extend(files_in(&path).into_iter().map(|below| format!("{name}/{below}")));
            } else {
                found.insert(name);
            }
        }
        found
    }

    #[track_caller]
    fn are_all<'a>(embedded: impl Iterator<Item = &'a str>, directory: &str) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let embedded: BTreeSet<String> = embedded.map(str::to_owned).collect();
        let mend = "is what `weft plugin new` writes: list the same files in host/src/cli/plugin/new/template.rs";
        assert_eq!(embedded, files_in(&root.join(directory)), "{directory} {mend}");
    }

    #[test]
    fn a_project_has_all_files_of_the_example() {
        for template in TEMPLATES {
            let files = template.files.iter().map(|(file, _)| *file);
            are_all(files, &format!("examples/hello-{}", template.language));
        }
        are_all(template::FIXTURES.iter().map(|(file, _)| *file), "examples/fixtures");
        let sdk = Contract::GoSdk.files();
        are_all(sdk.iter().filter_map(|(file, _)| file.strip_prefix("weft/")), "plugins/sdk-go");
        let sdk = Contract::RustSdk.files();
        are_all(sdk.iter().filter_map(|(file, _)| file.strip_prefix("vendor/plugins/sdk/")), "plugins/sdk");
        assert_eq!(std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit")).unwrap().count(), 2);
    }

    #[test]
    fn a_project_has_its_own_name_everywhere() {
        for template in TEMPLATES {
            let project = template.project("my-plugin");
            assert!(project.iter().any(|(_, text)| text.contains("my-plugin")), "{}", template.language);
            for (file, text) in project.iter().filter(|(file, _)| !file.starts_with("vendor/")) {
                assert!(!text.contains("hello-") && !text.contains("hello_"), "{} {file}", template.language);
                assert!(!text.contains("../../plugins"), "{} {file}", template.language);
            }
        }
    }

    #[test]
    fn names_are_names() {
        for good in ["a", "my-plugin-2", "/tmp/x/my-plugin", "x/y"] {
            assert!(directory(good).is_ok(), "{good}");
        }
        for bad in ["", "..", "/", "My", "2x", "-x", "a_b", "a b", "ü", &"a".repeat(65)] {
            assert!(directory(bad).is_err(), "{bad}");
        }
    }
}
