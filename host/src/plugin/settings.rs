//! Settings of plugins, checked against the JSON Schema that the plugin registered.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, RwLock};

use jsonschema::{PatternOptions, Validator};

/// Settings that the outcome is remembered of.
const CHECKED_MAX: usize = 1024;
/// Mistakes that are told of at once.
const MISTAKES_MAX: usize = 16;

/// Where settings do not fit, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsMistake {
    /// A JSON pointer into the settings; empty for all of them.
    pub pointer: String,
    /// What is wrong there. Values are not shown: there may be secrets among them.
    pub what: String,
}

impl fmt::Display for SettingsMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SettingsMistake { pointer, what } = self;
        if pointer.is_empty() { write!(f, "settings: {what}") } else { write!(f, "settings{pointer}: {what}") }
    }
}

/// A compiled schema, and what was found out with it.
pub(super) struct Schema {
    validator: Validator,
    /// By the settings' revision; settings are checked once, not with every delivery.
    checked: RwLock<HashMap<u64, Option<Arc<str>>>>,
}

impl Schema {
    /// Compiles JSON Schema 2020-12. It can refer to nothing outside of itself, and patterns take linear time.
    pub(super) fn compile(text: &str) -> Result<Schema, String> {
        let schema = serde_json::from_str(text).map_err(|error| format!("the settings schema is not JSON: {error}"))?;
        let options = jsonschema::draft202012::options().with_pattern_options(PatternOptions::regex()).offline();
        let validator = options.build(&schema).map_err(|error| format!("the settings schema is none: {error}"))?;
        Ok(Schema { validator, checked: RwLock::default() })
    }

    /// All that does not fit.
    pub(super) fn mistakes(&self, settings: &str) -> Vec<SettingsMistake> {
        let settings = match serde_json::from_str(settings) {
            Ok(settings) => settings,
            Err(error) => return vec![SettingsMistake { pointer: String::new(), what: format!("not JSON: {error}") }],
        };
        let errors = self.validator.iter_errors(&settings).take(MISTAKES_MAX);
        errors
            .map(|error| SettingsMistake {
                pointer: error.instance_path().to_string(),
                what: error.masked().to_string(),
            })
            .collect()
    }

    /// Whether settings fit, in words if they do not.
    pub(super) fn check(&self, settings: &str, revision: u64) -> Result<(), Arc<str>> {
        const UNPOISONED: &str = "nothing panics while it is locked";
        let known = self.checked.read().expect(UNPOISONED).get(&revision).cloned();
        let wrong = known.unwrap_or_else(|| {
            let mistakes: Vec<_> = self.mistakes(settings).iter().map(ToString::to_string).collect();
            let wrong = (!mistakes.is_empty()).then(|| Arc::from(mistakes.join("; ")));
            let mut checked = self.checked.write().expect(UNPOISONED);
            if checked.len() >= CHECKED_MAX {
                checked.clear();
            }
            checked.insert(revision, wrong.clone());
            wrong
        });
        wrong.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{
        "type": "object",
        "properties": { "pointers": { "type": "array", "items": { "type": "string", "pattern": "^/" } }, "mask": { "type": "string" } },
        "required": ["pointers"],
        "additionalProperties": false
    }"#;

    #[track_caller]
    fn check(settings: &str, expected: &[&str]) {
        let schema = Schema::compile(SCHEMA).expect("a schema");
        let found: Vec<_> = schema.mistakes(settings).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{settings}");
        assert_eq!(schema.check(settings, 1).is_ok(), expected.is_empty());
        assert_eq!(schema.check(settings, 1).is_ok(), expected.is_empty(), "the same again");
    }

    #[test]
    fn mistakes_say_where_and_what_and_show_no_value() {
        check(r#"{"pointers":["/a"],"mask":"***"}"#, &[]);
        check("{}", &[r#"settings: "pointers" is a required property"#]);
        check(
            r#"{"pointers":["/a",5,"secret"],"maks":1}"#,
            &[
                r#"settings/pointers/1: value is not of type "string""#,
                r#"settings/pointers/2: value does not match "^/""#,
                "settings: Additional properties are not allowed ('maks' was unexpected)",
            ],
        );
        check("{", &["settings: not JSON: EOF while parsing an object at line 1 column 1"]);
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for bad in [
            "nothing",
            r#"{"type":"text"}"#,
            r#"{"$ref":"https://example.com/schema.json"}"#,
            r#"{"$ref":"file:///etc/passwd"}"#,
            r#"{"pattern":"("}"#,
        ] {
            assert!(Schema::compile(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn schemas_that_turn_in_circles_or_are_deep_do_no_harm() {
        for circle in [r##"{"$ref":"#"}"##, r##"{"allOf":[{"$ref":"#"}]}"##, r##"{"not":{"$ref":"#"}}"##] {
            if let Ok(schema) = Schema::compile(circle) {
                schema.mistakes("{}");
            }
        }
        let deep = r#"{"not":"#.repeat(120) + "{}" + &"}".repeat(120);
        Schema::compile(&deep).expect("a schema").mistakes("{}");
        let recursive = Schema::compile(r##"{"items":{"$ref":"#"}}"##).expect("a schema");
        recursive.mistakes(&("[".repeat(120) + &"]".repeat(120)));
    }
}
