//! Leaves out of a component the module that tools put between its own module and what that imports.
//!
//! A host's function that takes text has to know the memory which the text is in, and that memory is there only once
//! the module is that imports the function. So the tools (wit-component, for every language) instantiate a module
//! before it, the shim, of nothing but a table and functions that call what is in the table; and one after it that
//! fills the table. Table and functions may as well be in the module that imports them: a call then instantiates two
//! modules instead of three.
//!
//! The host looks a function up each time it calls it. That takes several steps, through memory that only this instance has,
//! where it is a function of the module that has it, and one step where that module imports it. So the module that fills the table
//! imports what is called for each delivery, and hands it on.
//!
//! What is not exactly of this form is left as it is.

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent, component_utils};
use wasm_encoder::{
    Alias, Component, ComponentAliasSection, ComponentSectionId, ExportKind, InstanceSection, ModuleSection, RawSection,
};
use wasmparser::{
    ComponentAlias, ComponentAliasSectionReader, CustomSectionReader, ExternalKind, Instance, InstanceSectionReader,
    KnownCustom, Parser, Validator,
};

use module::Merging;
use plan::Plan;

mod forwards;
mod last;
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

impl Reencode for Rewriting<'_> {
    type Error = Unforeseen;

    /// Core functions; in modules there is nothing to rewrite but in the main one.
    fn function_index(&mut self, index: u32) -> Result<u32, Error<Unforeseen>> {
        self.plan.renumbered(index).ok_or(Error::UserError(Unforeseen))
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
        let rewritten = if index == self.plan.main_module {
            Merging::new(self.plan).and_then(|merging| merging.write().ok())
        } else if let Some(added) = self.plan.handing_on.as_ref().filter(|added| added.last_module == index) {
            added.last.write().ok()
        } else {
            if index != self.plan.shim_module {
                component.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data: module });
            }
            return Ok(());
        };
        component.section(&ModuleSection(&rewritten.ok_or(Error::UserError(Unforeseen))?));
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
        let plan = self.plan;
        for instance in section {
            let index = self.instances;
            self.instances += 1;
            match instance? {
                _ if index == plan.shim_instance => {}
                Instance::FromExports(exports) => {
                    let mut written = Vec::with_capacity(exports.len() + 1);
                    for export in exports.iter().filter(|export| !plan.is_of_shim(export)) {
                        let number = self.external_index(export.kind, export.index)?;
                        written.push((export.name, self.export_kind(export.kind)?, number));
                    }
                    if let Some(added) = plan.handing_on.as_ref().filter(|added| added.given == index) {
                        written.push((added.name, ExportKind::Func, added.number));
                    }
                    instances.export_items(written);
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
        const FUNCTION: ExternalKind = ExternalKind::Func;
        let Plan { shim_instance, main_instance, handing_on, .. } = self.plan;
        for alias in section {
            match alias? {
                ComponentAlias::CoreInstanceExport { kind: FUNCTION, instance_index, .. }
                    if instance_index == *shim_instance => {}
                ComponentAlias::CoreInstanceExport { kind: FUNCTION, instance_index, name }
                    if instance_index == *main_instance
                        && let Some(added) = handing_on
                        && added.name == name =>
                {
                    let instance_index = added.last_instance;
                    let alias = ComponentAlias::CoreInstanceExport { kind: FUNCTION, instance_index, name };
                    aliases.alias(self.component_alias(alias)?);
                }
                ComponentAlias::CoreInstanceExport { kind: ExternalKind::Table, instance_index, name }
                    if instance_index == *shim_instance =>
                {
                    let instance = self.instance_index(*main_instance);
                    aliases.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Table, name });
                    if let Some(added) = handing_on {
                        aliases.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Func, name: added.name });
                    }
                }
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
