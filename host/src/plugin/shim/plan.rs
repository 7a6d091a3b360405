//! Where a component has a shim, and which module imports it.

use std::collections::BTreeMap;

use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, ExternalKind, Instance, Parser, Payload,
};

use super::forwards::Forwards;

/// Counts modules, core instances and core functions as the component does.
pub(super) struct Plan<'a> {
    pub shim: Forwards<'a>,
    pub shim_module: u32,
    pub shim_instance: u32,
    /// The one that imports the shim's functions.
    pub main: &'a [u8],
    pub main_module: u32,
    pub main_instance: u32,
    /// The shim's functions, by the names the main module imports them by: where in the table each looks.
    pub slots: BTreeMap<(&'a str, &'a str), u32>,
    /// The shim's functions, as the component knows them.
    pub functions: Vec<u32>,
}

impl<'a> Plan<'a> {
    pub(super) fn of(component: &'a [u8]) -> Option<Plan<'a>> {
        let survey = Survey::of(component)?;
        let of_module = |(index, module): (usize, &&'a [u8])| Some((index, Forwards::of(module)?));
        let (shim_module, shim) = survey.modules.iter().enumerate().find_map(of_module)?;
        let shim_instance = survey.only_instance_of(shim_module)?;
        let mut given = survey.exports_from(shim_instance, &shim)?;
        let (mut main, mut slots) = (None, BTreeMap::new());
        for (index, instance) in survey.instances.iter().enumerate() {
            let Instance::Instantiate { args, .. } = instance else { continue };
            for arg in args {
                if arg.index == shim_instance {
                    return None;
                }
                // What is taken is empty; the module that is handed it once more would miss it.
                let Some(functions) = given.get_mut(&arg.index) else { continue };
                if functions.is_empty() || *main.get_or_insert(index) != index {
                    return None;
                }
                slots.extend(functions.drain(..).map(|(name, slot)| ((arg.name, name), slot)));
            }
        }
        let main_instance = main?;
        let Instance::Instantiate { module_index, .. } = survey.instances.get(main_instance)? else { return None };
        let main = *survey.modules.get(*module_index as usize)?;
        let main_instance = u32::try_from(main_instance).ok()?;
        if survey.only_instance_of(*module_index as usize)? != main_instance {
            return None;
        }
        let of_shim = |from: &Option<(u32, &str)>| from.is_some_and(|(instance, _)| instance == shim_instance);
        let functions = survey.functions.iter().zip(0..).filter(|(from, _)| of_shim(from)).map(|(_, index)| index);
        Some(Plan {
            functions: functions.collect(),
            shim,
            shim_module: u32::try_from(shim_module).ok()?,
            shim_instance,
            main,
            main_module: *module_index,
            main_instance,
            slots,
        })
    }
}

/// What a component consists of.
#[derive(Default)]
struct Survey<'a> {
    modules: Vec<&'a [u8]>,
    instances: Vec<Instance<'a>>,
    /// Core functions: those of an instance with that instance and their name in it.
    functions: Vec<Option<(u32, &'a str)>>,
}

impl<'a> Survey<'a> {
    /// Nothing, where modules are more than instantiated: somebody else counts them too.
    fn of(component: &'a [u8]) -> Option<Survey<'a>> {
        let mut survey = Survey::default();
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(component) {
            let payload = payload.ok()?;
            match &payload {
                Payload::ModuleSection { unchecked_range, .. } => {
                    if depth == 0 {
                        survey.modules.push(component.get(unchecked_range.clone())?);
                    }
                    depth += 1;
                }
                Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentAliasSection(aliases) => {
                    for alias in aliases.clone() {
                        if let ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. } = alias.ok()? {
                            return None;
                        }
                    }
                }
                _ => {}
            }
            if depth == 0 {
                survey.add(payload)?;
            }
        }
        Some(survey)
    }

    fn add(&mut self, payload: Payload<'a>) -> Option<()> {
        const MODULE: ComponentExternalKind = ComponentExternalKind::Module;
        match payload {
            Payload::InstanceSection(instances) => {
                for instance in instances {
                    self.instances.push(instance.ok()?);
                }
            }
            Payload::ComponentCanonicalSection(canonicals) => {
                for canonical in canonicals {
                    if !matches!(canonical.ok()?, CanonicalFunction::Lift { .. }) {
                        self.functions.push(None);
                    }
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases {
                    match alias.ok()? {
                        ComponentAlias::CoreInstanceExport { kind: ExternalKind::Func, instance_index, name } => {
                            self.functions.push(Some((instance_index, name)));
                        }
                        ComponentAlias::InstanceExport { kind: MODULE, .. } => return None,
                        _ => {}
                    }
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports {
                    if let ComponentTypeRef::Module(_) = import.ok()?.ty {
                        return None;
                    }
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports {
                    if export.ok()?.kind == MODULE {
                        return None;
                    }
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances {
                    let hands_on_a_module = match instance.ok()? {
                        ComponentInstance::Instantiate { args, .. } => args.iter().any(|arg| arg.kind == MODULE),
                        ComponentInstance::FromExports(exports) => exports.iter().any(|export| export.kind == MODULE),
                    };
                    if hands_on_a_module {
                        return None;
                    }
                }
            }
            _ => {}
        }
        Some(())
    }

    /// The shim's functions that instances made of exports have: their names there, and where in the table they look.
    fn exports_from(&self, shim: u32, forwards: &Forwards<'_>) -> Option<BTreeMap<u32, Vec<(&'a str, u32)>>> {
        let mut found = BTreeMap::<_, Vec<_>>::new();
        for (instance, index) in self.instances.iter().zip(0..) {
            let Instance::FromExports(exports) = instance else { continue };
            for export in exports.iter().filter(|export| export.kind == ExternalKind::Func) {
                if let Some((from, name)) = *self.functions.get(export.index as usize)?
                    && from == shim
                {
                    found.entry(index).or_default().push((export.name, *forwards.slots.get(name)?));
                }
            }
        }
        Some(found)
    }

    fn only_instance_of(&self, module: usize) -> Option<u32> {
        let mut found = self.instances.iter().zip(0..).filter_map(|(instance, index)| match instance {
            Instance::Instantiate { module_index, .. } if *module_index as usize == module => Some(index),
            Instance::Instantiate { .. } | Instance::FromExports(_) => None,
        });
        found.next().filter(|_| found.next().is_none())
    }
}
