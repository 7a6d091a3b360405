//! The same for WASI programs: core modules that do something instead of answering, and answers that are none.

use super::Fate::{self, Delivers, Drops, Fails, IsRefused};
use super::*;

/// What stands beside `_start`, what `_start` does, and what becomes of it. `$print` prints so many bytes from there to standard
/// output (1) or error (2) and says how that ended.
const PROGRAMS: [(&str, &str, &str, Fate); 17] = [
    ("loops", "", "(loop $forever (br $forever))", Fails(Ending::Cpu, "ran longer than cpu_max, 50ms")),
    (
        "starts-without-end",
        "(func $endless (loop $forever (br $forever))) (start $endless)",
        "",
        IsRefused("fails before its first call: it ran longer than cpu_max, 50ms"),
    ),
    (
        "recurses",
        "(func $deep (result i32) (i32.add (call $deep) (i32.const 1)))",
        "(drop (call $deep))",
        Fails(Ending::Stack, "call stack exhausted"),
    ),
    (
        "is-hungry",
        "",
        "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable",
        Fails(Ending::Memory, "memory_max, 67108864 bytes"),
    ),
    (
        "has-a-large-table",
        "(table $t 1 funcref)",
        "(loop $more (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 4096)) (i32.const -1)))) unreachable",
        Fails(Ending::Table, "table_elements_max"),
    ),
    ("traps", "", "unreachable", Fails(Ending::Trap, "unreachable")),
    ("exits", "", "(call $exit (i32.const 3))", Fails(Ending::Exit, "3")),
    ("sleeps", SLEEP, "(call $sleep)", Fails(Ending::Time, "took longer than time_max, 200ms")),
    (
        "floods-the-log",
        r#"(data (i32.const 1024) "the sky \1b[31mis falling\n") (global $left (mut i32) (i32.const 2000))"#,
        "(loop $again
          (drop (call $print (i32.const 2) (i32.const 1024) (i32.const 24)))
          (global.set $left (i32.sub (global.get $left) (i32.const 1)))
          (br_if $again (global.get $left)))",
        Delivers,
    ),
    // Of descriptors it has the three that everybody has.
    (
        "forges-descriptors",
        "",
        "(global.set $fd (i32.const 3))
        (loop $next
          (if (i32.eqz (call $print (global.get $fd) (i32.const 1024) (i32.const 1))) (then unreachable))
          (global.set $fd (i32.add (global.get $fd) (i32.const 1)))
          (br_if $next (i32.lt_u (global.get $fd) (i32.const 300))))",
        Delivers,
    ),
    // Addresses that are not its own: it is told, or ends.
    (
        "points-elsewhere",
        "",
        "(drop (call $print (i32.const 1) (i32.const -8) (i32.const 4096)))",
        Fails(Ending::Trap, ""),
    ),
    (
        "answers-and-traps",
        r#"(data (i32.const 1024) "{\22verdict\22:\22drop\22}")"#,
        "(drop (call $print (i32.const 1) (i32.const 1024) (i32.const 18))) unreachable",
        Fails(Ending::Trap, "unreachable"),
    ),
    (
        "nests-without-end",
        "",
        "(memory.fill (i32.const 1024) (i32.const 0x5b) (i32.const 60000))
        (drop (call $print (i32.const 1) (i32.const 1024) (i32.const 60000)))",
        Fails(Ending::Answer, "not as the contract says"),
    ),
    (
        "is-no-text",
        r#"(data (i32.const 1024) "{\22verdict\22:\22drop\22,\22reason\22:\22\ff\22}")"#,
        "(drop (call $print (i32.const 1) (i32.const 1024) (i32.const 31)))",
        Fails(Ending::Answer, "not as the contract says"),
    ),
    (
        "has-a-long-reason",
        r#"(data (i32.const 1024) "{\22verdict\22:\22drop\22,\22reason\22:\22") (data (i32.const 62000) "\22}")"#,
        "(memory.fill (i32.const 1052) (i32.const 0x61) (i32.const 60948))
        (drop (call $print (i32.const 1) (i32.const 1024) (i32.const 60978)))",
        Drops(1024 + '…'.len_utf8()),
    ),
    (
        "wants-more-than-wasi",
        r#"(import "env" "system" (func (param i32)))"#,
        "",
        IsRefused("imports what is not offered: env"),
    ),
    (
        "has-wasi-otherwise",
        r#"(import "wasi_snapshot_preview1" "fd_close" (func (param i64)))"#,
        "",
        IsRefused("does not fit the contract"),
    ),
];

