package weft

import (
	"errors"
	"time"
	"unsafe"
)

// Handler decides on one delivery. An error is a failure that may pass, one of Permanent is one for good; a panic is a crash.
type Handler func(Delivery) (Verdict, error)

// About is what a plugin says about itself. All of it may be left out.
type About struct {
	Version, Summary string
	// Accept are the event types to call it for, "*" for one segment and "**" for any number; none means all.
	Accept []string
	// SettingsSchema is the JSON Schema of its settings.
	SettingsSchema string
	// Reusable: an instance may serve many deliveries, one after the other, where the operator agrees.
	Reusable bool
}

// Verdict is what is to become of a delivery.
type Verdict struct {
	tag    byte
	delay  time.Duration
	reason string
}

// Deliver lets it go, with the edits that were made to it.
func Deliver() Verdict { return Verdict{tag: 0} }

// Drop does not deliver it.
func Drop(reason string) Verdict { return Verdict{tag: 1, reason: reason} }

// Postpone asks again after a while; it uses up no attempt.
func Postpone(delay time.Duration, reason string) Verdict {
	return Verdict{tag: 2, delay: delay, reason: reason}
}

// DeadLetter gives it up.
func DeadLetter(reason string) Verdict { return Verdict{tag: 3, reason: reason} }

type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent makes an error a failure for good: it is not tried again.
func Permanent(err error) error { return permanent{err} }

var plugin struct {
	handle Handler
	about  About
}

// Plugin says what the plugin is; to be called once, in an init function.
func Plugin(handle Handler, about About) { plugin.handle, plugin.about = handle, about }

// What handle and register return lies here until the next call.
var returned struct {
	words  [5]uint32
	reason string
}

//go:wasmexport weft:plugin/filter@0.1.0#handle
func handle(delivery uint32) unsafe.Pointer {
	verdict, err := plugin.handle(Delivery{delivery})
	deliveryDrop(delivery)
	if err != nil {
		var tag uint32
		if errors.As(err, new(permanent)) {
			tag = 1
		}
		return give(1, err.Error(), tag)
	}
	if verdict.tag == 2 {
		return give(0, verdict.reason, 2, milliseconds(verdict.delay))
	}
	return give(0, verdict.reason, uint32(verdict.tag))
}

//go:wasmexport weft:plugin/about@0.1.0#register
func register(registration uint32) unsafe.Pointer {
	err := plugin.about.register(registration)
	registrationDrop(registration)
	if err != nil {
		return give(1, err.Error())
	}
	return give(0, "")
}

func (a About) register(registration uint32) error {
	registrationDescribe(registration, a.Version, a.Summary)
	registrationReusable(registration, a.Reusable)
	for _, eventType := range a.Accept {
		registrationAccept(registration, eventType, answer())
		if byteAt(0) != 0 {
			return errors.New(spanAt(4).text())
		}
	}
	if a.SettingsSchema == "" {
		return nil
	}
	registrationSettingsSchema(registration, a.SettingsSchema, answer())
	if byteAt(0) != 0 {
		return errors.New(spanAt(4).text())
	}
	return nil
}

// give is a result: whether it is an error, some numbers, and a text.
func give(isError uint32, reason string, numbers ...uint32) unsafe.Pointer {
	text := spanOf(reason)
	returned.reason = reason
	returned.words = [5]uint32{isError}
	copy(returned.words[1:], append(numbers, text.address, text.length))
	return unsafe.Pointer(&returned.words)
}

func milliseconds(delay time.Duration) uint32 {
	return uint32(min(max(delay.Milliseconds(), 0), 1<<32-1))
}
