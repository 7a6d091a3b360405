//! Text that plugins made up, before it gets into logs, errors and reasons.

/// At most `bytes_max` bytes of it, without anything that breaks lines or moves a terminal's cursor.
pub(super) fn clean(text: &str, bytes_max: usize) -> String {
    let text = text.trim();
    let end = text.floor_char_boundary(bytes_max.min(text.len()));
    let mut clean: String = text[..end].chars().map(|c| if is_harmful(c) { ' ' } else { c }).collect();
    if end < text.len() {
        clean.push('…');
    }
    clean
}

/// Control characters, and those that end a line or turn the direction of writing.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn no_line_break_or_escape_survives() {
        assert_eq!(clean("a\nb\r\x1b[31mc\u{2028}d\u{202e}", 100), "a b  [31mc d ");
    }

    #[test]
    fn it_is_cut_between_characters() {
        assert_eq!(clean("aéé", 4), "aé…");
        assert_eq!(clean("aéé", 5), "aéé");
        assert_eq!(clean("  ", 0), "");
    }
}
