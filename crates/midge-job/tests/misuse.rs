//! What a person is told who uses `#[midge_job::main]` wrongly. The messages are kept beside the programs.
//!
//! They hold words of the compiler's too, so a new compiler may ask for new ones: run with `TRYBUILD=overwrite`, and
//! read what changed.

#[test]
fn misuse_of_the_attribute_is_explained() {
    trybuild::TestCases::new().compile_fail("tests/misuse/*.rs");
}
