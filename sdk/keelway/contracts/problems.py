"""Every problem a caller can act on: its id, its status, and the page that `/problems/{id}` shows.

The API raises them, the SDK turns them back into exceptions of the same name (`stale-attempt` is
`keelway.errors.StaleAttempt`); a test holds the three together.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ProblemType:
    """A kind of problem. `explanation` says what happened and what to do, in one or two sentences."""

    status: int
    title: str
    explanation: str


PROBLEMS: dict[str, ProblemType] = {
    "unauthenticated": ProblemType(
        401,
        "Who are you?",
        "The request had no token, or one that is unknown, expired or revoked. "
        "Send 'Authorization: Bearer kw_...'; `keelway login` stores a token for the command line.",
    ),
    "forbidden": ProblemType(
        403, "Your role does not allow this", "You may see the resource, but your role in its workspace is too low."
    ),
    "not-found": ProblemType(
        404, "Not found", "There is no such resource, or you may not see it. The fields say what was looked for."
    ),
    "method-not-allowed": ProblemType(
        405, "Method not allowed", "The path exists, but not for this method; `allowed` lists those it has."
    ),
    "invalid-request": ProblemType(
        422,
        "The request is malformed",
        "A field is missing, unknown or of the wrong shape; `errors` names each with its path in the request.",
    ),
    "too-large": ProblemType(
        413,
        "Too large",
        "`limit_bytes` says how much this path takes, or how large a file may be; `path` names the file then.",
    ),
    "host-not-allowed": ProblemType(
        400, "This host name is not served here", "The Host header names no host that this API was told to serve."
    ),
    "wrong-state": ProblemType(
        409, "Not in this state", "The resource exists, but its state does not allow this now; `state` says which."
    ),
    "already-exists": ProblemType(
        409, "The name is taken", "A resource of this name exists already; `name` says which."
    ),
    "in-use": ProblemType(
        409, "Something still uses it", "It cannot be removed while others refer to it; `used_by` names them."
    ),
    "immutable": ProblemType(
        409, "This cannot be changed", "Properties are written once: new keys may be added, old ones never changed."
    ),
    "approval-needed": ProblemType(
        409,
        "The version is not approved",
        "It was registered so that somebody who may deploy must approve it first: `keelway model approve`.",
    ),
    "signature-invalid": ProblemType(
        422,
        "This is no signature of the version's files",
        "A sigstore bundle is taken whose signed statement names exactly the files of the version, as "
        "`keelway model sign` and model-signing make it; the detail says what differs.",
    ),
    "not-inspected": ProblemType(
        409,
        "The version was not inspected yet",
        "This workspace refuses to deploy versions by what is found in their files. An inspection needs a worker and "
        "takes seconds; try again then. `keelway model inspect` asks for another when one has failed.",
    ),
    "unsafe-model": ProblemType(
        409,
        "This workspace refuses what was found in the version",
        "`findings` names what was found in which file. Deploy another version, or have an administrator change "
        "the policy: `keelway workspace update --refuse-findings`.",
    ),
    "output-conflict": ProblemType(
        409,
        "The output does not fit beside those there are",
        "An output never changes: its path may come again with the same bytes only. Nor may two paths be one on some "
        "file systems, or one be the folder of the other.",
    ),
    "output-not-found": ProblemType(
        404, "The run has no such output", "`files` lists what it has; a path is a file or a folder among them."
    ),
    "no-such-child": ProblemType(
        404,
        "No child run is the one asked for",
        "A child is picked by its iteration, or as the best by a metric; `available` lists what the children have.",
    ),
    "blobs-missing": ProblemType(
        409, "Some files are not uploaded yet", "Upload the files named in `paths`, then commit again."
    ),
    "blob-not-expected": ProblemType(
        404,
        "No open upload lists these bytes",
        "Bytes are only taken for a file that an upload of yours has listed and that is not finished.",
    ),
    "digest-mismatch": ProblemType(
        422,
        "The bytes are not what was announced",
        "The sha256 or size of what arrived differs from what was announced; nothing was stored.",
    ),
    "offset-mismatch": ProblemType(
        409,
        "The upload does not go on there",
        "An interrupted upload goes on where a stored part ends; `received_bytes` says where that is.",
    ),
    "upload-stalled": ProblemType(
        408, "The upload stalled", "No byte came for `idle_s` seconds. What is stored is kept: go on from there."
    ),
    "too-busy": ProblemType(
        503,
        "Too many at a time",
        "As many as this API takes at a time are under way; try again after Retry-After seconds.",
    ),
    "upload-taken-over": ProblemType(
        409,
        "Another connection sends these bytes",
        "The same token began to send the same bytes again; the earlier connection is of no use any more.",
    ),
    "corrupt-bytes": ProblemType(
        500, "Stored bytes are damaged", "The object store gave back bytes whose sha256 is wrong; they were not served."
    ),
    "environment-invalid": ProblemType(
        422, "The environment description is not valid", "`line` says which line of the file and why."
    ),
    "environment-unsolvable": ProblemType(
        422, "No set of packages satisfies this", "The resolver's own explanation is in `detail`."
    ),
    "python-not-available": ProblemType(
        422,
        "This Python is not to be had",
        "`available` lists the versions that the nodes, or the declared conda channels, have; `python_version` "
        "overrides what a file asks for.",
    ),
    "name-reserved": ProblemType(
        409, "The name is reserved", "Environments with such names are made by Keelway and read-only; choose another."
    ),
    "needs-image": ProblemType(
        409,
        "This environment runs only in its image",
        "With user-managed dependencies the image's own Python is used and nothing is built; a process has no image.",
    ),
    "no-node": ProblemType(
        503, "No node is ready", "A worker host must be registered and alive before anything can be built or run."
    ),
    "operation-not-claimable": ProblemType(
        409, "This operation is not to be claimed", "Somebody works on it, it has ended, or it may not be tried again."
    ),
    "stale-attempt": ProblemType(
        409,
        "This attempt is no longer the current one",
        "The lease lapsed and another attempt began, or the operation ended. Stop working on it.",
    ),
    "idempotency-mismatch": ProblemType(
        409, "The Idempotency-Key was used for another request", "A key belongs to one request: method, path and body."
    ),
    "idempotency-in-flight": ProblemType(
        409, "The first request with this key is still running", "Try again after Retry-After seconds."
    ),
    "secret-shown-once": ProblemType(
        409,
        "The secret cannot be shown again",
        "The first request with this Idempotency-Key was carried out; its answer held the secret, which is not kept. "
        "If you do not have it, revoke what `id` names and create another.",
    ),
    "precondition-failed": ProblemType(
        412, "It was changed in between", "If-Match named an etag that is not the current one; read it again."
    ),
    "range-not-satisfiable": ProblemType(
        416, "The range lies outside the file", "`size_bytes` says how long the file is."
    ),
    "dependency-away": ProblemType(
        503,
        "Something this API needs is away",
        "`dependency` names it. Nothing was lost; try again after Retry-After seconds.",
    ),
    "internal-error": ProblemType(
        500, "This is our mistake", "The log of the API holds the traceback under the request id."
    ),
}
