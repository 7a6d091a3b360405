//! State in a test. It is handed from call to call; while one runs it stands where the functions of `state` find it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::bindings::weft::plugin::state::StateError;

const KEY_BYTES_MAX: usize = 512;
const VALUE_BYTES_MAX: usize = 64 * 1024;

/// What a plugin keeps from one call to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// With the time at which it ends.
    values: BTreeMap<String, (Vec<u8>, Option<u64>)>,
    now: u64,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

impl State {
    /// Nothing.
    #[must_use]
    pub fn new() -> State {
        State::default()
    }

    /// What is kept under a key at the time of the last call.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.entry(key).map(|(value, _)| value.as_slice())
    }

    fn entry(&self, key: &str) -> Option<&(Vec<u8>, Option<u64>)> {
        self.values.get(key).filter(|(_, end)| end.is_none_or(|end| end > self.now))
    }

    fn keep(&mut self, key: &str, value: &[u8], lifetime: Option<u64>) -> Result<(), StateError> {
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(StateError::TooLarge);
        }
        let end = lifetime.map(|lifetime| self.now.saturating_add(lifetime));
        self.values.insert(key.to_owned(), (value.to_owned(), end));
        Ok(())
    }
}

pub(super) fn put(state: State, now: u64) {
    STATE.set(State { now, ..state });
}

pub(super) fn take() -> State {
    STATE.take()
}

#[expect(clippy::unnecessary_wraps, reason = "as the host's function")]
pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, StateError> {
    Ok(STATE.with_borrow(|state| state.get(key).map(<[u8]>::to_vec)))
}

pub(crate) fn set(key: &str, value: &[u8], lifetime: Option<u64>) -> Result<(), StateError> {
    STATE.with_borrow_mut(|state| state.keep(key, value, lifetime))
}

pub(crate) fn set_if_absent(key: &str, value: &[u8], lifetime: Option<u64>) -> Result<bool, StateError> {
    STATE.with_borrow_mut(|state| match state.entry(key) {
        Some(_) => Ok(false),
        None => state.keep(key, value, lifetime).map(|()| true),
    })
}

pub(crate) fn increment(key: &str, by: i64, lifetime: Option<u64>) -> Result<i64, StateError> {
    STATE.with_borrow_mut(|state| {
        let Some((value, end)) = state.entry(key).cloned() else {
            return state.keep(key, by.to_string().as_bytes(), lifetime).map(|()| by);
        };
        let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse::<i64>().ok());
        let sum = number.and_then(|number| number.checked_add(by)).ok_or(StateError::NotANumber)?;
        state.values.insert(key.to_owned(), (sum.to_string().into_bytes(), end));
        Ok(sum)
    })
}

#[expect(clippy::unnecessary_wraps, reason = "as the host's function")]
pub(crate) fn delete(key: &str) -> Result<(), StateError> {
    STATE.with_borrow_mut(|state| state.values.remove(key));
    Ok(())
}
