//! The main module with the shim's table and functions in it.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    CodeSection, ExportKind, ExportSection, Function, FunctionSection, ImportSection, Module, NameMap, NameSection,
    SectionId, TableSection,
};
use wasmparser::{
    CodeSectionReader, ExportSectionReader, FunctionSectionReader, ImportSectionReader, Name, Parser, Payload,
    TableSectionReader, TypeRef,
};

use super::plan::Plan;

/// Rewrites the main module. As many functions are added as imports are left out, right behind those that stay: what
/// it defined itself keeps its number.
pub(super) struct Merging<'p> {
    plan: &'p Plan<'p>,
    added: Vec<Added>,
    /// The numbers that imported functions have now.
    functions: Vec<u32>,
    /// How many tables it has of its own, imported ones with them.
    tables: u32,
    /// Whether the table still has to get a section of its own.
    needs_section: bool,
}

/// A function that was imported.
struct Added {
    /// The number of its type.
    kind: u32,
    arguments: u32,
    /// Where in the table it looks.
    slot: u32,
}

impl<'p> Merging<'p> {
    pub(super) fn new(plan: &'p Plan<'p>) -> Option<Merging<'p>> {
        let (mut types, mut imported) = (Vec::new(), Vec::new());
        let (mut tables, mut needs_section) = (0, true);
        for payload in Parser::new(0).parse_all(plan.main) {
            match payload.ok()? {
                Payload::TypeSection(section) => {
                    for kind in section.into_iter_err_on_gc_types() {
                        types.push(kind.ok()?);
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.ok()?;
                        match import.ty {
                            TypeRef::Func(kind) => {
                                imported.push((kind, plan.slots.get(&(import.module, import.name)).copied()));
                            }
                            TypeRef::Table(_) => tables += 1,
                            TypeRef::Memory(_) | TypeRef::Global(_) | TypeRef::Tag(_) => {}
                            // Of a proposal that no plugin may use.
                            TypeRef::FuncExact(_) => return None,
                        }
                    }
                }
                Payload::TableSection(section) => {
                    tables += section.count();
                    needs_section = false;
                }
                Payload::CodeSectionStart { .. } => break,
                _ => {}
            }
        }
        let (mut functions, mut added) = (Vec::new(), Vec::new());
        let mut next_kept = 0;
        let mut next_added = u32::try_from(imported.iter().filter(|(_, slot)| slot.is_none()).count()).ok()?;
        for (kind, slot) in imported {
            let next = if slot.is_some() { &mut next_added } else { &mut next_kept };
            functions.push(*next);
            *next += 1;
            if let Some(slot) = slot {
                let arguments = u32::try_from(types.get(kind as usize)?.params().len()).ok()?;
                added.push(Added { kind, arguments, slot });
            }
        }
        Some(Merging { plan, added, functions, tables, needs_section })
    }

    pub(super) fn write(mut self) -> Result<Module, Error> {
        let mut module = Module::new();
        let main = self.plan.main;
        self.parse_core_module(&mut module, Parser::new(0), main)?;
        Ok(module)
    }
}

impl Reencode for Merging<'_> {
    type Error = Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, Error> {
        Ok(self.functions.get(index as usize).copied().unwrap_or(index))
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: ImportSectionReader<'_>,
    ) -> Result<(), Error> {
        for import in section.into_imports() {
            let import = import?;
            let is_function = matches!(import.ty, TypeRef::Func(_));
            if !(is_function && self.plan.slots.contains_key(&(import.module, import.name))) {
                self.parse_import(imports, import)?;
            }
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), Error> {
        for added in &self.added {
            functions.function(added.kind);
        }
        utils::parse_function_section(self, functions, section)
    }

    fn parse_table_section(&mut self, tables: &mut TableSection, section: TableSectionReader<'_>) -> Result<(), Error> {
        utils::parse_table_section(self, tables, section)?;
        tables.table(self.table_type(self.plan.shim.table)?);
        Ok(())
    }

    fn intersperse_section_hook(
        &mut self,
        module: &mut Module,
        _after: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Result<(), Error> {
        let is_early = matches!(before, Some(SectionId::Type | SectionId::Import | SectionId::Function));
        if self.needs_section && !is_early {
            self.needs_section = false;
            let mut tables = TableSection::new();
            tables.table(self.table_type(self.plan.shim.table)?);
            module.section(&tables);
        }
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: ExportSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_export_section(self, exports, section)?;
        exports.export(self.plan.shim.table_name, ExportKind::Table, self.tables);
        Ok(())
    }

    fn parse_code_section(&mut self, code: &mut CodeSection, section: CodeSectionReader<'_>) -> Result<(), Error> {
        for added in &self.added {
            let mut function = Function::new([]);
            let mut instructions = function.instructions();
            for argument in 0..added.arguments {
                instructions.local_get(argument);
            }
            instructions.i32_const(added.slot.cast_signed()).call_indirect(self.tables, added.kind).end();
            code.function(&function);
        }
        utils::parse_code_section(self, code, section)
    }

    /// Names are sorted by number.
    fn parse_custom_name_subsection(&mut self, names: &mut NameSection, section: Name<'_>) -> Result<(), Error> {
        let Name::Function(named) = section else {
            return utils::parse_custom_name_subsection(self, names, section);
        };
        let mut renumbered = Vec::new();
        for naming in named {
            let naming = naming?;
            renumbered.push((self.function_index(naming.index)?, naming.name));
        }
        renumbered.sort_unstable();
        let mut functions = NameMap::new();
        for (index, name) in renumbered {
            functions.append(index, name);
        }
        names.functions(&functions);
        Ok(())
    }
}
