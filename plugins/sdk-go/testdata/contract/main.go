// Uses all of the contract, and the heap enough for some collections of garbage, so that the fixtures see what does not hold.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"weft"
)

func init() {
	weft.Plugin(handle, weft.About{
		Version:        "1.2.3",
		Summary:        "uses all of the contract",
		Accept:         []string{"o2ims.**", "other"},
		SettingsSchema: `{"type":"object","properties":{"do":{"type":"string"}}}`,
		Reusable:       true,
	})
}

func main() {}

var garbage [16][]byte

func handle(d weft.Delivery) (weft.Verdict, error) {
	var settings struct{ Do string }
	if err := json.Unmarshal(d.Settings(), &settings); err != nil {
		return weft.Verdict{}, weft.Permanent(err)
	}
	switch settings.Do {
	case "postpone":
		return weft.Postpone(1500*time.Millisecond, "later"), nil
	case "dead-letter":
		return weft.DeadLetter("given up"), nil
	case "transient":
		return weft.Verdict{}, errors.New("it may pass")
	case "permanent":
		return weft.Verdict{}, fmt.Errorf("around it: %w", weft.Permanent(errors.New("for good")))
	case "panic":
		panic("as told")
	case "state":
		return weft.Deliver(), state(d)
	case "edit":
		return weft.Deliver(), edit(d)
	}
	for i := range 300 {
		garbage[i%len(garbage)] = make([]byte, 16<<10)
		if err := look(d); err != nil {
			return weft.DeadLetter(fmt.Sprintf("%d: %v", i, err)), nil
		}
	}
	return weft.Deliver(), nil
}

// is collects what differs.
type is []string

func (wrong *is) that(what string, got, want any) {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		*wrong = append(*wrong, fmt.Sprintf("%s is %v, not %v", what, got, want))
	}
}

func (wrong is) err() error {
	if len(wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(wrong, "; "))
}

func look(d weft.Delivery) error {
	var wrong is
	wrong.that("id", d.ID(), "n-1")
	wrong.that("event type", d.EventType(), "o2ims.Resource.Created")
	wrong.that("subscription", d.SubscriptionID(), "sub-1")
	wrong.that("destination", d.Destination(), "https://smo.example.com")
	wrong.that("run", d.Run(), 0)
	wrong.that("now", d.Now().UTC().Format(time.RFC3339), "2026-01-08T10:30:00Z")
	object, ok := d.Attribute("object-ref")
	wrong.that("object", [2]any{object, ok}, [2]any{"/node-1", true})
	_, ok = d.Attribute("no-such-thing")
	wrong.that("no attribute", ok, false)
	kind, ok := d.Header("Content-Type")
	wrong.that("content type", [2]any{kind, ok}, [2]any{"application/json", true})
	_, ok = d.Header("x-none")
	wrong.that("no header", ok, false)
	wrong.that("headers", slices.Contains(d.Headers(), [2]string{"content-type", "application/json"}), true)
	body := d.Body()
	wrong.that("size", d.BodySize(), len(body))
	wrong.that("end", bytes.HasSuffix(body, []byte(`"last":"ü"}`)), true)
	wrong.that("part", string(d.ReadBody(3, 16)), string(body[3:19]))
	wrong.that("beyond", len(d.ReadBody(1<<40, 16)), 0)
	values := d.JSONMany("/n", "/x", "/f", "/t", "/o", "/last", "/none")
	kinds := make([]weft.Kind, len(values))
	for i, value := range values {
		kinds[i] = value.Kind()
	}
	wrong.that("kinds", kinds, []weft.Kind{
		weft.Null, weft.Integer, weft.Number, weft.Bool, weft.Composite, weft.String, weft.None,
	})
	integer, _ := values[1].Integer()
	wrong.that("integer", integer, int64(-9007199254740993))
	number, _ := values[2].Number()
	wrong.that("number", number, 2.5)
	yes, _ := values[3].Bool()
	wrong.that("boolean", yes, true)
	composite, _ := values[4].JSON()
	wrong.that("composite", composite, `{"a":[1,2]}`)
	text, _ := values[5].Text()
	wrong.that("text", text, "ü")
	return wrong.err()
}

func edit(d weft.Delivery) error {
	var wrong is
	wrong.that("reserved", d.SetHeader("host", "x"), weft.Reserved)
	wrong.that("value", d.SetHeader("x-a", "a\nb"), weft.InvalidValue)
	wrong.that("name", d.SetHeader("x a", "b"), weft.InvalidName)
	wrong.that("set", d.SetHeader("x-a", "b"), nil)
	wrong.that("remove", d.RemoveHeader("x-never"), nil)
	wrong.that("pointer", d.JSONSet("/no/where", "1"), weft.BadPointer)
	wrong.that("json set", d.JSONSet("/added", `[1.50]`), nil)
	wrong.that("json append", d.JSONSet("/added/-", `{"b":null}`), nil)
	wrong.that("json remove", d.JSONRemove("/objectRef"), nil)
	wrong.that("json merge", d.JSONMerge(`{"resourceTypeId":null,"merged":true}`), nil)
	body := append([]byte(`{"before":`), d.Body()...)
	wrong.that("set body", d.SetBody(append(body, '}'), "application/x+json"), nil)
	wrong.that("set body again", d.SetBody(d.Body(), ""), nil)
	wrong.that("too large", d.SetBody(make([]byte, 1<<21), ""), weft.BodyTooLarge)
	wrong.that("enabled", weft.Info.Enabled(), true)
	weft.Warn.Log("a line", "with", "a field")
	fmt.Println("a printed one")
	return wrong.err()
}

func state(d weft.Delivery) error {
	var wrong is
	_, ok, err := weft.StateGet("k")
	wrong.that("nothing", [2]any{ok, err}, [2]any{false, nil})
	wrong.that("set", weft.StateSet("k", []byte("v"), time.Minute), nil)
	value, ok, err := weft.StateGet("k")
	wrong.that("value", [3]any{string(value), ok, err}, [3]any{"v", true, nil})
	isNew, err := weft.StateSetIfAbsent("k", nil, 0)
	wrong.that("not absent", [2]any{isNew, err}, [2]any{false, nil})
	isNew, err = weft.StateSetIfAbsent("l", nil, 0)
	wrong.that("absent", [2]any{isNew, err}, [2]any{true, nil})
	sum, err := weft.StateIncrement("n", -3, time.Minute)
	wrong.that("sum", [2]any{sum, err}, [2]any{-3, nil})
	_, err = weft.StateIncrement("k", 1, 0)
	wrong.that("no number", err, weft.ErrNotANumber)
	wrong.that("large", weft.StateSet("k", make([]byte, 65<<10), 0), weft.ErrTooLarge)
	wrong.that("delete", weft.StateDelete("k"), nil)
	_, ok, err = weft.StateGet("k")
	wrong.that("deleted", [2]any{ok, err}, [2]any{false, nil})
	return wrong.err()
}
