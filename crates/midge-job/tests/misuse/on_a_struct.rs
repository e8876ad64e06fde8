#[midge_job::main]
struct Resize;
