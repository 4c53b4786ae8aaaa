#!/bin/sh
# nginx cannot start without its certificate, and the agent needs nginx's process namespace to start: so nginx waits.
trap 'exit 0' TERM QUIT INT
until [ -s /tls/gateway/current/fullchain.pem ]; do
  sleep 1
done
exec nginx -e stderr -c /etc/nginx/newleaf/nginx.conf
