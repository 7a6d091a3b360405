use std::path::{Path, PathBuf};

use proptest::prelude::*;
use wasmparser::{CanonicalFunction, ComponentAlias, ExternalKind, Parser, Payload, Validator};

use super::leave_out;

fn in_root(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

fn shimmed() -> String {
    std::fs::read_to_string(in_root("tests/fixtures/shimmed.wat")).unwrap()
}

/// The fixture with parts of it replaced.
fn with(edits: &[(&str, &str)]) -> Vec<u8> {
    let mut text = shimmed();
    for (old, new) in edits {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    wat::parse_str(text).unwrap()
}

fn without_shim(name: &str, edits: &[(&str, &str)]) -> Option<Vec<u8>> {
    let component = with(edits);
    Validator::new().validate_all(&component).unwrap_or_else(|error| panic!("{name}: {error}"));
    leave_out(&component)
}

fn goes(name: &str, edits: &[(&str, &str)]) {
    assert!(without_shim(name, edits).is_some(), "{name}");
}

fn stays(name: &str, edits: &[(&str, &str)]) {
    assert!(without_shim(name, edits).is_none(), "{name}");
}

fn modules(component: &[u8]) -> usize {
    let is_module = |payload: &Payload<'_>| matches!(payload, Payload::ModuleSection { .. });
    Parser::new(0).parse_all(component).map(Result::unwrap).filter(is_module).count()
}

/// Which core instance each lifted function is of.
fn lifted_from(component: &[u8]) -> Vec<u32> {
    let (mut functions, mut lifted) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            Payload::ComponentAliasSection(aliases) => {
                functions.extend(aliases.into_iter().filter_map(|alias| match alias.unwrap() {
                    ComponentAlias::CoreInstanceExport { kind: ExternalKind::Func, instance_index, .. } => {
                        Some(instance_index)
                    }
                    _ => None,
                }))
            }
            Payload::ComponentCanonicalSection(canonicals) => {
                for canonical in canonicals {
                    match canonical.unwrap() {
                        CanonicalFunction::Lift { core_func_index, .. } => {
                            lifted.push(functions[core_func_index as usize])
                        }
                        _ => functions.push(u32::MAX),
                    }
                }
            }
            _ => {}
        }
    }
    lifted
}

fn core_instances(component: &[u8]) -> u32 {
    let count = |payload: Payload<'_>| match payload {
        Payload::InstanceSection(instances) => instances.count(),
        _ => 0,
    };
    Parser::new(0).parse_all(component).map(Result::unwrap).map(count).sum()
}

