//! A first plugin: drops what is only a test, and tells the receiver in a header which object an event is about.

use weft_plugin::{Delivery, Failure, Json, Verdict, plugin};

plugin!(handle);

fn handle(delivery: &Delivery) -> Result<Verdict, Failure> {
    if delivery.json("/resourcePoolId") == Some(Json::Text("test".to_owned())) {
        return Ok(Verdict::drop("the test pool is nobody's business"));
    }
    if let Some(Json::Text(object)) = delivery.json("/objectRef") {
        delivery.set_header("x-object", &object)?;
    }
    Ok(Verdict::deliver())
}
