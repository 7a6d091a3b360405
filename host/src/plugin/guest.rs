//! What a plugin's file is inside: a component or a program, and how each is compiled, linked and asked.

use wasmtime::component::{Component, HasSelf, InstancePre, Linker, Resource};
use wasmtime::{Engine, ExternType, FuncType, Module, Store};
use wasmtime_wasi::p2::bindings::CommandPre;

use super::contract::types::Verdict;
use super::contract::{self, Full, Plugin, PluginIndices};
use super::ending::{Ending, Failure};
use super::load::in_words;
use super::program::Program;
use super::sandbox::Sandbox;
use super::status::{FILTER, RUN, Refusal, START};
use super::terms::Kind;

/// What a component exports that registers itself.
const ABOUT: &str = "weft:plugin/about@0.1.0";
/// The first bytes of a core module and of a component.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// The two ways to be a plugin.
pub(super) enum Guest {
    /// Exports the filter.
    Component(Filter),
    /// Reads and prints JSON.
    Program(Program),
}

/// A component that exports the filter.
pub(super) struct Filter {
    pre: InstancePre<Sandbox>,
    indices: PluginIndices,
}

impl Filter {
    fn new(pre: InstancePre<Sandbox>) -> wasmtime::Result<Filter> {
        let indices = PluginIndices::new(&pre)?;
        Ok(Filter { pre, indices })
    }

    pub(super) async fn instantiate(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<Plugin> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        self.indices.load(store, &instance)
    }

    /// The same at once. It must import nothing that may wait.
    pub(super) fn instantiate_at_once(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<Plugin> {
        let instance = self.pre.instantiate(&mut *store)?;
        self.indices.load(store, &instance)
    }
}

impl Guest {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Guest::Component(_) => Kind::Component,
            Guest::Program(_) => Kind::Program,
        }
    }

    /// The engine it was compiled for.
    pub(super) fn engine(&self) -> &Engine {
        match self {
            Guest::Component(filter) => filter.pre.engine(),
            Guest::Program(Program::Module(pre)) => pre.module().engine(),
            Guest::Program(Program::Command(pre)) => pre.engine(),
        }
    }

    /// Makes a first instance and asks it what it is.
    pub(super) async fn register(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<Result<(), Refusal>> {
        let pre = match self {
            Guest::Component(filter) => &filter.pre,
            Guest::Program(program) => return program.instantiate(store).await.map(Ok),
        };
        let instance = pre.instantiate_async(&mut *store).await?;
        if let Err(error) = Plugin::new(&mut *store, &instance) {
            return Ok(Err(Refusal::Unfit(in_words(&error))));
        }
        if pre.component().get_export_index(None, ABOUT).is_none() {
            return Ok(Ok(()));
        }
        let described = match Full::new(&mut *store, &instance) {
            Ok(described) => described,
            Err(error) => return Ok(Err(Refusal::Unfit(in_words(&error)))),
        };
        // There is one registration in a store, so its number says nothing.
        let said = described.weft_plugin_about().call_register(store, Resource::new_borrow(0)).await?;
        Ok(said.map_err(|error| Refusal::Lifeless(Failure::new(Ending::Permanent, error).error)))
    }
}

/// Asks the filter of an instance.
pub(super) async fn handle(plugin: &Plugin, store: &mut Store<Sandbox>) -> wasmtime::Result<Result<Verdict, Failure>> {
    // There is one delivery in a store, so its number says nothing.
    let said = plugin.weft_plugin_filter().call_handle(store, Resource::new_borrow(0)).await?;
    Ok(said.map_err(Failure::said))
}

/// The same at once. The component must import nothing that may wait.
pub(super) fn handle_at_once(
    plugin: &Plugin,
    store: &mut Store<Sandbox>,
) -> wasmtime::Result<Result<Verdict, Failure>> {
    let (said,) = plugin.weft_plugin_filter().func_handle().call(store, (Resource::new_borrow(0),))?;
    Ok(said.map_err(Failure::said))
}

/// What a file's content was compiled to.
pub(super) enum Compiled {
    Module(Module),
    Component(Component),
}

