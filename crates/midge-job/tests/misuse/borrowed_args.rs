#[midge_job::main]
fn greet(name: &str) -> String {
    format!("Hello, {name}!")
}
