package weft

import (
	"errors"
	"runtime"
	"time"
	"unsafe"
)

// What the state may answer instead. What else it answers is that the store is not available, and why.
var (
	ErrQuota      = errors.New("the plugin's quota is used up")
	ErrTooLarge   = errors.New("key or value too large")
	ErrNotANumber = errors.New("what is to be added to is no number, or the sum would be none")
)

// StateGet is what is kept under a key. The operator must grant `state`; a plugin that calls none of these functions does not
// ask for it.
func StateGet(key string) (value []byte, ok bool, err error) {
	stateGet(key, answer())
	if byteAt(0) != 0 {
		return nil, false, stateError(4)
	}
	if byteAt(4) == 0 {
		return nil, false, nil
	}
	return spanAt(8).bytes(), true, nil
}

// StateSet keeps a value, for a time if one is given.
func StateSet(key string, value []byte, ttl time.Duration) error {
	stateSet(key, asText(value), ttl > 0, uint64(ttl.Milliseconds()), answer())
	runtime.KeepAlive(value)
	if byteAt(0) != 0 {
		return stateError(4)
	}
	return nil
}

// StateSetIfAbsent does the same if nothing is kept there yet, and says whether it was so. Atomic.
func StateSetIfAbsent(key string, value []byte, ttl time.Duration) (bool, error) {
	stateSetIfAbsent(key, asText(value), ttl > 0, uint64(ttl.Milliseconds()), answer())
	runtime.KeepAlive(value)
	if byteAt(0) != 0 {
		return false, stateError(4)
	}
	return byteAt(4) != 0, nil
}

// StateIncrement adds to a number, which begins at 0, and returns it. Atomic. The time counts from its beginning.
func StateIncrement(key string, by int64, ttl time.Duration) (int64, error) {
	stateIncrement(key, by, ttl > 0, uint64(ttl.Milliseconds()), answer())
	if byteAt(0) != 0 {
		return 0, stateError(8)
	}
	return int64(area[1]), nil
}

// StateDelete forgets a key.
func StateDelete(key string) error {
	stateDelete(key, answer())
	if byteAt(0) != 0 {
		return stateError(4)
	}
	return nil
}

func stateError(offset uintptr) error {
	switch byteAt(offset) {
	case 0:
		return ErrQuota
	case 1:
		return ErrTooLarge
	case 2:
		return ErrNotANumber
	}
	return errors.New(spanAt(offset + 4).text())
}

//go:wasmimport weft:plugin/state@0.1.0 get
func stateGet(key string, answer unsafe.Pointer)

//go:wasmimport weft:plugin/state@0.1.0 set
func stateSet(key, value string, hasTTL bool, ttl uint64, answer unsafe.Pointer)

//go:wasmimport weft:plugin/state@0.1.0 set-if-absent
func stateSetIfAbsent(key, value string, hasTTL bool, ttl uint64, answer unsafe.Pointer)

//go:wasmimport weft:plugin/state@0.1.0 increment
func stateIncrement(key string, by int64, hasTTL bool, ttl uint64, answer unsafe.Pointer)

//go:wasmimport weft:plugin/state@0.1.0 delete
func stateDelete(key string, answer unsafe.Pointer)