impl Compiled {
    pub(super) fn new(engine: &Engine, content: &[u8]) -> Result<Compiled, Refusal> {
        let compiled = if content.starts_with(CORE_MODULE) {
            Module::from_binary(engine, content).map(Compiled::Module)
        } else if content.starts_with(COMPONENT) {
            Component::from_binary(engine, content).map(Compiled::Component)
        } else {
            return Err(Refusal::NotWasm);
        };
        compiled.map_err(|error| Refusal::Invalid(in_words(&error)))
    }

    /// What it exports.
    pub(super) fn exports(&self, engine: &Engine) -> Vec<String> {
        match self {
            Compiled::Module(module) => module.exports().map(|export| export.name().to_owned()).collect(),
            Compiled::Component(component) => {
                component.component_type().exports(engine).map(|(name, _)| name.to_owned()).collect()
            }
        }
    }

    /// The interfaces it imports; of a core module, the modules.
    pub(super) fn imports(&self, engine: &Engine) -> Vec<String> {
        match self {
            Compiled::Module(module) => {
                let mut modules: Vec<_> = module.imports().map(|import| import.module().to_owned()).collect();
                modules.dedup();
                modules
            }
            Compiled::Component(component) => {
                component.component_type().imports(engine).map(|(name, _)| name.to_owned()).collect()
            }
        }
    }
}

/// Everything that plugins may import.
pub(super) struct Linkers {
    engine: Engine,
    components: Linker<Sandbox>,
    modules: wasmtime::Linker<Sandbox>,
}

impl Linkers {
    pub(super) fn new(engine: Engine) -> wasmtime::Result<Linkers> {
        let mut components = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut components)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut components)?;
        contract::types::add_to_linker::<_, HasSelf<Sandbox>>(&mut components, |sandbox| sandbox)?;
        contract::log::add_to_linker::<_, HasSelf<Sandbox>>(&mut components, |sandbox| sandbox)?;
        contract::registry::add_to_linker::<_, HasSelf<Sandbox>>(&mut components, |sandbox| sandbox)?;
        contract::state::add_to_linker::<_, HasSelf<Sandbox>>(&mut components, |sandbox| sandbox)?;
        let mut modules = wasmtime::Linker::new(&engine);
        wasmtime_wasi::p1::add_to_linker_async(&mut modules, Sandbox::wasi)?;
        Ok(Linkers { engine, components, modules })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Gives it what it imports.
    pub(super) fn link(&self, compiled: &Compiled) -> Result<Guest, Refusal> {
        match compiled {
            Compiled::Module(module) => self.link_module(module, compiled),
            Compiled::Component(component) => self.link_component(component, compiled),
        }
    }

    fn link_module(&self, module: &Module, compiled: &Compiled) -> Result<Guest, Refusal> {
        if module.get_export(START).is_none() {
            return Err(Refusal::NoStart(compiled.exports(&self.engine)));
        }
        let start = module.get_export(START);
        let is_start = |start: &FuncType| start.params().len() == 0 && start.results().len() == 0;
        if !start.as_ref().and_then(ExternType::func).is_some_and(is_start) {
            return Err(Refusal::Unfit(format!(
                "a function {START} takes nothing and returns nothing; this one is another"
            )));
        }
        let linked = self.modules.instantiate_pre(module);
        Ok(Guest::Program(Program::Module(linked.map_err(|error| Refusal::Unfit(in_words(&error)))?)))
    }

    fn link_component(&self, component: &Component, compiled: &Compiled) -> Result<Guest, Refusal> {
        let exports = |name| component.get_export_index(None, name).is_some();
        let linked = || self.components.instantiate_pre(component);
        let guest = if exports(FILTER) {
            linked().and_then(Filter::new).map(Guest::Component)
        } else if exports(RUN) {
            linked().and_then(CommandPre::new).map(|pre| Guest::Program(Program::Command(pre)))
        } else {
            return Err(Refusal::NoFilter(compiled.exports(&self.engine)));
        };
        guest.map_err(|error| Refusal::Unfit(in_words(&error)))
    }
}
