package weft

import (
	"runtime"
	"unsafe"
)

// Level is how loud a line in the log is.
type Level uint32

// As plugin.wit has them.
const (
	Trace Level = iota
	Debug
	Info
	Warn
	Error
)

// Enabled says whether a line of this level would be kept.
func (l Level) Enabled() bool { return logEnabled(uint32(l)) }

// Log writes a line to the host's log, with fields: name and value by turns. What a plugin prints is a line there too.
func (l Level) Log(message string, fields ...string) {
	spans := make([]span, len(fields)&^1)
	for i := range spans {
		spans[i] = spanOf(fields[i])
	}
	logWrite(uint32(l), message, unsafe.Pointer(unsafe.SliceData(spans)), uint32(len(spans)/2))
	runtime.KeepAlive(fields)
}

//go:wasmimport weft:plugin/log@0.1.0 enabled
func logEnabled(level uint32) bool

//go:wasmimport weft:plugin/log@0.1.0 write
func logWrite(level uint32, message string, fields unsafe.Pointer, length uint32)
