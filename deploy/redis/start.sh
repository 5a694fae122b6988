#!/bin/sh
# Redis with one user, known by the hash of its password, who may only do what the doorbell needs.
set -eu
umask 077
password=$(cat /run/secrets/redis)
digest=$(printf %s "${password:?}" | sha256sum | cut -d ' ' -f 1)
cat > /tmp/users.acl <<END
user default off resetkeys resetchannels -@all
user keelway on #$digest ~* &* -@all $(sed 's/#.*//; s/\([^ ][^ ]*\)/+\1/g' /etc/keelway/commands | tr -s '\n' ' ' | sed 's/ $//')
END
exec redis-server /etc/keelway/redis.conf
