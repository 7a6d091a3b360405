use serde_json::Value;

use super::*;

fn pointer(text: &str) -> Pointer<'_> {
    Pointer::parse(text).expect("a good pointer")
}

#[track_caller]
fn finds(document: &str, at: &str, expected: Option<&str>) {
    let index = Index::build(document.as_bytes()).expect("good JSON");
    let found = index.find(document.as_bytes(), pointer(at)).map(|place| &document[place.value]);
    assert_eq!(found, expected, "{at} in {document}");
}

#[track_caller]
fn removes(document: &str, at: &str, expected: &str) {
    let index = Index::build(document.as_bytes()).expect("good JSON");
    let removed = index.remove(document.as_bytes(), pointer(at)).expect("something to remove");
    assert_eq!(String::from_utf8(removed).unwrap(), expected);
}

#[track_caller]
fn sets(document: &str, at: &str, value: &str, expected: Option<&str>) {
    let index = Index::build(document.as_bytes()).expect("good JSON");
    let set = index.set(document.as_bytes(), pointer(at), value.as_bytes());
    assert_eq!(set.map(|set| String::from_utf8(set).unwrap()).as_deref(), expected);
}

#[test]
fn a_pointer_finds_the_text_as_it_stands() {
    let document = r#" { "a" : [1, 2.50, {"b/c":"d"}], "n":12345678901234567890.10 , "e":null,"":0,"~":1 } "#;
    finds(document, "/a/1", Some("2.50"));
    finds(document, "/a/2/b~1c", Some(r#""d""#));
    finds(document, "/n", Some("12345678901234567890.10"));
    finds(document, "/e", Some("null"));
    finds(document, "/", Some("0"));
    finds(document, "/~0", Some("1"));
    finds(document, "/a/3", None);
    finds(document, "/a/01", None);
    finds(document, "/x", None);
    finds(document, "", Some(document.trim()));
}

#[test]
fn names_are_compared_decoded_and_the_last_of_a_repeated_name_counts() {
    finds(r#"{"\u0061":1}"#, "/a", Some("1"));
    finds(r#"{"a":1,"b":0,"a":2}"#, "/a", Some("2"));
    finds(r#"{"a\"b":1}"#, "/a\"b", Some("1"));
    finds(r#"{"a\nb":1}"#, "/a\nb", Some("1"));
    finds(r#"{"a\nb":1}"#, r"/a\nb", None);
}

#[test]
fn removing_takes_one_comma_along() {
    removes(r#"{"a":1,"b":2,"c":3}"#, "/a", r#"{"b":2,"c":3}"#);
    removes(r#"{"a":1,"b":2,"c":3}"#, "/b", r#"{"a":1,"c":3}"#);
    removes(r#"{"a":1 , "b":2 , "c":3 }"#, "/c", r#"{"a":1 , "b":2 }"#);
    removes(r#"{ "a" : 1 }"#, "/a", "{  }");
    removes(r"[1, 2, 3]", "/0", "[2, 3]");
    removes(r#"{"x":{"y":[{"z":1}]}}"#, "/x/y/0/z", r#"{"x":{"y":[{}]}}"#);
}

#[test]
fn removing_takes_every_member_of_that_name() {
    removes(r#"{"a":1,"b":2,"a":3}"#, "/a", r#"{"b":2}"#);
    removes(r#"{"a":1,"a":3}"#, "/a", "{}");
    removes(r#"{"b":0,"a":1,"\u0061":3,"c":4}"#, "/a", r#"{"b":0,"c":4}"#);
    removes(r#"{"a":1,"a":2,"c":3,"a":4,"d":5}"#, "/a", r#"{"c":3,"d":5}"#);
}

#[test]
fn nothing_stays_under_a_name_that_is_repeated_on_the_way() {
    removes(r#"{"a":{"b":1},"a":{"b":2,"c":3}}"#, "/a/b", r#"{"a":{"c":3}}"#);
    removes(r#"{"a":{"b":1},"a":{"c":3}}"#, "/a/b", r#"{"a":{"c":3}}"#);
    removes(r#"{"x":0,"a":{"b":1},"y":1,"a":5,"z":2}"#, "/a/b", r#"{"x":0,"y":1,"a":5,"z":2}"#);
    removes(r#"[{"a":[1],"a":[{"b":1,"b":2}]}]"#, "/0/a/0/b", r#"[{"a":[{}]}]"#);
    sets(r#"{"a":{"b":1},"a":{"b":2}}"#, "/a/b", "9", Some(r#"{"a":{"b":9}}"#));
    sets(r#"{"a":{"b":1},"a":{}}"#, "/a/b", "9", Some(r#"{"a":{"b":9}}"#));
}

#[test]
fn a_name_that_is_repeated_often_is_removed_in_one_pass() {
    let body = format!("{{{}}}", vec![r#""s":0"#; 170_000].join(","));
    removes(&body, "/s", "{}");
}

#[test]
fn setting_replaces_or_adds() {
    sets(r#"{"a":1.0}"#, "/a", "2", Some(r#"{"a":2}"#));
    sets(r#"{"a":1,"b":0,"a":2}"#, "/a", "9", Some(r#"{"b":0,"a":9}"#));
    sets(r#"{"a":1}"#, "/b", "[]", Some(r#"{"a":1,"b":[]}"#));
    sets("{ }", "/q\"", "1", Some(r#"{"q\"":1 }"#));
    sets("[1]", "/-", "2", Some("[1,2]"));
    sets("[]", "/0", "2", Some("[2]"));
    sets("[1]", "/5", "2", None);
    sets(r#"{"a":1}"#, "/a/b", "2", None);
    sets(r#"{"a":1}"#, "/x/b", "2", None);
    sets(r#"{"a":1}"#, "", "[]", Some("[]"));
}

#[test]
fn merging_follows_rfc_7386() {
    let cases = [
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
        (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
        (r#"["a","b"]"#, r#"["c"]"#, r#"["c"]"#),
        (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
        (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
        (r"[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
        ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
    ];
    for (document, patch, expected) in cases {
        let merged = merge(document.as_bytes(), patch.as_bytes()).expect("both are JSON");
        assert_eq!(String::from_utf8(merged).unwrap(), expected, "{document} + {patch}");
    }
}

#[test]
fn texts_are_decoded() {
    assert_eq!(text(r#""plain é""#.as_bytes()), "plain é");
    assert_eq!(text(r#""a\"\u00e9\n😀""#.as_bytes()), "a\"é\n😀");
    assert_eq!(text(br#""""#), "");
    assert!(text(br#""a\ud800b""#).starts_with("a\u{fffd}"));
}

#[test]
fn what_is_not_json_is_refused() {
    for bad in ["", "{", "{\"a\":}", "[1,]", "{\"a\":1}x", "nul", "{'a':1}", "[1 2]", "\u{feff}{}", "{\"a\":01}"] {
        assert!(Index::build(bad.as_bytes()).is_err(), "{bad}");
    }
    assert_eq!(Index::build(b"{\"a\":\"\xff\"}").unwrap_err(), Error::NotUtf8(6));
    assert_eq!(Pointer::parse("a"), None);
    assert_eq!(Pointer::parse("/a~2"), None);
    assert_eq!(Pointer::parse("/a~"), None);
}

#[test]
fn as_deep_as_may_be() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    finds(&nested(DEPTH_MAX), &"/0".repeat(DEPTH_MAX), Some("1"));
    assert_eq!(Index::build(nested(DEPTH_MAX + 1).as_bytes()).unwrap_err(), Error::TooDeep);
    assert_eq!(Index::build(nested(10_000).as_bytes()).unwrap_err(), Error::TooDeep);
}

/// Any value, with names and texts that need escaping.
fn any_value() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let text = "[a-c\"\\\\/{}\\[\\],: \n\té😀]{0,6}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(text, inner, 0..5).prop_map(|members| members.into_iter().collect::<Value>()),
        ]
    })
}

/// What JSON is made of, and a little more.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\"a\"",
    "\"12345678\"",
    "\\",
    "\\n",
    "\\x",
    "\\u00e9",
    "\\ud800",
    "\\u12",
    "-",
    "0",
    "1",
    "23",
    ".",
    "e",
    "E+",
    "e-",
    "true",
    "false",
    "null",
    "nul",
    " ",
    "\n",
    "\t",
    "\u{1}",
    "\u{b}",
    "\u{7f}",
    "é",
    "'",
    "/",
];

/// Each value that is in it, with the names and positions that lead to it.
fn places(value: &Value, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, Value)>) {
    found.push((path.clone(), value.clone()));
    let children: Vec<(String, &Value)> = match value {
        Value::Array(elements) => elements.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    for (name, child) in children {
        path.push(name);
        places(child, path, found);
        path.pop();
    }
}

proptest::proptest! {
    #[test]
    fn each_value_is_found_where_it_stands(value in any_value(), is_pretty: bool) {
        let document = if is_pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
        let index = Index::build(&document).unwrap();
        let mut expected = Vec::new();
        places(&value, &mut Vec::new(), &mut expected);
        proptest::prop_assert_eq!(index.nodes.len(), expected.len());
        for (path, expected) in expected {
            let text: String = path.iter().map(|token| format!("/{}", pointer::escape(token))).collect();
            let place = index.find(&document, pointer(&text)).unwrap();
            let kind = match &expected {
                Value::Null => Kind::Null,
                Value::Bool(_) => Kind::Boolean,
                Value::Number(_) => Kind::Number,
                Value::String(_) => Kind::Text,
                Value::Array(_) => Kind::Array,
                Value::Object(_) => Kind::Object,
            };
            proptest::prop_assert_eq!(place.kind, kind);
            let found: Value = serde_json::from_slice(&document[place.value]).unwrap();
            proptest::prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_serde_json_takes_is_taken_and_nothing_else(
        tokens in proptest::collection::vec(proptest::sample::select(TOKENS), 0..12), value in any_value(), at: usize,
    ) {
        let agree = |document: &str| {
            let taken = serde_json::from_str::<serde::de::IgnoredAny>(document).is_ok();
            assert_eq!(Index::build(document.as_bytes()).is_ok(), taken, "{document}");
        };
        let tokens = tokens.concat();
        agree(&tokens);
        agree(&format!("[{tokens}]"));
        agree(&format!("{{\"a\":{tokens}}}"));
        agree(&format!("\"{tokens}"));
        // Something good, broken somewhere.
        let value = value.to_string();
        let at = (0..=value.len()).rev().find(|from| *from <= at % (value.len() + 1) && value.is_char_boundary(*from));
        let (before, behind) = value.split_at(at.unwrap_or_default());
        agree(&format!("{before}{tokens}{behind}"));
        agree(before);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = Index::build(&bytes);
    }

    #[test]
    fn what_was_set_is_found(name in "[a-z~/\"\\\\]{0,4}", value in 0..1000_u32) {
        let document = br#"{"other":[1,{"a":2}]}"#;
        let text = format!("/{}", pointer::escape(&name));
        let value = value.to_string();
        let set = Index::build(document).unwrap().set(document, pointer(&text), value.as_bytes()).unwrap();
        let place = Index::build(&set).unwrap().find(&set, pointer(&text)).unwrap();
        proptest::prop_assert_eq!(&set[place.value], value.as_bytes());
    }
}
