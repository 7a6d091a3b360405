//! What a plugin without Rust's standard library needs in its place: memory, what outlives a call, and somebody to tell when it
//! panics.

#![allow(unsafe_code, reason = "an allocator, and a static of the one thread")]

use alloc::string::ToString;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::RefCell;
use core::ffi::c_void;
use core::panic::PanicInfo;

use crate::bindings::weft::plugin::log::{self, Level};

/// The allocator of the C library that is there for this target. It begins with the memory that the plugin has anyway; one
/// that asks for more at once, as others do, makes each fresh instance slower.
struct CLibrary;

#[global_allocator]
static MEMORY: CLibrary = CLibrary;

/// Of what `malloc` returns, at least.
const ALIGNMENT: usize = 8;

#[link(name = "c")]
unsafe extern "C" {
    fn malloc(size: usize) -> *mut c_void;
    fn realloc(memory: *mut c_void, size: usize) -> *mut c_void;
    fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void;
    fn free(memory: *mut c_void);
}

// SAFETY: each call hands over what the C library asks for; what it returns is as large and as aligned as was asked.
unsafe impl GlobalAlloc for CLibrary {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= ALIGNMENT {
            unsafe { malloc(layout.size()) }.cast()
        } else {
            unsafe { aligned_alloc(layout.align(), layout.pad_to_align().size()) }.cast()
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        unsafe { free(memory.cast()) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.align() <= ALIGNMENT {
            return unsafe { realloc(memory.cast(), size) }.cast();
        }
        let Ok(larger) = Layout::from_size_align(size, layout.align()) else { return core::ptr::null_mut() };
        let moved = unsafe { self.alloc(larger) };
        if !moved.is_null() {
            unsafe { moved.copy_from_nonoverlapping(memory, layout.size().min(size)) };
            unsafe { self.dealloc(memory, layout) };
        }
        moved
    }
}

/// How the host gets memory for what it hands over.
///
/// # Safety
/// As of the component model: `memory` has `size` bytes, or is nothing if that is 0.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(memory: *mut u8, size: usize, alignment: usize, new_size: usize) -> *mut u8 {
    let moved = match (size, new_size) {
        (0, 0) => return core::ptr::without_provenance_mut(alignment),
        // No value of the component model needs more alignment than `malloc` gives.
        (0, _) => unsafe { malloc(new_size) },
        (_, _) => unsafe { realloc(memory.cast(), new_size) },
    };
    if moved.is_null() { core::arch::wasm32::unreachable() } else { moved.cast() }
}

/// What `thread_local!` makes, where there is one thread.
pub(crate) struct OneThread<T>(RefCell<T>);

// SAFETY: nothing is shared where there are no threads; with those of WebAssembly this would not compile.
#[cfg(not(target_feature = "atomics"))]
unsafe impl<T> Sync for OneThread<T> {}

impl<T> OneThread<T> {
    pub(crate) const fn new(value: T) -> OneThread<T> {
        OneThread(RefCell::new(value))
    }

    pub(crate) fn with<R>(&self, look: impl FnOnce(&RefCell<T>) -> R) -> R {
        look(&self.0)
    }

    pub(crate) fn with_borrow_mut<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.0.borrow_mut())
    }
}

/// Says where and why in the daemon's log, and ends the call.
#[panic_handler]
fn panic(panic: &PanicInfo<'_>) -> ! {
    log::write(Level::Error, &panic.to_string(), &[]);
    core::arch::wasm32::unreachable()
}
