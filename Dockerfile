# Two images from one file: `web` serves pages and the API and has no torch; `worker` adds the engine.
# Both run the commands that the README names: `rewardscope serve`, `rewardscope worker`, `rewardscope db upgrade`.
FROM python:3.12-slim AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 REWARDSCOPE_DATA_DIR=/data
RUN useradd --create-home --uid 10001 rewardscope && mkdir /data /models && chown rewardscope /data /models
WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./

FROM base AS web
COPY . .
RUN pip install -c constraints.txt '.[server]'
USER rewardscope
RUN python -c "from rewardscope import launcher; launcher.enter(); from engine.masks import warm_up; warm_up()"
VOLUME ["/data"]
EXPOSE 8321
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8321/healthz', timeout=2)"
CMD ["rewardscope", "serve", "--host", "0.0.0.0", "--port", "8321"]

FROM base AS worker
# https://download.pytorch.org/whl/cpu here makes an image for machines without a GPU.
ARG TORCH_INDEX=https://pypi.org/simple
RUN pip install -c constraints.txt --extra-index-url "$TORCH_INDEX" torch
COPY . .
RUN pip install -c constraints.txt --extra-index-url "$TORCH_INDEX" '.[engine]'
USER rewardscope
RUN python -c "from rewardscope import launcher; launcher.enter(); from engine.masks import warm_up; warm_up()"
VOLUME ["/data"]
CMD ["rewardscope", "worker"]
