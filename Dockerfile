# CUDA (the machine needs NVIDIA's driver and container toolkit):
#     docker build -t prompt-learning . && docker run --gpus all -it prompt-learning
# CPU:
#     docker build -t prompt-learning --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
FROM python:3.11-slim
ARG TORCH_INDEX
ENV VIRTUAL_ENV=/usr/local PIP_NO_CACHE_DIR=1 PIP_CONSTRAINT=/prompt-learning/constraints.txt
ENV PIP_EXTRA_INDEX_URL=$TORCH_INDEX
WORKDIR /prompt-learning
COPY setup.py constraints.txt ./
COPY scripts/env.sh scripts/
RUN bash -c 'source scripts/env.sh && install'
COPY . .
CMD ["bash"]
