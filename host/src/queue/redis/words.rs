//! What is wrong with a Redis that does not do its work, in words for the people who mend it. Never with a credential.

use redis::{ErrorKind, RedisError};

/// Said of "Redis at host:port is not available:".
pub(super) fn of(error: &RedisError) -> String {
    if error.is_timeout() {
        return format!("it does not answer ({error})");
    }
    if error.is_connection_refusal() {
        return format!("it refuses connections: does it run? ({error})");
    }
    if error.kind() == ErrorKind::AuthenticationFailed {
        return refused(error);
    }
    match code(error).as_str() {
        "LOADING" => "it is loading its data, and takes no commands until that is done".to_owned(),
        "READONLY" => "it is read-only: a replica, or a master that was replaced".to_owned(),
        "OOM" => "it is out of memory, and takes no writes until there is some (maxmemory)".to_owned(),
        "MISCONF" => "it cannot write to its disk, and takes no writes until it can".to_owned(),
        "WRONGPASS" | "NOAUTH" => refused(error),
        "NOPERM" => format!("the user of queue.url may not do what Weft needs: {}", detail(error)),
        "CLUSTERDOWN" => "the cluster is down, or does not serve all slots".to_owned(),
        "MASTERDOWN" => "it is a replica that has lost its master".to_owned(),
        "BUSY" => "it is busy with a script of somebody".to_owned(),
        _ if error.is_connection_dropped() => "it closed the connection".to_owned(),
        _ => error.to_string(),
    }
}

/// Whether it is said of a key that holds something else than it should.
pub(super) fn is_wrong_type(said: &str) -> bool {
    said.contains("WRONGTYPE")
}

/// Of such a key.
pub(super) fn of_wrong_type(key: &str, wanted: &str) -> String {
    format!("the key {key} must be {wanted} and is not: rename or delete it, and what waits for it goes on")
}

fn refused(error: &RedisError) -> String {
    format!("it refuses the user or the password of queue.url: {}", detail(error))
}

fn detail(error: &RedisError) -> String {
    error.detail().map_or_else(|| error.to_string(), str::to_owned)
}

/// The first word of what Redis said. Of a pipeline the client tells it in its message only, Redis before 7 what a script was
/// told within what it says of the script, and what a script passes on stands behind `ERR`.
fn code(error: &RedisError) -> String {
    let message = error.to_string();
    if message.contains("user executing the script") {
        return "NOPERM".to_owned();
    }
    let code = match error.code() {
        Some("ERR") => {
            let told = message.split(" -").skip(1).find_map(first_word);
            told.or_else(|| error.detail().and_then(first_word)).unwrap_or("ERR")
        }
        Some(code) => code,
        None => message.split(|char: char| !char.is_ascii_uppercase()).find(|word| word.len() > 2).unwrap_or_default(),
    };
    code.to_owned()
}

/// If it is such a word.
fn first_word(text: &str) -> Option<&str> {
    let end = text.find(|char: char| !char.is_ascii_uppercase()).unwrap_or(text.len());
    (end > 2).then(|| &text[..end])
}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::ServerErrorKind;

    use super::*;

    #[track_caller]
    fn check(error: impl Into<RedisError>, words: &str) {
        let said = of(&error.into());
        assert!(said.contains(words), "{said}");
    }

    #[test]
    fn a_stall_is_no_answer() {
        check(io::Error::from(io::ErrorKind::TimedOut), "does not answer");
    }

    #[test]
    fn nobody_listens() {
        check(io::Error::from(io::ErrorKind::ConnectionRefused), "does it run?");
    }

    #[test]
    fn a_cut_is_a_closed_connection() {
        check(io::Error::from(io::ErrorKind::UnexpectedEof), "closed the connection");
    }

    #[test]
    fn what_a_script_was_told_counts() {
        let said = "Error running script (call to f_0a1b): @user_script:66: @user_script: 66: -OOM command not allowed";
        check((ErrorKind::Server(ServerErrorKind::ResponseError), "an error", said.to_owned()), "out of memory");
    }

    #[test]
    fn what_a_script_passes_on_counts() {
        let said = "READONLY You can't write against a read only replica. script: 0a1b, on @user_script:123.";
        check((ErrorKind::Server(ServerErrorKind::ResponseError), "an error", said.to_owned()), "it is read-only");
    }

    #[test]
    fn what_a_script_may_not_do_the_user_may_not() {
        let said =
            "The user executing the script can't run this command or subcommand script: 0a1b, on @user_script:58.";
        check(
            (ErrorKind::Server(ServerErrorKind::ResponseError), "an error", said.to_owned()),
            "the user of queue.url",
        );
    }

    #[test]
    fn a_password_is_not_repeated() {
        check((ErrorKind::AuthenticationFailed, "Password authentication failed"), "password");
    }
}
