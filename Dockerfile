# lions as an image: `docker build -t lions .`, then
# `docker run --rm --gpus all -v "$PWD":/project lions run sweeps/quickstart.toml` in a project folder.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The image's own toolchain: the file names tools that building does not need, which would be downloaded.
RUN rm rust-toolchain.toml && cargo build --release --locked && cp target/release/lions /lions

FROM debian:bookworm-slim
# cuBLAS of the wheel is enough for GPUs; the driver comes from the host.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-pip \
    && pip3 install --no-cache-dir --break-system-packages nvidia-cublas-cu12 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /lions /usr/local/bin/lions
WORKDIR /project
ENTRYPOINT ["lions"]