/// For an hour, by the clock that it may have.
const SLEEP: &str = r#"
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (func $sleep
    (i32.store (i32.const 1040) (i32.const 1))
    (i64.store (i32.const 1048) (i64.const 3600000000000))
    (drop (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 8))))"#;

/// Answers that are none, and what is said about them.
const ANSWERS: [(&str, &str); 7] = [
    (r#"{"verdict":"deliver","headers":{"x-a":"b\r\nx-c: d"}}"#, "header \"x-a\" of its answer"),
    (r#"{"verdict":"deliver","headers":{"x a":"b"}}"#, "header \"x a\" of its answer"),
    (r#"{"verdict":"deliver","headers":{"x-o2ims-signature":"b"}}"#, "header \"x-o2ims-signature\" of its answer"),
    (r#"{"verdict":"drop"}{"verdict":"deliver"}"#, "not as the contract says"),
    (r#"{"verdict":5}"#, "not as the contract says"),
    (r#"["deliver"]"#, "not as the contract says"),
    (r#"{"verdict":"deliver","body":{},"body":[]}"#, "not as the contract says"),
];

fn program(beside: &str, start: &str) -> Vec<u8> {
    // Imports come first.
    let (imports, beside): (Vec<_>, Vec<_>) = beside.lines().partition(|line| line.trim().starts_with("(import"));
    let module = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          {}
          (memory (export "memory") 1)
          (global $fd (mut i32) (i32.const 0))
          (func $print (param $to i32) (param $at i32) (param $size i32) (result i32)
            (i32.store (i32.const 0) (local.get $at))
            (i32.store (i32.const 4) (local.get $size))
            (call $fd_write (local.get $to) (i32.const 0) (i32.const 1) (i32.const 8)))
          {}
          (func (export "_start") {start}))"#,
        imports.join("\n"),
        beside.join("\n"),
    );
    wat::parse_str(module).unwrap()
}

#[tokio::test]
async fn each_misbehaving_program_has_its_name_and_harms_nobody() {
    let fixture = PROGRAMS.iter().fold(Fixture::of(&["deliver"]), |fixture, (name, beside, start, _)| {
        fixture.file(&format!("{name}.wasm"), &program(beside, start))
    });
    let fixture = fixture.with(|config| {
        let grants = [Grant::Clock].into();
        let named = Named { time_max: Some(Duration::from_millis(200)), grants, ..Named::default() };
        config.named.insert("sleeps".to_owned(), named);
    });
    let plugins = fixture.load().await;
    for (name, _, _, fate) in &PROGRAMS {
        check(&plugins, name, fate).await;
        all_is_well(&plugins, fixture.config.calls_max, name).await;
    }
}

#[tokio::test]
async fn each_answer_that_is_none_has_its_name_and_changes_nothing() {
    for (answer, words) in ANSWERS {
        let fixture = Fixture::of(&["deliver"]).file("said.wasm", &program::says(answer, "", 0));
        let plugins = fixture.load().await;
        check(&plugins, "said", &Fails(Ending::Answer, words)).await;
        all_is_well(&plugins, fixture.config.calls_max, answer).await;
    }
}

/// What comes with another verdict than `deliver` has no effect.
#[tokio::test]
async fn a_body_beside_a_drop_is_nobodys() {
    let answer = r#"{"verdict":"drop","reason":"no","body":{"new":"body"},"headers":{"x-a":"b\r\n"}}"#;
    let plugins = Fixture::of(&[]).file("said.wasm", &program::says(answer, "", 0)).load().await;
    check(&plugins, "said", &Drops(2)).await;
}

#[tokio::test]
async fn a_beginning_that_takes_or_returns_something_is_refused() {
    for start in ["(func (export \"_start\") (param i32))", "(global (export \"_start\") i32 (i32.const 1))"] {
        let module = wat::parse_str(format!("(module {start})")).unwrap();
        let plugins = Fixture::of(&["deliver"]).file("odd.wasm", &module).load().await;
        check(&plugins, "odd", &IsRefused("_start takes nothing and returns nothing")).await;
    }
}
