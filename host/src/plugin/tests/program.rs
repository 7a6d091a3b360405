//! WASI programs, by what they read and print.

use super::*;

/// A core module that prints this and ends with this code.
pub(super) fn says(answer: &str, log: &str, code: u32) -> Vec<u8> {
    let text = |text: &str| text.bytes().map(|byte| format!("\\{byte:02x}")).collect::<String>();
    let module = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
          (memory (export "memory") 1)
          (data (i32.const 64) "{}")
          (data (i32.const 8192) "{}")
          (func $print (param $to i32) (param $at i32) (param $size i32)
            (i32.store (i32.const 0) (local.get $at))
            (i32.store (i32.const 4) (local.get $size))
            (drop (call $fd_write (local.get $to) (i32.const 0) (i32.const 1) (i32.const 8))))
          (func (export "_start")
            (call $print (i32.const 1) (i32.const 64) (i32.const {}))
            (call $print (i32.const 2) (i32.const 8192) (i32.const {}))
            (call $proc_exit (i32.const {code}))))"#,
        text(answer),
        text(log),
        answer.len(),
        log.len(),
    );
    wat::parse_str(module).unwrap()
}

async fn answers(answer: &str) -> (Decision, Vec<Ending>) {
    let fixture = Fixture::of(&[]).file("said.wasm", &says(answer, "", 0));
    run(&fixture.load().await, &["said"]).await
}

fn header<'a>(draft: &'a Draft, name: &str) -> Option<&'a str> {
    draft.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn nothing_printed_delivers_as_is() {
    let plugins = Fixture::of(&["program"]).load().await;
    let (decision, endings) = run(&plugins, &["program"]).await;
    assert_eq!(endings, [Ending::Deliver]);
    assert!(matches!(decision, Decision::Deliver { draft, .. } if draft.body() == EVENT));
    assert!(matches!(answers(" \n").await.0, Decision::Deliver { .. }));
}

#[tokio::test]
async fn a_program_reads_the_delivery_with_every_byte_of_its_body() {
    let plugins = Fixture::of(&["program-echo"]).load().await;
    let body = r#"{"n":1.10,"big":123456789012345678901234567890, "e":1E+2,"s":"\u00e9"}"#;
    let (call, mut draft) = delivery();
    draft.set_body(Bytes::from_static(body.as_bytes())).unwrap();
    let mut chain = chain(&["program-echo"], OnError::Retry);
    chain[0].settings = r#"{"keep":2.0}"#.into();
    let (decision, _) = plugins.run(&chain, call, draft).await;
    let Decision::Deliver { draft, .. } = decision else { panic!("{decision:?}") };
    let expected =
        r#"{"weft":"0.1","id":"n-1","eventType":"o2ims.Resource.Created","subscriptionId":"sub-1","run":0,"now":0,"#
            .to_owned()
            + r#""destination":"https://smo.example.com","settings":{"keep":2.0},"headers":[["content-type","application/json"]],"body":"#
            + body
            + "}";
    assert_eq!(std::str::from_utf8(draft.body()).unwrap(), expected);
    assert_eq!(header(&draft, "x-echo"), Some("yes"));
}

