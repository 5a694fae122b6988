#!/bin/sh
# Run once, by the image, in a new data directory: the role that owns Keelway's database and nothing else.
set -eu
password=$(cat /run/secrets/postgres_app)
psql -v ON_ERROR_STOP=1 --username postgres --dbname postgres <<END
CREATE ROLE keelway LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '${password:?}';
CREATE DATABASE keelway OWNER keelway;
REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;
END
