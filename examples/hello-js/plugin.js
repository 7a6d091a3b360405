// Drops what comes from the resource pool `test`; of all else, the object goes into a header.
export const filter = {
  handle(delivery) {
    const pool = delivery.json("/resourcePoolId");
    if (pool?.tag === "text" && pool.val === "test") {
      return { tag: "drop", val: "the test pool is nobody's business" };
    }
    const object = delivery.json("/objectRef");
    if (object?.tag === "text") {
      delivery.setHeader("x-object", object.val);
    }
    return { tag: "deliver" };
  },
};

export const about = {
  register(registration) {
    registration.describe("0.1.0", "drops the test pool, and puts the object into a header");
    registration.reusable(true); // Nothing is kept from one delivery to the next.
  },
};
