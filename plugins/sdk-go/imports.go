package weft

import "unsafe"

// The functions of plugin.wit's interfaces `types` and `registry`, as the canonical ABI has them.

//go:wasmimport weft:plugin/types@0.1.0 [resource-drop]delivery
func deliveryDrop(self uint32)

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.id
func deliveryID(self uint32, answer unsafe.Pointer)

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.event-type
func deliveryEventType(self uint32, answer unsafe.Pointer)

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.attribute
func deliveryAttribute(self uint32, name string, answer unsafe.Pointer)

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.subscription-id
func deliverySubscriptionID(self uint32, answer unsafe.Pointer)

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.destination
func deliveryDestination(self uint32, answer unsafe.Pointer)

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.run
func deliveryRun(self uint32) uint32

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.now
func deliveryNow(self uint32) uint64

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.settings
func deliverySettings(self uint32, answer unsafe.Pointer)

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.settings-revision
func deliverySettingsRevision(self uint32) uint64

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.header
func deliveryHeader(self uint32, name string, answer unsafe.Pointer)

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.headers
func deliveryHeaders(self uint32, answer unsafe.Pointer)

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.set-header
func deliverySetHeader(self uint32, name, value string, answer unsafe.Pointer)

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.remove-header
func deliveryRemoveHeader(self uint32, name string, answer unsafe.Pointer)

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.body-size
func deliveryBodySize(self uint32) uint64

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.body
func deliveryBody(self uint32, answer unsafe.Pointer)

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.read-body
func deliveryReadBody(self uint32, offset uint64, length uint32, answer unsafe.Pointer)

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.set-body
func deliverySetBody(self uint32, body string, hasType bool, contentType string, answer unsafe.Pointer)

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.json
func deliveryJSON(self uint32, pointer string, answer unsafe.Pointer)

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.json-many
func deliveryJSONMany(self uint32, pointers unsafe.Pointer, length uint32, answer unsafe.Pointer)

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.json-set
func deliveryJSONSet(self uint32, pointer, value string, answer unsafe.Pointer)

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.json-remove
func deliveryJSONRemove(self uint32, pointer string, answer unsafe.Pointer)

//go:wasmimport weft:plugin/types@0.1.0 [method]delivery.json-merge
func deliveryJSONMerge(self uint32, patch string, answer unsafe.Pointer)

//go:wasmimport weft:plugin/registry@0.1.0 [resource-drop]registration
func registrationDrop(self uint32)

//go:wasmimport weft:plugin/registry@0.1.0 [method]registration.describe
func registrationDescribe(self uint32, version, summary string)

//go:wasmimport weft:plugin/registry@0.1.0 [method]registration.accept
func registrationAccept(self uint32, eventType string, answer unsafe.Pointer)

//go:wasmimport weft:plugin/registry@0.1.0 [method]registration.settings-schema
func registrationSettingsSchema(self uint32, schema string, answer unsafe.Pointer)

//go:wasmimport weft:plugin/registry@0.1.0 [method]registration.reusable
func registrationReusable(self uint32, yes bool)
