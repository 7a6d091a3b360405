// Drops what comes from the resource pool `test`; of all else, the object goes into a header.
// A WASI program: the delivery is JSON on standard input, the verdict JSON on standard output.
#include "json.h"

int main(void) {
    const char *delivery = json_space(json_read(stdin));
    const char *body = json_get(delivery, "body");
    if (json_is(json_get(body, "resourcePoolId"), "test")) {
        puts("{\"verdict\":\"drop\",\"reason\":\"the test pool is nobody's business\"}");
        return 0;
    }
    const char *object = json_get(body, "objectRef");
    if (json_is_text(object)) {
        printf("{\"verdict\":\"deliver\",\"headers\":{\"x-object\":%.*s}}\n", JSON_RAW(object));
    }
    return 0; // Printing nothing delivers as is.
}
