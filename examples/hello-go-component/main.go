// Drops what comes from the resource pool `test`; of all else, the object goes into a header.
// A component: Weft calls handle for each delivery.
package main

import "weft"

func init() {
	weft.Plugin(handle, weft.About{
		Version:  "0.1.0",
		Summary:  "drops the test pool, and puts the object into a header",
		Reusable: true, // Nothing is kept from one delivery to the next.
	})
}

func handle(delivery weft.Delivery) (weft.Verdict, error) {
	if pool, _ := delivery.Text("/resourcePoolId"); pool == "test" {
		return weft.Drop("the test pool is nobody's business"), nil
	}
	if object, ok := delivery.Text("/objectRef"); ok {
		if err := delivery.SetHeader("x-object", object); err != nil {
			return weft.Verdict{}, err
		}
	}
	return weft.Deliver(), nil
}

// A component has no beginning of its own; Go wants the name.
func main() {}
