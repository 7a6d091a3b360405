//! Patterns of event types: `o2ims.*.Created`, where `*` stands for one segment and `**` for any number of them.

/// Longer patterns are refused.
const BYTES_MAX: usize = 256;

/// One pattern, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// `**`
    Any,
    /// `*`
    One,
    Exactly(String),
}

impl Pattern {
    /// Reads a pattern; `Err` says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Pattern, String> {
        if text.len() > BYTES_MAX {
            return Err(format!("a pattern has at most {BYTES_MAX} bytes"));
        }
        text.split('.').map(Segment::parse).collect::<Result<_, _>>().map(Pattern)
    }

    /// Whether the event type is one of those meant.
    pub(super) fn matches(&self, event_type: &str) -> bool {
        // Which numbers of leading pattern segments fit what was read so far: no pattern makes this slow.
        let mut fits = vec![false; self.0.len() + 1];
        fits[0] = true;
        self.skip_any(&mut fits);
        for segment in event_type.split('.') {
            let mut next = vec![false; fits.len()];
            for (at, wanted) in self.0.iter().enumerate().filter(|(at, _)| fits[*at]) {
                match wanted {
                    Segment::Any => next[at] = true,
                    Segment::One => next[at + 1] = true,
                    Segment::Exactly(text) => next[at + 1] |= text == segment,
                }
            }
            self.skip_any(&mut next);
            fits = next;
        }
        fits.last().copied().unwrap_or_default()
    }

    /// `**` may also stand for nothing.
    fn skip_any(&self, fits: &mut [bool]) {
        for (at, segment) in self.0.iter().enumerate() {
            fits[at + 1] |= fits[at] && *segment == Segment::Any;
        }
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Segment, String> {
        match text {
            "" => Err("a segment between two dots is empty".to_owned()),
            "*" => Ok(Segment::One),
            "**" => Ok(Segment::Any),
            text if text.contains('*') => Err(format!("{text:?}: `*` and `**` stand for whole segments")),
            text => Ok(Segment::Exactly(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, matching: &str, others: &str) {
        let parsed = Pattern::parse(pattern).expect("a pattern");
        for (types, expected) in [(matching, true), (others, false)] {
            for event_type in types.split_whitespace() {
                assert_eq!(parsed.matches(event_type), expected, "{pattern} and {event_type}");
            }
        }
    }

    #[test]
    fn a_star_is_one_segment_and_two_are_any_number() {
        check("a.b", "a.b", "a a.b.c A.b a.c");
        check("a.*", "a.b a.c", "a a.b.c b.a");
        check("*.*.Created", "o2ims.Resource.Created", "Created o2ims.Created o2ims.a.b.Created");
        check("a.**", "a a.b a.b.c", "b b.a ab");
        check("**", "a a.b a.b.c", "");
        check("**.z", "z a.z a.b.z z.z", "a z.a az");
        check("a.**.z", "a.z a.b.z a.b.c.z", "a z a.b z.a");
        check("**.m.**", "m a.m m.z a.m.z a.b.m.y.z", "a a.z");
        check("*", "a", "a.b");
        assert!(!Pattern::parse("*.*").unwrap().matches(""));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["", ".", "a.", ".a", "a..b", "a*", "a.b*.c", "***", &"a".repeat(300)] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_pattern_is_slow() {
        let pattern = Pattern::parse(&("**.a.".repeat(40) + "b")).expect("a pattern");
        assert!(!pattern.matches(&("a.".repeat(2000) + "c")));
    }
}
