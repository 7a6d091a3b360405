"""Drops what comes from the resource pool `test`; of all else, the object goes into a header."""

from wit_world import exports
from wit_world.imports.registry import Registration
from wit_world.imports.types import Delivery, JsonValue_Text, Verdict, Verdict_Deliver, Verdict_Drop


class Filter(exports.Filter):
    def handle(self, delivery: Delivery) -> Verdict:
        if delivery.json("/resourcePoolId") == JsonValue_Text("test"):
            return Verdict_Drop("the test pool is nobody's business")
        match delivery.json("/objectRef"):
            case JsonValue_Text(text):
                delivery.set_header("x-object", text)
        return Verdict_Deliver()


class About(exports.About):
    def register(self, registration: Registration) -> None:
        registration.describe("0.1.0", "drops the test pool, and puts the object into a header")
        registration.reusable(True)  # Nothing is kept from one delivery to the next.
