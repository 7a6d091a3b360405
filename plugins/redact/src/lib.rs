//! Removes or masks what stands at JSON pointers in the body. See README.md.

#![cfg_attr(target_arch = "wasm32", no_std)]

use serde::Deserialize;
use weft_plugin::prelude::*;
use weft_plugin::{About, Delivery, EditError, Failure, Json, Verdict, plugin};

const ABOUT: About = About::new(env!("CARGO_PKG_VERSION"), "removes or masks what stands at JSON pointers")
    .settings(include_str!("../settings.schema.json"))
    .reusable();

plugin!(handle, ABOUT);

/// This plugin's settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// RFC 6901.
    pointers: Vec<String>,
    /// Put there instead; without it the values are removed.
    mask: Option<String>,
}

fn handle(delivery: &Delivery) -> Result<Verdict, Failure> {
    let settings = delivery.settings::<Settings>()?;
    if delivery.body_size() == 0 {
        return Ok(Verdict::deliver());
    }
    // Anything but JSON could hide what must not be seen, so nothing of it goes out.
    if delivery.json("").is_none() {
        return Err(Failure::Permanent("the body is not JSON, so nothing in it can be found".to_owned()));
    }
    let mask = settings.mask.as_deref().map(Json::quote);
    for pointer in &settings.pointers {
        redact(delivery, pointer, mask.as_deref())
            .map_err(|error| Failure::Permanent(format!("settings.pointers: {pointer:?}: {error}")))?;
    }
    Ok(Verdict::deliver())
}

fn redact(delivery: &Delivery, pointer: &str, mask: Option<&str>) -> Result<(), EditError> {
    match mask {
        Some(mask) if delivery.json(pointer).is_some() => delivery.json_set(pointer, mask),
        // Where there is nothing it may be that a repeated name hides something; and a pointer that is none must not pass for
        // one that finds nothing.
        Some(_) | None => delivery.json_remove(pointer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use weft_plugin::testing::event;

    #[track_caller]
    fn check(settings: &str, body: &str, expected: Result<&str, &str>) {
        let left = event("{}").body(body, "application/json").settings(settings).call(handle);
        match (&left.verdict, expected) {
            (Ok(Verdict::Deliver), Ok(expected)) => assert_eq!(left.text(), expected),
            (Err(Failure::Permanent(why)), Err(word)) => assert!(why.contains(word), "{why}"),
            (other, _) => panic!("{settings} {body}: {other:?}"),
        }
    }

    #[test]
    fn values_are_masked_or_removed() {
        check(
            r#"{"pointers":["/a","/no/where"],"mask":"\"*\""}"#,
            r#"{"a":1,"b":2.50}"#,
            Ok(r#"{"a":"\"*\"","b":2.50}"#),
        );
        check(r#"{"pointers":["/a/0","/c"]}"#, r#"{"a":[1,2]}"#, Ok(r#"{"a":[2]}"#));
        check(r#"{"pointers":["/a"]}"#, "", Ok(""));
    }

    #[test]
    fn nothing_passes_that_could_hide_something() {
        check(r#"{"pointers":["/a"]}"#, "a=1", Err("not JSON"));
        for pointer in ["a", "/a~2", "/a~"] {
            let settings = format!(r#"{{"pointers":["{pointer}"],"mask":"*"}}"#);
            check(&settings, "{}", Err(&format!("settings.pointers: {pointer:?}")));
        }
        check(r#"{"pointers":[],"maks":"*"}"#, "{}", Err("settings: unknown field"));
        check("{}", "{}", Err("settings: missing field"));
    }
}
