# The example app (crates/midge/examples/app.rs), its jobs, the host and the program that has the network in one image: what Machines are forked from.
FROM rust:1.95-bookworm AS build
RUN rustup target add wasm32-wasip1
WORKDIR /src
COPY . .
RUN cargo build --release -p midge --bin midge --example app
# Always alone: built with the rest, the host would be given the compiler.
RUN cargo rustc --package midge-host --bin midge-host --profile host \
    --config 'target.x86_64-unknown-linux-gnu.rustflags=["--cfg", "getrandom_backend=\"linux_raw\"", "--cfg", "chacha20_backend=\"sse2\"", "-Csymbol-mangling-version=v0"]' \
    -- -C target-feature=+crt-static -C relocation-model=static -C link-arg=-Wl,-T,crates/midge-host/start-order.ld
RUN cargo rustc --package midge-net --bin midge-net --profile host \
    --config 'target.x86_64-unknown-linux-gnu.rustflags=["--cfg", "getrandom_backend=\"linux_raw\"", "--cfg", "chacha20_backend=\"sse2\"", "-Csymbol-mangling-version=v0"]' \
    -- -C target-feature=+crt-static
RUN target/release/midge build guest-examples --out /modules

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/release/examples/app /usr/local/bin/app
COPY --from=build /src/target/release/midge /usr/local/bin/midge
COPY --from=build /src/target/host/midge-host /usr/local/bin/midge-host
# The host starts it at the first request of a guest, and looks for it beside itself.
COPY --from=build /src/target/host/midge-net /usr/local/bin/midge-net
COPY --from=build /modules /modules
CMD ["app"]
