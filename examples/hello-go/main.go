// Drops what comes from the resource pool `test`; of all else, the object goes into a header.
// A WASI program: the delivery is JSON on standard input, the verdict JSON on standard output.
package main

import (
	"encoding/json"
	"log"
	"os"
)

type delivery struct {
	Body any `json:"body"`
}

type verdict struct {
	Verdict string            `json:"verdict"`
	Reason  string            `json:"reason,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
}

func main() {
	var d delivery
	in := json.NewDecoder(os.Stdin)
	in.UseNumber() // A number of any size is welcome.
	if err := in.Decode(&d); err != nil {
		log.Fatal(err) // The host logs it and takes the exit code for a failure.
	}
	answer := verdict{Verdict: "deliver"}
	body, _ := d.Body.(map[string]any)
	if body["resourcePoolId"] == "test" {
		answer = verdict{Verdict: "drop", Reason: "the test pool is nobody's business"}
	} else if object, ok := body["objectRef"].(string); ok {
		answer.Headers = map[string]string{"x-object": object}
	}
	json.NewEncoder(os.Stdout).Encode(answer)
}
