# Installs the kit and runs the first command of the README:
#     docker build -t terminator . && docker run --rm -v "$PWD/results:/kit/results" terminator
# A smaller image, for the CPU alone:
#     docker build --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu -t terminator .
# JupyterLab instead, over copies of the notebooks that stay (made once by the first line):
#     docker run --rm -v "$PWD/my-notebooks:/kit/my-notebooks" terminator .venv/bin/python -m terminator notebooks
#     docker run --rm -v "$PWD/my-notebooks:/kit/my-notebooks" -p 8888:8888 terminator \
#         .venv/bin/jupyter lab --ip 0.0.0.0 --allow-root my-notebooks
FROM python:3.12-slim
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /kit
COPY . .
RUN python3 -m venv .venv && .venv/bin/pip install -e ".[notebooks]"
CMD [".venv/bin/python", "run_all.py"]
