//! Which world of the contract a Python project asks for. componentize-py has no say in it: a component imports all that its
//! world does, used or not, and one that imports `state` is refused without the grant.

use std::path::Path;

use anyhow::Context;

/// The one with `state` if a module beside `app.py` imports it.
pub(super) fn of_python(dir: &Path) -> anyhow::Result<&'static str> {
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "py") {
            let source = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            if imports_state(&source) {
                return Ok("full");
            }
        }
    }
    Ok("described")
}

/// Whether a module has `wit_world.imports.state`, by whichever form of the statement. What else is called so does not count.
fn imports_state(source: &str) -> bool {
    const MODULES: &str = "wit_world.imports";
    let code: String =
        source.lines().map(|line| line.split('#').next().unwrap_or_default().to_owned() + "\n").collect();
    code.match_indices(MODULES).any(|(at, _)| {
        let rest = &code[at + MODULES.len()..];
        if let Some(module) = rest.strip_prefix('.') {
            return words(module).next() == Some("state");
        }
        let Some(names) = rest.trim_start().strip_prefix("import ") else { return false };
        let end = if names.trim_start().starts_with('(') { ')' } else { '\n' };
        // `name as other` is the module `name`.
        names.split(end).next().unwrap_or_default().split(',').any(|name| words(name).next() == Some("state"))
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|char: char| !(char.is_alphanumeric() || char == '_')).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: bool) {
        assert_eq!(imports_state(source), expected, "{source}");
    }

    #[test]
    fn whoever_imports_state_has_it() {
        check("from wit_world.imports import state\n", true);
        check("from wit_world.imports import log, state as kept\n", true);
        check("from wit_world.imports import (\n    log,  # the log\n    state,\n)\n", true);
        check("from wit_world.imports.state import StateError_Quota\n", true);
        check("import wit_world.imports.state\n", true);
    }

    #[test]
    fn nobody_else_does() {
        check("from wit_world.imports import log\nstate = {}\n", false);
        check("from wit_world.imports import log as state\n", false);
        check("from wit_world.imports.types import Delivery\nstate = 1\n", false);
        check("# from wit_world.imports import state\n", false);
        check("from wit_world.imports import log  # not state\n", false);
        check("", false);
    }
}
