# Serving only: the page and REST of one SavedModel, which is mounted and not copied in.
#
#   docker build -t kerasall-serve .
#   docker run --rm -p 127.0.0.1:8501:8501 --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#     -v "$PWD/savedmodels/NAME:/model/NAME:ro" -v "$PWD/token:/run/token:ro" kerasall-serve /model/NAME
#
# The container listens on all of its addresses, so it asks for a token; the file must be readable by user 10001.
FROM python:3.11-slim

ENV PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=2
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY kerasall ./kerasall
COPY configs ./configs
COPY pipelines ./pipelines
RUN pip install --no-cache-dir -c constraints.txt '.[web]' && rm -rf /src

WORKDIR /
USER 10001:10001
EXPOSE 8501
HEALTHCHECK --start-period=120s --interval=30s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/readyz', timeout=5)"]
ENTRYPOINT ["kerasall", "serve", "--host", "0.0.0.0", "--token-file", "/run/token"]
CMD ["/model"]
