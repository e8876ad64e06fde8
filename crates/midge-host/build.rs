//! Has the host linked again when the order of its functions changes: only the linker reads that file.

fn main() {
    #[allow(clippy::print_stdout)]
    {
        println!("cargo::rerun-if-changed=start-order.ld");
    }
}
