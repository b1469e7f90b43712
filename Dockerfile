# queue-server as a container: one static binary, no shell, no root.
#
#   make image
#   docker run -p 127.0.0.1:7420:7420 replyq:VERSION
#   docker run -p 127.0.0.1:7420:7420 -v replyq:/data -e REPLYQ_DATA_DIR=/data replyq:VERSION

FROM golang:1.26 AS build
WORKDIR /src
# Dependencies first: they change less often than the code, and this layer is kept until they do.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" \
      -o /out/ ./cmd/queue-server ./cmd/queuectl \
    && mkdir -m 0700 /out/data

FROM scratch
COPY --from=build /out/queue-server /out/queuectl /
# For a data directory. A new volume takes over whose it is; nothing is kept there unless REPLYQ_DATA_DIR says so.
COPY --from=build --chown=65532:65532 --chmod=0700 /out/data /data
USER 65532:65532

# Inside a container loopback is of no use: the image's own default is all interfaces.
ENV REPLYQ_LISTEN=0.0.0.0:7420
EXPOSE 7420
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/queue-server", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/queue-server"]
