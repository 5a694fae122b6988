#!/bin/sh
# SeaweedFS with one identity, its inner doors on loopback, and every write synced to the disk before its answer.
set -eu
umask 077
cd /run/keelway # where it looks for security.toml; in memory

access_key=$(cat /run/secrets/s3_access_key)
secret_key=$(cat /run/secrets/s3_secret_key)
signing=$(cat /run/secrets/weed_jwt_signing)
signing_read=$(cat /run/secrets/weed_jwt_signing_read)
filer_signing=$(cat /run/secrets/weed_jwt_filer_signing)
filer_signing_read=$(cat /run/secrets/weed_jwt_filer_signing_read)

# Without an identity it would let everybody in: an empty key ends the script here.
cat > identities.json <<END
{"identities": [{"name": "keelway", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
  "credentials": [{"accessKey": "${access_key:?}", "secretKey": "${secret_key:?}"}]}]}
END
cat > security.toml <<END
[jwt.signing]
key = "${signing:?}"
[jwt.signing.read]
key = "${signing_read:?}"
[jwt.filer_signing]
key = "${filer_signing:?}"
[jwt.filer_signing.read]
key = "${filer_signing_read:?}"
END

settle() { # set the syncing, then ask whether it is set
    timeout 20 weed shell -master=127.0.0.1:9333.19333 -filer=127.0.0.1:8888.18888 <<END 2>/dev/null | tr -d ' \n' > settings
fs.configure -locationPrefix=/buckets/ -fsync=true -apply
fs.configure
exit
END
    grep -q '"locationPrefix":"/buckets/"[^}]*"fsync":true' settings
}

rm -f ready
weed -logtostderr=true server -dir=/data -ip=127.0.0.1 -ip.bind=127.0.0.1 \
    -master.port=9333 -master.port.grpc=19333 -volume.port=8080 -volume.port.grpc=18080 \
    -filer -filer.port=8888 -filer.port.grpc=18888 \
    -s3 -s3.ip.bind=0.0.0.0 -s3.port=8333 -s3.port.grpc=18333 -s3.config=/run/keelway/identities.json \
    -s3.iam=false -s3.port.iceberg=0 -s3.port.lance=0 \
    -filer.localSocket=/run/keelway/filer.sock -s3.localSocket=/run/keelway/s3.sock \
    -filer.disableDirListing -filer.exposeDirectoryData=false -master.telemetry=false \
    -master.electionTimeout=1s -master.volumeSizeLimitMB=1024 -volume.max=0 -volume.preStopSeconds=0 &
server=$!
trap 'kill -TERM "$server"; wait "$server"; exit 0' TERM INT
until settle; do
    kill -0 "$server"
    sleep 1
done
touch ready
wait "$server"
