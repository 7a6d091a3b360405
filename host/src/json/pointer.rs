//! Pointers: where in a document.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter};

/// An RFC 6901 JSON pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer<'t>(&'t str);

impl<'t> Pointer<'t> {
    /// The whole document.
    pub const ROOT: Pointer<'static> = Pointer("");

    /// `None` if it neither is empty nor starts with `/`, or has a `~` that is not `~0` or `~1`.
    #[must_use]
    pub fn parse(text: &'t str) -> Option<Pointer<'t>> {
        let begins_well = text.is_empty() || text.starts_with('/');
        let bytes = text.as_bytes();
        let escapes_are_good = memchr_iter(b'~', bytes).all(|at| matches!(bytes.get(at + 1), Some(b'0' | b'1')));
        (begins_well && escapes_are_good).then_some(Pointer(text))
    }

    /// Names of members and positions of elements, from the root on.
    pub(super) fn tokens(self) -> impl Iterator<Item = Cow<'t, str>> {
        self.0.split('/').skip(1).map(unescape)
    }

    /// The pointer to what the last token is in, and that token; `None` for the root.
    pub(super) fn split_last(self) -> Option<(Pointer<'t>, Cow<'t, str>)> {
        let (parent, last) = self.0.rsplit_once('/')?;
        Some((Pointer(parent), unescape(last)))
    }
}

fn unescape(token: &str) -> Cow<'_, str> {
    match memchr(b'~', token.as_bytes()) {
        Some(_) => Cow::Owned(token.replace("~1", "/").replace("~0", "~")),
        None => Cow::Borrowed(token),
    }
}

/// A name as a pointer has it.
pub(super) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
