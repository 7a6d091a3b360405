//! Positions in a JSON document: where a value stands, so that it can be read, cut out or replaced while
//! every other byte stays as it was. Numbers are never parsed, so none is ever rounded.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use memchr::memchr;

pub use pointer::Pointer;
use scan::Flaw;

mod pointer;
mod scan;

/// Deeper documents are refused.
pub const DEPTH_MAX: usize = 200;

/// Why bytes are not a JSON document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not UTF-8 from this byte on.
    #[error("not UTF-8 at byte {0}")]
    NotUtf8(usize),
    /// Not JSON.
    #[error("{0}")]
    Syntax(String),
    /// Nested more than [`DEPTH_MAX`] deep.
    #[error("nested more than {DEPTH_MAX} deep")]
    TooDeep,
    /// Larger than 4 GiB.
    #[error("too large to index")]
    TooLarge,
}

impl Error {
    /// Of what is known to be no JSON.
    fn of(document: &[u8]) -> Error {
        let read = serde_json::from_slice::<serde::de::IgnoredAny>(document);
        Error::Syntax(read.map_or_else(|error| error.to_string(), |_| "not JSON".to_owned()))
    }
}

/// What kind of value stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean,
    /// Any number.
    Number,
    /// A string.
    Text,
    /// An array.
    Array,
    /// An object.
    Object,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    kind: Kind,
    /// The member's name with its quotes; empty for elements and the root.
    name: Range<u32>,
    value: Range<u32>,
    /// Index of the node after this one's last descendant.
    next: u32,
}

/// Where every value of one document stands. Built in one pass, then asked as often as one likes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    nodes: Vec<Node>,
    /// Whether there is a backslash in any string: names without are compared as they stand.
    has_escapes: bool,
}

/// One value of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which node it is.
    at: usize,
    /// What it is.
    pub kind: Kind,
    /// The bytes of its name in the document, with the quotes; empty if it is not a member.
    pub name: Range<usize>,
    /// Its bytes in the document.
    pub value: Range<usize>,
}

impl Index {
    /// Reads a document.
    pub fn build(document: &[u8]) -> Result<Index, Error> {
        std::str::from_utf8(document).map_err(|error| Error::NotUtf8(error.valid_up_to()))?;
        u32::try_from(document.len()).map_err(|_| Error::TooLarge)?;
        scan::index(document).map_err(|flaw| match flaw {
            Flaw::NotJson => Error::of(document),
            Flaw::TooDeep => Error::TooDeep,
        })
    }

    /// The same for what was found to be a document before.
    pub(crate) fn of_checked(document: &[u8]) -> Index {
        Index::build(document).expect("it was found to be one before")
    }

    /// The outermost value.
    #[must_use]
    pub fn root(&self) -> Place {
        self.place(0)
    }

