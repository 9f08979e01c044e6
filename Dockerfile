# cmcr on a CPU: docker build -t cmcr . && docker run --rm -v "$PWD:/data" cmcr embed photos/ --encoder tiny-clip -o mem/clip
FROM python:3.11-slim

# What pip is told beside the package, such as extras: --build-arg EXTRAS=[clip,ulip]
ARG EXTRAS=""
WORKDIR /opt/cmcr
COPY pyproject.toml README.md LICENSE ./
COPY cmcr ./cmcr
# uv finds torch's CPU build, a tenth of the one with CUDA.
RUN pip install --no-cache-dir uv && uv pip install --system --no-cache --torch-backend cpu ".${EXTRAS}"

# Files are data, and a container need not be root to read them.
RUN useradd --create-home cmcr
USER cmcr
WORKDIR /data
ENTRYPOINT ["cmcr"]
CMD ["--help"]
