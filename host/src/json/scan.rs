//! Finds the values of a document that is known to be JSON: what was checked need not be read closely, so this takes half the
//! time of reading it again.

use std::ops::Range;

use memchr::memchr2;

use super::{DEPTH_MAX, Error, Kind, Node};

/// Every value, in the order in which they begin. Of what is no JSON it makes nothing sensible.
pub(super) fn nodes(document: &[u8]) -> Result<Vec<Node>, Error> {
    let mut scan = Scan { nodes: Vec::with_capacity(document.len() / 24 + 4), open: None, depth: 0, name: 0..0 };
    let mut at = 0;
    while let Some(&byte) = document.get(at) {
        let start = at;
        at = match byte {
            b'"' => string_end(document, at),
            b' ' | b'\n' | b'\r' | b'\t' | b',' | b':' | b'{' | b'[' | b'}' | b']' => at + 1,
            _ => scalar_end(document, at),
        };
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' | b',' | b':' => {}
            b'{' => scan.opens(Kind::Object, start)?,
            b'[' => scan.opens(Kind::Array, start)?,
            b'}' | b']' => scan.closes(at),
            b'"' if scan.expects_name() => scan.name = narrow(start..at),
            b'"' => scan.finds(Kind::Text, start..at)?,
            b'n' => scan.finds(Kind::Null, start..at)?,
            b't' | b'f' => scan.finds(Kind::Boolean, start..at)?,
            _ => scan.finds(Kind::Number, start..at)?,
        }
    }
    Ok(scan.nodes)
}

struct Scan {
    nodes: Vec<Node>,
    /// The innermost object or array that is not closed yet. Until then its `next` is the one around it.
    open: Option<u32>,
    /// How many are open.
    depth: usize,
    /// Of the next value; empty while there is none.
    name: Range<u32>,
}

impl Scan {
    fn expects_name(&self) -> bool {
        let in_object = self.open.is_some_and(|open| self.nodes[open as usize].kind == Kind::Object);
        in_object && self.name.is_empty()
    }

    fn finds(&mut self, kind: Kind, value: Range<usize>) -> Result<(), Error> {
        let next = limit(self.nodes.len() + 1);
        self.push(kind, narrow(value), next)
    }

    fn opens(&mut self, kind: Kind, start: usize) -> Result<(), Error> {
        let around = self.open.replace(limit(self.nodes.len()));
        // Nothing is around the first one, and so nobody will ask what is.
        self.push(kind, narrow(start..start), around.unwrap_or_default())?;
        self.depth += 1;
        Ok(())
    }

    fn closes(&mut self, end: usize) {
        let Some(open) = self.open else { return };
        let next = limit(self.nodes.len());
        let node = &mut self.nodes[open as usize];
        node.value.end = limit(end);
        let around = std::mem::replace(&mut node.next, next);
        self.depth -= 1;
        self.open = (self.depth > 0).then_some(around);
    }

    fn push(&mut self, kind: Kind, value: Range<u32>, next: u32) -> Result<(), Error> {
        if self.depth > DEPTH_MAX {
            return Err(Error::TooDeep);
        }
        self.nodes.push(Node { kind, name: std::mem::take(&mut self.name), value, next });
        Ok(())
    }
}

/// Behind the quote that closes the string.
fn string_end(document: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(next) = document.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += next;
        if document[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    document.len()
}

/// Behind a number or a word.
fn scalar_end(document: &[u8], start: usize) -> usize {
    let is_behind = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t');
    document[start..].iter().position(is_behind).map_or(document.len(), |length| start + length)
}

fn narrow(range: Range<usize>) -> Range<u32> {
    limit(range.start)..limit(range.end)
}

fn limit(at: usize) -> u32 {
    u32::try_from(at).expect("documents over 4 GiB are refused before")
}