    /// The members of an object or the elements of an array, in their order and with repeated names.
    pub fn inside(&self, place: &Place) -> impl Iterator<Item = Place> + '_ {
        self.children_of(place.at).map(|at| self.place(at))
    }

    fn place(&self, at: usize) -> Place {
        let node = &self.nodes[at];
        Place { at, kind: node.kind, name: widen(&node.name), value: widen(&node.value) }
    }

    /// The document without these members of the outermost object, which are no objects or arrays themselves, and where
    /// everything stands then.
    pub(crate) fn without(mut self, document: &[u8], gone: &[Place]) -> (Vec<u8>, Index) {
        let gone: Vec<_> = gone.iter().map(|place| place.at).collect();
        let cuts = self.member_cuts(0, &gone);
        let cut = cuts.first().map(|(range, _)| limit(range.start)..limit(range.end));
        let rest = splice(document, cuts);
        match (&*gone, cut) {
            (&[at], Some(cut)) => {
                self.close_gap(at, &cut);
                self.has_escapes = self.has_escapes && memchr(b'\\', &rest).is_some();
            }
            _ => self = Index::of_checked(&rest),
        }
        (rest, self)
    }

    /// What stands behind moves up, which saves a new scan.
    fn close_gap(&mut self, gone: usize, cut: &Range<u32>) {
        self.nodes.remove(gone);
        let length = cut.end - cut.start;
        let up = |at: &mut u32| *at -= if *at > cut.start { length } else { 0 };
        for node in &mut self.nodes {
            up(&mut node.name.start);
            up(&mut node.name.end);
            up(&mut node.value.start);
            up(&mut node.value.end);
            node.next -= u32::from(node.next as usize > gone);
        }
    }

    /// The value at an RFC 6901 pointer. Where an object has a name twice the last one counts, as for most readers.
    #[must_use]
    pub fn find(&self, document: &[u8], pointer: Pointer<'_>) -> Option<Place> {
        Some(self.place(self.locate(document, pointer)?))
    }

    /// The document with `value` (a JSON document itself) at the pointer: replaced where something stands, added
    /// where only the parent object or array exists (`-` appends to an array). `None` where there is no parent.
    #[must_use]
    pub fn set(&self, document: &[u8], pointer: Pointer<'_>, value: &[u8]) -> Option<Vec<u8>> {
        let Some((parent, last)) = pointer.split_last() else { return Some(value.to_vec()) };
        let mut cuts = self.hidden_cuts(document, parent);
        let parent = self.locate(document, parent)?;
        let same_name = self.children(parent, document, &last);
        if let Some((&kept, others)) = same_name.split_last() {
            cuts.extend(self.member_cuts(parent, others));
            cuts.push((widen(&self.nodes[kept].value), value));
            return Some(splice(document, cuts));
        }
        let (at, prefix) = self.append_at(parent, &last)?;
        let mut added = prefix;
        added.extend_from_slice(value);
        cuts.push((at..at, &added));
        Some(splice(document, cuts))
    }

    /// The document without what stands at the pointer, however often its name or one on the way to it occurs; `None` if
    /// nothing does. The whole document cannot be removed.
    #[must_use]
    pub fn remove(&self, document: &[u8], pointer: Pointer<'_>) -> Option<Vec<u8>> {
        let (parent, last) = pointer.split_last()?;
        let mut cuts = self.hidden_cuts(document, parent);
        if let Some(parent) = self.locate(document, parent) {
            cuts.extend(self.member_cuts(parent, &self.children(parent, document, &last)));
        }
        (!cuts.is_empty()).then(|| splice(document, cuts))
    }

    fn locate(&self, document: &[u8], pointer: Pointer<'_>) -> Option<usize> {
        pointer.tokens().try_fold(0, |at, token| match self.nodes[at].kind {
            Kind::Object => self.named(at, document, &token).last(),
            Kind::Array => self.element(at, &token),
            Kind::Null | Kind::Boolean | Kind::Number | Kind::Text => None,
        })
    }

    fn children_of(&self, parent: usize) -> impl Iterator<Item = usize> + '_ {
        let end = self.nodes[parent].next as usize;
        let mut at = parent + 1;
        std::iter::from_fn(move || {
            let child = (at < end).then_some(at)?;
            at = self.nodes[child].next as usize;
            Some(child)
        })
    }

    /// The children that a pointer's token means: several only where an object repeats a name.
    fn children(&self, parent: usize, document: &[u8], token: &str) -> Vec<usize> {
        match self.nodes[parent].kind {
            Kind::Object => self.named(parent, document, token).collect(),
            Kind::Array => self.element(parent, token).into_iter().collect(),
            Kind::Null | Kind::Boolean | Kind::Number | Kind::Text => Vec::new(),
        }
    }

    /// The members of an object that have this name.
    fn named<'i>(&'i self, parent: usize, document: &'i [u8], name: &'i str) -> impl Iterator<Item = usize> + 'i {
        self.children_of(parent).filter(move |&at| self.is_named(at, document, name))
    }

    fn is_named(&self, at: usize, document: &[u8], name: &str) -> bool {
        let quoted = &document[widen(&self.nodes[at].name)];
        let inner = &quoted[1..quoted.len() - 1];
        if self.has_escapes && memchr(b'\\', inner).is_some() {
            // What is escaped is longer than what it stands for.
            return inner.len() > name.len() && serde_json::from_slice::<String>(quoted).is_ok_and(|said| said == name);
        }
        inner == name.as_bytes()
    }

    /// The element of an array that a pointer's token means.
    fn element(&self, parent: usize, token: &str) -> Option<usize> {
        array_position(token).and_then(|position| self.children_of(parent).nth(position))
    }

    /// What to cut so that no member on the way hides another of its name: whoever counts the first one of a name must not
    /// find there what was removed from the last.
    fn hidden_cuts(&self, document: &[u8], pointer: Pointer<'_>) -> Vec<(Range<usize>, &'static [u8])> {
        let mut cuts = Vec::new();
        let mut at = 0;
        for token in pointer.tokens() {
            let same_name = self.children(at, document, &token);
            let Some((&last, hidden)) = same_name.split_last() else { break };
            cuts.extend(self.member_cuts(at, hidden));
            at = last;
        }
        cuts
    }

    /// What to cut so that these children, in their order, vanish together with their commas.
    fn member_cuts(&self, parent: usize, gone: &[usize]) -> Vec<(Range<usize>, &'static [u8])> {
        if gone.is_empty() {
            return Vec::new();
        }
        let mut cuts = Cuts::default();
        for child in self.children_of(parent) {
            let node = &self.nodes[child];
            let start = if node.name.is_empty() { node.value.start } else { node.name.start };
            cuts.member(gone.binary_search(&child).is_ok(), || start as usize, node.value.end as usize);
        }
        cuts.ranges().into_iter().map(|range| (range, b"".as_slice())).collect()
    }

    fn append_at(&self, parent: usize, token: &str) -> Option<(usize, Vec<u8>)> {
        let node = &self.nodes[parent];
        let last = self.children_of(parent).last();
        let count = self.children_of(parent).count();
        let mut prefix = if last.is_some() { b",".to_vec() } else { Vec::new() };
        match node.kind {
            Kind::Object => {
                prefix.extend(serde_json::to_vec(token).expect("a string is always JSON"));
                prefix.push(b':');
            }
            Kind::Array if token == "-" || array_position(token) == Some(count) => {}
            Kind::Array | Kind::Null | Kind::Boolean | Kind::Number | Kind::Text => return None,
        }
        let at = last.map_or(node.value.start as usize + 1, |child| self.nodes[child].value.end as usize);
        Some((at, prefix))
    }
}

