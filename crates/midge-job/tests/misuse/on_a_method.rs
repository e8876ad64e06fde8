struct Photo;

impl Photo {
    #[midge_job::main]
    fn resize(&self, width: u32) -> u32 {
        width
    }
}

fn main() {}
