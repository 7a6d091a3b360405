//! The module that fills the shim's table, and hands on what the host calls.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{EntityType, ExportKind, ExportSection, ImportSection, Module, SectionId, TypeSection, ValType};
use wasmparser::{Encoding, ImportSectionReader, Parser, Payload, TypeRef, TypeSectionReader};

/// A module of nothing but types, imports and what is put into tables. Functions can be added to it: nobody counts them.
pub(super) struct Last<'a> {
    module: &'a [u8],
    types: u32,
    functions: u32,
    /// The instance that it imports from, and the function that it hands on.
    from: &'a str,
    name: &'a str,
}

impl<'a> Last<'a> {
    pub(super) fn of(module: &'a [u8], from: &'a str, name: &'a str) -> Option<Last<'a>> {
        let (mut types, mut functions) = (0, 0);
        for payload in Parser::new(0).parse_all(module) {
            match payload.ok()? {
                Payload::Version { encoding: Encoding::Module, .. }
                | Payload::ElementSection(_)
                | Payload::CustomSection(_)
                | Payload::End(_) => {}
                Payload::TypeSection(section) => {
                    for kind in section.into_iter_err_on_gc_types() {
                        kind.ok()?;
                        types += 1;
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        functions += u32::from(matches!(import.ok()?.ty, TypeRef::Func(_)));
                    }
                }
                _ => return None,
            }
        }
        Some(Last { module, types, functions, from, name })
    }

    pub(super) fn write(&self) -> Result<Module, Error> {
        let (mut module, mut rewriting) = (Module::new(), self);
        rewriting.parse_core_module(&mut module, Parser::new(0), self.module)?;
        Ok(module)
    }
}

impl Reencode for &Last<'_> {
    type Error = Infallible;

    /// Takes a delivery, and says where the answer is.
    fn parse_type_section(&mut self, types: &mut TypeSection, section: TypeSectionReader<'_>) -> Result<(), Error> {
        utils::parse_type_section(self, types, section)?;
        types.ty().function([ValType::I32], [ValType::I32]);
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: ImportSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_import_section(self, imports, section)?;
        imports.import(self.from, self.name, EntityType::Function(self.types));
        Ok(())
    }

    fn intersperse_section_hook(
        &mut self,
        module: &mut Module,
        _after: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Result<(), Error> {
        if before == Some(SectionId::Element) {
            let mut exports = ExportSection::new();
            exports.export(self.name, ExportKind::Func, self.functions);
            module.section(&exports);
        }
        Ok(())
    }
}
