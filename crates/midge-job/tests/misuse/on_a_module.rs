#[midge_job::main]
mod resize {}