/// What to leave out of an object or array so that members vanish together with their commas.
#[derive(Debug, Default)]
struct Cuts {
    ranges: Vec<Range<usize>>,
    /// The start of a run of members to cut that nothing kept stands before.
    leading: Option<usize>,
    kept_one: bool,
    previous_end: usize,
}

impl Cuts {
    /// The next member, and whether it goes.
    fn member(&mut self, cut: bool, start: impl FnOnce() -> usize, end: usize) {
        if cut && self.kept_one {
            self.ranges.push(self.previous_end..end);
        } else if cut {
            self.leading = Some(self.leading.unwrap_or_else(start));
        } else {
            if let Some(from) = self.leading.take() {
                self.ranges.push(from..start());
            }
            self.kept_one = true;
        }
        self.previous_end = end;
    }

    /// The ranges to leave out, in order.
    fn ranges(mut self) -> Vec<Range<usize>> {
        self.ranges.extend(self.leading.map(|from| from..self.previous_end));
        self.ranges
    }
}

/// RFC 7386: `patch` laid over `document`. Values that the patch does not touch keep their text. `None` if either is not JSON.
#[must_use]
pub fn merge(document: &[u8], patch: &[u8]) -> Option<Vec<u8>> {
    let index = Index::build(document).ok()?;
    let members: Members<'_> = match Index::build(patch).ok()?.nodes[0].kind {
        Kind::Object => serde_json::from_slice(patch).ok()?,
        Kind::Null | Kind::Boolean | Kind::Number | Kind::Text | Kind::Array => return Some(patch.to_vec()),
    };
    let mut merged = if index.nodes[0].kind == Kind::Object { document.to_vec() } else { b"{}".to_vec() };
    for (name, value) in members {
        let index = Index::build(&merged).ok()?;
        let text = format!("/{}", pointer::escape(&name));
        let pointer = Pointer::parse(&text).expect("it is one member's");
        let edited = match value.get() {
            "null" => index.remove(&merged, pointer),
            value => {
                let before = index.find(&merged, pointer).map_or(b"null".as_slice(), |place| &merged[place.value]);
                index.set(&merged, pointer, &merge(before, value.as_bytes())?)
            }
        };
        merged = edited.unwrap_or(merged);
    }
    Some(merged)
}

type Members<'j> = std::collections::BTreeMap<String, &'j serde_json::value::RawValue>;

/// RFC 6901 allows no leading zeros.
fn array_position(token: &str) -> Option<usize> {
    let digits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (token == "0" || !token.starts_with('0'))).then(|| token.parse().ok())?
}

/// What a JSON string says. A lone half of a surrogate pair, which is JSON but no text, becomes U+FFFD, once for each byte of it.
pub(crate) fn text(quoted: &[u8]) -> Cow<'_, str> {
    let inner = &quoted[1..quoted.len() - 1];
    if memchr(b'\\', inner).is_none() {
        return Cow::Borrowed(
            std::str::from_utf8(inner).expect("documents are UTF-8, and quotes stand at its boundaries"),
        );
    }
    let decoded = serde_json::from_slice(quoted).unwrap_or_else(|_| {
        let bytes: Bytes = serde_json::from_slice(quoted).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    });
    Cow::Owned(decoded)
}

/// The document with each range replaced by what stands beside it.
fn splice(document: &[u8], mut cuts: Vec<(Range<usize>, &[u8])>) -> Vec<u8> {
    cuts.sort_by_key(|(range, _)| range.start);
    let mut spliced = Vec::with_capacity(document.len() + cuts.iter().map(|(_, with)| with.len()).sum::<usize>());
    let mut at = 0;
    for (range, with) in cuts {
        spliced.extend_from_slice(&document[at..range.start]);
        spliced.extend_from_slice(with);
        at = range.end;
    }
    spliced.extend_from_slice(&document[at..]);
    spliced
}

fn widen(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

fn limit(at: usize) -> u32 {
    u32::try_from(at).expect("documents over 4 GiB are refused before")
}

#[cfg(test)]
mod tests;
