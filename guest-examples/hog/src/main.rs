//! Takes memory, a MiB at a time, and writes to it, until there is none.

const STEP_BYTES: usize = 1024 * 1024;

#[midge_job::main]
fn hog() {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        // Not zero: memory that is only promised is not yet taken.
        taken.push(std::hint::black_box(vec![0x5a; STEP_BYTES]));
    }
}
