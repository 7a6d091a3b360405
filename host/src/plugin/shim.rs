//! Leaves out of a component the module that tools put between its own module and what that imports.
//!
//! A host's function that takes text has to know the memory which the text is in, and that memory is there only once
//! the module is that imports the function. So the tools (wit-component, for every language) instantiate a module
//! before it, the shim, of nothing but a table and functions that call what is in the table; and one after it that
//! fills the table. Table and functions may as well be in the module that imports them: a call then instantiates two
//! modules instead of three.
//!
//! What is not exactly of this form is left as it is.

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent, component_utils};
use wasm_encoder::{Component, ComponentAliasSection, ComponentSectionId, InstanceSection, ModuleSection, RawSection};
use wasmparser::{
    ComponentAlias, ComponentAliasSectionReader, CustomSectionReader, Export, ExternalKind, Instance,
    InstanceSectionReader, KnownCustom, Parser, Validator,
};

use module::Merging;
use plan::Plan;

mod forwards;
mod module;
mod plan;

/// The same component without its shim, if it has one that can be left out.
pub(super) fn leave_out(component: &[u8]) -> Option<Vec<u8>> {
    let plan = Plan::of(component)?;
    // Only what is valid is read any further; and what comes out is used only if it is.
    Validator::new().validate_all(component).ok()?;
    let mut written = Component::new();
    Rewriting { plan: &plan, modules: 0, instances: 0 }
        .parse_component(&mut written, Parser::new(0), component)
        .ok()?;
    let written = written.finish();
    Validator::new().validate_all(&written).ok()?;
    Some(written)
}

/// Rewrites the component around the main module.
struct Rewriting<'p> {
    plan: &'p Plan<'p>,
    /// How many there were so far.
    modules: u32,
    instances: u32,
}

/// What the plan did not provide for: one of the functions that it leaves out is used elsewhere.
struct Unforeseen;

impl Rewriting<'_> {
    fn is_of_shim(&self, export: &Export<'_>) -> bool {
        export.kind == ExternalKind::Func && self.plan.functions.binary_search(&export.index).is_ok()
    }
}

impl Reencode for Rewriting<'_> {
    type Error = Unforeseen;

    /// Core functions; in modules there is nothing to rewrite but in the main one.
    fn function_index(&mut self, index: u32) -> Result<u32, Error<Unforeseen>> {
        match self.plan.functions.binary_search(&index) {
            Ok(_) => Err(Error::UserError(Unforeseen)),
            Err(lower) => Ok(index - u32::try_from(lower).expect("there are no more lower numbers than this one")),
        }
    }
}

impl ReencodeComponent for Rewriting<'_> {
    fn module_index(&mut self, index: u32) -> u32 {
        index - u32::from(index > self.plan.shim_module)
    }

    fn instance_index(&mut self, index: u32) -> u32 {
        // All that is left of the shim is its table.
        let index = if index == self.plan.shim_instance { self.plan.main_instance } else { index };
        index - u32::from(index > self.plan.shim_instance)
    }

    fn parse_component_submodule(
        &mut self,
        component: &mut Component,
        _parser: Parser,
        module: &[u8],
    ) -> Result<(), Error<Unforeseen>> {
        let index = self.modules;
        self.modules += 1;
        if index == self.plan.main_module {
            let module = Merging::new(self.plan).and_then(|merging| merging.write().ok());
            component.section(&ModuleSection(&module.ok_or(Error::UserError(Unforeseen))?));
        } else if index != self.plan.shim_module {
            component.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data: module });
        }
        Ok(())
    }

    /// Counts by itself.
    fn parse_component_subcomponent(
        &mut self,
        component: &mut Component,
        _parser: Parser,
        subcomponent: &[u8],
        _whole_component: &[u8],
    ) -> Result<(), Error<Unforeseen>> {
        component.section(&RawSection { id: ComponentSectionId::Component.into(), data: subcomponent });
        Ok(())
    }

    fn parse_instance_section(
        &mut self,
        instances: &mut InstanceSection,
        section: InstanceSectionReader<'_>,
    ) -> Result<(), Error<Unforeseen>> {
        for instance in section {
            let index = self.instances;
            self.instances += 1;
            match instance? {
                _ if index == self.plan.shim_instance => {}
                Instance::FromExports(exports) => {
                    let kept = exports.iter().filter(|export| !self.is_of_shim(export)).copied().collect();
                    self.parse_instance(instances, Instance::FromExports(kept))?;
                }
                instance @ Instance::Instantiate { .. } => self.parse_instance(instances, instance)?,
            }
        }
        Ok(())
    }

    fn parse_component_alias_section(
        &mut self,
        aliases: &mut ComponentAliasSection,
        section: ComponentAliasSectionReader<'_>,
    ) -> Result<(), Error<Unforeseen>> {
        for alias in section {
            match alias? {
                ComponentAlias::CoreInstanceExport { kind: ExternalKind::Func, instance_index, .. }
                    if instance_index == self.plan.shim_instance => {}
                alias => {
                    aliases.alias(self.component_alias(alias)?);
                }
            }
        }
        Ok(())
    }

    /// Its names go by number; nobody reads them.
    fn parse_component_custom_section(
        &mut self,
        component: &mut Component,
        section: CustomSectionReader<'_>,
    ) -> Result<(), Error<Unforeseen>> {
        match section.as_known() {
            KnownCustom::ComponentName(_) => Ok(()),
            _ => component_utils::parse_component_custom_section(self, component, section),
        }
    }
}

#[cfg(test)]
mod tests;
