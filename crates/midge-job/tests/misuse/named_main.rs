#[midge_job::main]
fn main(width: u32) -> u32 {
    width
}
