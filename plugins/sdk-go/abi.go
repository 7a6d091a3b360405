// Package weft is what a plugin in Go is written with: a function that decides on one delivery, and what it says about itself.
//
//	func init() { weft.Plugin(handle, weft.About{Version: "0.1.0"}) }
//
//	func handle(delivery weft.Delivery) (weft.Verdict, error) { return weft.Deliver(), nil }
//
//	func main() {}
package weft

import "unsafe"

// What the host puts into this memory, by the canonical ABI of the component model, lies outside of Go's heap: it asks for
// room while a call of ours is on its way, when Go must not collect garbage, because that looks at the clock, and nothing may
// be called back then. All of it is copied when the call is over, and the room is used again by the next one.
var room struct {
	begin, used, size uintptr
	isReady           bool
}

// The first that is asked for is more than nearly all answers need.
const roomMin = 64 << 10

//go:linkname sbrk runtime.sbrk
func sbrk(size uintptr) unsafe.Pointer

func init() { room.isReady = true }

// grow is memory of our own, or the end of this call: the place that sbrk gives where the host refuses more is address 0, and
// what lies there is Go's.
func grow(size uintptr) unsafe.Pointer {
	place := sbrk(size)
	if place == nil {
		panic("weft: the host gives no more memory (memory_max)")
	}
	return place
}

// realloc is where the host asks for room.
//
//go:wasmexport cabi_realloc
func realloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	var place unsafe.Pointer
	if room.isReady {
		place = inRoom(uintptr(align), uintptr(size))
	} else {
		// Before Go has begun, the WASI adapter wants memory that it keeps.
		place = grow(uintptr(size))
	}
	if oldSize > 0 {
		copy(unsafe.Slice((*byte)(place), size), unsafe.Slice((*byte)(old), oldSize))
	}
	return place
}

func inRoom(align, size uintptr) unsafe.Pointer {
	place := (room.begin + room.used + align - 1) &^ (align - 1)
	if place+size > room.begin+room.size {
		larger := max(2*room.size, size, roomMin)
		room.begin, room.size = uintptr(grow(larger)), larger
		place = room.begin
	}
	room.used = place + size - room.begin
	return at(place)
}

// at makes a pointer of an address: go vet takes the plain way for a mistake.
func at(address uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&address)) }

// area is where the host puts an answer that is more than a number: one call at a time, and the same place for each.
var area [4]uint64

// answer empties the room and says where the next answer goes.
func answer() unsafe.Pointer {
	room.used = 0
	return unsafe.Pointer(&area)
}

func byteAt(offset uintptr) byte { return *(*byte)(unsafe.Add(unsafe.Pointer(&area), offset)) }

// A text or a list: its address and its length.
type span struct{ address, length uint32 }

func spanAt(offset uintptr) span { return *(*span)(unsafe.Add(unsafe.Pointer(&area), offset)) }

func (s span) view() []byte { return unsafe.Slice((*byte)(at(uintptr(s.address))), s.length) }

func (s span) text() string {
	if s.length == 0 {
		return ""
	}
	return string(s.view())
}

func (s span) bytes() []byte {
	if s.length == 0 {
		return nil
	}
	return append([]byte(nil), s.view()...)
}

func spanOf(text string) span {
	return span{uint32(uintptr(unsafe.Pointer(unsafe.StringData(text)))), uint32(len(text))}
}

// asText lends bytes to a call that takes a text.
func asText(bytes []byte) string { return unsafe.String(unsafe.SliceData(bytes), len(bytes)) }

// optional is a text that may not be there.
func optional() (string, bool) {
	if byteAt(0) == 0 {
		return "", false
	}
	return spanAt(4).text(), true
}
