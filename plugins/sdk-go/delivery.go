package weft

import (
	"runtime"
	"time"
	"unsafe"
)

// Delivery is one event on its way to one subscription, and the request that is being made of it. Reading copies only what is
// asked for; edits take effect only if the verdict is to deliver. It is valid until the plugin's function returns.
type Delivery struct{ handle uint32 }

// ID is the event's id, the same for every subscriber and every attempt.
func (d Delivery) ID() string {
	deliveryID(d.handle, answer())
	return spanAt(0).text()
}

// EventType is for example "o2ims.Resource.Created".
func (d Delivery) EventType() string {
	deliveryEventType(d.handle, answer())
	return spanAt(0).text()
}

// Attribute is a further attribute of the event ("object-ref", "tenant", "time", …) or of the delivery ("delivery", "replays").
func (d Delivery) Attribute(name string) (string, bool) {
	deliveryAttribute(d.handle, name, answer())
	return optional()
}

// SubscriptionID says whose delivery it is.
func (d Delivery) SubscriptionID() string {
	deliverySubscriptionID(d.handle, answer())
	return spanAt(0).text()
}

// Destination is scheme, host and port of the endpoint.
func (d Delivery) Destination() string {
	deliveryDestination(d.handle, answer())
	return spanAt(0).text()
}

// Run is how often the chain ran for this delivery before; 0 at first.
func (d Delivery) Run() uint32 { return deliveryRun(d.handle) }

// Now is when this run of the chain began.
func (d Delivery) Now() time.Time { return time.UnixMilli(int64(deliveryNow(d.handle))) }

// Settings is the plugin's settings on this subscription, JSON; "{}" if there are none.
func (d Delivery) Settings() []byte {
	deliverySettings(d.handle, answer())
	return spanAt(0).bytes()
}

// SettingsRevision changes when the settings would: a reusable plugin keeps what it made of them under it.
func (d Delivery) SettingsRevision() uint64 { return deliverySettingsRevision(d.handle) }

// Header is a header of the draft by its name, in any case.
func (d Delivery) Header(name string) (string, bool) {
	deliveryHeader(d.handle, name, answer())
	return optional()
}

// Headers are all headers of the draft, each a name and a value.
func (d Delivery) Headers() [][2]string {
	deliveryHeaders(d.handle, answer())
	list := spanAt(0)
	headers := make([][2]string, list.length)
	for i, pair := range unsafe.Slice((*[2]span)(at(uintptr(list.address))), list.length) {
		headers[i] = [2]string{pair[0].text(), pair[1].text()}
	}
	return headers
}

// SetHeader sets a header of the draft, instead of what is there.
func (d Delivery) SetHeader(name, value string) error {
	deliverySetHeader(d.handle, name, value, answer())
	return headerResult()
}

// RemoveHeader removes a header; one that is not there is no error.
func (d Delivery) RemoveHeader(name string) error {
	deliveryRemoveHeader(d.handle, name, answer())
	return headerResult()
}

// BodySize is the size of the draft's body in bytes.
func (d Delivery) BodySize() uint64 { return deliveryBodySize(d.handle) }

// Body is all of the draft's body.
func (d Delivery) Body() []byte {
	deliveryBody(d.handle, answer())
	return spanAt(0).bytes()
}

// ReadBody is a part of the body; shorter, or nothing, at its end.
func (d Delivery) ReadBody(offset uint64, length uint32) []byte {
	deliveryReadBody(d.handle, offset, length, answer())
	return spanAt(0).bytes()
}

// SetBody replaces the body, and its content type if one is given.
func (d Delivery) SetBody(body []byte, contentType string) error {
	deliverySetBody(d.handle, asText(body), contentType != "", contentType, answer())
	runtime.KeepAlive(body)
	return editResult()
}

// JSON is the value at an RFC 6901 pointer into the body, which the host parses once; no value, kind None, if there is nothing.
func (d Delivery) JSON(pointer string) Value {
	deliveryJSON(d.handle, pointer, answer())
	return value(unsafe.Pointer(&area))
}

// Text is the text at a pointer, if one is there.
func (d Delivery) Text(pointer string) (string, bool) { return d.JSON(pointer).Text() }

// JSONMany is the values at several pointers at once.
func (d Delivery) JSONMany(pointers ...string) []Value {
	spans := make([]span, len(pointers))
	for i, pointer := range pointers {
		spans[i] = spanOf(pointer)
	}
	deliveryJSONMany(d.handle, unsafe.Pointer(unsafe.SliceData(spans)), uint32(len(spans)), answer())
	runtime.KeepAlive(pointers)
	list := spanAt(0)
	values := make([]Value, list.length)
	for i := range values {
		values[i] = value(unsafe.Add(at(uintptr(list.address)), i*valueSize))
	}
	return values
}

// JSONSet puts a value, given as JSON, at a pointer. Its parent must exist; "-" appends to an array.
func (d Delivery) JSONSet(pointer, json string) error {
	deliveryJSONSet(d.handle, pointer, json, answer())
	return editResult()
}

// JSONRemove removes the value at a pointer; one that is not there is no error.
func (d Delivery) JSONRemove(pointer string) error {
	deliveryJSONRemove(d.handle, pointer, answer())
	return editResult()
}

// JSONMerge merges a patch into the body: RFC 7386.
func (d Delivery) JSONMerge(patch string) error {
	deliveryJSONMerge(d.handle, patch, answer())
	return editResult()
}

// HeaderError says why a header cannot be set.
type HeaderError byte

// As plugin.wit has them.
const (
	InvalidName HeaderError = iota
	InvalidValue
	Reserved
	HeaderTooLarge
)

func (e HeaderError) Error() string {
	return [...]string{"invalid header name", "invalid header value", "a header that only the host sets", "header too large"}[e]
}

// EditError says why the body cannot be edited.
type EditError byte

// As plugin.wit has them.
const (
	NotJSON EditError = iota
	BadPointer
	BodyTooLarge
)

func (e EditError) Error() string { return [...]string{"not JSON", "bad pointer", "body too large"}[e] }

func headerResult() error {
	if byteAt(0) == 0 {
		return nil
	}
	return HeaderError(byteAt(1))
}

func editResult() error {
	if byteAt(0) == 0 {
		return nil
	}
	return EditError(byteAt(1))
}
