//! Removes or masks what stands at JSON pointers in the body. See README.md.

use serde::Deserialize;
use weft_plugin::{Delivery, EditError, Failure, Verdict, plugin};

/// This plugin's settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// RFC 6901.
    pointers: Vec<String>,
    /// Put there instead; without it the values are removed.
    mask: Option<String>,
}

plugin!(handle);

fn handle(delivery: &Delivery) -> Result<Verdict, Failure> {
    let settings: Settings = delivery.settings()?;
    if delivery.body_size() == 0 {
        return Ok(Verdict::deliver());
    }
    // Anything but JSON could hide what must not be seen, so nothing of it goes out.
    if delivery.json("").is_none() {
        return Err(Failure::Permanent("the body is not JSON, so nothing in it can be found".to_owned()));
    }
    let mask = settings.mask.map(|mask| serde_json::Value::String(mask).to_string());
    for pointer in &settings.pointers {
        redact(delivery, pointer, mask.as_deref())
            .map_err(|error| Failure::Permanent(format!("settings.pointers: {pointer:?}: {error}")))?;
    }
    Ok(Verdict::deliver())
}

fn redact(delivery: &Delivery, pointer: &str, mask: Option<&str>) -> Result<(), EditError> {
    match mask {
        None => delivery.json_remove(pointer),
        Some(mask) if delivery.json(pointer).is_some() => delivery.json_set(pointer, mask),
        // A pointer that is none must not pass for one that finds nothing.
        Some(_) if !is_pointer(pointer) => Err(EditError::BadPointer),
        Some(_) => Ok(()),
    }
}

fn is_pointer(text: &str) -> bool {
    text.starts_with('/') && text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_strictly() {
        let read = |text| serde_json::from_str::<Settings>(text);
        assert_eq!(read(r#"{"pointers":["/a"],"mask":"*"}"#).unwrap().mask.as_deref(), Some("*"));
        assert!(read(r#"{"pointers":["/a"]}"#).unwrap().mask.is_none());
        assert!(read("{}").is_err());
        assert!(read(r#"{"pointers":[],"maks":"*"}"#).is_err());
    }

    #[test]
    fn pointers_start_with_a_slash() {
        assert!(is_pointer("/a~0b/c~1d"));
        assert!(!is_pointer("a") && !is_pointer("/a~2") && !is_pointer("/a~"));
    }
}
