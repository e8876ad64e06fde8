//! A job without the SDK: argv is the module's name and the args, stdin the input, stdout the result.

use std::io::{Read, Write};
use std::process::ExitCode;

/// `EX_DATAERR`: the host takes it for "do not retry".
const EXIT_REFUSED: u8 = 65;

fn main() -> ExitCode {
    let mut argv = std::env::args();
    let (Some(module), Some(args)) = (argv.next(), argv.next()) else {
        eprintln!("there are no args");
        return ExitCode::from(EXIT_REFUSED);
    };
    let mut input = Vec::new();
    if let Err(error) = std::io::stdin().read_to_end(&mut input) {
        eprintln!("cannot read the input: {error}");
        return ExitCode::FAILURE;
    }
    // The args are JSON already, and a module's name needs no escapes.
    let result = format!(r#"{{"module":"{module}","args":{args},"input_bytes":{}}}"#, input.len());
    match std::io::stdout().write_all(result.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write the result: {error}");
            ExitCode::FAILURE
        }
    }
}
