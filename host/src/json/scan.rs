//! Reads a document once, closely: finds all of its values and refuses what is not JSON. No library tells where values
//! stand while it checks them, and reading twice takes twice the time.

use std::ops::Range;

use super::{DEPTH_MAX, Index, Kind, Node, limit};

/// Why there are no values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    NotJson,
    TooDeep,
}

/// Every value of a document in UTF-8, in the order in which they begin.
pub(super) fn index(document: &[u8]) -> Result<Index, Flaw> {
    let nodes = Vec::with_capacity(document.len() / 24 + 4);
    let mut scan = Scan { document, at: 0, nodes, has_escapes: false, open: None, depth: 0 };
    let mut name = 0..0;
    loop {
        let opened = scan.value(name)?;
        match scan.behind(opened)? {
            Next::Value(of) => name = of,
            Next::End => return Ok(Index { nodes: scan.nodes, has_escapes: scan.has_escapes }),
        }
    }
}

struct Scan<'d> {
    document: &'d [u8],
    at: usize,
    nodes: Vec<Node>,
    has_escapes: bool,
    /// The innermost object or array that is not closed yet. Until then its `next` is the one around it.
    open: Option<u32>,
    /// How many are open.
    depth: usize,
}

/// What was read last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    /// A value.
    Whole,
    /// The beginning of an object or an array.
    Opened,
}

/// What comes then.
enum Next {
    /// A value of this name, which is empty where there is none.
    Value(Range<u32>),
    /// Nothing.
    End,
}

impl Scan<'_> {
    /// A value; of an object or an array its beginning.
    fn value(&mut self, name: Range<u32>) -> Result<Read, Flaw> {
        let start = self.past_space();
        let (kind, end) = match self.document.get(start) {
            Some(b'"') => (Kind::Text, self.string_end(start)),
            Some(b'{') => return self.opens(Kind::Object, name),
            Some(b'[') => return self.opens(Kind::Array, name),
            Some(b't') => (Kind::Boolean, self.word_end(b"true")),
            Some(b'f') => (Kind::Boolean, self.word_end(b"false")),
            Some(b'n') => (Kind::Null, self.word_end(b"null")),
            _ => (Kind::Number, number_end(self.document, start)),
        };
        self.at = end.ok_or(Flaw::NotJson)?;
        let next = limit(self.nodes.len() + 1);
        self.nodes.push(Node { kind, name, value: limit(start)..limit(self.at), next });
        Ok(Read::Whole)
    }

    fn opens(&mut self, kind: Kind, name: Range<u32>) -> Result<Read, Flaw> {
        if self.depth == DEPTH_MAX {
            return Err(Flaw::TooDeep);
        }
        let (start, around) = (limit(self.at), self.open.replace(limit(self.nodes.len())));
        // Nothing is around the first one, and so nobody will ask what is.
        self.nodes.push(Node { kind, name, value: start..start, next: around.unwrap_or_default() });
        self.depth += 1;
        self.at += 1;
        Ok(Read::Opened)
    }

    /// Commas and closing brackets, up to the next value.
    fn behind(&mut self, mut read: Read) -> Result<Next, Flaw> {
        while let Some(open) = self.open {
            let is_object = self.nodes[open as usize].kind == Kind::Object;
            let at = self.past_space();
            match self.document.get(at) {
                Some(b'}') if is_object => self.closes(open),
                Some(b']') if !is_object => self.closes(open),
                Some(b',') if read == Read::Whole => {
                    self.at += 1;
                    return self.next(is_object);
                }
                _ if read == Read::Opened => return self.next(is_object),
                _ => return Err(Flaw::NotJson),
            }
            read = Read::Whole;
        }
        if self.past_space() == self.document.len() { Ok(Next::End) } else { Err(Flaw::NotJson) }
    }

    fn closes(&mut self, open: u32) {
        self.at += 1;
        let next = limit(self.nodes.len());
        let node = &mut self.nodes[open as usize];
        node.value.end = limit(self.at);
        let around = std::mem::replace(&mut node.next, next);
        self.depth -= 1;
        self.open = (self.depth > 0).then_some(around);
    }

    /// A member's name with its colon, or nothing.
    fn next(&mut self, is_object: bool) -> Result<Next, Flaw> {
        if !is_object {
            return Ok(Next::Value(0..0));
        }
        let start = self.past_space();
        if self.document.get(start) != Some(&b'"') {
            return Err(Flaw::NotJson);
        }
        let end = self.string_end(start).ok_or(Flaw::NotJson)?;
        self.at = end;
        let colon = self.past_space();
        if self.document.get(colon) != Some(&b':') {
            return Err(Flaw::NotJson);
        }
        self.at += 1;
        Ok(Next::Value(limit(start)..limit(end)))
    }

    fn past_space(&mut self) -> usize {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.document.get(self.at) {
            self.at += 1;
        }
        self.at
    }

    /// Behind the quote that closes the string.
    fn string_end(&mut self, start: usize) -> Option<usize> {
        let mut at = start + 1;
        loop {
            at += plain(&self.document[at..]);
            match self.document.get(at)? {
                b'"' => return Some(at + 1),
                b'\\' => at = escape_end(self.document, at)?,
                _ => return None,
            }
            self.has_escapes = true;
        }
    }

    fn word_end(&self, word: &[u8]) -> Option<usize> {
        self.document[self.at..].starts_with(word).then_some(self.at + word.len())
    }
}

/// How many bytes come before a quote, a backslash or a control character: eight at a time.
fn plain(text: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let (words, _) = text.as_chunks::<8>();
    for (count, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let bytes = |byte: u8| zeros(word ^ (ONES * u64::from(byte)));
        let below_space = word.wrapping_sub(ONES * 0x20) & !word;
        // A borrow marks bytes that are none only behind one that is.
        let found = (bytes(b'"') | bytes(b'\\') | below_space) & HIGH;
        if found != 0 {
            return count * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let rest = &text[words.len() * 8..];
    let is_plain = |byte: &u8| *byte >= b' ' && *byte != b'"' && *byte != b'\\';
    words.len() * 8 + rest.iter().position(|byte| !is_plain(byte)).unwrap_or(rest.len())
}

/// Behind an escape. Half a surrogate pair is one.
fn escape_end(document: &[u8], start: usize) -> Option<usize> {
    match document.get(start + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(start + 2),
        b'u' => {
            let digits = document.get(start + 2..start + 6)?;
            digits.iter().all(u8::is_ascii_hexdigit).then_some(start + 6)
        }
        _ => None,
    }
}

fn number_end(document: &[u8], start: usize) -> Option<usize> {
    let digits = |at: usize| {
        let count = document[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then_some(at + count)
    };
    let first = start + usize::from(document.get(start) == Some(&b'-'));
    let mut end = if document.get(first) == Some(&b'0') { first + 1 } else { digits(first)? };
    if document.get(end) == Some(&b'.') {
        end = digits(end + 1)?;
    }
    if let Some(b'e' | b'E') = document.get(end) {
        let sign = usize::from(matches!(document.get(end + 1), Some(b'+' | b'-')));
        end = digits(end + 1 + sign)?;
    }
    Some(end)
}
