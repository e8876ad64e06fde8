//! Never ends, and never calls the host: only its time limit stops it.

#[midge_job::main]
fn spin() {
    let mut turns = 0_u64;
    loop {
        // Keeps the compiler from seeing that nothing happens.
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}
