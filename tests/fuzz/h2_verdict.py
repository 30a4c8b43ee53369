"""One HTTP/2 run on the whole path, judged: what each side said against what the other heard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h2.exceptions
import hpack

from hopproxy.message import Body, ResponseHead
from hopproxy.record import ExchangeRecord
from tests.fuzz import h2_meant, judges, meant, reference, verdict
from tests.fuzz.h2_ends import H2End, Half
from tests.fuzz.h2_reader import connection, settings_frame
from tests.fuzz.h2_script import MARK
from tests.fuzz.h11_reader import Disagreement, Seen
from tests.fuzz.reference import Meant
from tests.h2_peer import DATA, END_HEADERS, END_STREAM, HEADERS, PROTOCOL_ERROR, Fields, frame

if TYPE_CHECKING:
    from tests.fuzz.h2_whole import Answered, H2Stage

#: What nobody may send after a body, here or in HTTP/1.1 (RFC 9110 section 6.5.1).
NEVER_TRAILS = frozenset(
    b"content-length host transfer-encoding authorization trailer :path te connection".split()
)
#: What may be sent again although an origin has read it before (RFC 9110 section 9.2.2).
REPEATABLE = frozenset((b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"))
#: Why hopproxy refuses a request that `h2` accepts: each of them names the rule in its detail, or
#: is a status that says which one.
REASONS = (
    "RFC ",  # a section
    "CONNECT",
    "TRACE",
    "Content-Length",
    "Expect",
    "expectation",
    "underscore",
    "Host",
    "Via",
    "in circles",
    "NTLM and Negotiate",  # with HTTP_1_1_REQUIRED
)


def judge(stage: H2Stage) -> None:
    """Raise Disagreement unless each side has heard what the other one meant, or a reason."""
    asked = {mark: stage.client.said.get(number) for mark, number in stage.streams.items()}
    sent = {mark: half for mark, half in asked.items() if half is not None and half.heads}
    records = {record.stream: record for record in stage.records if record.stream}
    _judge_attempts(stage, sent)
    if stage.client.broken:
        return  # whom it would be told that all is well
    for mark, half in sent.items():
        number = stage.streams[mark]
        heard = stage.client.heard.get(number) or Half()
        record = records.get(number)
        if half.reset is not None:
            continue  # it wants no answer
        if stage.script.h2_origin:
            _judge_h2_answer(stage, mark, half, heard, record)
        else:
            _judge_answer(stage, mark, half, heard, record)
    for _, code in stage.client.leaving:
        if code:
            raise Disagreement(f"GOAWAY {code} to a client that has broken no rule")


# -- towards the origin ------------------------------------------------------------------------


def _judge_attempts(stage: H2Stage, sent: dict[int, Half]) -> None:
    """Every request that an origin has read, whole or in part."""
    times: dict[int, int] = {}
    for mark, seen in [*_seen_in_http1(stage), *_seen_in_http2(stage)]:
        if stage.client.broken:
            if mark in sent:
                _judge_head(sent[mark], seen, h2_origin=stage.script.h2_origin)
            continue
        if mark not in sent:
            raise Disagreement(f"a request of nobody: {seen!r}")
        _judge_request(sent[mark], seen, h2_origin=stage.script.h2_origin)
        times[mark] = times.get(mark, 0) + 1
    for mark, count in times.items():
        if count > _most_times(stage, mark, sent[mark]):
            raise Disagreement(f"{sent[mark]!r} was sent {count} times")


def _most_times(stage: H2Stage, mark: int, half: Half) -> int:
    """How often a request may be sent: more than once only if an origin has done nothing with it,
    or if its method allows that and nothing was answered.
    """
    method = dict(half.heads[0]).get(b":method")
    unprocessed = any(
        (act.what == "reset" and act.number == 7 and of == mark) or act.what == "leave"
        for of, acts in enumerate(stage.script.origin)
        for act in acts
    )
    return 4 if unprocessed else 2 if method in REPEATABLE else 1


def _seen_in_http1(stage: H2Stage) -> list[tuple[int, Seen]]:
    found = []
    for end in stage.origins:
        if stage.script.h2_origin:
            break
        came = end.came
        whole = [one.request for one in stage.answered if one.end is end]
        for request in whole:
            reading = judges.requests(request)
            if len(reading.messages) != 1 or reading.rest:
                raise Disagreement(f"one request, a reader sees {reading!r}")
            found.append((_mark(stage, reading.messages[0]), reading.messages[0]))
        rest = came[end.answered :]
        if rest.count(b"\r\n\r\n") and not end.switched:
            reading = judges.requests(rest)
            found += [(_mark(stage, seen), seen) for seen in reading.messages]
    return found


def _seen_in_http2(stage: H2Stage) -> list[tuple[int, Seen]]:
    found = []
    for server in stage.servers:
        for half in server.heard.values():
            if half.heads and dict(half.heads[0]).get(b":path") != b"/probe":
                seen = as_seen(half)
                found.append((_mark(stage, seen), seen))
    return found


def _mark(stage: H2Stage, seen: Seen) -> int:
    marks = [value for name, value in seen.fields if name == MARK]
    if stage.client.broken and not marks:
        return -1
    if len(marks) != 1:
        raise Disagreement(f"a request of nobody: {seen!r}")
    return int(marks[0])


def as_seen(half: Half) -> Seen:
    """A request of HTTP/2 as it would stand in HTTP/1.1."""
    fields = half.heads[0]
    start = {name: value for name, value in fields if name[:1] == b":"}
    rest = [(name, value) for name, value in fields if name[:1] != b":"]
    if b":authority" in start:
        rest.insert(0, (b"host", start[b":authority"]))
    trailers = tuple(half.trailers or ())
    begin = start[b":method"], start[b":path"]
    return Seen(begin, tuple(rest), half.content, trailers, half.ended)


def refusal(half: Half, *, from_client: bool, head_alone: bool = False) -> str:
    """Why `h2` refuses this message, or its head, "" if it does not."""
    receiver = connection(from_client=from_client, strict=True)
    receiver.receive_data(settings_frame())
    encoder = hpack.Encoder()
    bare = not half.content and half.trailers is None
    frames = []
    for head in half.heads:
        last = head is half.heads[-1]
        ends = last and bare and half.ended and not head_alone
        frames.append((HEADERS, END_HEADERS | ends, encoder.encode(head)))
    if not head_alone:
        if not bare:
            ends = half.trailers is None and half.ended
            frames.append((DATA, int(ends), half.content))
        if half.trailers is not None:  # a length there is none, and left out
            trailers = [pair for pair in half.trailers if pair[0] != b"content-length"]
            frames.append((HEADERS, END_HEADERS | END_STREAM, encoder.encode(trailers)))
    try:
        for kind, flags, payload in frames:
            receiver.receive_data(frame(kind, flags, 1, payload))
    except h2.exceptions.ProtocolError as error:
        same = "mismatched :authority" in str(error) and _same_authority(half.heads[0])
        return "" if same else f"{type(error).__name__}: {error}"
    return ""


def _judge_request(half: Half, seen: Seen, *, h2_origin: bool) -> None:
    """What an origin has read of a request, against what its client meant."""
    if b":protocol" in dict(half.heads[0]):
        return  # a tunnel
    _judge_head(half, seen, h2_origin=h2_origin)
    _judge_content(half, seen)


def _judge_head(half: Half, seen: Seen, *, h2_origin: bool) -> None:
    fields = half.heads[0]
    if b":protocol" in dict(fields):
        return  # a tunnel
    why = refusal(half, from_client=True, head_alone=True)
    if why:
        raise Disagreement(f"a malformed request reaches the origin: {why}: {half!r} as {seen!r}")
    sized = any(name == b"content-length" for name, _ in fields)
    wanted = h2_meant.request_meant(fields, ended=not sized and not _is_chunked(seen))
    if h2_origin:  # it has read Host as :authority
        wanted.lines = sorted(wanted.lines, key=lambda line: not line.startswith(b"host:"))
    meant.check_request(wanted, seen)


def _judge_content(half: Half, seen: Seen) -> None:
    if not half.content.startswith(seen.body):
        raise Disagreement(f"of the body {half.content!r} arrived {seen.body!r}")
    trailers = _lower(half.trailers)
    if [pair for pair in seen.trailers if pair not in trailers]:
        raise Disagreement(f"trailers from nowhere: {seen!r}")
    if {name for name, _ in seen.trailers} & NEVER_TRAILS:
        raise Disagreement(f"trailers that nobody may send: {seen!r}")
    if not seen.whole:
        return
    if (b"content-length", b"%d" % len(seen.body)) in seen.fields:
        return  # that ends it in HTTP/1.1, whatever may follow in HTTP/2
    if not half.ended or seen.body != half.content or refusal(half, from_client=True):
        raise Disagreement(f"looks whole: {seen!r}, meant was {half!r}")
    lost = [pair for pair in trailers if pair[0] not in NEVER_TRAILS and pair not in seen.trailers]
    if lost:
        raise Disagreement(f"the trailers {lost!r} are lost")


def _is_chunked(seen: Seen) -> bool:
    return any(name == b"transfer-encoding" for name, _ in seen.fields)


def _same_authority(fields: Fields) -> bool:
    """With the port that the scheme has anyway (RFC 9110 section 4.2.3)."""
    port = {b"http": b":80", b"https": b":443"}.get(dict(fields).get(b":scheme", b""), b"")
    named = [value for name, value in fields if name in (b":authority", b"host")]
    return len({value.lower().removesuffix(port) for value in named}) == 1


def _lower(fields: Fields | None) -> Fields:
    return [(name.lower(), value) for name, value in fields or ()]


# -- towards the client ------------------------------------------------------------------------


def _judge_refusal(half: Half, heard: Half, record: ExchangeRecord | None, stage: H2Stage) -> None:
    """No origin has answered: the client was told why, or its own doing was the end."""
    if record is None:
        _judge_silence(half, heard, stage)
        return
    final = _final(heard)
    if final is not None and record.status == int(dict(final)[b":status"]) and not record.cause:
        return  # OPTIONS, TRACE: answered here
    if not record.cause or not record.detail:
        raise Disagreement(f"refused without a reason: {half!r}: {heard!r}")
    if final is not None:
        verdict.judge_own(record, _response_seen(heard, b""))
    elif heard.reset is None and half.ended:
        raise Disagreement(f"neither answered nor reset: {half!r}: {record.detail}")
    if not half.ended and "body" in record.detail:
        return  # it came too slowly
    malformed = refusal(half, from_client=True)
    ours = record.cause == "http_request_error" or record.cause == "http_request_denied"
    if ours and not malformed and not any(reason in record.detail for reason in REASONS):
        raise Disagreement(f"refused for no rule: {record.status} {record.detail}: {half!r}")


def _judge_silence(half: Half, heard: Half, stage: H2Stage) -> None:
    """The log knows nothing of it: so no answer may have come either."""
    if heard.heads:
        raise Disagreement(f"answered, and not logged: {half!r}: {heard!r}")
    if half.ended and heard.reset is None:
        raise Disagreement(f"lost: {half!r}")


def _final(heard: Half) -> Fields | None:
    finals = [head for head in heard.heads if head[0][1][:1] != b"1"]
    return finals[0] if finals else None


def _response_seen(heard: Half, reason: bytes) -> Seen:
    fields = _final(heard)
    assert fields is not None
    start = fields[0][1], reason
    trailers = tuple(heard.trailers or ())
    # A malformed request is answered, and then reset (RFC 9113 section 8.1.1).
    ended = heard.ended or (start[0] == b"400" and heard.reset == PROTOCOL_ERROR)
    return Seen(start, tuple(fields[1:]), heard.content, trailers, ended)


def _judge_answer(
    stage: H2Stage, mark: int, half: Half, heard: Half, record: ExchangeRecord | None
) -> None:
    """What a client has heard, against the reply of an origin of HTTP/1.1."""
    tries = [one for one in stage.answered if one.mark == mark]
    if not tries:
        _judge_refusal(half, heard, record, stage)
        return
    if record is None:
        raise Disagreement(f"answered, and not logged: {half!r}")
    method = dict(half.heads[0])[b":method"]
    last = tries[-1]
    found = reference.responses(_said_to(stage, last), method, ended=last.end.left)
    _judge_interim(heard, [one.head.status for one in found])
    if _final(heard) is None:
        if not record.cause:
            raise Disagreement(f"no answer, and no reason: {half!r}")
        if heard.ended or (heard.reset is None and half.ended and not stage.client.end.ended):
            raise Disagreement(f"no answer, and no reset: {half!r}: {heard!r}")
        return
    reason = found[-1].head.reason if found and record.first_byte else b""
    seen = _response_seen(heard, reason)
    verdict.judge_answer(record, found, seen)
    if record.first_byte:
        _judge_end(found[-1], seen, heard)


def _judge_end(final: Meant[ResponseHead], seen: Seen, heard: Half) -> None:
    """An answer that ends in HTTP/2 is whole: nothing else tells."""
    if seen.whole and (not final.whole or seen.body != final.body):
        raise Disagreement(f"the response {final!r} looks whole: {seen!r}")
    if not seen.whole and heard.reset is None:
        raise Disagreement(f"neither ended nor reset: {seen!r}")
    if final.head.body is Body.NONE and seen.body:
        raise Disagreement(f"a body from nowhere: {seen!r}")
    lines = {line.lower() for line in final.trailers}
    for name, value in seen.trailers:
        if name + b": " + value not in lines and name + b":" + value not in lines:
            raise Disagreement(f"a trailer from nowhere: {seen!r}")


def _said_to(stage: H2Stage, one: Answered) -> bytes:
    """What the origin has said on a connection from this request on, to the next one."""
    later = [
        other.said for other in stage.answered if other.end is one.end and other.said > one.said
    ]
    return one.end.said[one.said : min(later, default=len(one.end.said))]


def _judge_interim(heard: Half, allowed: list[int]) -> None:
    for head in heard.heads:
        status = int(head[0][1])
        if status < 200 and status not in (*allowed, 100):
            raise Disagreement(f"an interim response from nowhere: {heard!r}")


def _judge_h2_answer(
    stage: H2Stage, mark: int, half: Half, heard: Half, record: ExchangeRecord | None
) -> None:
    """What a client has heard, against the response of an origin of HTTP/2."""
    tries = [(server, number) for (server, number), m in stage.marks.items() if m == mark]
    if not tries:
        _judge_refusal(half, heard, record, stage)
        return
    if record is None:
        raise Disagreement(f"answered, and not logged: {half!r}")
    said = _said_by(tries[-1])
    _judge_interim(heard, [int(v) for head in said.heads for n, v in head[:1] if v.isdigit()])
    final = _final(heard)
    if final is None or not record.first_byte:
        if not record.cause:
            raise Disagreement(f"no answer, and no reason: {half!r}: {said!r}")
        if final is not None:
            verdict.judge_own(record, _response_seen(heard, b""))
        elif heard.ended or (heard.reset is None and not stage.client.end.ended):
            raise Disagreement(f"no answer, and no reset: {half!r}: {heard!r}")
        return
    answer = _final(said)
    if answer is None:
        raise Disagreement(f"an answer from nowhere: {heard!r}")
    _same_head(answer, final)
    if not said.content.startswith(heard.content):
        raise Disagreement(f"of the body {said.content!r} arrived {heard.content!r}")
    trailers = _lower(said.trailers)
    if heard.trailers and [pair for pair in heard.trailers if pair not in trailers]:
        raise Disagreement(f"trailers from nowhere: {heard!r}")
    bodiless = dict(half.heads[0])[b":method"] == b"HEAD" or final[0][1] in (b"204", b"304")
    whole = said.ended and heard.content == said.content
    sized = (b"content-length", b"%d" % len(heard.content)) in answer  # whatever may follow
    if heard.ended and not (bodiless or whole or sized):
        raise Disagreement(f"looks whole: {heard!r}, meant was {said!r}")
    if not heard.ended and heard.reset is None:
        raise Disagreement(f"neither ended nor reset: {heard!r}")


def _said_by(one: tuple[H2End, int]) -> Half:
    server, number = one
    return server.said.get(number) or Half()


def _same_head(said: Fields, heard: Fields) -> None:
    """The fields of a response, without those of a hop, and with ours (RFC 9110 section 7.6)."""
    if said[0] != heard[0]:
        raise Disagreement(f"{said[0]} arrives as {heard[0]}")
    dropped = meant.OF_ONE_HOP | {b"via", b"content-length", b"date"}
    kept = [pair for pair in said[1:] if pair[0] not in dropped]
    came = [pair for pair in heard[1:] if pair[0] not in dropped]
    if kept != came:
        raise Disagreement(f"the origin says {said!r}, the client gets {heard!r}")
    lengths = [value for name, value in heard if name == b"content-length"]
    if len(lengths) > 1 or any(value != b"%d" % int(value) for value in lengths):
        raise Disagreement(f"the lengths {lengths!r} could be read in two ways")
