//! `weft plugin build`: runs the toolchain of whatever language a project is in.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use super::shell;
use recipe::{Have, NameIn, Need, Output, RECIPES, Recipe};

mod recipe;
mod sources;
mod world;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Build {
    /// The plugin's project.
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

impl Build {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let project = Project::open(&self.dir)?;
        let built = project.build().with_context(|| {
            let hint = project.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("the {} plugin in {} does not build{hint}", project.recipe.language, self.dir.display())
        })?;
        println!("{}", built.display());
        eprintln!("next: weft plugin test {}", shell::quoted(&self.dir));
        Ok(())
    }
}

/// Where the compiled plugin of a project is, or would be.
pub(super) fn output(dir: &Path) -> anyhow::Result<PathBuf> {
    Ok(Project::open(dir)?.output)
}

/// A source in a plugin's project that was changed after this file was compiled.
pub(super) fn newer_source(dir: &Path, compiled: &Path) -> anyhow::Result<Option<PathBuf>> {
    let changed = std::fs::metadata(compiled).and_then(|file| file.modified());
    Ok(sources::newer(dir, changed.with_context(|| compiled.display().to_string())?))
}

/// A directory with the source of a plugin.
struct Project {
    dir: PathBuf,
    recipe: &'static Recipe,
    name: String,
    /// The compiled plugin.
    output: PathBuf,
}

impl Project {
    fn open(dir: &Path) -> anyhow::Result<Project> {
        let canonical = dir.canonicalize().with_context(|| dir.display().to_string())?;
        let is_there = |recipe: &&Recipe| recipe.files.iter().all(|file| canonical.join(file).exists());
        let Some(recipe) = RECIPES.iter().find(is_there) else {
            let known: Vec<_> =
                RECIPES.iter().map(|recipe| format!("{} ({})", recipe.files.join(" and "), recipe.language)).collect();
            bail!("there is no plugin's project in {}: none of {}", dir.display(), known.join(", "));
        };
        let name = recipe.name.read(&canonical)?;
        let output = dir.join(format!("{name}.wasm"));
        Ok(Project { dir: canonical, recipe, name, output })
    }

    fn build(&self) -> anyhow::Result<PathBuf> {
        self.recipe.needs.iter().try_for_each(|need| need.check())?;
        for (file, bytes) in self.recipe.files_for_steps {
            put(&self.dir.join(file), bytes)?;
        }
        let mut printed = Vec::new();
        for step in self.recipe.steps {
            if !step.unless.iter().any(|have| self.has(have)) {
                printed = self.run(step.command)?;
            }
        }
        match self.recipe.output {
            Output::Written => {}
            Output::CargoArtifact => self.take(&artifact(&printed, &self.dir)?)?,
        }
        ensure!(self.output.exists(), "it made no {}", self.output.display());
        Ok(self.output.clone())
    }

