#!/bin/sh
# Makes the secrets of docker-compose.yml, one file each. What is there already stays as it is.
#   deploy/make-secrets.sh [FOLDER]      default: secrets/ beside docker-compose.yml
set -eu
folder=${1:-$(dirname "$0")/../secrets}
umask 077
mkdir -p "$folder"
# The folder keeps the host's users out. The files must be readable: compose mounts each with the mode it has here,
# and no container runs as the user who made them.
chmod 0700 "$folder"

hex() { od -An -v -tx1 -N"$1" /dev/urandom | tr -d ' \n'; }

token() { # as the API wants it: kw_<12 hex digits>_<43 url-safe characters>
    printf 'kw_%s_%s' "$(hex 6)" "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n')"
}

keep() { # NAME TEXT: write it whole, or not at all
    printf '%s\n' "$2" > "$folder/.$1.new"
    chmod 0444 "$folder/.$1.new"
    mv -f "$folder/.$1.new" "$folder/$1"
}

make() { # NAME TEXT: only when there is none yet
    [ -s "$folder/$1" ] || keep "$1" "$2"
}

make postgres_superuser "$(hex 32)"
make postgres_app "$(hex 32)"
make redis "$(hex 32)"
make s3_access_key "$(hex 10)"
make s3_secret_key "$(hex 32)"
for name in weed_jwt_signing weed_jwt_signing_read weed_jwt_filer_signing weed_jwt_filer_signing_read; do
    make "$name" "$(hex 32)"
done
for name in admin_token worker_token gateway_token; do
    make "$name" "$(token)"
done
# Derived from the above, so always written anew.
keep database_url "postgresql+psycopg://keelway:$(cat "$folder/postgres_app")@postgres:5432/keelway"
keep redis_url "redis://keelway:$(cat "$folder/redis")@redis:6379/0"