#[test]
fn what_is_called_is_handed_on() {
    let component = with(&[]);
    let without = leave_out(&component).unwrap();
    let last = core_instances(&without) - 1;
    assert_eq!(lifted_from(&without), [last]);
    let more = [("(elem (i32.const 0) func 0 1 2)", "(elem (i32.const 0) func 0 1 2) (func)")];
    let not = without_shim("a last module that does more", &more).unwrap();
    assert_eq!((modules(&not), lifted_from(&not).contains(&last)), (3, false));
    let twice = [(END, &*format!(r#"(alias core export $shim "$imports" (core table)) {END}"#))];
    let not = without_shim("a table that has two names", &twice).unwrap();
    assert_eq!((modules(&not), lifted_from(&not).contains(&last)), (3, false));
}

#[test]
fn a_shim_is_left_out_once() {
    let component = with(&[]);
    let without = leave_out(&component).unwrap();
    assert_eq!((modules(&component), modules(&without)), (4, 3));
    assert_eq!(leave_out(&without), None);
}

#[test]
fn a_plugin_that_cargo_built_has_one() {
    let file = in_root("target/hello/hello-rust.wasm");
    let plugin = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}; try make hello", file.display()));
    let without = leave_out(&plugin).unwrap();
    assert_eq!((modules(&plugin), modules(&without)), (3, 2));
    assert!(lifted_from(&without).contains(&(core_instances(&without) - 1)), "nothing is handed on");
}

/// Where the shim is there and nobody has its functions yet.
const BEFORE_MAIN: &str = "(core instance $main ";
/// Where all core instances are there.
const END: &str = "(instance $filter (export";

#[test]
fn the_main_module_may_have_tables_or_none() {
    goes(
        "none",
        &[
            ("(table $own 1 1 funcref)", ""),
            ("(elem (table $own) (i32.const 0) func $end)", ""),
            ("call_indirect $own (param i32)", "call $end"),
            ("(call $end (local.get $delivery) (i32.const 0))", "(call $end (local.get $delivery))"),
        ],
    );
    goes("two", &[("(table $own 1 1", "(table 7 funcref) (table $own 1 1")]);
    goes("a start", &[("(func $end (param", "(start $nothing) (func $nothing) (func $end (param")]);
}

#[test]
fn what_is_no_shim_stays() {
    let last = r#"(func (export "2") (param i32)"#;
    stays("more is done", &[(last, &format!("{last} (nop)"))]);
    stays("a local", &[(last, &format!("{last} (local i32)"))]);
    let arguments = "(local.get 3) (local.get 4) (i32.const 0)";
    stays("others passed on", &[(arguments, "(local.get 4) (local.get 3) (i32.const 0)")]);
    let table = r#"(table (export "$imports")"#;
    stays("a memory", &[(table, &format!("(memory 1) {table}"))]);
    let full = r#"(table (export "$imports") 3 3 (ref null func) (ref.func 2))"#;
    stays("a full table", &[(r#"(table (export "$imports") 3 3 funcref)"#, full)]);
    stays("a second table", &[(table, &format!("(table 1 funcref) {table}"))]);
    stays(
        "an import",
        &[
            (table, &format!(r#"(import "" "memory" (memory 1)) {table}"#)),
            ("(core module $aside", r#"(core module $aside (memory (export "memory") 1)"#),
            ("(core instance (instantiate $aside))", "(core instance $aside (instantiate $aside))"),
            ("(instantiate $shim-code)", r#"(instantiate $shim-code (with "" (instance $aside)))"#),
        ],
    );
}

#[test]
fn a_shim_that_others_use_stays() {
    let before_main = |name, what: &str| stays(name, &[(BEFORE_MAIN, &format!("{what} {BEFORE_MAIN}"))]);
    before_main("a destructor", "(type (resource (rep i32) (dtor (core func $shim-2))))");
    before_main("a second shim", "(core instance (instantiate $shim-code))");
    before_main("its table before main", r#"(alias core export $shim "$imports" (core table))"#);
    let in_main = "(instantiate $main-code";
    stays("all of it", &[(in_main, &format!(r#"{in_main} (with "all" (instance $shim))"#))]);
    let at_end = |name, what: &str| stays(name, &[(END, &format!("{what} {END}"))]);
    at_end(
        "another module",
        r#"(core module $other (import "" "f" (func (param i32))))
        (core instance (instantiate $other (with "" (instance (export "f" (func $shim-2))))))"#,
    );
    at_end("an export", r#"(export "code" (core module $shim-code))"#);
    at_end("a component within", "(component (alias outer 1 $shim-code (core module)))");
    at_end(
        "an argument",
        r#"(component $c (import "m" (core module))) (instance (instantiate $c (with "m" (core module $aside))))"#,
    );
}

#[test]
fn a_main_module_that_cannot_take_it_in_keeps_it() {
    let again = r#"(core instance (instantiate $main-code
        (with "log" (instance (export "write" (func $write))))
        (with "types" (instance (export "set-header" (func $set-header)) (export "drop" (func $drop))))))"#;
    stays("two instances", &[(END, &format!("{again} {END}"))]);
    let handed = r#"(with "log" (instance (export "write" (func $shim-0))))"#;
    stays(
        "its functions twice",
        &[
            (BEFORE_MAIN, &format!(r#"(core instance $log-given (export "write" (func $shim-0))) {BEFORE_MAIN}"#)),
            (handed, r#"(with "log" (instance $log-given)) (with "again" (instance $log-given))"#),
        ],
    );
    let own = "(table $own 1 1 funcref)";
    stays("the name is taken", &[(own, r#"(table $own (export "$imports") 1 1 funcref)"#)]);
}

proptest! {
    #[test]
    fn no_content_ends_the_host(edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4)) {
        let mut component = with(&[]);
        for (index, byte) in edits {
            let index = index.index(component.len());
            component[index] = byte;
        }
        leave_out(&component);
        leave_out(&component[..component.len() / 2]);
    }
}
