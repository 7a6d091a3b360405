//! What a plugin changed: headers by name, and the body as lines before and after.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use similar::{Algorithm, ChangeTag, capture_diff_slices_deadline, group_diff_ops};

use super::tree::Tree;
use crate::request::Draft;

/// Lines shown around one that changed.
const AROUND: usize = 2;
/// Finding the smallest difference of large texts takes long; after this a larger one will do.
const TIME_MAX: Duration = Duration::from_secs(1);

/// Each header that is not as it was: its value now, `None` if it is gone.
pub(super) fn headers(before: &Draft, after: &Draft) -> BTreeMap<String, Option<String>> {
    let (before, after) = (before.headers(), after.headers());
    let gone = before.iter().filter(|(name, _)| after.get(name.as_str()).is_none());
    let gone = gone.map(|(name, _)| (name.to_string(), None));
    let changed = after.iter().filter(|(name, value)| before.get(name.as_str()) != Some(value));
    gone.chain(changed.map(|(name, value)| (name.to_string(), Some(text(value.as_bytes()))))).collect()
}

/// The headers that differ, as they were (`-`) and as they are (`+`).
pub(super) fn header_lines(before: &Draft, after: &Draft) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, value) in headers(before, after) {
        lines.extend(before.headers().get(&name).map(|value| format!("- {name}: {}", text(value.as_bytes()))));
        lines.extend(value.map(|value| format!("+ {name}: {value}")));
    }
    lines
}

/// The lines of a body for people to read.
pub(super) fn body_lines(body: &[u8]) -> Vec<String> {
    Tree::read(body).map_or_else(|| text(body).lines().map(str::to_owned).collect(), |tree| tree.lines())
}

/// How lines differ: those that went (`-`), those that came (`+`), and some that stayed around them.
pub(super) fn differences(before: &[String], after: &[String]) -> Vec<String> {
    let deadline = Some(Instant::now() + TIME_MAX);
    let steps = capture_diff_slices_deadline(Algorithm::Myers, before, after, deadline);
    let mut lines = Vec::new();
    for group in group_diff_ops(steps, AROUND) {
        if !lines.is_empty() {
            lines.push("  …".to_owned());
        }
        for change in group.iter().flat_map(|step| step.iter_changes(before, after)) {
            let sign = match change.tag() {
                ChangeTag::Equal => ' ',
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
            };
            lines.push(format!("{sign} {}", change.value()));
        }
    }
    lines
}

/// As text, without what moves a terminal's cursor.
fn text(bytes: &[u8]) -> String {
    let harmless = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    String::from_utf8_lossy(bytes).chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_have_some_lines_around_them() {
        let lines = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        let found = differences(&lines("abcdefghijklmn"), &lines("abXdefghijklm"));
        assert_eq!(found.join("|"), "  a|  b|- c|+ X|  d|  e|  …|  l|  m|- n");
        assert!(differences(&lines("ab"), &lines("ab")).is_empty());
    }

    #[test]
    fn text_does_not_move_the_cursor() {
        assert_eq!(text(b"a\x1b[2J\xff\nb"), "a\u{fffd}[2J\u{fffd}\nb");
    }
}
