//! Where a component has a shim, and which module imports it.

use std::collections::BTreeMap;

use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Export, ExternalKind, Instance, Parser, Payload,
};

use super::forwards::Forwards;
use super::last::Last;

/// The end of the name of what the host calls for each delivery.
const CALLED: &str = "handle";

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
    /// What is called is handed on by the module that fills the table, if it can be.
    pub handing_on: Option<HandingOn<'a>>,
}

/// How a function of the main module comes to be one that another imports.
pub(super) struct HandingOn<'a> {
    /// The function.
    pub name: &'a str,
    /// Who imports it.
    pub last: Last<'a>,
    pub last_module: u32,
    pub last_instance: u32,
    /// The exports that it is given.
    pub given: u32,
    /// The function's number without those of the shim: it gets it where the shim's table is named.
    pub number: u32,
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
        let of_shim = survey.functions.iter().zip(0..).filter(|(from, _)| is_of(from, shim_instance));
        Some(Plan {
            handing_on: survey.handing_on(shim_instance, shim.table_name, main_instance),
            functions: of_shim.map(|(_, index)| index).collect(),
            shim,
            shim_module: u32::try_from(shim_module).ok()?,
            shim_instance,
            main,
            main_module: *module_index,
            main_instance,
            slots,
        })
    }

    /// The number that a core function has when those of the shim are left out; they have none.
    pub(super) fn renumbered(&self, index: u32) -> Option<u32> {
        let lower = self.functions.binary_search(&index).err()?;
        let number = index - u32::try_from(lower).ok()?;
        let is_behind = self.handing_on.as_ref().is_some_and(|added| number >= added.number);
        Some(number + u32::from(is_behind))
    }

    /// Whether it is one of the shim's functions.
    pub(super) fn is_of_shim(&self, export: &Export<'_>) -> bool {
        export.kind == ExternalKind::Func && self.functions.binary_search(&export.index).is_ok()
    }
}

fn is_of(function: &Option<(u32, &str)>, instance: u32) -> bool {
    function.is_some_and(|(from, _)| from == instance)
}

/// What a component consists of.
#[derive(Default)]
struct Survey<'a> {
    modules: Vec<&'a [u8]>,
    instances: Vec<Instance<'a>>,
    /// Core functions: those of an instance with that instance and their name in it.
    functions: Vec<Option<(u32, &'a str)>>,
    /// Tables of instances: the instance, and how many core functions there were before.
    tables: Vec<(u32, usize)>,
    /// Core functions that became functions of the component.
    lifted: Vec<u32>,
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
                    match canonical.ok()? {
                        CanonicalFunction::Lift { core_func_index, .. } => self.lifted.push(core_func_index),
                        _ => self.functions.push(None),
                    }
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases {
                    match alias.ok()? {
                        ComponentAlias::CoreInstanceExport { kind: ExternalKind::Func, instance_index, name } => {
                            self.functions.push(Some((instance_index, name)));
                        }
                        ComponentAlias::CoreInstanceExport { kind: ExternalKind::Table, instance_index, .. } => {
                            self.tables.push((instance_index, self.functions.len()));
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

    /// How what the host calls comes to be handed on.
    fn handing_on(&self, shim: u32, table: &str, main: u32) -> Option<HandingOn<'a>> {
        let of_lifted = |index: &u32| *self.functions.get(*index as usize)?;
        let mut called = self.lifted.iter().filter_map(of_lifted);
        let (_, name) = called.find(|(instance, name)| *instance == main && name.ends_with(CALLED))?;
        let has_table = |index: u32| match self.instances.get(index as usize) {
            Some(Instance::FromExports(exports)) => {
                exports.iter().any(|export| export.kind == ExternalKind::Table && export.name == table)
            }
            _ => false,
        };
        let (last_module, given) = self.instances.iter().find_map(|instance| match instance {
            Instance::Instantiate { module_index, args } if let [arg] = &args[..] => {
                has_table(arg.index).then_some((*module_index, arg))
            }
            _ => None,
        })?;
        let mut tables = self.tables.iter().filter(|(instance, _)| *instance == shim);
        let (_, before) = tables.next().filter(|_| tables.next().is_none())?;
        let are_left = self.functions.get(..*before)?.iter().filter(|from| !is_of(from, shim));
        Some(HandingOn {
            name,
            last: Last::of(self.modules.get(last_module as usize)?, given.name, name)?,
            last_module,
            last_instance: self.only_instance_of(last_module as usize)?,
            given: given.index,
            number: u32::try_from(are_left.count()).ok()?,
        })
    }

    fn only_instance_of(&self, module: usize) -> Option<u32> {
        let mut found = self.instances.iter().zip(0..).filter_map(|(instance, index)| match instance {
            Instance::Instantiate { module_index, .. } if *module_index as usize == module => Some(index),
            Instance::Instantiate { .. } | Instance::FromExports(_) => None,
        });
        found.next().filter(|_| found.next().is_none())
    }
}