    /// What is missing, if a step failed because something is.
    fn hint(&self) -> Option<&'static str> {
        self.recipe.wants.as_ref().filter(|want| !self.has(&want.have)).map(|want| want.hint)
    }

    fn has(&self, have: &Have) -> bool {
        match have {
            Have::File(file) => self.dir.join(file).exists(),
            Have::NoFile(file) => !self.dir.join(file).exists(),
            Have::Program(program) => find(program, &self.path()).is_some(),
        }
    }

    /// What a step prints is talk, except where something has to be read from it.
    fn run(&self, words: &[&str]) -> anyhow::Result<Vec<u8>> {
        let filled = |word: &str| match word {
            "{WORLD}" => world::of_python(&self.dir).map(str::to_owned),
            _ => Ok(word.replace("{NAME}", &self.name)),
        };
        let words = words.iter().map(|word| filled(word)).collect::<anyhow::Result<Vec<String>>>()?;
        let line = words.join(" ");
        eprintln!("+ {line}");
        let (program, arguments) = words.split_first().context("an empty step")?;
        let mut command = Command::new(program);
        command.args(arguments).envs(self.recipe.variables.iter().copied()).env("PATH", self.path());
        command.current_dir(&self.dir).stdin(Stdio::null()).stderr(Stdio::inherit());
        command.stdout(match self.recipe.output {
            Output::Written => Stdio::from(std::io::stderr()),
            Output::CargoArtifact => Stdio::piped(),
        });
        let ran = command.output().with_context(|| line.clone())?;
        ensure!(ran.status.success(), "{line}: {}", ran.status);
        Ok(ran.stdout)
    }

    /// The project's own tools come first.
    fn path(&self) -> OsString {
        let own = self.recipe.tools_in.iter().map(|tools| self.dir.join(tools));
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::join_paths(own.chain(std::env::split_paths(&path))).unwrap_or(path)
    }

    /// Whole or not at all: somebody may be watching the file.
    fn take(&self, built: &Path) -> anyhow::Result<()> {
        let beside = self.dir.join(format!(".{}.wasm.new", self.name));
        std::fs::copy(built, &beside).with_context(|| built.display().to_string())?;
        std::fs::rename(&beside, &self.output).with_context(|| self.output.display().to_string())
    }
}

impl Need {
    fn check(&self) -> anyhow::Result<()> {
        match self {
            Need::Program { name, install } => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                ensure!(find(name, &path).is_some(), "{name} is not installed: {install}");
            }
            Need::RustTarget { target, install } => {
                let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
                let asked = Command::new(rustc).args(["--print", "target-libdir", "--target", target]).output();
                let libdir = asked.map(|asked| String::from_utf8_lossy(&asked.stdout).trim().to_owned());
                ensure!(
                    libdir.is_ok_and(|dir| Path::new(&dir).is_dir()),
                    "rustc cannot compile for {target}: {install}"
                );
            }
        }
        Ok(())
    }
}

impl NameIn {
    fn read(self, dir: &Path) -> anyhow::Result<String> {
        let text = |file: &str| {
            let file = dir.join(file);
            std::fs::read_to_string(&file).with_context(|| file.display().to_string())
        };
        let found = match self {
            NameIn::CargoToml => {
                let manifest: toml::Table = text("Cargo.toml")?.parse().context("Cargo.toml")?;
                manifest.get("package").and_then(|package| package.get("name")?.as_str()).map(str::to_owned)
            }
            NameIn::PackageJson => {
                let package: serde_json::Value =
                    serde_json::from_str(&text("package.json")?).context("package.json")?;
                package["name"].as_str().map(str::to_owned)
            }
            NameIn::GoMod => {
                let text = text("go.mod")?;
                let module = text.lines().find_map(|line| line.trim().strip_prefix("module ")).unwrap_or_default();
                module.trim().rsplit('/').next().map(str::to_owned)
            }
            NameIn::Directory => dir.file_name().map(|name| name.to_string_lossy().into_owned()),
        };
        found.filter(|name| !name.is_empty()).with_context(|| format!("the project in {} has no name", dir.display()))
    }
}

fn put(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let place = || file.display().to_string();
    std::fs::create_dir_all(file.parent().unwrap_or(Path::new("."))).with_context(place)?;
    std::fs::write(file, bytes).with_context(place)
}

/// Where a program is.
fn find(program: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// The last `.wasm` file that cargo says it made of this package.
fn artifact(messages: &[u8], dir: &Path) -> anyhow::Result<PathBuf> {
    let manifest = dir.join("Cargo.toml");
    let messages = String::from_utf8_lossy(messages);
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let of_package = messages.filter(|message| {
        message["reason"] == "compiler-artifact"
            && message["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest)
    });
    let files: Vec<PathBuf> = of_package
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|file| file.as_str().map(PathBuf::from))
        .filter(|file| file.extension().is_some_and(|extension| extension == "wasm"))
        .collect();
    files.last().cloned().context("it makes no .wasm file: Cargo.toml needs [lib] crate-type = [\"cdylib\"]")
}
