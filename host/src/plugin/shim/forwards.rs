//! The shim by itself: a table, and functions that call what is in it.

use std::collections::BTreeMap;

use wasmparser::{Encoding, ExternalKind, FunctionBody, Operator, Parser, Payload, TableInit, TableType};

/// What follows on the arguments: where to look, the call, and the end.
const CALLED: usize = 3;

/// A module of nothing else.
pub(super) struct Forwards<'a> {
    pub table: TableType,
    /// What the table is exported as.
    pub table_name: &'a str,
    /// Where in the table each function looks, by what it is exported as.
    pub slots: BTreeMap<&'a str, u32>,
}

impl<'a> Forwards<'a> {
    pub(super) fn of(module: &'a [u8]) -> Option<Forwards<'a>> {
        let (mut types, mut functions, mut tables) = (Vec::new(), Vec::new(), Vec::new());
        let (mut names, mut table_names, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        for payload in Parser::new(0).parse_all(module) {
            match payload.ok()? {
                Payload::Version { encoding: Encoding::Module, .. }
                | Payload::CodeSectionStart { .. }
                | Payload::CustomSection(_)
                | Payload::End(_) => {}
                Payload::TypeSection(section) => {
                    for kind in section.into_iter_err_on_gc_types() {
                        types.push(kind.ok()?);
                    }
                }
                Payload::FunctionSection(section) => {
                    for function in section {
                        functions.push(function.ok()?);
                    }
                }
                Payload::TableSection(section) => {
                    for table in section {
                        let table = table.ok()?;
                        if !matches!(table.init, TableInit::RefNull) {
                            return None;
                        }
                        tables.push(table.ty);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export.ok()?;
                        match export.kind {
                            ExternalKind::Func => names.push((export.name, export.index)),
                            ExternalKind::Table => table_names.push(export.name),
                            _ => return None,
                        }
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    let kind = *functions.get(slots.len())?;
                    let arguments = types.get(kind as usize)?.params().len();
                    slots.push(slot(&body, kind, arguments)?);
                }
                _ => return None,
            }
        }
        let ([table], [table_name]) = (&tables[..], &table_names[..]) else { return None };
        let slot_of = |(name, index): (&'a str, u32)| Some((name, *slots.get(index as usize)?));
        let slots = names.into_iter().map(slot_of).collect::<Option<_>>()?;
        Some(Forwards { table: *table, table_name, slots })
    }
}

/// Where a function looks that passes all of its arguments on, and does nothing beside.
fn slot(body: &FunctionBody<'_>, kind: u32, arguments: usize) -> Option<u32> {
    if body.get_locals_reader().ok()?.get_count() > 0 {
        return None;
    }
    let operators = body.get_operators_reader().ok()?.into_iter().take(arguments + CALLED + 1);
    let operators = operators.collect::<Result<Vec<_>, _>>().ok()?;
    let (passed, called) = operators.split_at_checked(arguments)?;
    let are_all = passed
        .iter()
        .zip(0..)
        .all(|(operator, index)| matches!(operator, Operator::LocalGet { local_index } if *local_index == index));
    match called {
        [Operator::I32Const { value }, Operator::CallIndirect { type_index, table_index: 0 }, Operator::End]
            if are_all && *type_index == kind =>
        {
            u32::try_from(*value).ok()
        }
        _ => None,
    }
}
