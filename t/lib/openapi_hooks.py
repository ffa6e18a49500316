# What schemathesis has to know for t/openapi.t besides src/http/openapi.yaml.

import json

import schemathesis
from hypothesis import strategies

# The keys that some of the requests are about, so that there is something to
# read, and the last ETag that was seen of each.
KEYS = ["greeting", "n:1", "n:2"]
tags = {}
turns = {}


# Lists of tags, and no longer ones than clients send.

TAG = '(W/)?"[!#-~]*"'
schemathesis.openapi.format(
    "entity-tags",
    strategies.from_regex(rf"\A(\*|{TAG}( *, *{TAG}){{0,3}})\Z"),
)


# Lines of JSON, as the schema has them: an array of what they are.


@schemathesis.serializer("application/x-ndjson")
def to_lines(ctx, value):
    if isinstance(value, bytes):
        return value

    lines = value if isinstance(value, list) else [value]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@schemathesis.deserializer("application/x-ndjson")
def from_lines(ctx, response):
    return [json.loads(line) for line in response.content.split(b"\n")[:-1]]


# Texts are compared with the schema, too; a value may be any bytes.


@schemathesis.deserializer("text/plain")
def from_text(ctx, response):
    return response.content.decode("latin-1")


def turn(what, n):
    turns[what] = turns.get(what, 0) + 1
    return turns[what] % n == 0


def is_positive(case):
    meta = case.meta
    return meta is None or meta.generation.mode.is_positive


@schemathesis.hook
def before_call(ctx, case, kwargs):
    query = case.query or {}

    # Nothing changes while a read waits, for seconds or minutes: t/waiting.t
    # has them.

    if str(query.get("wait", "")).isdigit() and 0 < int(query["wait"]) <= 600:
        query["wait"] = 0

    if not is_positive(case):
        return

    # t/digest.t has digests, which are of the body.

    if case.headers:
        case.headers.pop("Content-Digest", None)

    # What no schema of a single parameter can say.

    if case.operation.label == "POST /kv/{key}":
        if "ttl" not in query and "incr" not in query:
            case.query = {**query, "incr": 1}
        elif str(query.get("ttl")) == "0":
            query.pop("incr", None)

    if "/keys" in case.path and str(query.get("values")) == "1":
        if query.get("format") == "text":
            query["format"] = "lines"

    for line in case.body if isinstance(case.body, list) else []:
        if "expires" in line:
            line["expires"] = min(line["expires"], 2_000_000_000)

    if case.path_parameters and turn("key", 2):
        key = KEYS[len(case.path_parameters["key"]) % len(KEYS)]
        case.path_parameters["key"] = key

        for name in ("If-Match", "If-None-Match"):
            if name in (case.headers or {}) and key in tags and turn(name, 2):
                case.headers[name] = tags[key]


@schemathesis.hook
def after_call(ctx, case, response):
    tag = response.headers.get("etag")

    if tag and case.path_parameters:
        tags[case.path_parameters["key"]] = tag[0]
