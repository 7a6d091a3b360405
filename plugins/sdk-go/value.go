package weft

import (
	"math"
	"unsafe"
)

// Kind is what a value in a JSON document is.
type Kind byte

// None is nothing at all; Number is one that is no 64-bit integer; Composite an array or an object.
const (
	None Kind = iota
	Null
	Bool
	Integer
	Number
	String
	Composite
)

// Value is a value out of a JSON document.
type Value struct {
	kind Kind
	bits uint64
	text string
}

const valueSize = 24

// value reads option<json-value>.
func value(place unsafe.Pointer) Value {
	if *(*byte)(place) == 0 {
		return Value{}
	}
	v := Value{kind: 1 + Kind(*(*byte)(unsafe.Add(place, 8)))}
	payload := unsafe.Add(place, 16)
	switch v.kind {
	case None, Null:
	case Bool:
		v.bits = uint64(*(*byte)(payload))
	case Integer, Number:
		v.bits = *(*uint64)(payload)
	case String, Composite:
		v.text = (*span)(payload).text()
	}
	return v
}

// Kind says what it is.
func (v Value) Kind() Kind { return v.kind }

// Text is the text that it is, if it is one.
func (v Value) Text() (string, bool) { return v.text, v.kind == String }

// JSON is the JSON of the array or object that it is, as it stands in the document.
func (v Value) JSON() (string, bool) { return v.text, v.kind == Composite }

// Integer is the 64-bit integer that it is.
func (v Value) Integer() (int64, bool) { return int64(v.bits), v.kind == Integer }

// Number is the number that it is, as near as a float64 is.
func (v Value) Number() (float64, bool) {
	if v.kind == Integer {
		return float64(int64(v.bits)), true
	}
	return math.Float64frombits(v.bits), v.kind == Number
}

// Bool is the boolean that it is.
func (v Value) Bool() (yes, ok bool) { return v.kind == Bool && v.bits != 0, v.kind == Bool }
