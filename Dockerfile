# A proxy in front of one application: config/sidecar.yaml, until another file is mounted over it.
#
#   docker build -t hopproxy .
#   docker run -p 8080:8080 -e HOPPROXY_ORIGIN=http://app:3000 hopproxy

FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/hopproxy
COPY pyproject.toml README.md LICENSE ./
COPY hopproxy ./hopproxy
RUN python -m pip --python /opt/hopproxy/bin/python install --no-cache-dir .

FROM python:3.13-slim
LABEL org.opencontainers.image.title="hopproxy" \
      org.opencontainers.image.description="A reverse proxy that manages keep-alive hop by hop" \
      org.opencontainers.image.licenses="MIT"
ENV PATH="/opt/hopproxy/bin:$PATH" PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build /opt/hopproxy /opt/hopproxy
COPY config/sidecar.yaml /etc/hopproxy/hopproxy.yaml
RUN ["hopproxy", "check", "--config", "/etc/hopproxy/hopproxy.yaml"]
USER 65532:65532
EXPOSE 8080 9901
STOPSIGNAL SIGTERM
# /healthz and not /readyz: a proxy is not restarted because its application is down.
# If a settings file of your own listens elsewhere, set HOPPROXY_ADMIN to its admin address.
# Without an admin listener, a connection to the port for clients has to be enough.
HEALTHCHECK --interval=15s --timeout=3s --start-period=5s --retries=3 CMD ["python", "-c", "\
import http.client, os, sys; \
admin = os.environ.get('HOPPROXY_ADMIN') or ':9901'; \
site = os.environ.get('HOPPROXY_PORT') or '8080'; \
asked = admin if admin != 'off' else '8080' if '://' in site else site; \
port = int(asked.rpartition(':')[2]); \
link = http.client.HTTPConnection('127.0.0.1', port, timeout=2); \
link.connect(); \
admin == 'off' or link.request('GET', '/healthz') or sys.exit(link.getresponse().status != 200)"]
ENTRYPOINT ["hopproxy"]
CMD ["run", "--config", "/etc/hopproxy/hopproxy.yaml"]