#[tokio::test]
async fn a_body_that_is_no_json_travels_as_base64_both_ways() {
    let plugins = Fixture::of(&["program-echo"])
        .file(
            "binary.wasm",
            &says(r#"{"verdict":"deliver","bodyBase64":"AP+A","headers":{"content-type":"image/png"}}"#, "", 0),
        )
        .load()
        .await;
    let (decision, _) = run(&plugins, &["binary"]).await;
    let Decision::Deliver { draft, .. } = decision else { panic!("{decision:?}") };
    assert_eq!(&draft.body()[..], b"\0\xff\x80");
    assert_eq!(header(&draft, "content-type"), Some("image/png"));
    let (decision, _) = run(&plugins, &["binary", "program-echo"]).await;
    let Decision::Deliver { draft, .. } = decision else { panic!("{decision:?}") };
    let document = std::str::from_utf8(draft.body()).unwrap();
    assert!(document.ends_with(r#""headers":[["content-type","image/png"]],"bodyBase64":"AP+A"}"#), "{document}");
    assert_eq!(header(&draft, "content-type"), Some("application/json"), "its new body is JSON");
}

#[tokio::test]
async fn a_program_drops_postpones_and_gives_up() {
    let (decision, _) = answers(r#"{"verdict":"drop","reason":"test traffic"}"#).await;
    assert!(matches!(decision, Decision::Drop { reason, .. } if reason == "test traffic"));
    let (decision, _) = answers(r#"{"verdict":"postpone","delayMs":5000}"#).await;
    assert!(matches!(decision, Decision::Postpone { after, .. } if after == Duration::from_secs(5)));
    let (decision, _) = answers(r#"{"verdict":"postpone","delayMs":99999999999}"#).await;
    assert!(matches!(decision, Decision::Postpone { after: POSTPONE_MAX, .. }));
    let (decision, endings) = answers(r#"{"verdict":"dead-letter","reason":"bad","body":null}"#).await;
    assert!(matches!(decision, Decision::DeadLetter { reason, .. } if reason == "bad"));
    assert_eq!(endings, [Ending::DeadLetter]);
}

#[tokio::test]
async fn null_removes_a_header() {
    let (decision, _) = answers(r#"{"verdict":"deliver","headers":{"Content-Type":null,"X-A":"1"}}"#).await;
    let Decision::Deliver { draft, .. } = decision else { panic!("{decision:?}") };
    assert_eq!((header(&draft, "content-type"), header(&draft, "x-a")), (None, Some("1")));
}

#[tokio::test]
async fn a_wrong_answer_is_a_failure_that_says_what_is_wrong() {
    for (answer, error) in [
        ("hello", "its answer is not as the contract says: expected value at line 1 column 1; it is: hello"),
        (r#"{"verdict":"deliver"} {}"#, "trailing characters"),
        (r#"{"verdict":"deliver","bdy":1}"#, "unknown field `bdy`"),
        (r#"{"verdict":"send"}"#, "unknown variant `send`"),
        (r#"{"reason":"x"}"#, "missing field `verdict`"),
        (r#"{"verdict":"postpone"}"#, "its answer is postpone, without delayMs"),
        (r#"{"verdict":"postpone","delayMs":-1}"#, "invalid value"),
        (r#"{"verdict":"deliver","body":1,"bodyBase64":"AA=="}"#, "its answer has both body and bodyBase64"),
        (r#"{"verdict":"deliver","bodyBase64":"?"}"#, "bodyBase64 of its answer: "),
        (
            r#"{"verdict":"deliver","headers":{"Host":"evil"}}"#,
            "header \"Host\" of its answer: this header is the host's own",
        ),
        (
            r#"{"verdict":"deliver","headers":{"x":"a\r\nhost: evil"}}"#,
            "header \"x\" of its answer: not a valid header value",
        ),
    ] {
        let (decision, endings) = answers(answer).await;
        assert_eq!(endings, [Ending::Answer], "{answer}");
        let Decision::Failed { error: found, lasting, .. } = decision else { panic!("{decision:?}") };
        assert!(found.contains(error), "{answer}: {found}");
        assert_eq!(lasting, Lasting::Transient);
    }
}

#[tokio::test]
async fn another_exit_code_is_a_failure_with_what_it_printed() {
    let fixture = Fixture::of(&[]).file("said.wasm", &says(r#"{"verdict":"drop"}"#, "no database\n", 3));
    let (ending, error, lasting) = failure(fixture, "said").await;
    assert_eq!((ending, lasting), (Ending::Exit, Lasting::Transient));
    assert_eq!(error, "it called exit(3); it printed: no database");
}

#[tokio::test]
async fn too_long_an_answer_ends_the_call() {
    let (ending, error, _) = failure(Fixture::of(&["program-flood"]), "program-flood").await;
    assert_eq!(ending, Ending::Output);
    assert_eq!(error, "its answer is larger than output_max, 4194304 bytes");
}

#[tokio::test]
async fn too_large_a_body_is_too_much_output() {
    let plugins = Fixture::of(&["program-echo"]).load().await;
    let (call, _) = delivery();
    let draft = Draft::new(Arc::clone(&call.event), 100);
    let (decision, reports) = plugins.run(&chain(&["program-echo"], OnError::Retry), call, draft).await;
    assert_eq!(reports[0].ending, Ending::Output);
    assert!(matches!(decision, Decision::Failed { error, .. } if error.contains("larger than body_bytes_max")));
}

#[tokio::test]
async fn a_command_component_is_a_program_too() {
    let plugins = Fixture::of(&["command"]).load().await;
    assert_eq!(plugins.list()[0].state, State::Ready);
    let (decision, _) = run(&plugins, &["command"]).await;
    assert!(matches!(decision, Decision::Drop { reason, .. } if reason == "by a command"));
}

#[tokio::test]
async fn a_program_is_held_to_the_same_limits() {
    let loops = r#"(module (memory (export "memory") 1) (func (export "_start") (loop $forever (br $forever))))"#;
    let grows = r#"(module (memory (export "memory") 1)
        (func (export "_start") (loop $more (br_if $more (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0)))) (unreachable)))"#;
    let deep = r#"(module (func $deeper (call $deeper)) (func (export "_start") (call $deeper)))"#;
    for (wat, ending) in [(loops, Ending::Cpu), (grows, Ending::Memory), (deep, Ending::Stack)] {
        let fixture = Fixture::of(&[]).file("guest.wasm", &wat::parse_str(wat).unwrap());
        assert_eq!(failure(fixture, "guest").await.0, ending, "{wat}");
    }
}

#[tokio::test]
async fn a_module_that_is_no_program_is_refused() {
    let module = |text: &str| wat::parse_str(format!("(module {text})")).unwrap();
    let fixture = Fixture::of(&[])
        .file("library.wasm", &module(r#"(func (export "add"))"#))
        .file("browser.wasm", &module(r#"(import "env" "now" (func)) (func (export "_start"))"#))
        .file("newer.wasm", &module(r#"(import "wasi_snapshot_preview1" "warp" (func)) (func (export "_start"))"#));
    let plugins = fixture.load().await;
    assert_eq!(refusal(&plugins, "library"), Refusal::NoStart(vec!["add".to_owned()]));
    assert_eq!(refusal(&plugins, "browser"), Refusal::NotOffered(vec!["env".to_owned()]));
    assert!(matches!(refusal(&plugins, "newer"), Refusal::Unfit(error) if error.contains("warp")));
}
