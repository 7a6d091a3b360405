//! Settings, read once per revision and instance: a plugin that is reusable does not read them again with each delivery.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::any::Any;
use core::cell::RefCell;

/// Read settings that an instance keeps. It serves one tenant, so there are few.
const KEPT_MAX: usize = 16;

/// By their revision. No map: its hasher would ask the host for chance.
type Kept = Vec<(u64, Rc<dyn Any>)>;

#[cfg(any(feature = "std", not(target_arch = "wasm32")))]
std::thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Vec::new()) };
}

#[cfg(all(target_arch = "wasm32", not(feature = "std")))]
static KEPT: crate::runtime::OneThread<Kept> = crate::runtime::OneThread::new(Vec::new());

/// What was read of this revision, or else what `read` makes of it.
pub(crate) fn cached<T: 'static, E>(revision: u64, read: impl FnOnce() -> Result<T, E>) -> Result<Rc<T>, E> {
    let of_revision = |kept: &RefCell<Kept>| {
        let kept = kept.borrow();
        let mut same = kept.iter().filter(|(of, _)| *of == revision);
        same.find_map(|(_, value)| Rc::clone(value).downcast().ok())
    };
    if let Some(value) = KEPT.with(of_revision) {
        return Ok(value);
    }
    let value = Rc::new(read()?);
    KEPT.with_borrow_mut(|kept| {
        if kept.len() >= KEPT_MAX {
            kept.remove(0);
        }
        kept.push((revision, Rc::clone(&value) as Rc<dyn Any>));
    });
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(revision: u64, value: &str) -> Rc<String> {
        cached(revision, || Ok::<_, ()>(value.to_owned())).unwrap()
    }

    #[test]
    fn a_revision_is_read_once() {
        assert_eq!(*read(1, "a"), "a");
        assert_eq!(*read(1, "b"), "a");
        assert_eq!(*read(2, "b"), "b");
        assert_eq!(cached(1, || Ok::<u8, ()>(5)), Ok(Rc::new(5)), "another type is read by itself");
        assert_eq!(cached(3, || Err::<u8, _>("no")), Err("no"));
        assert_eq!(cached(3, || Ok::<u8, &str>(6)), Ok(Rc::new(6)), "a failure is not kept");
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        (0..100).for_each(|revision| drop(read(revision, "x")));
        assert_eq!(KEPT.with_borrow(Vec::len), KEPT_MAX);
    }
}
