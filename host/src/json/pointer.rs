//! Pointers: where in a document.

/// An RFC 6901 JSON pointer, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(pub(super) Vec<String>);

impl Pointer {
    /// The whole document.
    pub const ROOT: Pointer = Pointer(Vec::new());

    /// `None` if it neither is empty nor starts with `/`, or has a `~` that is not `~0` or `~1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Pointer> {
        if text.is_empty() {
            return Some(Pointer(Vec::new()));
        }
        text.strip_prefix('/')?.split('/').map(unescape).collect::<Option<Vec<_>>>().map(Pointer)
    }
}

fn unescape(token: &str) -> Option<String> {
    if !token.contains('~') {
        return Some(token.to_owned());
    }
    let escapes_are_good = token.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    escapes_are_good.then(|| token.replace("~1", "/").replace("~0", "~"))
}
